/** Pictures in a grid: hits with scores, samples without, skeletons, messages, and one in detail. */
import { linkPicture, PAGE, picture, pictureAddress, showPicture } from "./api.js";
import { $, ask, asText, button, h, label, percent, unseen } from "./dom.js";

const TITLES = ["name", "title", "label", "caption", "product"];

/** What a picture is called: by a field that names it, or its file, or its id. */
export function titleOf({ id, uri, payload }) {
  const named = TITLES.map((field) => payload?.[field]).find((value) => value && typeof value === "string");
  return named ?? (uri?.split(/[\\/]/).pop().replace(/\.\w+$/, "") || id);
}
/** The chance that a hit is right, in a calibrated gallery. */
const chanceOf = ({ confidence }) => confidence == null ? null : percent(confidence);

/** A list of pictures; its method `more(items)` adds to it, and each item goes to `seen`. `scores` says
    what the composer gives to pictures that are not meant: hits below that are pale. */
export function grid(shown, scores, seen, refine, detail) {
  const list = h("ul", { className: "grid", onkeydown: walk });
  const tile = (item) => {
    const title = titleOf(item), { score, group = null } = item, isWeak = score < scores?.percentile_95;
    const chance = chanceOf(item), about = chance ? "chance that it is right" : "";
    const rated = () => h("span", { className: "quiet", title: about }, chance ?? score.toFixed(2), unseen(isWeak ? " weak" : ""));
    seen(item);
    return h("li", { className: isWeak ? "tile weak" : "tile" },
      button("picture", () => refine(item), unseen("Refine "), picture(item.id, 320, title)),
      h("div", { className: "caption" },
        button("title", () => detail(item), unseen("Details of "), h("span", { dir: "auto" }, title)),
        score === undefined ? null : rated(),
        group === null ? null : h("span", { className: "quiet group", dir: "auto" }, asText(group))));
  };
  list.more = (added) => list.append(...added.map(tile));
  list.more(shown);
  return list;
}

/** Arrow keys walk over the pictures of a grid. */
function walk(event) {
  const { gridTemplateColumns, direction } = getComputedStyle(this);
  const columns = gridTemplateColumns.split(" ").length, ahead = direction === "rtl" ? -1 : 1;
  const step = { ArrowRight: ahead, ArrowLeft: -ahead, ArrowDown: columns, ArrowUp: -columns }[event.key];
  const next = this.children[[...this.children].indexOf(event.target.closest(".tile")) + step];
  if (!next) return;
  event.preventDefault();
  next.querySelector(".picture").focus();
}

/** Gray tiles of the size that pictures will have. */
export const skeleton = () => h("ul", { className: "grid waiting", ariaHidden: "true" },
  Array.from({ length: PAGE }, () => h("li", { className: "tile" }, h("span", { className: "picture" }),
    h("div", { className: "caption" }, h("span", { className: "title" }, "\u00a0")))));

/** A message in place of pictures, with a button for what can be done about it. */
export const message = (title, text, action, onclick) => h("div", { className: "message" },
  h("h3", {}, title), h("p", { dir: "auto" }, text), action ? button("secondary", onclick, action) : null);

const term = (name, ...value) => [h("dt", {}, name), h("dd", { dir: "auto" }, value)];

/** Shows a picture with its payload, and what can be done with it. */
export async function showDetail(item, refine, add) {
  const { id, uri, score, payload } = item, chance = chanceOf(item) && { confidence: chanceOf(item) };
  const facts = { ...payload, ...chance, score: score?.toFixed(4), file: uri, id };
  $("detail-title").textContent = $("detail-picture").alt = titleOf(item);
  $("detail-picture").removeAttribute("src");
  showPicture($("detail-picture"), pictureAddress(id, 1024));
  linkPicture($("detail-original"), pictureAddress(id));
  $("detail-payload").replaceChildren(...Object.entries(facts).filter(([, value]) => (value ?? null) !== null)
    .flatMap(([name, value]) => term(label(name), asText(value))));
  const answer = await ask($("detail"));
  if (answer) ({ refine, add })[answer](item);
}

/** How a query was understood: its prompt, the words nearest to each pseudo-word, and cosines. */
export function explained({ prompt, prompt_in_words: inWords, cosines, references }, scores) {
  const words = (pairs) => pairs.map(({ word, cosine }) => h("span", { className: "word" }, `${word} `,
    h("span", { className: "quiet" }, cosine.toFixed(2))));
  const parts = Object.entries(cosines).map(([part, cosine]) => ({ word: part.replaceAll("_", " "), cosine }));
  const usual = scores && [{ word: "half below", cosine: scores.median }, { word: "one in twenty above", cosine: scores.percentile_95 }];
  return [h("p", { className: "sentence" }, inWords || prompt || "the picture alone"),
    ...references.map((image) => h("dl", { className: "facts" }, image.map((one) => term(one.token, words(one.words))))),
    h("dl", { className: "facts" }, term("cosine with", words(parts)), usual ? term("other pictures", words(usual)) : null)];
}
