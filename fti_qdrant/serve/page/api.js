/** The HTTP API as the page uses it. Addresses are relative, so it works below any prefix. */
import { askText, h } from "./dom.js";
import { uploads } from "./state.js";

const KEY = "fti-api-key";
export const PAGE = 24;

/** What went wrong, in words: the title and detail of a problem document (RFC 9457). */
export class Problem extends Error {
  constructor(title, detail) {
    super(detail || title);
    this.title = title;
  }
}

export const get = async (path, signal) => (await send(path, { signal })).json();

/** Hits of a query. `extra` replaces parts of it; uploaded pictures travel beside it as files. */
export async function search(state, extra, signal) {
  const files = new FormData();
  const references = state.references.map(({ id, url, upload, crop }, n) => {
    const [left, top, right, bottom] = crop ?? [];
    if (upload) files.append(`picture${n}`, uploads.get(upload).file);
    const source = upload ? { file: `picture${n}` } : url ? { url } : { id };
    return crop ? { ...source, crop: { left, top, right, bottom } } : source;
  });
  const { text, avoid, composer, filter, group: group_by, weight: text_weight } = state;
  const query = {
    references, text, avoid, composer, text_weight, filter, group_by, limit: PAGE,
    cutoff: state.cutoff || null, diversity: state.diversity || null, ...extra,
  };
  const isGiven = ([, value]) => typeof value !== "object" ? value !== "" : value && Object.keys(value).length;
  const json = JSON.stringify(Object.fromEntries(Object.entries(query).filter(isGiven)));
  files.append("query", json);
  const request = [...files].length > 1 ? { body: files }
    : { body: json, headers: { "content-type": "application/json" } };
  return (await send("search", { method: "POST", signal, ...request })).json();
}

/** Address of a picture of the gallery: in full, or with a longer side of `size` pixels. */
export const pictureAddress = (id, size) =>
  `images/${encodeURIComponent(id)}${size ? `/thumbnail?size=${size}` : ""}`;

/** An `img` of a stored picture, cut to a square where that loses little; its name where it fails. */
export function picture(id, size, alt) {
  const image = h("img", { alt, decoding: "async", draggable: false });
  image.onerror = () => image.replaceWith(h("span", { className: "gone" }, alt));
  image.onload = () => {
    const ratio = image.naturalWidth / image.naturalHeight;
    image.className = ratio > 0.7 && ratio < 1.45 ? "loaded fills" : "loaded";
    URL.revokeObjectURL(image.src);
  };
  showPicture(image, pictureAddress(id, size));
  return image;
}

/** An address that shows a picture; where a key is needed, an `img` or a link could not send it. */
const shownAt = async (address) =>
  sessionStorage.getItem(KEY) ? URL.createObjectURL(await (await send(address)).blob()) : address;

export const showPicture = async (image, address) => (image.src = await shownAt(address).catch(() => "data:,"));
export const linkPicture = async (link, address) => (link.href = await shownAt(address).catch(() => address));

/** One request. Asks for a key where there is none; tries once more where the server is busy. */
async function send(path, options, isLast = false) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options?.headers, ...(key && { "x-api-key": key }) };
  const response = await fetch(path, { ...options, headers }).catch((error) => {
    if (options?.signal?.aborted) throw error;
    throw new Problem("The server does not answer", "Check that it is running, then try again.");
  });
  if (response.ok) return response;
  if (response.status === 401 && (await hasNewKey(key))) return send(path, options);
  if (response.status === 503 && !isLast) {
    const seconds = Math.min(Number(response.headers.get("retry-after")) || 1, 5);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    return send(path, options, true);
  }
  const { title, detail } = await response.json().catch(() => ({}));
  throw new Problem(title ?? `Error ${response.status}`, detail);
}

let asking = null;
async function hasNewKey(used) {
  if (sessionStorage.getItem(KEY) !== used) return true; // another request has asked meanwhile
  asking ??= askText(used ? "This key is not right" : "This gallery needs a key", "password").finally(() => (asking = null));
  const key = await asking;
  if (key) sessionStorage.setItem(KEY, key);
  return Boolean(key);
}
