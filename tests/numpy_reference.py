"""The evaluation once more, written for the tests in float64 NumPy, sharing no code with it."""

import numpy as np


def layers(model, part):
    """(weight, bias) of the encoder's or the decoder's layers, in order; as many of each."""
    found = [
        (m.weight.detach().double().numpy(), m.bias.detach().double().numpy())
        for m in model.children()
    ]
    half = len(found) // 2
    return found[:half] if part == "encoder" else found[half:]


def mlp(x, weights):
    for i, (w, b) in enumerate(weights):
        x = x @ w.T + b
        if i + 1 < len(weights):
            x = np.maximum(x, 0)
    return x


def encode(model, x):
    out = mlp(x, layers(model, "encoder"))
    return out[:, : model.z_dim], out[:, model.z_dim :]


def bce(logits, x):
    p_one = -np.logaddexp(0, -logits)  # log sigmoid
    p_zero = -np.logaddexp(0, logits)
    return -(x * p_one + (1 - x) * p_zero).sum(-1)


def kl(mu, log_var):
    return 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(-1)


def negative_elbo(model, x, eps):
    """eps: (draws, N, z_dim). (reconstruction averaged over draws, KL), each (N,)."""
    mu, log_var = encode(model, x)
    decoder = layers(model, "decoder")
    losses = [bce(mlp(mu + np.exp(log_var / 2) * e, decoder), x) for e in eps]
    return np.mean(losses, axis=0), kl(mu, log_var)


def log_normal(z, mu, log_var):
    return -0.5 * (np.log(2 * np.pi) + log_var + (z - mu) ** 2 / np.exp(log_var)).sum(-1)


def log_weights(model, x, eps):
    """eps: (k, N, z_dim) -> log p(x, z) - log q(z|x), (N, k), with every constant written out."""
    mu, log_var = encode(model, x)
    decoder = layers(model, "decoder")
    columns = []
    for e in eps:
        z = mu + np.exp(log_var / 2) * e
        joint = -bce(mlp(z, decoder), x) + log_normal(z, np.zeros_like(z), np.zeros_like(z))
        columns.append(joint - log_normal(z, mu, log_var))
    return np.stack(columns, axis=1)


def entropy(x):
    with np.errstate(divide="ignore", invalid="ignore"):
        h = -np.where(x > 0, x * np.log(x), 0) - np.where(x < 1, (1 - x) * np.log(1 - x), 0)
    return h.sum(-1)
