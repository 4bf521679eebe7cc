/** A dialog to choose a part of a picture, by pointer or by keyboard. */
import { $, ask } from "./dom.js";

const LEAST = 0.04, STEP = 0.02; // of the picture's width or height
const STEPS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const between = (value, least, most) => Math.min(Math.max(value, least), most);

/** The rectangle with these two corners, within the picture and of some size. */
function spanned([x1, y1], [x2, y2]) {
  const edges = (one, other) => {
    const low = between(Math.min(one, other), 0, 1 - LEAST);
    return [low, between(Math.max(one, other), low + LEAST, 1)];
  };
  const [[left, right], [top, bottom]] = [edges(x1, x2), edges(y1, y2)];
  return [left, top, right, bottom];
}

function moved([left, top, right, bottom], dx, dy) {
  const [x, y] = [between(dx, -left, 1 - right), between(dy, -top, 1 - bottom)];
  return [left + x, top + y, right + x, bottom + y];
}

const resized = ([left, top, right, bottom], dx, dy) =>
  spanned([left, top], [Math.max(right + dx, left), Math.max(bottom + dy, top)]);

/** Asks for a part of a picture, which `show(img)` puts into an element. Resolves with its edges
    [left, top, right, bottom] as fractions; null: the whole picture; undefined: as before. */
export async function askCrop(show, name, before) {
  const [stage, frame, image] = [$("crop-stage"), $("crop-frame"), $("crop-picture")];
  let box;
  const draw = (edges) => {
    box = edges;
    const [left, top, right, bottom] = edges.map((edge) => Math.round(edge * 100));
    frame.style.inset = `${top}% ${100 - right}% ${100 - bottom}% ${left}%`;
    $("crop-value").textContent = `Width ${right - left}% from ${left}%, height ${bottom - top}% from ${top}%`;
  };
  const at = ({ clientX, clientY }) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    return [between((clientX - left) / width, 0, 1), between((clientY - top) / height, 0, 1)];
  };
  stage.onpointerdown = (event) => {
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    const [[x, y], start, { corner }] = [at(event), box, event.target.dataset];
    const fixed = corner ? [start[corner[0] === "l" ? 2 : 0], start[corner[1] === "t" ? 3 : 1]] : [x, y];
    stage.onpointermove = (next) => {
      const to = at(next);
      draw(event.target === frame ? moved(start, to[0] - x, to[1] - y) : spanned(fixed, to));
    };
  };
  stage.onpointerup = stage.onpointercancel = () => (stage.onpointermove = null);
  frame.onkeydown = (event) => {
    if (!STEPS[event.key]) return;
    event.preventDefault();
    draw((event.shiftKey ? resized : moved)(box, ...STEPS[event.key]));
  };
  image.onload = () => (stage.style.inlineSize = `min(100%, 55dvh * ${image.naturalWidth / image.naturalHeight})`);
  image.alt = name;
  show(image);
  draw(before ?? [0.1, 0.1, 0.9, 0.9]);
  const answer = await ask($("crop"));
  return { apply: box, whole: null }[answer];
}
