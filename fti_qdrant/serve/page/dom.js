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

/** Asks for one line of text; "" where the user changed their mind. */
export async function askText(title, type) {
  $("prompt-title").textContent = title;
  Object.assign($("prompt-value"), { value: "", type });
  return (await ask($("prompt"))) && $("prompt-value").value.trim();
}

/** "skin_tone" as people write it: "Skin tone". */
export function label(field) {
  const words = field.replaceAll(/[._-]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
