"use strict";
// The models' arithmetic: layers y = W x + b with ReLU between them, weights as int8 times a scale
// per row, and the two terms of the loss.

function bytes(text) {
  const binary = atob(text), result = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) result[i] = binary.charCodeAt(i);
  return result;
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

// The latent vector of an image (the mean of q(z|x)) and its KL in nats; null where z is not random.
function encode(model, image) {
  const head = run(model.encoder, image), mean = head.slice(0, model.zDim);
  if (!model.random) return { mean, kl: null };
  let kl = 0;
  for (let i = 0; i < model.zDim; i++) {
    const logVar = head[model.zDim + i];
    kl += 0.5 * (mean[i] ** 2 + Math.exp(logVar) - 1 - logVar);
  }
  return { mean, kl };
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
