"""What a trained model is worth on fixed images: losses, bounds, the floor and baselines.

All losses are in nats per image and come per image, so that models can be compared in pairs.
Randomness: the noise of z depends on `seed`, the number of draws and the place of an image among
the others, never on the model's weights, so that models of one latent size meet the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from ..data import Data
from ..engine.guards import check_images, check_positive_int, check_seed, check_type
from ..losses import kl_divergence, reconstruction_loss
from ..models import Model, draw_latent

BATCH = 1_000  # images at a time: a decoded batch of 3 MB stays in the processor's cache
SPLITS = ("train", "validation", "test")
HALF_GRAY_LEVEL = 1 / 510


@torch.no_grad()
def image_losses(
    model: Model, images: torch.Tensor, draws: int = 1, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Per-image losses of `model` on float images (N, image_size) in [0, 1]; tensors (N,), nats.

    "reconstruction": BCE averaged over `draws` samples of z given the image (one is enough where z
    is not random); "kl" (0 where z is not random); "total" = reconstruction + kl, for a VAE the
    negative ELBO; "reconstruction_at_mean": BCE of decoding the latent vector, which is not part
    of any bound. Raises TypeError or ValueError for a wrong argument.
    """
    check_type(model, Model, "model")
    images = check_images(images, model.image_size)
    return _image_losses(model, images.split(BATCH), draws, seed)


def _image_losses(
    model: Model, batches: Iterable[torch.Tensor], draws: int, seed: int, at_mean: bool = True
) -> dict[str, torch.Tensor]:
    check_positive_int(draws, "draws")
    noise = torch.Generator(next(model.parameters()).device).manual_seed(check_seed(seed))
    names = ("reconstruction", "kl", *(["reconstruction_at_mean"] if at_mean else []))
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def bce(z, x):
        return reconstruction_loss(model.decode_logits(z), x)

    for x in batches:
        mean, log_var = model.posterior(x)
        if log_var is None:
            found = dict.fromkeys(names, bce(mean, x)) | {"kl": x.new_zeros(len(x))}
        else:
            sampled = [bce(draw_latent(mean, log_var, noise), x) for _ in range(draws)]
            found = {
                "reconstruction": torch.stack(sampled).mean(dim=0),
                "kl": kl_divergence(mean, log_var).sum(dim=1),
            }
            if at_mean:
                found["reconstruction_at_mean"] = bce(mean, x)
        for name, values in found.items():
            parts[name].append(values)
    losses = {name: torch.cat(values) for name, values in parts.items()}
    losses["total"] = losses["reconstruction"] + losses["kl"]
    return losses


@torch.no_grad()
def split_losses(model: Model, data: Data, draws: int = 5) -> dict[str, torch.Tensor]:
    """`image_losses` on the three splits, as "train_total", "validation_kl", "test_total", ...

    Test and validation losses average `draws` samples of z per image, training losses one. The
    reconstruction at the latent vector is that of the test images alone. "class_loss": mean test
    loss of every class, (classes,); NaN for a class without a test image.
    """
    losses = {}
    for name in SPLITS:
        batches = getattr(data, name).float_batches(BATCH)
        found = _image_losses(model, batches, 1 if name == "train" else draws, 0, name == "test")
        losses.update({f"{name}_{term}": values for term, values in found.items()})
    labels, classes = data.test.labels, len(data.class_names)
    sums = labels.bincount(losses["test_total"].double(), classes)
    losses["class_loss"] = sums / labels.bincount(minlength=classes)
    return losses


@torch.no_grad()
def iwae_bounds(
    model: Model, images: torch.Tensor, ks: Sequence[int] = (1, 10, 100, 1000), seed: int = 0
) -> dict[int, torch.Tensor]:
    """Importance-weighted lower bounds on log p(x), per image (N,), for every k of `ks`.

    L_k = E log( (1/k) sum_j w_j )   (Burda et al., arXiv:1509.00519, eq. 8); L_1 is the ELBO.

    The max(ks) draws of an image are cut into groups of k and the groups averaged, so every bound
    uses all draws. Each k must divide the next: then groups are nested and, by Jensen's
    inequality, the bounds cannot fall with k, for every image. Raises TypeError or ValueError for
    a wrong argument, ValueError for a model whose z is not random, which has no such bound.
    """
    check_type(model, Model, "model")
    images = check_images(images, model.image_size)
    ks = tuple(check_positive_int(k, "every k") for k in ks)
    grows = bool(ks) and list(ks) == sorted(set(ks))
    if not grows or any(b % a for a, b in zip(ks[:-1], ks[1:], strict=True)):
        raise ValueError(f"ks must grow, each dividing the next, as in (1, 10, 100); got {ks}")
    generator = torch.Generator(device=images.device).manual_seed(check_seed(seed))
    bounds: dict[int, list[torch.Tensor]] = {k: [] for k in ks}
    for x in images.split(BATCH):
        log_w = log_importance_weights(model, x, ks[-1], generator).double()
        for k in ks:
            groups = log_w.unflatten(1, (-1, k))
            bounds[k].append((groups.logsumexp(dim=2) - math.log(k)).mean(dim=1))
    return {k: torch.cat(parts) for k, parts in bounds.items()}


@torch.no_grad()
def log_importance_weights(
    model: Model, x: torch.Tensor, k: int, generator: torch.Generator
) -> torch.Tensor:
    """log w = log p(x|z) + log p(z) - log q(z|x) for k draws of z per image; (N, k), nats.

    One draw of all images is decoded at a time, which bounds the memory whatever k.
    """
    mean, log_var = model.posterior(x)
    if log_var is None:
        raise ValueError(f"{model.label} has no importance-weighted bound: its z is not random")
    sigma, half_log_det = torch.exp(0.5 * log_var), 0.5 * log_var.sum(dim=1)
    log_w = torch.empty(k, len(x), dtype=mean.dtype, device=mean.device)
    for draw in log_w:
        eps = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        z = torch.addcmul(mean, sigma, eps)
        # the (2 pi)^(z_dim / 2) of prior and posterior cancel
        log_ratio = 0.5 * (eps.square().sum(dim=1) - z.square().sum(dim=1)) + half_log_det
        torch.sub(log_ratio, reconstruction_loss(model.decode_logits(z), x), out=draw)
    return log_w.T


@torch.no_grad()
def bound(
    model: Model, data: Data, images: int = 500, k: int = 1000, draws: int = 5
) -> dict[str, torch.Tensor]:
    """Test loss by the importance-weighted bound: how far -log p(x) is from the test loss.

    "gain" (images,): L_k - L_1 of the first test images, never negative but for rounding.
    "bound" (N,): one value per test image whose mean is the test loss (as in `split_losses`, with
    the same `draws`) minus the mean gain, and whose spread over images gives that mean's standard
    error: the gain is a matter of some nats and varies little, so a sample of images is enough.
    The value of one image alone means nothing: v_i = loss_i - g - (N/n) (gain_i - g), where g is
    the mean gain and the last term is for the n images of the sample only.
    Raises ValueError for a model whose z is not random.
    """
    levels = iwae_bounds(model, data.test.take(slice(images)).floats(), (1, k))
    gain = levels[k] - levels[1]
    loss = _image_losses(model, data.test.float_batches(BATCH), draws, 0)["total"].double()
    values = loss - gain.mean()
    values[: len(gain)] -= len(loss) / len(gain) * (gain - gain.mean())
    return {"bound": values, "gain": gain}


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
    return {name: _mean_over(getattr(data, name), bce_floor) for name in SPLITS}


def baselines(data: Data, *components: int) -> dict[str, dict]:
    """Mean BCE per split of the training mean image and of PCA with each number of components.

    {"mean-image": {"label": ..., "train": ..., "validation": ..., "test": ...}, "pca-20": ...}

    PCA is fitted to the training images and answers x with its projection, the closest in squared
    distance, which is not what BCE asks for. Its pixels are clipped to half a gray level from 0
    and 1, to keep the loss finite where a model that is not trained on it says 0 or 1.
    Raises TypeError or ValueError for a number of components outside 1..pixels.
    """
    pixels = data.train.images.shape[1]
    for count in components:
        if check_positive_int(count, "components") > pixels:
            raise ValueError(f"components must be at most {pixels}, the pixels; got {count}")
    mean, axes = principal_axes(data.train)
    found = {}
    for count in (0, *components):  # with no component PCA answers the mean image

        def bce(x, basis=axes[:, :count]):
            restored = mean + (x - mean) @ basis @ basis.T
            p = restored.clamp(HALF_GRAY_LEVEL, 1 - HALF_GRAY_LEVEL)
            return -(torch.xlogy(x, p) + torch.xlogy(1 - x, 1 - p)).sum(dim=1)

        key, label = (f"pca-{count}", f"PCA ({count})") if count else ("mean-image", "Mean image")
        found[key] = {"label": label, **{s: _mean_over(getattr(data, s), bce) for s in SPLITS}}
    return found


def principal_axes(split) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, axes) of a split's images, float32 (pixels,) and (pixels, pixels), by column.

    Axes are sorted by falling variance. The covariance is summed batch by batch in float64.
    """
    pixels = split.images.shape[1]
    first, second = torch.zeros(pixels).double(), torch.zeros(pixels, pixels).double()
    for x in split.float_batches(BATCH):
        first += x.double().sum(dim=0)
        second += x.T @ x
    mean = first / len(split)
    axes = torch.linalg.eigh(second / len(split) - torch.outer(mean, mean)).eigenvectors
    return mean.float(), axes.flip(1).float()


def _mean_over(split, function) -> float:
    parts = [function(x).double().sum() for x in split.float_batches(BATCH)]
    return float(torch.stack(parts).sum() / len(split))
