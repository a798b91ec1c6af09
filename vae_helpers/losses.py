"""The two losses, in nats per image: summed over pixels and latent dimensions, mean over images.

VAE:          loss = reconstruction + KL = -ELBO   (Kingma & Welling, arXiv:1312.6114, eq. 10)
autoencoder:  loss = reconstruction

Logits are passed by name, because pixel probabilities in their place would train without a word.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


class Loss(NamedTuple):
    """A loss and its two parts in nats per image, scalar tensors or floats; kl is 0 for an AE."""

    total: torch.Tensor
    reconstruction: torch.Tensor
    kl: torch.Tensor


def vae_loss(
    x: torch.Tensor,
    mu: torch.Tensor,
    log_var: torch.Tensor,
    *unnamed: torch.Tensor,
    logits: torch.Tensor | None = None,
) -> Loss:
    """Negative ELBO of a VAE: reconstruction + KL, averaged over the batch.

    x: targets (N, image_size) in [0, 1]; mu, log_var: (N, z_dim); logits: pixel logits
    (N, image_size) of one draw of z, before the sigmoid that `decode` and `forward` apply; or all
    of one image, without N. Raises TypeError for logits that are missing or not passed by name,
    ValueError for shapes that do not belong together.
    """
    _check_named(logits, unnamed, "vae_loss(x, mu, log_var, logits=model.decode_logits(z))")
    if mu.shape != log_var.shape or mu.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"mu and log_var must both have shape ({len(logits)}, z_dim), one row per image of "
            f"logits; got {tuple(mu.shape)} and {tuple(log_var.shape)}"
        )
    reconstruction = reconstruction_loss(logits, x).mean()
    kl = kl_divergence(mu, log_var).sum(dim=-1).mean()
    return Loss(reconstruction + kl, reconstruction, kl)


def ae_loss(x: torch.Tensor, *unnamed: torch.Tensor, logits: torch.Tensor | None = None) -> Loss:
    """Loss of an autoencoder: the reconstruction term alone (kl is 0), averaged over the batch.

    x: targets (N, image_size) in [0, 1]; logits: pixel logits (N, image_size), before the sigmoid.
    Raises TypeError for logits that are missing or not passed by name, ValueError for different
    shapes.
    """
    _check_named(logits, unnamed, "ae_loss(x, logits=model.decode_logits(z))")
    reconstruction = reconstruction_loss(logits, x).mean()
    return Loss(reconstruction, reconstruction, torch.zeros_like(reconstruction))


def _check_named(logits, unnamed: tuple, call: str) -> None:
    if logits is None or unnamed:
        raise TypeError(
            f"logits must be passed by name, as in {call}; what `decode` and `forward` return are "
            "probabilities, sigmoid(logits)"
        )


def reconstruction_loss(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of every image, summed over its pixels, in nats.

    -log p(x|z) = -sum_i [ x_i log p_i + (1 - x_i) log(1 - p_i) ],  p_i = sigmoid(logit_i)
    (arXiv:1312.6114, appendix C.1)

    logits (..., image_size) and x (N, image_size) or of the same shape; the result has shape (...).
    Raises ValueError for shapes that do not belong together. Ranges are not checked: this is the
    inner loop of training, and images are checked where they enter.
    """
    if logits.shape[-x.dim() :] != x.shape:
        raise ValueError(
            f"logits and x must hold the same images and pixels, got {tuple(logits.shape)} and "
            f"{tuple(x.shape)}; flatten x to (N, image_size)"
        )
    x = x.expand_as(logits)
    return binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=-1)


def kl_divergence(mu: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) of every image and latent dimension, in nats; shape of mu.

    KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2   (arXiv:1312.6114, appendix B)
    """
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var)
