/** Small pieces that build and find elements. All text goes in as text, never as markup. */
export const $ = (id) => document.getElementById(id);

/** An element with properties (where it has them) or attributes, and children; null is no child. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
  return element;
}

export const button = (className, onclick, ...children) =>
  h("button", { type: "button", className, onclick }, ...children);
export const percent = (share) => `${Math.round(100 * share)}%`;

/** Text for screen readers alone. */
export const unseen = (text) => h("span", { className: "unseen" }, text);

/** Says something at the foot of the page for some seconds. */
export function toast(message) {
  $("toast").textContent = message;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => ($("toast").textContent = ""), 7000);
}

/** Opens a dialog; resolves with the value of the button that closed it, "" for Escape. */
export function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => (dialog.onclose = () => resolve(dialog.returnValue)));
}

/** Asks for one line of text, or shows the camera; null where the user changed their mind. */
export async function askText(title, type) {
  const [input, video] = [$("prompt-value"), $("prompt-video")];
  $("prompt-title").textContent = title;
  Object.assign(input, { value: "", type, hidden: type === "video", required: type !== "video" });
  video.hidden = type !== "video";
  return (await ask($("prompt"))) ? input.value.trim() : null;
}

/** "skin_tone" as people write it: "Skin tone". */
export const label = (field) => field.replaceAll(/[._-]+/g, " ").trim().replace(/^./u, (first) => first.toUpperCase());
export const asText = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
