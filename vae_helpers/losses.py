"""The two losses, in nats per image: summed over pixels and latent dimensions, mean over images.

VAE:          loss = reconstruction + KL = -ELBO   (Kingma & Welling, arXiv:1312.6114, eq. 10)
autoencoder:  loss = reconstruction
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .engine.guards import check_images


class Loss(NamedTuple):
    """A loss and its two parts in nats per image, scalar tensors or floats; kl is 0 for an AE."""

    total: torch.Tensor
    reconstruction: torch.Tensor
    kl: torch.Tensor


class _BernoulliCrossEntropy(torch.autograd.Function):
    """Per-image binary cross-entropy from logits l, with its closed-form gradient.

    BCE = sum_i softplus(l_i) - x_i l_i,   softplus(l) = max(l, 0) - log sigmoid(|l|),
    dBCE/dl = sigmoid(l) - x.

    sigmoid(|l|) lies in [1/2, 1], so its logarithm neither overflows nor meets a slow path. The
    same sum through torch's binary_cross_entropy_with_logits takes log1p, which on a CPU costs
    several times as much (benchmarks/ has the ratio).
    """

    @staticmethod
    def forward(ctx, logits, x):
        ctx.save_for_backward(logits, x)
        log_sigmoid = logits.abs().sigmoid_().log_()
        return logits.clamp_min(0).sub_(log_sigmoid).addcmul_(x, logits, value=-1).sum(dim=-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        logits, x = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        to_logits = torch.sigmoid(logits).sub_(x).mul_(grad) if ctx.needs_input_grad[0] else None
        to_x = -logits * grad if ctx.needs_input_grad[1] else None
        return to_logits, to_x


def reconstruction_bce(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of every image, summed over its pixels, in nats.

    logits and x broadcast to (..., image_size); the result has shape (...). No range check: this
    is the inner loop of training. `vae_loss` and `ae_loss` check.
    """
    return _BernoulliCrossEntropy.apply(logits, x)


def kl_per_dimension(mu: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) of every image and latent dimension, in nats; shape of mu.

    KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2   (arXiv:1312.6114, appendix B)
    """
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var)


def vae_terms(logits, x, mu, log_var) -> Loss:
    """`vae_loss` without its argument checks, for the training loop."""
    reconstruction = reconstruction_bce(logits, x).mean()
    kl = kl_per_dimension(mu, log_var).sum(dim=-1).mean()
    return Loss(reconstruction + kl, reconstruction, kl)


def ae_terms(logits, x) -> Loss:
    """`ae_loss` without its argument checks, for the training loop."""
    reconstruction = reconstruction_bce(logits, x).mean()
    return Loss(reconstruction, reconstruction, torch.zeros_like(reconstruction))


def vae_loss(
    logits: torch.Tensor, x: torch.Tensor, mu: torch.Tensor, log_var: torch.Tensor
) -> Loss:
    """Negative ELBO of a VAE, in nats per image, with its reconstruction and KL parts.

    logits: pixel logits (N, image_size); x: targets in [0, 1], same number of pixels; mu and
    log_var: (N, z_dim). Raises TypeError or ValueError for wrong dtypes, shapes or ranges.
    """
    x = _check_pair(logits, x)
    _check_floats(("mu", mu), ("log_var", log_var))
    if mu.dim() != 2 or mu.shape != log_var.shape or mu.shape[0] != logits.shape[0]:
        raise ValueError(
            "mu and log_var must both have shape (N, z_dim) with the N of logits "
            f"({logits.shape[0]}), got {tuple(mu.shape)} and {tuple(log_var.shape)}"
        )
    return vae_terms(logits, x, mu, log_var)


def ae_loss(logits: torch.Tensor, x: torch.Tensor) -> Loss:
    """Reconstruction loss of an autoencoder, in nats per image (kl is 0).

    logits: pixel logits (N, image_size); x: targets in [0, 1], same number of pixels. Raises
    TypeError or ValueError for wrong dtypes, shapes or ranges.
    """
    return ae_terms(logits, _check_pair(logits, x))


def _check_floats(*named) -> None:
    for name, value in named:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            got = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"{name} must be a float tensor, got {got}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite values; it must be finite")


def _check_pair(logits, x) -> torch.Tensor:
    """x flattened to the shape of logits, both checked."""
    _check_floats(("logits", logits))
    if logits.dim() != 2:
        raise ValueError(f"logits must have shape (N, image_size), got {tuple(logits.shape)}")
    x = check_images(x, logits.shape[1], "x")
    if x.shape != logits.shape:
        raise ValueError(
            f"x and logits must hold the same number of images, got {tuple(x.shape)} "
            f"and {tuple(logits.shape)}"
        )
    return x
