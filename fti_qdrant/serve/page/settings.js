/** The settings of a query: what to avoid, sliders, groups, the method and one to compare it with. */
import { $, h, label, percent } from "./dom.js";
import { EMPTY } from "./state.js";

const TEXTS = ["avoid", "composer", "compare", "group"], SLIDERS = ["weight", "cutoff", "diversity"];
const { references, text, ...NONE } = EMPTY;

/** The text's default share, of a composer that has this option; the best composer answers for "". */
export const textWeight = ({ composers }, composer) =>
  composers.find((one) => composer ? one.name === composer : one.default)?.options.properties?.text_weight?.default;

/** Fills the choices and connects them; `change(changes, tunes)` is called with what was set. */
export function connectSettings({ composers, fields }, change) {
  const fill = (id, ...choices) => $(id).replaceChildren(...choices.map(([value, text]) => h("option", { value }, text)));
  const described = composers.filter((one) => one.available).map(({ name, summary }) => [name, `${name}: ${summary}`]);
  fill("composer", ["", `Best (${composers.find((one) => one.default)?.name})`], ...described);
  fill("compare", ["", "None"], ...described);
  fill("group", ["", "Show all"], ...fields.filter(({ group }) => group).map(({ name }) => [name, label(name)]));
  for (const id of TEXTS) $(id).onchange = ({ target }) => change({ [id]: target.value.trim() });
  for (const id of SLIDERS) {
    $(id).oninput = ({ target }) => ($(`${id}-value`).textContent = percent(target.value));
    $(id).onchange = ({ target }) => change({ [id]: Number(target.value) }, true);
  }
  $("clear").onclick = () => change(NONE);
}

export function renderSettings(info, state) {
  const weight = textWeight(info, state.composer);
  $("weight-field").hidden = weight === undefined;
  for (const id of TEXTS) $(id).value = state[id];
  for (const id of SLIDERS) {
    const value = state[id] ?? weight ?? 0;
    $(id).value = value;
    $(`${id}-value`).textContent = value || id === "weight" ? percent(value) : "off";
  }
  $("clear").hidden = Object.keys(NONE).every((name) => JSON.stringify(state[name]) === JSON.stringify(NONE[name]));
}
