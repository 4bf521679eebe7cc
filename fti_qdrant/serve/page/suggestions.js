/** Example texts that fit the gallery, made of the values of its fields. */
const WORDINGS = {
  color: "in {}", colour: "in {}", gender: "as a {}", time: "at {}", season: "for {}",
  tone: "with {}", pattern: "with {}", sleeves: "with {}", material: "made of {}", fabric: "made of {}",
};
const PLAIN = ["in red", "in blue", "in black and white", "at night", "as a drawing"], MOST_VALUES = 40;

/** Fields of attributes: by their name, or as their values are words in small letters; names are not. */
function isAttribute([field, values]) {
  const isWord = (value) => typeof value === "string" && value.length <= 28 &&
    (field in WORDINGS || /^\p{Ll}[\p{Ll}\p{M}' -]*$/u.test(value));
  return values.length > 1 && values.length <= MOST_VALUES && values.every(isWord);
}

/** Whether a payload has an attribute that a text could change. */
export const fits = (facets, payload) => [...facets].some((one) => isAttribute(one) && one[0] in payload);

/** Texts that could change a picture with this payload into others of the gallery, of each attribute
    in turn. `facets` maps fields to their values, most frequent first. */
export function suggest(facets, payload, most) {
  const all = [...facets].filter(isAttribute).sort(([one], [other]) => (other in WORDINGS) - (one in WORDINGS));
  const own = all.filter(([field]) => payload && field in payload);
  const lists = (own.length ? own : all).map(([field, values]) => values
    .filter((value) => ![payload?.[field]].flat().includes(value))
    .map((value) => (WORDINGS[field] ?? "{} instead").replace("{}", value)));
  const mixed = Array.from({ length: MOST_VALUES }, (_, rank) => lists.map((list) => list[rank]));
  const texts = mixed.flat().filter(Boolean);
  return (texts.length ? texts : PLAIN).slice(0, most);
}
