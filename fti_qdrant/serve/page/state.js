/** What is asked, and the page's address that says the same, so that a link repeats it. */
/** References are `{id}`, `{url}` or `{upload}` (a key of `uploads`), each with an optional `crop`, its
    left, top, right and bottom edge as fractions. `weight` is null where the composer decides. */
export const EMPTY = Object.freeze({ references: [], text: "", avoid: "", weight: null, composer: "", compare: "",
  filter: {}, cutoff: 0, diversity: 0, group: "" });
const MOST_STEPS = 12;

/** Pictures that the user gave to this page: key -> {file, src, name}. They are in no address. */
export const uploads = new Map();

/** Whether a reference was uploaded before a reload, or by who sent the link. */
export const isLost = ({ upload }) => upload !== undefined && !uploads.has(upload);
export const isAsking = (state) => state.references.length > 0 || state.text !== "";

/** The address of a state and of `steps`, those that led to it. Texts are as they are, the rest is JSON. */
export function toAddress({ steps, ...state }) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    if (text && text !== JSON.stringify(EMPTY[name])) parameters.set(name, text);
  }
  for (const step of steps?.slice(-MOST_STEPS) ?? []) parameters.append("via", toAddress(step));
  return `?${parameters}`;
}

/** The state of an address. A part of another type than it should have counts as not given. */
export function fromAddress(address) {
  const parameters = new URLSearchParams(address);
  const state = Object.fromEntries(Object.entries(EMPTY).map(([name, empty]) => {
    const text = parameters.get(name) ?? "";
    return [name, typeof empty === "string" ? text : parsed(text, empty)];
  }));
  state.references = state.references.filter((one) => one?.id || one?.upload || URL.canParse(one?.url))
    .map(({ crop, ...one }) => (Array.isArray(crop) && crop.length === 4 ? { ...one, crop } : one));
  return { ...state, steps: parameters.getAll("via").map(fromAddress) };
}

function parsed(text, empty) {
  const kindOf = (value) => (Array.isArray(value) ? "array" : value === null ? "number" : typeof value);
  try {
    return kindOf(JSON.parse(text)) === kindOf(empty) ? JSON.parse(text) : empty;
  } catch {
    return empty;
  }
}
