"""What a trained model is worth on fixed images: losses, bounds, the floor and a baseline.

All losses are in nats per image and come per image, so that models can be compared in pairs.
Randomness: the noise of z depends on `seed`, the number of draws and the place of an image among
the others, never on the model's weights, so that models of one latent size meet the same.
"""

from __future__ import annotations

import math

import torch

from ..data import Data, Split
from ..engine.guards import check_choice, check_images, check_positive_int, check_seed, check_type
from ..losses import kl_divergence, reconstruction_loss
from ..models import Model, draw_latent

BATCH = 1_000  # images at a time: a decoded batch of 3 MB stays in the processor's cache
SPLITS = ("train", "validation", "test")


class NotApplicable(ValueError):
    """A model has no such quantity."""


@torch.no_grad()
def image_losses(
    model: Model, images: torch.Tensor | Split, draws: int = 1, seed: int = 0, at_mean: bool = True
) -> dict[str, torch.Tensor]:
    """Per-image losses of `model` on a split or on float images (N, image_size) in [0, 1].

    Tensors (N,), nats. "reconstruction": BCE averaged over `draws` samples of z given the image
    (one is enough where z is not random); "kl" (0 where z is not random); "total" =
    reconstruction + kl, for a VAE the negative ELBO; if `at_mean`, "reconstruction_at_mean": BCE
    of decoding the latent vector, which is not part of any bound.
    Raises TypeError or ValueError for a wrong argument.
    """
    check_type(model, Model, "model")
    check_positive_int(draws, "draws")
    noise = torch.Generator(next(model.parameters()).device).manual_seed(check_seed(seed))
    if isinstance(images, Split):
        batches = images.float_batches(BATCH)  # never all of them as floats in memory
    else:
        batches = check_images(images, model.image_size).split(BATCH)
    rows = []
    for x in batches:
        mean, log_var = model.posterior(x)
        if log_var is None:
            drawn, kl = [mean], torch.zeros_like(mean)
        else:
            drawn = [draw_latent(mean, log_var, noise) for _ in range(draws)]
            kl = kl_divergence(mean, log_var)
        bces = [reconstruction_loss(model.decode_logits(z), x) for z in drawn]
        row = {"reconstruction": torch.stack(bces).mean(dim=0), "kl": kl.sum(dim=1)}
        if at_mean:
            row["reconstruction_at_mean"] = reconstruction_loss(model.decode_logits(mean), x)
        rows.append(row)
    losses = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    losses["total"] = losses["reconstruction"] + losses["kl"]
    return losses


def split_losses(
    model: Model, data: Data, split: str, draws: int = 5
) -> dict[str, torch.Tensor | float]:
    """The terms of `image_losses` on a split: "reconstruction" and "kl", whose sum is the total.

    "test" and "validation": per image, with `draws` samples of z; of the test images also
    "reconstruction_at_mean". "train": means over all images, with one sample of z each.
    """
    check_choice(split, SPLITS, "split")
    draws = 1 if split == "train" else draws
    found = image_losses(model, getattr(data, split), draws, at_mean=split == "test")
    del found["total"]
    if split == "train":
        return {term: float(values.double().mean()) for term, values in found.items()}
    return found


@torch.no_grad()
def iwae_bounds(
    model: Model, images: torch.Tensor, k: int = 1000, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(L_1, L_k): lower bounds on log p(x) of every image, each float64 (N,), in nats.

    L_k = E log( (1/k) sum_j w_j ),  w = p(x|z) p(z) / q(z|x)   (Burda et al., arXiv:1509.00519,
    eq. 8); L_1 is the ELBO. Both come from the same k draws of z per image, so that by Jensen's
    inequality L_k is not below L_1 for any image. Raises TypeError or ValueError for a wrong
    argument, NotApplicable for a model whose z is not random, which has no such bound.
    """
    check_type(model, Model, "model")
    images = check_images(images, model.image_size)
    check_positive_int(k, "k")
    noise = torch.Generator(images.device).manual_seed(check_seed(seed))
    bounds = []
    for x in images.split(BATCH):
        mean, log_var = model.posterior(x)
        if log_var is None:
            raise NotApplicable(
                f"{model.label} has no importance-weighted bound: its z is not random"
            )
        sigma, half_log_det = torch.exp(0.5 * log_var), 0.5 * log_var.sum(dim=1)
        log_w = mean.new_empty(k, len(x))
        for draw in log_w:  # one draw of all images at a time: that bounds the memory whatever k
            eps = torch.randn(mean.shape, generator=noise, device=mean.device, dtype=mean.dtype)
            z = torch.addcmul(mean, sigma, eps)
            # the (2 pi)^(z_dim / 2) of prior and posterior cancel
            log_ratio = 0.5 * (eps.square().sum(dim=1) - z.square().sum(dim=1)) + half_log_det
            torch.sub(log_ratio, reconstruction_loss(model.decode_logits(z), x), out=draw)
        log_w = log_w.T.double()
        bounds.append((log_w.mean(dim=1), log_w.logsumexp(dim=1) - math.log(k)))
    elbo, tighter = (torch.cat(parts) for parts in zip(*bounds, strict=True))
    return elbo, tighter


def bound(
    model: Model, data: Data, images: int = 10_000, k: int = 100, draws: int = 5
) -> dict[str, torch.Tensor]:
    """The importance-weighted bound beside the test loss, on the first `images` test images.

    Tensors (images,), nats: "bound" -L_k, nearer to -log p(x) than the test loss; "gap":
    the test loss of these images (as in `split_losses` with these `draws`) minus that bound. As
    L_k <= log p(x), the mean gap is a lower bound of KL(q(z|x) || p(z|x)): what it costs that q is
    not the model's own posterior. Raises NotApplicable for a model whose z is not random.
    """
    some = data.test.take(slice(images))
    tighter = -iwae_bounds(model, some.floats(), k)[1]
    loss = image_losses(model, data.test, draws, at_mean=False)["total"][:images]
    return {"bound": tighter.float(), "gap": (loss - tighter).float()}


def bce_floor(images: torch.Tensor) -> torch.Tensor:
    """The lowest BCE any reconstruction can reach, per image (N,), in nats.

    min_p BCE(p, x) is at p = x and equals the pixels' own entropy, sum_i H(x_i) with
    H(x) = -x log x - (1 - x) log(1 - x); it is 0 only for black-and-white images. `images` as in
    `image_losses`, of any number of pixels.
    """
    x = check_images(images, None)
    return (torch.special.entr(x) + torch.special.entr(1 - x)).sum(dim=1)


def floors(data: Data) -> dict[str, float]:
    """Mean of `bce_floor` over each split: {"train": ..., "validation": ..., "test": ...}."""
    found = {}
    for name in SPLITS:
        batches = getattr(data, name).float_batches(BATCH)
        found[name] = float(torch.cat([bce_floor(x).double() for x in batches]).mean())
    return found
