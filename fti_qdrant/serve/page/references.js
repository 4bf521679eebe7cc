/** The pictures that a query starts from: files, camera, clipboard, addresses; cropped or removed. */
import { picture, pictureAddress, showPicture } from "./api.js";
import { askCrop } from "./crop.js";
import { $, askText, button, h, toast, unseen } from "./dom.js";
import { uploads } from "./state.js";

const OTHER_PICTURES = /\.(heic|heif|avif|jp2|tiff?)$/i; // browsers do not always know their types

/** Keeps a file as an upload and returns its reference; says why where it cannot be one. */
function fromFile(file, mostBytes) {
  const isPicture = file.type.startsWith("image/") || OTHER_PICTURES.test(file.name);
  if (!isPicture) return toast(`${file.name} is not a picture`);
  if (file.size > mostBytes) return toast(`${file.name} is larger than ${Math.floor(mostBytes / 1e6)} MB`);
  const upload = `${Date.now().toString(36)}-${uploads.size}`;
  uploads.set(upload, { file, src: URL.createObjectURL(file), name: file.name });
  return { upload };
}

/** Connects buttons, drop and paste. `add` is called with the new references. */
export function connectSources({ urls: allowsUrls, limits }, add) {
  const addFiles = (files) => {
    const mostBytes = Math.min(limits.image_bytes, limits.body_bytes);
    const references = [...files].map((file) => fromFile(file, mostBytes)).filter(Boolean);
    if (references.length) add(references);
  };
  const addUrl = (text) => {
    if (URL.canParse(text) && /^https?:/i.test(text)) add([{ url: text }]);
    else if (text) toast(`${text} is not the address of a picture: it starts with https://`);
  };
  $("add-file").onclick = () => $("file").click();
  $("file").onchange = $("snapshot").onchange = ({ target }) => { addFiles(target.files); target.value = ""; };
  $("add-camera").onclick = async () => addFiles(await takePicture());
  $("add-url").hidden = !allowsUrls;
  $("add-url").onclick = async () => addUrl(await askText("Address of a picture", "url"));
  document.onpaste = (event) => {
    const { files } = event.clipboardData, text = event.clipboardData.getData("text/plain").trim();
    const isUrl = allowsUrls && /^https?:/i.test(text) && !event.target.matches("input");
    if (files.length || isUrl) event.preventDefault();
    if (files.length) addFiles(files);
    else if (isUrl) addUrl(text);
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
  const view = $("prompt-video"), video = { facingMode: "environment" };
  view.srcObject = await navigator.mediaDevices?.getUserMedia({ video }).catch(() => null);
  if (!view.srcObject) return $("snapshot").click() ?? [];
  const answer = await askText("Take a picture", "video");
  const { videoWidth: width, videoHeight: height } = view, canvas = h("canvas", { width, height });
  canvas.getContext("2d").drawImage(view, 0, 0);
  for (const track of view.srcObject.getTracks()) track.stop();
  if (answer === null || !width) return [];
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return [new File([blob], "camera.jpg", { type: "image/jpeg" })];
}

/** What a reference is called; `titleOf` knows stored pictures by id. */
const nameOf = ({ id, url, upload }, titleOf) =>
  (url ? new URL(url).hostname : upload ? uploads.get(upload).name : titleOf(id)) ?? "picture";

/** A small picture of a reference: its crop alone, where the browser can show that. */
export function referencePicture(reference, titleOf) {
  const { id, url, upload, crop } = reference;
  const alt = nameOf(reference, titleOf), gone = h("span", { className: "gone" }, alt);
  if (url) return gone; // the page asks no other host for anything
  const image = id ? picture(id, 320, alt) : h("img", { src: uploads.get(upload).src, alt });
  if (upload) image.onerror = () => image.replaceWith(gone);
  const [left, top, right, bottom] = crop?.map((edge) => edge * 100) ?? [];
  if (crop) image.style.objectViewBox = `inset(${top}% ${100 - right}% ${100 - bottom}% ${left}%)`;
  return image;
}

/** Shows the references, each with a button to crop it and one to remove it. */
export function renderReferences(references, titleOf, change) {
  $("references").replaceChildren(...references.map((reference, index) => {
    const { id, url, upload, crop } = reference, name = nameOf(reference, titleOf);
    const replace = (...by) => change(references.toSpliced(index, 1, ...by));
    const show = (image) => id ? showPicture(image, pictureAddress(id, 1024)) : (image.src = uploads.get(upload).src);
    const onCrop = async () => {
      const box = await askCrop(show, name, crop);
      if (box !== undefined) replace(box ? { ...reference, crop: box } : { id, upload });
    };
    const shown = referencePicture(reference, titleOf);
    return h("li", { className: "reference" },
      url ? shown : button("picture", onCrop, unseen(crop ? "Change the crop of " : "Crop "), shown),
      button("remove", () => replace(), unseen(`Remove ${name}`)));
  }));
}
