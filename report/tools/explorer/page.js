// The page: one input image, and for every model the latent vector z that is shown. Whatever is
// moved ends in setInput or in redraw; whoever draws something of a model listens to its changes.

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
}));
const images = study.labels.map((label, i) => ({
  name: `${study.classes[label]}, test image ${study.places[i]}`,
  values: Float32Array.from(bytes(study.images).subarray(i * pixels, (i + 1) * pixels), (v) => v / 255),
}));
const input = { name: "", values: new Float32Array(pixels) };
const inputListeners = [], modelListeners = [];

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
  for (const model of models) {
    const cell = make("div", { className: "cell" }, make("h3", {}, model.label));
    cell.style.setProperty("--model", model.color);
    find(section).append(cell);
    fill(model, cell);
  }
}

const GRAYS = Uint32Array.from({ length: 256 }, (_, g) => 0xff000000 + g * 0x010101);
const DIVERGING = new Uint32Array(bytes(study.diverging).buffer);

function picture(label, className = "picture", across = 1, down = 1) {
  const canvas = make("canvas", { className, width: across * (side + 1) - 1, height: down * (side + 1) - 1 });
  return Object.assign(canvas, { role: "img", ariaLabel: label });
}

// Values in 0..1 as pixels, in place (column, row) of a canvas of many pictures.
function paint(canvas, values, colors = GRAYS, column = 0, row = 0) {
  const image = new ImageData(side, side), out = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels; i++) out[i] = colors[Math.round(255 * values[i])];
  canvas.getContext("2d").putImageData(image, column * (side + 1), row * (side + 1));
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const arrow = (event) => ARROWS[event.key] ?? [0, 0];
// `move(x, y, first)` with the pointer's place in shares of the node, while it is pressed.
function onDrag(node, move) {
  const follow = ({ clientX, clientY, type }) => {
    const { left, top, width, height } = node.getBoundingClientRect();
    move((clientX - left) / width, (clientY - top) / height, type === "pointerdown");
  };
  node.addEventListener("pointerdown", (event) => {
    node.setPointerCapture(event.pointerId);
    follow(event);
  });
  node.addEventListener("pointermove", (event) => node.hasPointerCapture(event.pointerId) && follow(event));
}

let announcing;
function announce(text) { // to screen readers, once the hand rests
  clearTimeout(announcing);
  announcing = setTimeout(() => { find("status").textContent = text; }, 400);
}

// --- state ----------------------------------------------------------------------------------------

function setInput(name, values) {
  input.name = name;
  input.values.set(values);
  for (const model of models) {
    Object.assign(model, encode(model, input.values));
    model.z = model.mean.slice();
  }
  inputListeners.forEach((listener) => listener());
  models.forEach(redraw);
  announce([name, ...models.map((model) => `${model.label}: reconstruction loss ${model.loss.toFixed(1)}`
    + (model.random ? `, KL ${model.kl.toFixed(1)}` : ""))].join("; "));
}

function redraw(model) {
  const logits = run(model.decoder, model.z);
  model.loss = reconstructionLoss(logits, input.values);
  model.decoded = sigmoid(logits);
  modelListeners.forEach((listener) => listener(model));
}

const onModel = (model, listener) => modelListeners.push((changed) => changed === model && listener());

// --- the input: a strip and a drawing field --------------------------------------------------------

function addStrip(strip, choices, checked, choose) {
  choices.forEach((choice, i) => {
    const radio = make("input", { type: "radio", name: strip.id, ariaLabel: choice.name, checked: i === checked });
    const canvas = Object.assign(picture(""), { ariaHidden: "true" });
    paint(canvas, choice.values);
    radio.addEventListener("change", () => choose(choice));
    strip.append(make("label", { title: choice.name }, radio, canvas));
  });
}

function addPaper() {
  const paper = find("paper"), at = { x: side >> 1, y: side >> 1 };
  const placeCursor = () => Object.assign(find("cursor").style, {
    left: `${at.x / side * 100}%`, top: `${at.y / side * 100}%`, width: `${100 / side}%`, height: `${100 / side}%`,
  });
  const stroke = (toX, toY) => { // a soft round brush along the way from `at`
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
    drawn(values);
  };
  const drawn = (values) => {
    document.querySelectorAll("[name=strip]").forEach((radio) => { radio.checked = false; });
    setInput("Your drawing", values);
  };
  const onPaper = (value) => clamp(value, 0, side - 1);
  onDrag(paper, (x, y, first) => {
    [x, y] = [onPaper(x * side - 0.5), onPaper(y * side - 0.5)];
    if (first) Object.assign(at, { x, y });
    stroke(x, y);
  });
  paper.addEventListener("keydown", (event) => {
    const [across, down] = arrow(event);
    const x = onPaper(Math.round(at.x) + across), y = onPaper(Math.round(at.y) + down);
    if (event.key === " ") stroke(at.x, at.y);
    else if (!across && !down) return;
    else if (event.shiftKey) stroke(x, y);
    else Object.assign(at, { x, y });
    event.preventDefault();
    placeCursor();
  });
  find("clear").addEventListener("click", () => drawn(new Float32Array(pixels)));
  placeCursor();
  inputListeners.push(() => {
    for (const id of ["paper", "shown-input"]) paint(find(id), input.values);
    find("input-name").textContent = input.name;
  });
}

// --- results, sliders, planes ----------------------------------------------------------------------

function addResult(model, cell) {
  const decoded = picture(`Reconstruction by ${model.label}`);
  const difference = picture("Its difference from the input", "picture difference");
  const state = make("p", { className: "state" }), loss = make("dd"), kl = make("dd");
  cell.append(make("div", { className: "pair" }, decoded, difference), state, make("dl", {},
    make("dt", {}, "Rec", make("span", {}, "onstruction")), loss, make("dt", {}, "KL"), kl));
  onModel(model, () => {
    paint(decoded, model.decoded);
    paint(difference, model.decoded.map((value, i) => (value - input.values[i] + 1) / 2), DIVERGING);
    const moved = model.z.some((value, i) => value !== model.mean[i]);
    state.textContent = moved ? "moved" : model.random ? "at the mean" : "at z";
    loss.textContent = model.loss.toFixed(1);
    kl.textContent = model.random ? model.kl.toFixed(1) : "none";
  });
}

const SLIDERS = 16; // in sight; an autoencoder can have many more in use
const measure = (model, latent) => (model.random ? model.klPerLatent : model.spread)[latent].toFixed(2);

function addSliders(model, cell) {
  const used = model.order.filter((latent) => model.active[latent]);
  const idle = model.order.filter((latent) => !model.active[latent]);
  const limit = Math.ceil(model.codes.reduce((most, code) => Math.max(most, Math.abs(code)), 3));
  const slider = (latent, fold) => {
    const name = make("span", {}, `z${latent + 1}`), value = make("span"), tick = make("i");
    const range = make("input", { type: "range", min: -limit, max: limit, step: limit / 100 });
    range.ariaLabel = `z${latent + 1} of ${model.label}, ${model.random ? "KL" : "spread"} ${measure(model, latent)}`;
    range.addEventListener("input", () => {
      model.z[latent] = Number(range.value);
      redraw(model);
    });
    let shown, marked; // most redraws change one latent of many, and none in a closed fold is seen
    const refresh = () => {
      const z = model.z[latent], mean = model.mean[latent];
      if (fold && !fold.open || z === shown && mean === marked) return;
      range.value = shown = z;
      value.textContent = range.ariaValueText = signed(z);
      tick.style.translate = `${50 + 50 * clamp((marked = mean) / limit, -1, 1)}%`;
    };
    onModel(model, refresh);
    fold?.addEventListener("toggle", refresh);
    const track = make("span", { className: "track" }, tick, range);
    return make("div", { className: "latent" }, name, make("span", {}, measure(model, latent)), track, value);
  };
  cell.append(make("p", { className: "use" }, make("b", {}, `${used.length} of ${model.zDim}`), " latents in use"),
    ...used.slice(0, SLIDERS).map((latent) => slider(latent)));
  for (const [rest, text] of [[used.slice(SLIDERS), "more in use"], [idle, "inactive: the same for every image"]]) {
    const fold = make("details", {}, make("summary", {}, `${rest.length} ${text}`));
    fold.append(...rest.map((latent) => slider(latent, fold)));
    if (rest.length) cell.append(fold);
  }
}

const planes = []; // functions that draw each anew
let classAlone = null; // the class whose dots are shown alone

function addPlane(model, cell) {
  const canvas = make("canvas"), encoded = make("i"), ring = make("b");
  const plane = make("div", { className: "plane", tabIndex: 0, role: "slider" }, canvas, encoded, ring);
  plane.ariaLabel = `Plane of ${model.label}`;
  const axis = (text, chosen) => {
    const select = make("select", { ariaLabel: `Latent ${text}, ${model.label}` });
    select.append(...model.order.map((latent) => make("option",
      { value: latent, selected: latent === chosen }, `z${latent + 1} (${measure(model, latent)})`)));
    select.addEventListener("change", drawPlane);
    return select;
  };
  const across = axis("to the right", model.order[0]), up = axis("upwards", model.order[1] ?? model.order[0]);
  const latents = () => [Number(across.value), Number(up.value)];
  let reach = 1; // the latents' value at the edge
  cell.append(make("div", { className: "axes" }, make("label", {}, "to the right", across),
    make("label", {}, "upwards", up)), plane);

  function drawPlane() {
    const size = canvas.width = canvas.height = Math.round(canvas.clientWidth * devicePixelRatio);
    const points = study.pointLabels.length, context = canvas.getContext("2d");
    const ink = getComputedStyle(canvas).color;
    const [x, y] = latents().map((latent) => model.codes.subarray(latent * points, (latent + 1) * points));
    const sizes = Float32Array.of(...x, ...y).map(Math.abs).sort();
    reach = Math.max(3.4, 1.1 * sizes[Math.floor(0.998 * sizes.length)]);
    const circle = (centerX, centerY, radius) => { // as values of the latents, but the radius in pixels
      context.beginPath();
      context.arc(size / 2 * (1 + centerX / reach), size / 2 * (1 - centerY / reach), radius, 0, 7);
    };
    for (let i = 0; i < points; i++) {
      const label = study.pointLabels[i];
      context.globalAlpha = classAlone === null ? 0.8 : classAlone === label ? 1 : 0.07;
      context.fillStyle = shade(study.classColors, label).replace("currentcolor", ink);
      circle(x[i], y[i], 1.6 * devicePixelRatio);
      context.fill();
    }
    Object.assign(context, { globalAlpha: 0.8, strokeStyle: ink, lineWidth: devicePixelRatio });
    for (const deviations of [1, 2, 3]) {
      circle(0, 0, deviations * size / 2 / reach);
      context.stroke();
    }
    drawRing();
  }
  function drawRing() {
    const [x, y] = latents(), share = (value) => 50 * clamp(value / reach, -1, 1);
    for (const [node, z] of [[encoded, model.mean], [ring, model.z]]) {
      node.style.translate = `${share(z[x])}% ${-share(z[y])}%`;
    }
    plane.ariaValueText = `z${x + 1} ${signed(model.z[x])}, z${y + 1} ${signed(model.z[y])}`;
    Object.assign(plane, { ariaValueMin: -reach, ariaValueMax: reach, ariaValueNow: model.z[x] });
  }
  const moveTo = (...place) => {
    latents().forEach((latent, i) => { model.z[latent] = clamp(place[i], -reach, reach); });
    redraw(model);
  };
  onDrag(plane, (x, y) => moveTo((2 * x - 1) * reach, (1 - 2 * y) * reach));
  plane.addEventListener("keydown", (event) => {
    const [right, down] = arrow(event), [x, y] = latents(), step = reach / (event.shiftKey ? 10 : 50);
    if (!right && !down) return;
    event.preventDefault();
    moveTo(model.z[x] + right * step, model.z[y] - down * step);
  });
  onModel(model, drawRing);
  new ResizeObserver(drawPlane).observe(plane);
  planes.push(drawPlane);
}

function addLegend() {
  const buttons = study.classes.map((name, label) => {
    const button = make("button", { type: "button", textContent: name, ariaPressed: "false" });
    button.style.setProperty("--class", shade(study.classColors, label));
    button.addEventListener("click", () => {
      classAlone = classAlone === label ? null : label;
      buttons.forEach((each, i) => { each.ariaPressed = String(i === classAlone); });
      planes.forEach((draw) => draw());
    });
    return button;
  });
  find("legend").append(...buttons);
}

// --- between two images, and draws -----------------------------------------------------------------

const STEPS = 7;
const mix = (from, to, share) => from.map((value, i) => value + share * (to[i] - value));

function addBetween() {
  const share = find("share"), ends = [images[0], images.at(-1)];
  ["from", "to"].forEach((id, end) => {
    addStrip(find(id), [input, ...images], end ? images.length : 1, (choice) => {
      ends[end] = choice;
      newEnds();
    });
    find(id).firstChild.append(make("span", {}, "input"));
  });
  addCells("between", (model, cell) => {
    model.between = picture(`Between the two, by ${model.label}`);
    model.steps = picture(`${STEPS} steps by ${model.label}`, "steps", STEPS);
    cell.append(model.between, model.steps);
  });
  function newEnds() {
    for (const model of models) {
      model.ends = ends.map(({ values }) => encode(model, values).mean);
      const step = (i) => decode(model, mix(...model.ends, i / (STEPS - 1)));
      for (let i = 0; i < STEPS; i++) paint(model.steps, step(i), GRAYS, i);
    }
    newShare();
  }
  function newShare() {
    find("share-value").textContent = Number(share.value).toFixed(2);
    paint(find("mixed"), mix(...ends.map(({ values }) => values), share.value));
    for (const model of models) paint(model.between, decode(model, mix(...model.ends, share.value)));
  }
  share.addEventListener("input", newShare);
  inputListeners.push(() => {
    for (const id of ["from", "to"]) paint(find(id).querySelector("canvas"), input.values);
    if (!models[0].ends || ends.includes(input)) newEnds();
  });
}

// `count` draws of N(0, 1), the same for a seed: mulberry32 and the method of Box and Muller.
function normals(count, seed) {
  const uniform = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Float32Array.from({ length: count }, normal);
}

function addDraws() {
  const rows = 3, columns = 4, widest = Math.max(...models.map((model) => model.zDim));
  let seed = 1;
  find("draw").addEventListener("click", () => announce(`Draw ${++seed}`)); // before the models draw
  addCells("draws", (model, cell) => {
    const twelve = picture(`Twelve draws decoded by ${model.label}`, "twelve", columns, rows);
    const draw = () => {
      const noise = normals(rows * columns * widest, seed);
      for (let i = 0; i < rows * columns; i++) {
        const z = noise.slice(i * widest, i * widest + model.zDim);
        paint(twelve, decode(model, z), GRAYS, i % columns, Math.floor(i / columns));
      }
    };
    cell.append(twelve);
    find("draw").addEventListener("click", draw);
    draw();
  });
}

// --- all together ----------------------------------------------------------------------------------

document.documentElement.style.setProperty("--models", models.length);
find("data").textContent = study.data;
find("notice").textContent = study.notice;
for (const id of ["paper", "shown-input", "mixed"]) Object.assign(find(id), { width: side, height: side });
addStrip(find("strip"), images, 0, (image) => setInput(image.name, image.values));
addPaper();
addCells("results", addResult);
addCells("sliders", addSliders);
addCells("planes", addPlane);
addLegend();
addBetween();
addDraws();
for (const button of document.querySelectorAll(".reset")) {
  button.addEventListener("click", () => {
    for (const model of models) {
      model.z = model.mean.slice();
      redraw(model);
    }
    announce("Back to the encoded point");
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => planes.forEach((draw) => draw()));
setInput(images[0].name, images[0].values);
requestAnimationFrame(() => setTimeout(() => performance.mark("first picture"))); // after it is painted
