// The page: one input image, and for every model the latent vector z that is shown. Whatever is set
// is in `state`, `input` or a model's z and ends in `change`; what shows it is a view, drawn in the
// next frame if it is in sight.

const study = JSON.parse(document.getElementById("study").textContent);
const side = study.side, pixels = side * side;
// A colour of a list, from the front again after its end; black is the text's, for dark pages.
const shade = (colors, i) => colors[i % colors.length].replace("#000000", "currentcolor");
const models = study.models.map((model, place) => ({
  ...model,
  color: shade(study.colors, place),
  encoder: model.encoder.map(readLayer),
  decoder: model.decoder.map(readLayer),
  codes: floats(model.codes), // (zDim, points)
  fittedMean: floats(model.fittedMean),
  fittedRoot: floats(model.fittedRoot),
}));
const testImage = (text, i, label, place) => ({
  name: `${study.classes[label]}, test image ${place}`,
  place, // in the test images
  values: Float32Array.from(text.subarray(i * pixels, (i + 1) * pixels), (v) => v / 255),
});
const stripImages = bytes(study.images);
const images = study.labels.map((label, i) => testImage(stripImages, i, label, study.places[i]));
let pointImages; // of the dots in the planes, read when the first is wanted
const pointImage = (i) => testImage(pointImages ??= bytes(study.pointImages), i, study.pointLabels[i], i);

const find = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const signed = (value) => value.toFixed(2).replace("-", "\u2212");

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// One cell per model at the end of a section, filled by `fill(model, cell)`.
function addCells(section, fill) {
  find(section).querySelector(".loading")?.remove();
  for (const model of models) {
    const cell = make("div", { className: "cell" }, make("h3", {}, model.label));
    cell.style.setProperty("--model", model.color);
    (model.cells ??= []).push(cell);
    find(section).append(cell);
    fill(model, cell);
  }
}

const GRAYS = Uint32Array.from({ length: 256 }, (_, g) => 0xff000000 + g * 0x010101);
const DIVERGING = new Uint32Array(bytes(study.diverging).buffer);
const DIFFERENCE = 0.25; // at the ends of the colours; nearly all differences are smaller

function picture(label, className = "picture", across = 1, down = 1) {
  const canvas = make("canvas", { className, width: across * (side + 1) - 1, height: down * (side + 1) - 1 });
  return Object.assign(canvas, { role: "img", ariaLabel: label });
}

// Values in 0..1 as pixels, in place (column, row) of a canvas of many pictures.
function paint(canvas, values, colors = GRAYS, column = 0, row = 0, gap = 1) {
  const image = new ImageData(side, side), out = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels; i++) out[i] = colors[Math.round(255 * clamp(values[i], 0, 1))];
  canvas.getContext("2d").putImageData(image, column * (side + gap), row * (side + gap));
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const arrow = (event) => ARROWS[event.key] ?? [0, 0];
const shareOf = (node, { clientX, clientY }) => {
  const { left, top, width, height } = node.getBoundingClientRect();
  return [(clientX - left) / width, (clientY - top) / height];
};
// `move(x, y, first)` with the place in shares of the node, while the primary pointer is pressed
// with its primary button, if `starts(event)`.
function onDrag(node, move, starts) {
  let held = null; // the pointer; a touch is captured without being asked for, so that does not tell
  node.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0 || !starts(event)) return;
    node.setPointerCapture(held = event.pointerId);
    move(...shareOf(node, event), true);
  });
  node.addEventListener("pointermove", (event) => event.pointerId === held && move(...shareOf(node, event), false));
  for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { held = null; });
}

// A slider sets a value; a touch of it that turns out to scroll the page leaves the value as it was.
function onSlide(range, value, set) {
  let before;
  range.addEventListener("pointerdown", () => { before = value(); });
  range.addEventListener("input", () => set(Number(range.value)));
  range.addEventListener("pointercancel", () => set(before));
}

let announcing;
function announce(text) { // to screen readers, once the hand rests
  clearTimeout(announcing);
  announcing = setTimeout(() => { find("status").textContent = text; }, 400);
}

// --- frames ----------------------------------------------------------------------------------------

const views = [], inSight = new Set(["input", "results"].map(find)); // until the watcher knows better
const jobs = new Map(); // what is drawn in pieces: generators, of which each step is a piece
const PIECES_MS = 8;
let asked = false, printing = false;

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) inSight[isIntersecting ? "add" : "delete"](target);
  request();
});

// `draw` is called in the next frame, and in those after a change of `model` (or of anything that
// is no model's) in which the section is in sight. Returns what asks for it without a change.
function view(section, draw, model) {
  const made = { section: find(section), draw, model, stale: true };
  views.push(made);
  watcher.observe(made.section);
  const refresh = () => { made.stale = true; request(); };
  refresh();
  return refresh;
}

function request() {
  if (!asked) requestAnimationFrame(frame);
  asked = true;
}

// What follows from a change of one model's z, or of anything else.
function change(model) {
  if (model) model.stale = true;
  for (const each of views) each.stale ||= !model || each.model === model;
  remember();
  request();
}

function frame() {
  asked = false;
  encodeInput();
  const changed = models.filter((model) => model.stale);
  for (const model of changed) {
    const logits = run(model.decoder, model.z);
    Object.assign(model, { stale: false, loss: reconstructionLoss(logits, input.values), decoded: sigmoid(logits) });
  }
  for (const each of views) {
    if (!each.stale || !inSight.has(each.section)) continue;
    each.stale = false;
    each.draw();
  }
  if (changed.length) {
    const losses = changed.map(({ label, loss, kl }) => `${label}: reconstruction loss ${loss.toFixed(1)}`
      + (kl === null ? "" : `, KL ${kl.toFixed(1)}`));
    announce([...(changed.some(isMoved) ? [] : [input.name]), ...losses].join("; "));
  }
  const end = performance.now() + PIECES_MS;
  for (const [section, pieces] of jobs.values()) {
    while (inSight.has(section) && performance.now() < end && !pieces.next().done) request();
  }
}

// --- state, which is in the address, too -----------------------------------------------------------

const input = { name: "", values: new Float32Array(pixels), encoded: false, version: 0 };
const START = { image: images[0].place, from: 1, to: images.length, share: 0.5, draws: 1, alone: null, lesson: null };
const state = { ...START, axes: [] };
const startAxes = () => models.map(({ order }) => [order[0], order[1] ?? order[0]]);
const undos = [];

// image: its place in the test images, or null for pixels that are not of these.
function setInput(image, name, values, undoable = true) {
  if (undoable) undos.push({ image: state.image, name: input.name, values: input.values.slice() });
  if (undos.length > 50) undos.shift();
  find("undo").disabled = !undos.length;
  state.image = image;
  input.values.set(values);
  Object.assign(input, { name, encoded: false, version: input.version + 1 });
  models.forEach((model) => { model.stale = true; });
  change();
}
const takeTest = ({ place, name, values }, undoable) => setInput(place, name, values, undoable);
function undo() {
  const last = undos.pop();
  if (last) setInput(last.image, last.name, last.values, false);
}

function encodeInput() {
  if (input.encoded) return;
  input.encoded = true;
  for (const model of models) {
    Object.assign(model, encode(model, input.values));
    Object.assign(model, { z: model.mean.slice(), drawn: false });
  }
}

const isMoved = (model) => model.z.some((value, i) => value !== model.mean[i]);
function setZ(model, z, drawn = false) {
  model.z.set(z);
  model.drawn = drawn;
  change(model);
}
const setLatent = (model, latent, value) => setZ(model, model.z.with(latent, value));

function set(values) {
  Object.assign(state, values);
  change();
}

function address() {
  const given = new URLSearchParams(), { lesson, image, axes } = state;
  if (lesson) given.set("lesson", lesson.id);
  if (image === null) given.set("pixels", toText(Uint8Array.from(input.values, (v) => Math.round(255 * v))));
  else if (image !== START.image) given.set("image", image);
  for (const [i, model] of models.entries()) { // a lesson moves some, which may have been moved back
    if (isMoved(model)) given.set(`z${i + 1}`, (model.drawn ? "drawn." : "") + toText(model.z));
    else if (lesson) given.set(`z${i + 1}`, "");
  }
  for (const name of ["from", "to", "share", "draws", "alone"]) {
    if (state[name] !== START[name]) given.set(name, state[name]);
  }
  if (String(axes) !== String(startAxes())) given.set("axes", axes.join("_").replaceAll(",", "."));
  return `#${given}`;
}

let remembering;
function remember() { // once the hand rests, so that the back button undoes what was done, not each step of it
  clearTimeout(remembering);
  remembering = setTimeout(setAddress, 400, "pushState");
}
function setAddress(method) {
  clearTimeout(remembering);
  encodeInput();
  const text = address();
  if (text === (location.hash || "#")) return;
  try {
    history[method](null, "", text);
  } catch { /* some viewers show the page at no address of its own */ }
}

// Sets what an address says; what it does not say, or says wrongly, is as at the start.
function restore(text, method = "replaceState") {
  const given = new URLSearchParams(text.slice(1));
  const number = (name, low, high, whole = true) => {
    const value = Number(given.get(name));
    const fits = given.get(name) && value >= low && value <= high && (!whole || Number.isInteger(value));
    return fits ? value : START[name];
  };
  const decoded = (name, read, length) => {
    try {
      const values = read(given.get(name));
      return values.length === length && values.every(Number.isFinite) ? values : null;
    } catch {
      return null;
    }
  };
  Object.assign(state, {
    lesson: study.lessons.find(({ id }) => id === given.get("lesson")) ?? null,
    from: number("from", 0, images.length),
    to: number("to", 0, images.length),
    share: number("share", 0, 1, false),
    draws: number("draws", 1, 1e9),
    alone: number("alone", 0, study.classes.length - 1),
    axes: startAxes(),
  });
  (given.get("axes") ?? "").split("_").forEach((pair, i) => {
    const axes = pair.split(".").map(Number);
    if (axes.length === 2 && axes.every((axis) => models[i]?.order.includes(axis))) state.axes[i] = axes;
  });
  const drawing = given.has("pixels") && decoded("pixels", bytes, pixels);
  const place = number("image", 0, Infinity);
  if (drawing) setInput(null, "Your image", Array.from(drawing, (v) => v / 255), false);
  else takeTest(images.find((each) => each.place === place)
    ?? (place < study.pointLabels.length ? pointImage(place) : images[0]), false);
  encodeInput();
  for (const [place, latent, value] of state.lesson?.moves ?? []) {
    if (!given.has(`z${place + 1}`)) models[place].z[latent] = value;
  }
  models.forEach((model, i) => {
    const drawn = given.get(`z${i + 1}`)?.startsWith("drawn.") ?? false;
    const z = decoded(`z${i + 1}`, (values) => floats(values.replace("drawn.", "")), model.zDim);
    if (z) Object.assign(model, { z, drawn });
  });
  setAddress(method);
  showLesson();
}
addEventListener("popstate", () => restore(location.hash));

// --- lessons ---------------------------------------------------------------------------------------

let complete = false; // whether all sections are there
let outside = ""; // the address before the first lesson, to go back to at the end

function go(text) {
  setAddress("pushState"); // of what was there, for the back button
  if (!state.lesson) outside = address();
  restore(text, "pushState");
}
const lessonButton = ({ id }, textContent) =>
  make("button", { type: "button", textContent, onclick: () => go(`#lesson=${id}`) });

function addLessons() {
  find("lessons").append(...study.lessons.map((lesson) => lessonButton(lesson, lesson.title)));
  find("lessons").hidden = !study.lessons.length;
}

function showLesson() {
  const { lesson } = state, box = find("lesson");
  box.hidden = !lesson;
  models.forEach(({ cells }, i) => cells?.forEach((cell) => {
    cell.classList.toggle("beside", lesson !== null && !lesson.models.includes(i));
  }));
  if (!lesson || !complete) return;
  const close = make("button", { type: "button", textContent: "End the lesson", onclick: () => {
    go(outside);
    find("lessons").querySelector("button").focus();
  } });
  const next = study.lessons[study.lessons.indexOf(lesson) + 1];
  const buttons = make("div", { className: "buttons" }, ...(next ? [lessonButton(next, "Next lesson")] : []), close);
  box.replaceChildren(make("h3", {}, lesson.title), make("p", {}, lesson.text), buttons);
  document.querySelectorAll(".chosen").forEach((row) => row.classList.remove("chosen"));
  for (const [place, latent] of lesson.moves) { // with the top one, the rows that a phone shows
    const { rows, order } = models[place];
    rows[latent].parentNode.open = true; // if it lies in the fold
    for (const each of [latent, order[0]]) rows[each].classList.add("chosen");
  }
  find(lesson.section).prepend(box);
  box.focus({ preventScroll: true });
  keepClear(); // of the pictures, which may have become less high
  box.scrollIntoView();
}

// --- the input: a strip, a drawing field, images of one's own --------------------------------------

function addStrip(section, id, choices, chosen, choose) {
  const strip = find(id);
  const radios = choices.map((choice, i) => {
    const radio = make("input", { type: "radio", name: id, ariaLabel: choice.name || "The input" });
    const canvas = Object.assign(picture(""), { ariaHidden: "true" });
    paint(canvas, choice.values);
    radio.addEventListener("change", () => choose(choice, i));
    strip.append(make("label", { title: choice.name || "The input" }, radio, canvas));
    return radio;
  });
  view(section, () => radios.forEach((radio, i) => { radio.checked = chosen(choices[i], i); }));
}

function addPaper() {
  const paper = find("paper"), at = { x: side >> 1, y: side >> 1 };
  const placeCursor = () => Object.assign(find("cursor").style, {
    left: `${at.x / side * 100}%`, top: `${at.y / side * 100}%`, width: `${100 / side}%`, height: `${100 / side}%`,
  });
  const stroke = (toX, toY, first) => { // a soft round brush along the way from `at`
    const brush = Number(document.querySelector("[name=brush]:checked").value);
    const values = input.values.slice(), steps = Math.ceil(1 + Math.hypot(toX - at.x, toY - at.y) * 2);
    for (let step = 1; step <= steps; step++) {
      const x = at.x + (toX - at.x) * step / steps, y = at.y + (toY - at.y) * step / steps;
      for (let i = 0; i < pixels; i++) {
        const cover = clamp(1.8 - Math.hypot(i % side - x, Math.floor(i / side) - y), 0, 1);
        values[i] += cover * (brush - values[i]);
      }
    }
    Object.assign(at, { x: toX, y: toY });
    placeCursor();
    own("Your drawing", values, first);
  };
  const onPaper = (value) => clamp(value, 0, side - 1);
  onDrag(paper, (x, y, first) => {
    [x, y] = [onPaper(x * side - 0.5), onPaper(y * side - 0.5)];
    if (first) Object.assign(at, { x, y });
    stroke(x, y, first);
  }, (event) => event.pointerType !== "touch" || document.activeElement === paper); // else it scrolls
  paper.addEventListener("click", () => paper.focus({ preventScroll: true }));
  paper.addEventListener("keydown", (event) => {
    const [across, down] = arrow(event);
    const x = onPaper(Math.round(at.x) + across), y = onPaper(Math.round(at.y) + down);
    if (event.key === " ") stroke(at.x, at.y, true);
    else if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
    else if (!across && !down) return;
    else if (event.shiftKey) stroke(x, y, true);
    else Object.assign(at, { x, y });
    event.preventDefault();
    placeCursor();
  });
  find("undo").addEventListener("click", undo);
  find("clear").addEventListener("click", () => own("Your drawing", new Float32Array(pixels)));
  find("invert").addEventListener("click", () => own("Your image", input.values.map((value) => 1 - value)));
  placeCursor();
  view("input", () => paint(paper, input.values));
}

// An image that is none of the data's, in grays as the data has them.
const own = (name, values, undoable) => setInput(null, name, values.map((v) => Math.round(255 * v) / 255), undoable);

// A file's image as the models get it: as small as the data's, gray, on black where it is no square.
async function takeFile(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return say(`${file.name} is no image that this browser can read.`);
  }
  const context = make("canvas", { width: side, height: side }).getContext("2d");
  const scale = side / Math.max(bitmap.width, bitmap.height);
  const width = bitmap.width * scale, height = bitmap.height * scale;
  Object.assign(context, { imageSmoothingQuality: "high", fillStyle: "#000" }).fillRect(0, 0, side, side);
  context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
  const { data } = context.getImageData(0, 0, side, side);
  const gray = (i) => (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 255;
  say("");
  own(file.name, Float32Array.from({ length: pixels }, (_, i) => gray(i)));
}
const say = (text) => { find("said").textContent = text; };

function addFiles() {
  const take = ({ files }, event) => {
    if (files.length) event.preventDefault();
    if (files.length) takeFile(files[0]);
  };
  find("file").addEventListener("change", (event) => take(event.target, event));
  addEventListener("paste", (event) => take(event.clipboardData, event));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => take(event.dataTransfer, event));
}

// --- results, sliders, planes ----------------------------------------------------------------------

function addResults() {
  const ramp = find("scale").getContext("2d"), colors = new ImageData(256, 1);
  new Uint32Array(colors.data.buffer).set(DIVERGING);
  Object.assign(ramp.canvas, { width: 256, height: 1 });
  ramp.putImageData(colors, 0, 0);
  view("results", () => {
    paint(find("shown-input"), input.values);
    find("shown-input").ariaLabel = find("shown-input").title = input.name;
    find("floor").textContent = floorOf(input.values).toFixed(1);
  });
  addCells("results", (model, cell) => {
    const decoded = picture(`Reconstruction by ${model.label}`);
    const difference = picture("Its difference from the input", "picture difference");
    const terms = ["z shown", "Reconstruction loss, this image", "Above floor", "Image's KL", "Total loss, this image"];
    const numbers = terms.map((term) => [make("dt", {}, term), make("dd")]);
    cell.append(make("div", { className: "pair" }, decoded, difference), make("dl", {}, ...numbers.flat()));
    view("results", () => {
      paint(decoded, model.decoded);
      const share = (value, i) => 0.5 + (value - input.values[i]) / (2 * DIFFERENCE);
      paint(difference, model.decoded.map(share), DIVERGING);
      const atMean = model.random ? "the mean" : "its only z";
      const texts = [
        !isMoved(model) ? atMean : model.drawn ? "a draw" : "moved",
        ...[model.loss, model.loss - floorOf(input.values)].map((value) => value.toFixed(1)),
        model.random ? model.kl.toFixed(1) : "none",
        (model.loss + model.kl).toFixed(1),
      ];
      numbers.forEach(([, number], i) => { number.textContent = texts[i]; });
    }, model);
  });
}

const ROWS = 20; // in sight; a model can have many more latents
const BAND = 2; // standard deviations
const largestKl = Math.max(...models.flatMap((model) => (model.random ? model.klPerLatent : [])));
// What a latent's bar shows: how much it tells of an image, or how far it spreads.
const sizes = (model) => (model.random ? model.klPerLatent : model.spread);
const sizeText = (model, latent) => `${model.random ? "KL" : "sd"} ${sizes(model)[latent].toFixed(2)}`;

function addSliders() {
  addCells("sliders", (model, cell) => {
    const limit = Math.ceil(model.codes.reduce((most, code) => Math.max(most, Math.abs(code)), 3));
    const longest = (model.random ? largestKl : Math.max(...model.spread)) || 1;
    const share = (value) => `${50 + 50 * clamp(value / limit, -1, 1)}%`;
    const slider = (latent, fold) => {
      const value = make("span", { className: "value" }), band = make("i", { className: "band" });
      const mean = make("i", { className: "mean" }), bar = make("span", { className: model.random ? "bar" : "bar spread" });
      bar.style.setProperty("--size", `${clamp(100 * sizes(model)[latent] / longest, 0, 100)}%`);
      const range = make("input", { type: "range", min: -limit, max: limit, step: limit / 100 });
      range.ariaLabel = `z${latent + 1} of ${model.label}, ${sizeText(model, latent)}`;
      onSlide(range, () => model.z[latent], (z) => setLatent(model, latent, z));
      const keys = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
      range.addEventListener("keydown", (event) => { // a value beyond the end is not pulled back to it
        const z = model.z[latent], step = keys[event.key] * limit / 100;
        const wanted = { Home: -limit, End: limit }[event.key] ?? clamp(z + step, Math.min(z, -limit), Math.max(z, limit));
        if (Number.isNaN(wanted)) return;
        event.preventDefault();
        setLatent(model, latent, wanted);
      });
      let shown = ""; // most changes are of one latent of many, and none in a closed fold is seen
      const refresh = view("sliders", () => {
        const z = model.z[latent], center = model.mean[latent], reach = BAND * (model.deviation?.[latent] ?? 0);
        const wanted = [z, center, reach].join();
        if (fold && !fold.open || shown === wanted) return;
        shown = wanted;
        range.value = z;
        const mark = z > limit ? "\u25b8 " : z < -limit ? "\u25c2 " : "";
        range.classList.toggle("beyond", mark !== "");
        value.textContent = mark + signed(z);
        range.ariaValueText = signed(z) + (mark && ", beyond the slider's end")
          + (reach ? `; encoder: mean ${signed(center)}, standard deviation ${(reach / BAND).toFixed(2)}` : "");
        mean.style.left = share(center);
        Object.assign(band.style, { left: share(center - reach), right: `calc(100% - ${share(center + reach)})` });
      }, model);
      fold?.addEventListener("toggle", refresh);
      bar.title = sizeText(model, latent);
      return (model.rows ??= [])[latent] = make("div", { className: "latent" }, make("span", {}, `z${latent + 1}`), bar,
        make("span", { className: "track" }, make("i", { className: "ends" }, band, mean), range), value);
    };
    const used = model.active.filter(Boolean).length, rest = model.order.slice(ROWS);
    const more = rest.filter((latent) => model.active[latent]).length;
    cell.append(
      make("p", { className: "use" }, make("b", {}, `${used} of ${model.zDim}`),
        ` latents in use${model.seeds && ` (${model.seeds})`}. `,
        make("span", { className: "state" }, `Full bar: ${model.random ? `KL ${longest.toFixed(1)} nats` : `sd ${longest.toFixed(1)}`}. `
          + `Sliders go from \u2212${limit} to ${limit}.`)),
      ...model.order.slice(0, ROWS).map((latent) => slider(latent)),
    );
    const fold = make("details", {}, make("summary", {}, `${rest.length} more, ${more} of them in use`));
    fold.append(...rest.map((latent) => slider(latent, fold)));
    if (rest.length) cell.append(fold);
  });
}

const TILES = 9; // pictures along a side of a plane
const REST_MS = 150; // after a change, before the pictures behind a plane are decoded anew

function addPlane(model, cell) {
  const place = models.indexOf(model), points = study.pointLabels.length;
  const under = make("canvas", { width: TILES * side, height: TILES * side, className: "under" });
  const canvas = make("canvas"), ellipse = make("u"), encoded = make("i"), ring = make("b");
  const plane = make("div", { className: "plane", tabIndex: 0, role: "slider" }, under, canvas, ellipse, encoded, ring);
  const small = Object.assign(picture(""), { ariaHidden: "true" }), nearestName = make("span", {}, "Nearest dot");
  const nearest = make("button", { type: "button", className: "nearest" }, small, nearestName);
  plane.ariaLabel = `Plane of ${model.label}`;
  const selects = ["to the right", "upwards"].map((direction, i) => {
    const select = make("select", { ariaLabel: `Latent ${direction}, ${model.label}` });
    const text = (latent) => `z${latent + 1} (${sizeText(model, latent)})`;
    select.append(...model.order.map((latent) => make("option", { value: latent }, text(latent))));
    select.addEventListener("change", () => {
      state.axes[place] = state.axes[place].with(i, Number(select.value));
      change(model);
    });
    return make("label", {}, direction, select);
  });
  cell.append(make("div", { className: "axes" }, ...selects), plane, nearest);

  let reach = 1, x, y, ink; // the latents' value at the edge, the points' places, the text's colour
  let dots, pictures, near, timer; // what is drawn: of what
  const percent = (value) => 50 + 50 * value / reach;
  const inPlane = (value) => clamp(value, -reach, reach);

  function drawDots() {
    const size = canvas.width = canvas.height = Math.round(canvas.clientWidth * devicePixelRatio);
    const context = canvas.getContext("2d");
    [x, y] = state.axes[place].map((latent) => model.codes.subarray(latent * points, (latent + 1) * points));
    const distances = Float32Array.of(...x, ...y).map(Math.abs).sort();
    reach = Math.max(3.4, 1.1 * distances[Math.floor(0.998 * distances.length)]);
    const circle = (centerX, centerY, radius) => { // as values of the latents, but the radius in pixels
      context.beginPath();
      context.arc(size / 2 * (1 + centerX / reach), size / 2 * (1 - centerY / reach), radius, 0, 7);
    };
    for (let i = 0; i < points; i++) {
      const label = study.pointLabels[i];
      context.globalAlpha = state.alone === null ? 0.8 : state.alone === label ? 1 : 0.07;
      context.fillStyle = shade(study.classColors, label).replace("currentcolor", ink);
      circle(x[i], y[i], 1.6 * devicePixelRatio);
      context.fill();
    }
    Object.assign(context, { globalAlpha: 0.8, strokeStyle: ink, lineWidth: devicePixelRatio });
    for (const deviations of [1, 2, 3]) {
      circle(0, 0, deviations * size / 2 / reach);
      context.stroke();
    }
  }

  function* decodeTiles(z) { // the pictures that lie behind, faint, in the text's colour
    const [across, up] = state.axes[place], [red, green, blue] = ink.match(/\d+/g).map(Number);
    const colors = GRAYS.map((_, gray) => (gray * 0.4 << 24 | blue << 16 | green << 8 | red) >>> 0);
    for (let i = 0; i < TILES ** 2; i++) {
      const column = i % TILES, row = Math.floor(i / TILES);
      z[up] = (1 - (2 * row + 1) / TILES) * reach;
      z[across] = ((2 * column + 1) / TILES - 1) * reach;
      paint(under, decode(model, z), colors, column, row, 0);
      yield;
    }
    under.classList.remove("old");
  }

  function findNearest() {
    const [across, up] = state.axes[place];
    let best = Infinity, found = 0;
    for (let i = 0; i < points; i++) {
      if (state.alone !== null && state.alone !== study.pointLabels[i]) continue;
      const distance = (x[i] - model.z[across]) ** 2 + (y[i] - model.z[up]) ** 2;
      if (distance < best) [best, found] = [distance, i];
    }
    if (near?.place === found) return;
    near = pointImage(found);
    paint(small, near.values);
    nearestName.textContent = `Nearest dot: ${near.name}. Take it`;
  }

  view("planes", () => {
    const [across, up] = state.axes[place];
    selects.forEach((label, i) => { label.lastChild.value = state.axes[place][i]; });
    ink = getComputedStyle(canvas).color;
    const ofDots = [across, up, state.alone, canvas.clientWidth, devicePixelRatio, ink].join();
    if (dots !== ofDots) drawDots();
    dots = ofDots;
    const others = model.z.slice();
    others[across] = others[up] = 0;
    const ofPictures = [across, up, ink, ...others].join();
    if (pictures !== ofPictures) {
      under.classList.add("old");
      clearTimeout(timer);
      jobs.delete(model);
      const start = () => {
        jobs.set(model, [find("planes"), decodeTiles(others)]);
        request();
      };
      if (printing) start(); // paper does not wait
      else timer = setTimeout(start, REST_MS);
    }
    pictures = ofPictures;
    for (const [node, z] of [[encoded, model.mean], [ring, model.z], [ellipse, model.mean]]) {
      const beyond = [across, up].some((latent) => Math.abs(z[latent]) > reach);
      Object.assign(node.style, { left: `${percent(inPlane(z[across]))}%`, top: `${100 - percent(inPlane(z[up]))}%` });
      node.classList.toggle("beyond", beyond);
    }
    const spread = (latent) => `${100 * BAND * (model.deviation?.[latent] ?? 0) / reach}%`;
    Object.assign(ellipse.style, { width: spread(across), height: spread(up) });
    plane.ariaValueText = `z${across + 1} ${signed(model.z[across])}, z${up + 1} ${signed(model.z[up])}`;
    Object.assign(plane, { ariaValueMin: -reach, ariaValueMax: reach, ariaValueNow: model.z[across] });
    findNearest();
  }, model);

  const moveTo = (right, down) => {
    const [across, up] = state.axes[place];
    setZ(model, model.z.with(up, inPlane((1 - 2 * down) * reach)).with(across, inPlane((2 * right - 1) * reach)));
  };
  // A finger drags the ring alone, so that it can scroll elsewhere; where it taps, the ring goes.
  onDrag(plane, moveTo, (event) => event.pointerType !== "touch" || event.target === ring);
  plane.addEventListener("click", (event) => moveTo(...shareOf(plane, event)));
  const take = () => takeTest(near);
  nearest.addEventListener("click", take);
  plane.addEventListener("keydown", (event) => {
    const [right, down] = arrow(event), [across, up] = state.axes[place], step = reach / (event.shiftKey ? 10 : 50);
    if (event.key === "Enter") take();
    else if (!right && !down) return;
    else setLatent(model, right ? across : up, model.z[right ? across : up] + (right - down) * step);
    event.preventDefault();
  });
}

function addPlanes() {
  const buttons = study.classes.map((name, label) => {
    const button = make("button", { type: "button", textContent: name });
    button.style.setProperty("--class", shade(study.classColors, label));
    button.addEventListener("click", () => set({ alone: state.alone === label ? null : label }));
    return button;
  });
  find("legend").append(...buttons);
  view("planes", () => buttons.forEach((each, label) => { each.ariaPressed = String(label === state.alone); }));
  addCells("planes", addPlane);
}

// --- between two images, and draws -----------------------------------------------------------------

const STEPS = 7;
const mix = (from, to, share) => from.map((value, i) => value + share * (to[i] - value));

function addBetween() {
  const share = find("share"), choices = [input, ...images];
  const ends = () => [choices[state.from], choices[state.to]];
  for (const id of ["from", "to"]) {
    addStrip("between", id, choices, (_, i) => i === state[id], (_, i) => set({ [id]: i }));
    find(id).firstChild.append(make("span", {}, "input"));
  }
  onSlide(share, () => state.share, (value) => set({ share: value }));
  view("between", () => {
    share.value = state.share;
    find("share-value").textContent = state.share.toFixed(2);
    paint(find("mixed"), mix(...ends().map(({ values }) => values), state.share));
    for (const id of ["from", "to"]) paint(find(id).querySelector("canvas"), input.values);
  });
  addCells("between", (model, cell) => {
    const between = picture(`Between the two, by ${model.label}`);
    const steps = picture(`${STEPS} steps by ${model.label}`, "steps", STEPS);
    cell.append(between, steps);
    let shown, means;
    view("between", () => {
      const wanted = [state.from, state.to, ends().includes(input) && input.version].join();
      if (shown !== wanted) {
        means = ends().map(({ values }) => encode(model, values).mean);
        for (let i = 0; i < STEPS; i++) paint(steps, decode(model, mix(...means, i / (STEPS - 1))), GRAYS, i);
      }
      shown = wanted;
      paint(between, decode(model, mix(...means, state.share)));
    });
  });
}

function addDraws() {
  const rows = 2, columns = 4, widest = Math.max(...models.map((model) => model.zDim));
  find("draw").addEventListener("click", () => {
    set({ draws: state.draws + 1 });
    announce(`Draw ${state.draws}`);
  });
  addCells("draws", (model, cell) => {
    const kinds = [
      ["from N(0, I)", (noise) => noise],
      ["from a Gaussian fitted to its z", (noise) => fromFitted(model, noise)],
    ];
    let shown;
    const canvases = kinds.map(([text]) => picture(`Eight draws ${text} by ${model.label}`, "eight", columns, rows));
    kinds.forEach(([text], i) => cell.append(make("p", { className: "state" }, text), canvases[i]));
    view("draws", () => {
      if (shown === state.draws) return;
      shown = state.draws;
      const noise = normals(rows * columns * widest, state.draws);
      for (let i = 0; i < rows * columns; i++) {
        const own = noise.slice(i * widest, i * widest + model.zDim);
        const place = [i % columns, Math.floor(i / columns)];
        kinds.forEach(([, z], kind) => paint(canvases[kind], decode(model, z(own)), GRAYS, ...place));
      }
    });
  });
}

// --- all together ----------------------------------------------------------------------------------

document.documentElement.style.setProperty("--models", models.length);
document.body.classList.toggle("many", models.length > 4);
find("data").textContent = study.data;
find("notice").textContent = study.notice;
find("models").append(...models.map((model) => {
  const item = make("li", {}, make("b", {}, model.label), `: ${model.kind}.`);
  item.style.setProperty("--model", model.color);
  return item;
}));
for (const id of ["paper", "shown-input", "mixed"]) Object.assign(find(id), { width: side, height: side });
for (const button of document.querySelectorAll(".reset, .again")) {
  button.addEventListener("click", () => {
    const again = button.className === "again";
    for (const model of models) {
      const noise = normals(model.zDim, Math.floor(Math.random() * 2 ** 31));
      const drawn = again && model.random;
      setZ(model, model.mean.map((mean, i) => mean + (drawn ? model.deviation[i] * noise[i] : 0)), drawn);
    }
  });
}
const drawAnew = () => { views.forEach((each) => { each.stale = true; }); request(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
addEventListener("resize", drawAnew); // the planes are drawn in the screen's pixels
function keepClear() { // what is scrolled to, or takes the focus, is not below the pictures
  document.documentElement.style.scrollPaddingTop = `${find("results").offsetHeight + 8}px`;
}
new ResizeObserver(keepClear).observe(find("results"));
// Viewers of PDF files smooth pictures of few pixels, so these go to paper with many.
function resize(canvas, factor) {
  const copy = canvas.cloneNode(), context = canvas.getContext("2d");
  copy.getContext("2d").drawImage(canvas, 0, 0);
  Object.assign(canvas, { width: copy.width * factor, height: copy.height * factor });
  context.imageSmoothingEnabled = false;
  context.drawImage(copy, 0, 0, canvas.width, canvas.height);
}
const resizeAll = (factor) => {
  for (const canvas of document.querySelectorAll(".picture, .steps, .eight")) resize(canvas, factor);
};
addEventListener("beforeprint", () => {
  printing = true;
  for (const { section } of views) inSight.add(section);
  frame();
  for (const [, pieces] of jobs.values()) while (!pieces.next().done);
  resizeAll(8);
});
addEventListener("afterprint", () => {
  printing = false;
  resizeAll(1 / 8);
  for (const { section } of views) {
    watcher.unobserve(section);
    watcher.observe(section);
  }
});

addStrip("input", "strip", images, ({ place }) => place === state.image, (image) => takeTest(image));
addPaper();
addFiles();
addLessons();
addResults();
restore(location.hash);
frame();
const sections = [addSliders, addPlanes, addBetween, addDraws];
function addSection() { // one at a time, so that the page answers in between
  sections.shift()();
  if (sections.length) return setTimeout(addSection);
  complete = true;
  document.querySelector("main").ariaBusy = "false";
  showLesson();
  performance.mark("complete");
}
requestAnimationFrame(() => setTimeout(() => { // after the first picture is painted
  performance.mark("first picture");
  addSection();
}));
