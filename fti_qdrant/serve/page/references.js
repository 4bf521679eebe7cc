/** The pictures that a query starts from: files, camera, clipboard, addresses; cropped or removed. */

import { picture, pictureAddress, showPicture } from "./api.js";
import { askCrop } from "./crop.js";
import { $, ask, askText, button, h, toast, unseen } from "./dom.js";
import { uploads } from "./state.js";

const OTHER_PICTURES = /\.(heic|heif|avif|jp2|tiff?)$/i; // browsers do not always know their types

/** Keeps a file as an upload and returns its reference; says why where it cannot be one. */
function fromFile(file, mostBytes) {
  if (!file.type.startsWith("image/") && !OTHER_PICTURES.test(file.name)) {
    return toast(`${file.name} is not a picture`);
  }
  if (file.size > mostBytes) {
    return toast(`${file.name} is larger than the ${Math.floor(mostBytes / 1e6)} MB that are allowed`);
  }
  const upload = `${Date.now().toString(36)}-${uploads.size}`;
  uploads.set(upload, { file, src: URL.createObjectURL(file), name: file.name });
  return { upload };
}

/** Connects buttons, drop and paste. `add` is called with the new references. */
export function connectSources({ urls: allowUrls, limits: { image_bytes: mostBytes } }, add) {
  const addFiles = (files) => {
    const references = [...files].map((file) => fromFile(file, mostBytes)).filter(Boolean);
    if (references.length) add(references);
  };
  const addUrl = (text) => {
    if (URL.canParse(text) && /^https?:/i.test(text)) add([{ url: text }]);
    else if (text) toast(`${text} is not the address of a picture: it starts with https://`);
  };
  $("add-file").onclick = () => $("file").click();
  for (const input of [$("file"), $("snapshot")]) {
    input.onchange = () => { addFiles(input.files); input.value = ""; };
  }
  $("add-camera").onclick = async () => addFiles(await takePicture());
  $("add-url").hidden = !allowUrls;
  $("add-url").onclick = async () => addUrl(await askText("Address of a picture", "url"));
  document.onpaste = (event) => {
    const text = event.clipboardData.getData("text/plain").trim();
    const isUrl = allowUrls && /^https?:/i.test(text) && !event.target.matches("input");
    if (!event.clipboardData.files.length && !isUrl) return;
    event.preventDefault();
    if (isUrl) addUrl(text);
    else addFiles(event.clipboardData.files);
  };
  document.ondragover = document.ondrop = document.ondragleave = (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    $("drop").hidden = event.type === "drop" || (event.type === "dragleave" && !event.relatedTarget);
    if (event.type === "drop") addFiles(event.dataTransfer.files);
  };
}

/** One picture of the camera, or none; where the page cannot show a camera, the device asks. */
async function takePicture() {
  const view = $("camera-view");
  try {
    view.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    $("snapshot").click();
    return [];
  }
  const answer = await ask($("camera"));
  const { videoWidth: width, videoHeight: height } = view;
  const canvas = h("canvas", { width, height });
  canvas.getContext("2d").drawImage(view, 0, 0);
  for (const track of view.srcObject.getTracks()) track.stop();
  if (!answer || !width) return [];
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return [new File([blob], "camera.jpg", { type: "image/jpeg" })];
}

/** What a reference is called. `names` maps ids of stored pictures to titles. */
const nameOf = ({ id, url, upload }, names) =>
  (url ? new URL(url).hostname : upload ? uploads.get(upload).name : names(id)) ?? "picture";

/** A small picture of a reference: its crop alone, where the browser can show that. */
export function referencePicture({ id, url, upload, crop }, names) {
  const alt = nameOf({ id, url, upload }, names), gone = h("span", { className: "gone" }, alt);
  if (url) return gone; // the page asks no other host for anything
  const image = id ? picture(id, 320, alt) : h("img", { src: uploads.get(upload).src, alt });
  if (upload) image.onerror = () => image.replaceWith(gone);
  if (crop) {
    const [left, top, right, bottom] = crop.map((edge) => edge * 100);
    image.style.objectViewBox = `inset(${top}% ${100 - right}% ${100 - bottom}% ${left}%)`;
  }
  return image;
}

/** Shows the references, each with a button to crop it and one to remove it. */
export function renderReferences(references, names, change) {
  const card = (reference, index) => {
    const { id, url, upload, crop } = reference, name = nameOf(reference, names);
    const replace = (...by) => change(references.toSpliced(index, 1, ...by));
    const show = (image) => id ? showPicture(image, pictureAddress(id, 1024)) : (image.src = uploads.get(upload).src);
    const onCrop = async () => {
      const box = await askCrop(show, name, crop);
      if (box !== undefined) replace(box ? { ...reference, crop: box } : { id, upload });
    };
    const shown = referencePicture(reference, names);
    return h("li", { className: "reference" },
      url ? shown : button("picture", onCrop, unseen(crop ? "Change the crop of " : "Crop "), shown),
      button("remove", () => replace(), unseen(`Remove ${name}`)));
  };
  $("references").replaceChildren(...references.map(card));
}
