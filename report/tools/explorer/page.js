// The page: one input image, and for every model the latent vector z that is shown. Whatever is
// moved ends in setInput or in redraw; whoever draws something of a model listens to its changes.

const study = JSON.parse(document.getElementById("study").textContent);
const side = study.side, pixels = side * side;
const models = study.models.map((model, place) => ({
  ...model,
  color: study.colors[place % study.colors.length].replace("#000000", "var(--ink)"),
  encoder: model.encoder.map(readLayer),
  decoder: model.decoder.map(readLayer),
  codes: scaled(new Int8Array(bytes(model.codes).buffer), floats(model.codeScales)), // (zDim, points)
}));
const images = study.labels.map((label, i) => ({
  name: `${study.classes[label]}, test image ${study.places[i]}`,
  values: Float32Array.from(bytes(study.images).subarray(i * pixels, (i + 1) * pixels), (v) => v / 255),
}));
const input = { name: "", values: new Float32Array(pixels) };
const inputListeners = [], modelListeners = [];

// --- helpers --------------------------------------------------------------------------------------

const find = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const signed = (value, digits = 2) => value.toFixed(digits).replace("-", "\u2212");

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// One cell per model at the end of a section, filled by `fill(model, cell)`.
function addCells(section, fill) {
  for (const model of models) {
    const cell = make("div", { className: "cell" }, make("h3", { textContent: model.label }));
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
  announce(`${name}. ` + models.map((model) => `${model.label}: reconstruction loss ${model.loss.toFixed(1)}`
    + (model.random ? `, KL ${model.kl.toFixed(1)}` : "")).join("; "));
}

function redraw(model) {
  const logits = run(model.decoder, model.z);
  model.loss = reconstructionLoss(logits, input.values);
  model.decoded = sigmoid(logits);
  modelListeners.forEach((listener) => listener(model));
}

function move(model, latent, value) {
  model.z[latent] = value;
  redraw(model);
}

const onModel = (model, listener) => modelListeners.push((changed) => changed === model && listener());

// --- the input: a strip and a drawing field --------------------------------------------------------

function addStrip(strip, choices, checked, choose) {
  choices.forEach((choice, i) => {
    const radio = make("input", { type: "radio", name: strip.id, value: i, ariaLabel: choice.name, checked: i === checked });
    const canvas = picture("");
    canvas.ariaHidden = "true";
    paint(canvas, choice.values);
    radio.addEventListener("change", () => choose(choice));
    strip.append(make("label", { title: choice.name }, radio, canvas));
  });
}

function addPaper() {
  const paper = find("paper"), at = { x: side >> 1, y: side >> 1 };
  Object.assign(paper, { width: side, height: side });
  const placeCursor = () => {
    const share = 100 / side;
    find("cursor").style.cssText = `left:${at.x * share}%;top:${at.y * share}%;width:${share}%;height:${share}%`;
  };
  const stroke = (toX, toY) => { // a soft round brush along the way from `at`
    const brush = Number(document.querySelector("[name=brush]:checked").value);
    const values = input.values.slice(), steps = Math.max(1, Math.ceil(Math.hypot(toX - at.x, toY - at.y) * 2));
    for (let step = 1; step <= steps; step++) {
      const x = at.x + (toX - at.x) * step / steps, y = at.y + (toY - at.y) * step / steps;
      for (let i = 0; i < pixels; i++) {
        const cover = clamp(1.8 - Math.hypot(i % side - x, Math.floor(i / side) - y), 0, 1);
        values[i] += cover * (brush - values[i]);
      }
    }
    Object.assign(at, { x: toX, y: toY });
    drawn(values);
  };
  const drawn = (values) => {
    document.querySelectorAll("[name=strip]").forEach((radio) => { radio.checked = false; });
    setInput("Your drawing", values);
  };
  const position = (event) => {
    const box = paper.getBoundingClientRect();
    return [clamp((event.clientX - box.left) / box.width * side - 0.5, 0, side - 1),
      clamp((event.clientY - box.top) / box.height * side - 0.5, 0, side - 1)];
  };
  paper.addEventListener("pointerdown", (event) => {
    paper.setPointerCapture(event.pointerId);
    [at.x, at.y] = position(event);
    stroke(at.x, at.y);
  });
  paper.addEventListener("pointermove", (event) => paper.hasPointerCapture(event.pointerId) && stroke(...position(event)));
  paper.addEventListener("keydown", (event) => {
    const [across, down] = arrow(event), x = clamp(Math.round(at.x) + across, 0, side - 1), y = clamp(Math.round(at.y) + down, 0, side - 1);
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
    paint(paper, input.values);
    paint(find("shown-input"), input.values);
    find("input-name").textContent = input.name;
  });
}

const arrow = ({ key }) => ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] })[key] ?? [0, 0];

// --- results, sliders, planes ----------------------------------------------------------------------

function addResult(model, cell) {
  const decoded = picture(`Reconstruction by ${model.label}`), difference = picture(`Its difference from the input`);
  const state = make("p", { className: "state" }), loss = make("dd"), kl = make("dd");
  const pair = make("div", { className: "pair" }, decoded, difference);
  cell.append(pair, state, make("dl", {}, make("dt", { textContent: "Reconstruction" }), loss, make("dt", { textContent: "KL" }), kl));
  onModel(model, () => {
    paint(decoded, model.decoded);
    paint(difference, model.decoded.map((value, i) => (value - input.values[i] + 1) / 2), DIVERGING);
    const moved = model.z.some((value, i) => value !== model.mean[i]);
    state.textContent = moved ? "latents moved" : model.random ? "from the mean" : "from z";
    loss.textContent = model.loss.toFixed(1);
    kl.textContent = model.random ? model.kl.toFixed(1) : "none";
  });
}

const measure = (model, latent) => (model.random ? model.kl[latent] : model.spread[latent]).toFixed(2);

function addSliders(model, cell) {
  const used = model.order.filter((latent) => model.active[latent]), idle = model.order.filter((latent) => !model.active[latent]);
  const limit = Math.max(3, Math.ceil(model.codes.reduce((most, code) => Math.max(most, Math.abs(code)), 0)));
  const slider = (latent) => {
    const range = make("input", { type: "range", min: -limit, max: limit, step: limit / 100,
      ariaLabel: `z${latent + 1} of ${model.label}, ${model.random ? "KL" : "spread"} ${measure(model, latent)}` });
    const value = make("span"), track = make("span", { className: "track" }, range);
    range.addEventListener("input", () => move(model, latent, Number(range.value)));
    onModel(model, () => {
      range.value = model.z[latent];
      value.textContent = range.ariaValueText = signed(model.z[latent]);
      track.style.setProperty("--mark", clamp((model.mean[latent] / limit + 1) / 2, 0, 1));
    });
    return make("div", { className: "latent" }, make("span", { textContent: `z${latent + 1}` }),
      make("span", { textContent: measure(model, latent) }), track, value);
  };
  cell.append(make("p", { className: "use" }, make("b", { textContent: `${used.length} of ${model.zDim}` }),
    ` latents in use${model.random ? "" : ", by spread: there is no KL"}`), ...used.map(slider));
  if (idle.length) {
    cell.append(make("details", {}, make("summary", { textContent: `${idle.length} inactive: the same for every image` }), ...idle.map(slider)));
  }
}

const planes = []; // functions that draw each anew
let classAlone = null; // the class whose dots are shown alone

function addPlane(model, cell) {
  const canvas = make("canvas", { className: "plane", tabIndex: 0, role: "slider", ariaLabel: `Plane of ${model.label}` });
  const background = make("canvas"); // all but the ring
  const points = study.pointLabels.length;
  const axis = (text, chosen) => {
    const options = model.order.map((latent) => make("option", {
      value: latent, textContent: `z${latent + 1} (${measure(model, latent)})`, selected: latent === chosen,
    }));
    const select = make("select", { ariaLabel: `Latent ${text}, ${model.label}` }, ...options);
    select.addEventListener("change", drawPlane);
    return select;
  };
  const across = axis("to the right", model.order[0]), up = axis("upwards", model.order[1] ?? model.order[0]);
  let reach = 1, scale = 1; // the latents' value at the edge, pixels per unit
  cell.append(make("div", { className: "axes" }, make("label", {}, "to the right", across), make("label", {}, "upwards", up)), canvas);

  function drawPlane() {
    const size = Math.round(canvas.clientWidth * devicePixelRatio), middle = size / 2, dot = 1.6 * devicePixelRatio;
    for (const each of [canvas, background]) Object.assign(each, { width: size, height: size });
    const [x, y] = [across, up].map(({ value }) => model.codes.subarray(value * points, (Number(value) + 1) * points));
    const lengths = Float32Array.of(...x, ...y).map(Math.abs).sort();
    reach = Math.max(3.4, 1.1 * lengths[Math.floor(0.998 * lengths.length)]);
    scale = middle / reach;
    const context = background.getContext("2d");
    for (let i = 0; i < points; i++) {
      const label = study.pointLabels[i];
      context.globalAlpha = classAlone === null ? 0.8 : classAlone === label ? 1 : 0.07;
      context.fillStyle = study.classColors[label % study.classColors.length];
      context.beginPath();
      context.arc(middle + x[i] * scale, middle - y[i] * scale, dot, 0, 7);
      context.fill();
    }
    Object.assign(context, { globalAlpha: 0.8, strokeStyle: color("--ink"), lineWidth: devicePixelRatio });
    for (const radius of [1, 2, 3]) {
      context.beginPath();
      context.arc(middle, middle, radius * scale, 0, 7);
      context.stroke();
    }
    drawRing();
  }
  function drawRing() {
    const context = canvas.getContext("2d"), middle = canvas.width / 2, unit = devicePixelRatio;
    const place = (z) => [middle + clamp(z[across.value], -reach, reach) * scale, middle - clamp(z[up.value], -reach, reach) * scale];
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(background, 0, 0);
    for (const [z, radius, inner, outer] of [[model.mean, 3, color("--warning"), color("--paper")], [model.z, 7, "#0000", color("--paper")]]) {
      context.beginPath();
      context.arc(...place(z), radius * unit, 0, 7);
      context.fillStyle = inner;
      context.fill();
      for (const [style, width] of [[outer, 5], [z === model.z ? color("--ink") : inner, 2]]) {
        Object.assign(context, { strokeStyle: style, lineWidth: width * unit });
        context.stroke();
      }
    }
    canvas.ariaValueText = [across, up].map(({ value }) => `z${Number(value) + 1} ${signed(model.z[value])}`).join(", ");
    canvas.ariaValueNow = model.z[across.value].toFixed(2);
  }
  const moveTo = (x, y) => {
    model.z[across.value] = clamp(x, -reach, reach);
    model.z[up.value] = clamp(y, -reach, reach);
    redraw(model);
  };
  const drag = (event) => {
    const box = canvas.getBoundingClientRect();
    moveTo(((event.clientX - box.left) / box.width * 2 - 1) * reach, (1 - (event.clientY - box.top) / box.height * 2) * reach);
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); drag(event); });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && drag(event));
  canvas.addEventListener("keydown", (event) => {
    const [right, down] = arrow(event), step = reach / (event.shiftKey ? 10 : 50);
    if (!right && !down) return;
    event.preventDefault();
    moveTo(model.z[across.value] + right * step, model.z[up.value] - down * step);
  });
  onModel(model, drawRing);
  new ResizeObserver(drawPlane).observe(canvas);
  planes.push(drawPlane);
}

function addLegend() {
  const buttons = study.classes.map((name, label) => {
    const button = make("button", { type: "button", textContent: name, ariaPressed: "false" });
    button.style.setProperty("--class", study.classColors[label % study.classColors.length]);
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
    addStrip(find(id), [input, ...images], end ? images.length : 1, (choice) => { ends[end] = choice; newEnds(); });
    find(id).firstChild.append(make("span", { textContent: "input" }));
  });
  addCells("between", (model, cell) => {
    model.between = picture(`Between the two, by ${model.label}`);
    model.steps = picture(`${STEPS} steps by ${model.label}`, "steps", STEPS);
    cell.append(model.between, model.steps);
  });
  function newEnds() {
    for (const model of models) {
      model.ends = ends.map(({ values }) => encode(model, values).mean);
      for (let i = 0; i < STEPS; i++) paint(model.steps, decode(model, mix(...model.ends, i / (STEPS - 1))), GRAYS, i);
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
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

function addDraws() {
  const rows = 3, columns = 4, widest = Math.max(...models.map((model) => model.zDim));
  let seed = 0;
  addCells("draws", (model, cell) => {
    const used = model.spread.filter((_, latent) => model.active[latent]);
    const spread = Math.sqrt(used.reduce((sum, value) => sum + value ** 2, 0) / used.length);
    model.twelve = picture(`Twelve draws decoded by ${model.label}`, "twelve", columns, rows);
    cell.append(make("p", { className: "state", textContent: `Test images' latents in use: spread ${spread.toFixed(1)}` }), model.twelve);
  });
  function draw() {
    seed++;
    const noise = normals(rows * columns * widest, seed);
    for (const model of models) {
      for (let i = 0; i < rows * columns; i++) {
        const z = noise.slice(i * widest, i * widest + model.zDim);
        paint(model.twelve, decode(model, z), GRAYS, i % columns, Math.floor(i / columns));
      }
    }
  }
  find("draw").addEventListener("click", () => { draw(); announce(`Draw ${seed}`); });
  draw();
}

// --- all together ----------------------------------------------------------------------------------

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
document.documentElement.style.setProperty("--models", models.length);
find("data").textContent = study.data;
find("notice").textContent = study.notice;
find("notice").hidden = !study.notice;
Object.assign(find("shown-input"), { width: side, height: side });
Object.assign(find("mixed"), { width: side, height: side });
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
