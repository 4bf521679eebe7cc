/** The page: one state, which the address holds; each change of it is shown and searched for. */
import { get, PAGE, picture, Problem, search } from "./api.js";
import { $, button, h, toast } from "./dom.js";
import { countValues, renderFilters } from "./filters.js";
import { connectSources, referencePicture, renderReferences } from "./references.js";
import { explained, grid, message, showDetail, skeleton, titleOf } from "./results.js";
import { connectSettings, renderSettings, textWeight } from "./settings.js";
import { fromAddress, isAsking, isLost, toAddress } from "./state.js";
import { fits, suggest } from "./suggestions.js";

const SAMPLES = 36, EXAMPLES = 5, FIRST_EXAMPLES = 3;
const items = new Map(); // by id: the pictures of the gallery that this page has shown
const remember = (item) => items.set(item.id, item);
const nameOf = (id) => items.has(id) ? titleOf(items.get(id)) : undefined;
let info, sample, state, counted, everything, facets = new Map(), running = new AbortController();

/** Changes the state: a new entry of the browser's history, unless this only tunes the last one. */
function change(changes, tunes = false) {
  state = { ...state, text: typed(), ...changes };
  history[tunes || toAddress(state) === location.search ? "replaceState" : "pushState"](null, "", toAddress(state));
  show();
  if (document.activeElement === document.body) focusText();
}

const typed = () => $("text").value.trim();
/** Takes over from what had the focus and is gone; not where that would open a phone's keyboard. */
const focusText = () => matchMedia("(hover)").matches && $("text").focus({ preventScroll: true });
const add = (references) => change({ references: [...state.references, ...references] });
const detail = (item) => showDetail(item, refine, ({ id }) => add([{ id }]));

/** A picture of the gallery becomes the reference; what was asked before becomes a step. */
function refine({ id }, text = typed() === state.text ? "" : typed()) {
  const { steps, ...before } = state;
  change({ references: [{ id }], text, steps: isAsking(before) ? [...steps, before] : [] });
  focusText();
  scrollTo({ top: 0 });
}

/** Shows all of the state, and searches. */
function show() {
  if (state.references.some(isLost)) {
    state.references = state.references.filter((one) => !isLost(one));
    toast("An uploaded picture is not part of a link. Add it again to search with it.");
  }
  document.body.dataset.view = isAsking(state) ? "results" : "start";
  document.body.classList.toggle("pictured", state.references.length > 0);
  renderReferences(state.references, nameOf, (references) => change({ references }));
  $("text").value = state.text;
  renderSettings(info, state);
  showTrail();
  showFilters();
  showSuggestions();
  runSearch();
}

/** The steps of refinement; each leads back. */
function showTrail() {
  const steps = [...state.steps, state];
  const content = ({ references, text }) => {
    const shown = references.filter((one) => !isLost(one)).map((one) => referencePicture(one, nameOf));
    return [shown, shown.length && text ? h("em", {}, "but") : null, text ? h("span", { dir: "auto" }, text) : null];
  };
  $("trail").hidden = steps.length === 1;
  $("trail").firstElementChild.replaceChildren(...steps.map((step, index) => h("li", {}, step === state
    ? h("span", { className: "step", ariaCurrent: "step" }, content(step))
    : button("step", () => change({ ...step, steps: steps.slice(0, index) }), content(step)))));
}

/** Example texts; before there is a picture, each with one that it fits: one click shows the idea. */
function showSuggestions() {
  if (!everything) return; // it is still being counted
  const values = new Map([...everything].map(([field, counts]) => [field, counts.map(({ value }) => value)]));
  const texts = (item) => suggest(values, item?.payload, EXAMPLES);
  const last = state.references.at(-1), fitting = texts(items.get(last?.id));
  $("text").placeholder = last ? fitting[0] : "Describe a picture";
  const pairs = sample.filter(({ payload }) => fits(values, payload))
    .map((item, n) => [texts(item)[n % EXAMPLES] ?? texts(item)[0], item])
    .sort(([one], [other]) => other.startsWith("in ") - one.startsWith("in ")); // colors show it best
  const chips = last ? fitting.map((text) => button("chip", () => change({ text }), text))
    : [...new Map(pairs)].slice(0, FIRST_EXAMPLES).map(([text, item]) => button("chip", () => refine(item, text),
      picture(item.id, 160, titleOf(item)), h("em", {}, "but"), text));
  $("suggestions").replaceChildren(...chips);
}

/** Filters with the counts of before, and then with those that the filters of now leave. */
async function showFilters() {
  const fields = info.fields.filter((field) => field.facets || field.range);
  const draw = () => renderFilters(fields, facets, state.filter, (filter) => change({ filter }));
  const under = JSON.stringify(state.filter);
  draw();
  if (counted === under) return;
  counted = under;
  const counts = under === "{}" ? everything : await countAll(state.filter);
  if (counted !== under) return; // the filters have changed meanwhile
  facets = counts ?? facets;
  draw();
}

const countAll = async (filter) => new Map(await Promise.all(info.fields.filter((field) => field.facets && !field.range)
  .map(async ({ name }) => [name, await countValues(name, filter).catch(() => [])])));

/** One query; the share of the text goes to a composer that has this option. */
function ask(composer, extra) {
  const weight = textWeight(info, composer) === undefined ? null : state.weight;
  return search(state, { composer, text_weight: weight, ...extra }, running.signal);
}

/** Searches, or shows some of the gallery where nothing is asked. Only the last search counts. */
async function runSearch() {
  running.abort();
  const { signal } = (running = new AbortController());
  const isCompared = state.compare && state.references.length && state.text;
  const composers = [state.composer, state.compare].slice(0, isCompared ? 2 : 1);
  for (const id of ["more", "why", "share"]) $(id).hidden = true;
  $("lists").classList.toggle("compared", composers.length > 1);
  if (!isAsking(state)) return showSample();
  if (document.querySelectorAll(".list").length !== composers.length) showLists("", ...composers.map(skeleton));
  $("share").hidden = false;
  $("status").textContent = "Searching";
  $("lists").ariaBusy = "true";
  try {
    showAnswers(await Promise.all(composers.map((composer) => ask(composer))));
    await showExplanation();
  } catch (error) {
    if (!signal.aborted) showFailure(error, runSearch);
  }
}

function showLists(status, ...children) {
  $("status").textContent = status;
  $("lists").ariaBusy = null;
  const hadFocus = $("lists").contains(document.activeElement);
  $("lists").replaceChildren(...children);
  if (hadFocus) focusText();
}

function showAnswers(answers) {
  const [{ hits, query }] = answers, isCompared = answers.length > 1;
  const lists = answers.map((one) => h("div", { className: "list" },
    isCompared ? h("h3", {}, one.query.composer) : null,
    one.hits.length ? grid(one.hits, scoresOf(one.query.composer), remember, refine, detail) : message("Nothing fits",
      "No picture passes the filters and the cutoff.", "Clear settings and filters", $("clear").onclick)));
  const count = () => hits.length === 1 ? "1 picture" : `${hits.length} pictures`;
  showLists(isCompared ? "Two methods side by side" : count(),
    ...query.warnings.map((text) => h("p", { className: "warning" }, text)), ...lists);
  $("why").hidden = !state.references.length;
  $("more").hidden = isCompared || hits.length < PAGE;
  $("more").onclick = async () => {
    $("more").disabled = true;
    const next = await ask(state.composer, { offset: hits.length }).catch(toastError);
    $("more").disabled = false;
    if (!next) return;
    hits.push(...next.hits);
    lists[0].querySelector(".grid").more(next.hits);
    lists[0].querySelectorAll(".picture")[hits.length - next.hits.length]?.focus({ preventScroll: true });
    $("status").textContent = count();
    $("more").hidden = next.hits.length < PAGE;
  };
}

const toastError = ({ name, message: why }) => void (name === "AbortError" || toast(why));
const scoresOf = (composer) => info.composers.find(({ name }) => name === composer)?.scores;

async function showExplanation() {
  $("explanation").hidden = $("why").hidden || $("why").ariaExpanded === "false";
  if ($("explanation").hidden) return;
  const { query } = await ask(state.composer, { explain: true, limit: 1 });
  $("explanation").replaceChildren(...explained(query.explanation, scoresOf(query.composer)));
}

function showFailure(error, again) {
  if (!(error instanceof Problem)) console.error(error); // a mistake of this page
  $("explanation").hidden = true;
  showLists("", message(error.title ?? "This page has failed", error.message, "Try again", again));
}

function showSample() {
  $("explanation").hidden = true;
  showLists("Choose a picture to start with", sample.length ? grid(sample, null, remember, refine, detail)
    : message("This gallery is empty", "Add pictures with fti-ingest, then open this page again."));
}

/** What a field is good for, by the types of its values. */
function withUses(field) {
  const isAll = (...types) => field.types.length > 0 && field.types.every((type) => types.includes(type));
  return { ...field, range: isAll("integer", "float") || isAll("date"), group: isAll("text", "date", "integer") };
}

function connect() {
  connectSources(info, add);
  connectSettings(info, change);
  $("ask").onsubmit = (event) => { event.preventDefault(); change({}); };
  $("why").onclick = () => {
    $("why").ariaExpanded = $("why").ariaExpanded === "false";
    showExplanation().catch(toastError);
  };
  $("share").onclick = async () => {
    const copied = await navigator.clipboard?.writeText(location.href).then(() => "Link copied", () => null);
    const rest = state.references.some(({ upload }) => upload) ? ". It leaves out the picture that you uploaded." : "";
    toast((copied ?? "The link is in the address bar") + rest);
  };
  onpopstate = () => { state = fromAddress(location.search); show(); };
}

/** Reads what the gallery holds, then shows what the address asks for. */
async function start() {
  showLists("", skeleton());
  try {
    const [about, some] = await Promise.all([get("info"), get(`items?limit=${SAMPLES}`)]);
    info = { ...about, fields: about.fields.map(withUses) };
    sample = some.items;
    $("gallery").textContent = document.title = info.gallery;
    $("facts").textContent = `${info.images.toLocaleString()} pictures`;
    const { steps, references } = fromAddress(location.search);
    const ids = [{ references }, ...steps].flatMap((step) => step.references).map(({ id }) => id).filter(Boolean);
    await Promise.all(ids.map((id) => get(`items/${encodeURIComponent(id)}`).then(remember, () => null)));
    connect();
    $("tuning").open = matchMedia("(min-width: 60rem)").matches;
    onpopstate();
    everything = await countAll({}); // the counts without a filter, which examples are made of
    counted = undefined;
    showFilters();
    showSuggestions();
  } catch (error) {
    showFailure(error, start);
  }
}
start();
