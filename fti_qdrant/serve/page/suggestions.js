/** Example texts that fit the gallery, made of the values of its fields. */

const WORDINGS = {
  color: "in {}", colour: "in {}", gender: "as a {}", time: "at {}", season: "for {}", hair: "with {}",
  tone: "with {}", pattern: "with {}", sleeves: "with {}", material: "made of {}", fabric: "made of {}",
};
const PLAIN = ["in red", "in blue", "in black and white", "at night", "as a drawing"];
const MOST_VALUES = 40;

/**
 * Texts that could change a picture with this payload into others of the gallery.
 *
 * `facets` maps fields to their values, most frequent first. Fields whose names people use for
 * attributes come first; others count where their values are words in small letters, as attributes
 * are, and names, brands and categories are not. Without a payload, every such field counts.
 */
export function suggest(facets, payload, most) {
  const texts = ([field, values]) => values.filter((value) => !isOf(payload, field, value))
    .map((value) => (WORDINGS[field] ?? "{} instead").replace("{}", value));
  const all = [...facets].filter(isAttribute).sort(([one], [other]) => (other in WORDINGS) - (one in WORDINGS));
  const fitting = all.filter(([field]) => payload && field in payload);
  const lists = (fitting.length ? fitting : all).map(texts);
  const longest = Math.max(0, ...lists.map((list) => list.length));
  const mixed = Array.from({ length: longest }, (_, rank) => lists.flatMap((list) => list.slice(rank, rank + 1)));
  return (mixed.length ? mixed.flat() : PLAIN).slice(0, most);
}

/** Whether a payload says that its field can be edited: the suggestion then fits the picture. */
export const fits = (facets, payload) => [...facets].some((one) => isAttribute(one) && one[0] in payload);

function isAttribute([field, values]) {
  const isWord = (value) => typeof value === "string" && value.length <= 28 &&
    (field in WORDINGS || /^\p{Ll}[\p{Ll}\p{M}' -]*$/u.test(value));
  return values.length > 1 && values.length <= MOST_VALUES && values.every(isWord);
}

const isOf = (payload, field, value) => [payload?.[field]].flat().includes(value);
