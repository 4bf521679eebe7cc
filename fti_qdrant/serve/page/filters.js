/** Filters by the values of fields, with counts, and by ranges of numbers and dates. */
import { get } from "./api.js";
import { $, asText, button, h, label } from "./dom.js";

const MOST_VALUES = 60, SHOWN = 6, OPEN = 2, whole = new Set(); // filters that show all of their values
const without = (object, name) => Object.fromEntries(Object.entries(object).filter(([key]) => key !== name));

/** The values of a field with their counts, under the filters of all other fields. */
export async function countValues(field, filter) {
  const others = encodeURIComponent(JSON.stringify(without(filter, field)));
  return (await get(`facets/${encodeURIComponent(field)}?limit=${MOST_VALUES}&filter=${others}`)).facets;
}

/** Shows the filters: `facets` maps fields to counted values. `change` gets the new filter. */
export function renderFilters(fields, facets, filter, change) {
  const focused = document.activeElement.id;
  const groups = fields.map((field, index) => {
    const id = `filter-${field.name}`, chosen = filter[field.name];
    const set = (condition) => {
      const others = without(filter, field.name);
      change(Object.keys(condition).length ? { ...others, [field.name]: condition } : others);
    };
    const body = field.range ? rangeInputs(field, chosen ?? {}, set)
      : valueBoxes(id, facets.get(field.name) ?? [], [chosen ?? []].flat(), set);
    const open = $(id)?.open ?? (index < OPEN || chosen !== undefined);
    return body && h("details", { id, open, className: "filter" }, h("summary", {}, label(field.name)), body);
  });
  $("filters").replaceChildren(...groups.filter(Boolean));
  if (focused) $(focused)?.focus({ preventScroll: true });
}

/** Boxes to choose values with; none for a field that names each picture instead of sorting them. */
function valueBoxes(id, counts, chosen, set) {
  const known = counts.map(({ value }) => value);
  const gone = chosen.filter((value) => !known.includes(value)).map((value) => ({ value, count: 0 }));
  if (!chosen.length && (counts.length < 2 || counts[0].count === 1)) return null;
  const rows = [...gone, ...counts].map(({ value, count }, index) => {
    const checked = chosen.includes(value);
    const onchange = () => set(checked ? chosen.filter((one) => one !== value) : [...chosen, value]);
    return h("label", { className: "value", hidden: index >= SHOWN && !checked && !whole.has(id) },
      h("input", { type: "checkbox", id: `${id}-${value}`, checked, onchange }),
      h("span", { dir: "auto" }, asText(value)), h("span", { className: "quiet" }, count.toLocaleString()));
  });
  const showAll = ({ target }) => { for (const row of rows) row.hidden = false; whole.add(id); target.remove(); };
  const hidden = rows.filter((row) => row.hidden).length;
  return h("div", {}, rows, hidden ? button("plain", showAll, `${hidden} more`) : null);
}

function rangeInputs({ name, types }, given, set) {
  const [type, asValue] = types.includes("date") ? ["date", String] : ["number", Number];
  const bound = (operator, text) => h("label", { className: "field" }, text, h("input", {
    id: `filter-${name}-${operator}`, type, step: "any", value: given[operator] ?? "",
    onchange: ({ target: { value } }) =>
      set(value === "" ? without(given, operator) : { ...given, [operator]: asValue(value) }),
  }));
  return h("div", { className: "range" }, bound("gte", "From"), bound("lte", "To"));
}
