"use strict";
// The models' arithmetic: layers y = W x + b with ReLU between them, weights as int8 times a scale
// per row, and the two terms of the loss.

function bytes(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/")), result = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) result[i] = binary.charCodeAt(i);
  return result;
}
// As bytes() reads them, but with letters that can stand in an address.
function toText(values) {
  const codes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const binary = Array.from(codes, (code) => String.fromCharCode(code)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
const floats = (text) => new Float32Array(bytes(text).buffer);

function readLayer({ rows, columns, weights, scales, bias }) {
  const levels = new Int8Array(bytes(weights).buffer), rowScales = floats(scales);
  const values = new Float32Array(levels.length);
  for (let i = 0; i < values.length; i++) values[i] = levels[i] * rowScales[Math.floor(i / columns)];
  return { rows, columns, weights: values, bias: floats(bias) };
}

function product({ rows, columns, weights, bias }, x) {
  const y = new Float32Array(rows);
  for (let row = 0, i = 0; row < rows; row++) {
    let sum = bias[row];
    for (let column = 0; column < columns; column++, i++) sum += weights[i] * x[column];
    y[row] = sum;
  }
  return y;
}

function run(layers, x) {
  layers.forEach((layer, place) => {
    x = product(layer, place ? x.map((value) => Math.max(value, 0)) : x);
  });
  return x;
}

// The Gaussian q(z|x) that the encoder gives for an image: mean, standard deviation and KL to the
// prior in nats; no deviation and no KL where z is not random.
function encode(model, image) {
  const head = run(model.encoder, image), mean = head.slice(0, model.zDim);
  if (!model.random) return { mean, deviation: null, kl: null };
  let kl = 0;
  const deviation = head.slice(model.zDim).map((logVar, i) => {
    kl += 0.5 * (mean[i] ** 2 + Math.exp(logVar) - 1 - logVar);
    return Math.exp(logVar / 2);
  });
  return { mean, deviation, kl };
}

const sigmoid = (logits) => logits.map((logit) => 1 / (1 + Math.exp(-logit)));
const decode = (model, z) => sigmoid(run(model.decoder, z));

// Binary cross-entropy in nats, summed over pixels.
function reconstructionLoss(logits, image) {
  let sum = 0;
  for (let i = 0; i < logits.length; i++) {
    sum += Math.max(logits[i], 0) - image[i] * logits[i] + Math.log1p(Math.exp(-Math.abs(logits[i])));
  }
  return sum;
}

// The smallest that it can be for an image: the entropy of its gray values.
function floorOf(image) {
  const term = (p) => (p > 0 ? -p * Math.log(p) : 0);
  return image.reduce((sum, gray) => sum + term(gray) + term(1 - gray), 0);
}

// A draw of the Gaussian fitted to a model's z, from as many draws of N(0, 1): mean + root noise.
function fromFitted({ zDim, fittedMean, fittedRoot }, noise) {
  return fittedMean.map((sum, row) => {
    for (let column = 0; column <= row; column++) sum += fittedRoot[row * zDim + column] * noise[column];
    return sum;
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
