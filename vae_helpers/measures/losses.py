"""What a trained model is worth on fixed images: losses, bounds, floors and baselines.

All losses are in nats per image and come per image, so that models can be compared in pairs.
Randomness: the posterior noise depends on `seed`, the number of draws and the place of an image
among the others, never on the model's weights, so that models of one latent size meet the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from ..data import Data
from ..engine.guards import check_images, check_positive_int, check_seed, check_type
from ..losses import kl_per_dimension, reconstruction_bce
from ..models import VAE, FullyConnected

BATCH = 1_000
ACTIVE_VARIANCE = 0.01  # Burda et al., arXiv:1509.00519, section 5.2
HALF_GRAY_LEVEL = 1 / 510


@torch.no_grad()
def image_losses(
    model: FullyConnected, images: torch.Tensor, draws: int = 1, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Per-image losses of `model` on float images (N, image_size) in [0, 1]; tensors (N,), nats.

    "reconstruction": BCE, for a VAE averaged over `draws` samples z ~ q(z|x); "kl" (0 for the
    autoencoder); "total" = reconstruction + kl, for a VAE the negative ELBO;
    "reconstruction_at_mean": BCE of decoding z = mu, which is not part of any bound.
    Raises TypeError or ValueError for a wrong argument.
    """
    check_type(model, FullyConnected, "model")
    images = check_images(images, model.image_size)
    check_positive_int(draws, "draws")
    noise = torch.Generator(device=images.device).manual_seed(check_seed(seed))
    return _losses_of_batches(model, images.split(BATCH), draws, noise)


def _losses_of_batches(model, batches: Iterable, draws: int, noise) -> dict[str, torch.Tensor]:
    parts = [_batch_losses(model, x, draws, noise) for x in batches]
    losses = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    losses["total"] = losses["reconstruction"] + losses["kl"]
    return losses


def _batch_losses(model, x, draws: int, noise) -> dict[str, torch.Tensor]:
    if not isinstance(model, VAE):
        bce = reconstruction_bce(model.forward_logits(x)[0], x)
        zero = torch.zeros_like(bce)
        return {"reconstruction": bce, "kl": zero, "reconstruction_at_mean": bce}
    mu, log_var = model.encode(x)
    sampled = [
        reconstruction_bce(model.decode_logits(model.reparameterize(mu, log_var, noise)), x)
        for _ in range(draws)
    ]
    return {
        "reconstruction": torch.stack(sampled).mean(dim=0),
        "kl": kl_per_dimension(mu, log_var).sum(dim=1),
        "reconstruction_at_mean": reconstruction_bce(model.decode_logits(mu), x),
    }


@torch.no_grad()
def split_losses(model: FullyConnected, data: Data, draws: int = 10) -> dict[str, torch.Tensor]:
    """`image_losses` on the three splits, as "train_total", "validation_kl", "test_total", ...

    Test and validation losses average `draws` samples of z per image, training losses one.
    """
    losses = {}
    for name, split in [("train", data.train), ("validation", data.validation),
                        ("test", data.test)]:  # fmt: skip
        noise = torch.Generator().manual_seed(0)
        count = 1 if name == "train" else draws
        found = _losses_of_batches(model, split.float_batches(BATCH), count, noise)
        losses.update({f"{name}_{term}": value for term, value in found.items()})
    return losses


@torch.no_grad()
def log_importance_weights(
    model: VAE, x: torch.Tensor, k: int, generator: torch.Generator, chunk: int = 4_000
) -> torch.Tensor:
    """log w = log p(x|z) + log p(z) - log q(z|x) for k draws of z per image; (N, k), nats.

    At most `chunk` latents are decoded at a time, which bounds the memory whatever N and k.
    """
    mu, log_var = model.encode(x)
    half_log_var = 0.5 * log_var.sum(dim=1)
    per_pass = max(1, chunk // len(x))
    log_w = torch.empty(len(x), k, dtype=mu.dtype, device=mu.device)
    for start in range(0, k, per_pass):
        shape = (min(per_pass, k - start), *mu.shape)
        eps = torch.randn(shape, generator=generator, device=mu.device, dtype=mu.dtype)
        z = torch.addcmul(mu, torch.exp(0.5 * log_var), eps)
        log_likelihood = -reconstruction_bce(model.decode_logits(z.flatten(0, 1)).view(
            *shape[:2], -1), x)  # fmt: skip
        # the (2 pi)^(z_dim / 2) of prior and posterior cancel
        log_ratio = 0.5 * (eps.square().sum(dim=2) - z.square().sum(dim=2)) + half_log_var
        log_w[:, start : start + shape[0]] = (log_likelihood + log_ratio).T
    return log_w


@torch.no_grad()
def iwae_bounds(
    model: VAE, images: torch.Tensor, ks: tuple[int, ...] = (1, 10, 100, 1000), seed: int = 0
) -> dict[int, torch.Tensor]:
    """Importance-weighted lower bounds on log p(x), per image (N,), for every k of `ks`.

    L_k = E log( (1/k) sum_j w_j )   (Burda et al., arXiv:1509.00519, eq. 8); L_1 is the ELBO.

    The max(ks) draws of an image are cut into groups of k and the groups averaged, so every bound
    uses all draws. Each k must divide the next: then groups are nested and, by Jensen's
    inequality, the bounds cannot fall with k, for every image. Raises TypeError or ValueError for
    a wrong argument.
    """
    check_type(model, VAE, "model")
    images = check_images(images, model.image_size)
    ks = tuple(check_positive_int(k, "every k") for k in ks)
    grows = bool(ks) and list(ks) == sorted(set(ks))
    if not grows or any(b % a for a, b in zip(ks[:-1], ks[1:], strict=True)):
        raise ValueError(f"ks must grow, each dividing the next, as in (1, 10, 100); got {ks}")
    generator = torch.Generator(device=images.device).manual_seed(check_seed(seed))
    bounds: dict[int, list[torch.Tensor]] = {k: [] for k in ks}
    for x in images.split(100):
        log_w = log_importance_weights(model, x, ks[-1], generator).double()
        for k in ks:
            groups = log_w.unflatten(1, (-1, k))
            bounds[k].append((groups.logsumexp(dim=2) - math.log(k)).mean(dim=1))
    return {k: torch.cat(parts) for k, parts in bounds.items()}


def tightness(
    model: FullyConnected, data: Data, n_images: int, ks: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    """`iwae_bounds` on the first `n_images` test images, as {"1": (N,), "10": (N,), ...}."""
    images = data.test.take(slice(n_images)).floats()
    return {str(k): bound for k, bound in iwae_bounds(model, images, ks).items()}


def bce_floor(images: torch.Tensor) -> torch.Tensor:
    """The lowest BCE any reconstruction can reach, per image (N,), in nats.

    min_p BCE(p, x) is at p = x and equals the pixels' own entropy, sum_i H(x_i) with
    H(x) = -x log x - (1 - x) log(1 - x); it is 0 only for black-and-white images. `images` as in
    `image_losses`, of any number of pixels.
    """
    x = check_images(images, None)
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).sum(dim=1)


def bce_of_probabilities(probabilities: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Per-image BCE (N,) of given pixel probabilities, clipped to half a gray level from 0 and 1.

    The clip keeps the loss finite where a model that is not trained on it says 0 or 1.
    """
    x = check_images(images, None)
    p = probabilities.clamp(HALF_GRAY_LEVEL, 1 - HALF_GRAY_LEVEL)
    return -(x * p.log() + (1 - x) * (1 - p).log()).sum(dim=1)


def mean_image_bce(train_images: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Per-image BCE (N,) of answering every image with the training mean: a model without z."""
    return bce_of_probabilities(train_images.mean(dim=0).expand_as(images), images)


def pca_bce(
    train_images: torch.Tensor, images: torch.Tensor, components: int
) -> torch.Tensor:
    """Per-image BCE (N,) of PCA with `components` components fitted to the training images."""
    from sklearn.decomposition import PCA

    pca = PCA(components, svd_solver="covariance_eigh").fit(train_images.numpy())
    restored = pca.inverse_transform(pca.transform(images.numpy()))
    return bce_of_probabilities(torch.from_numpy(restored).to(images.dtype), images)


@torch.no_grad()
def latent_statistics(model: FullyConnected, data: Data) -> dict[str, torch.Tensor]:
    """Per latent dimension over the test images: variance of the mean code, and mean KL (VAE).

    "mean_variance" (z_dim,): Var_x(E[z|x]), by which Burda et al. call a unit active above 0.01;
    "kl" (z_dim,): nats per image, 0 for the autoencoder.
    """
    x = data.test.floats()
    if not isinstance(model, VAE):
        z = model.encode(x)
        return {"mean_variance": z.var(dim=0), "kl": torch.zeros(model.z_dim)}
    mu, log_var = model.encode(x)
    return {"mean_variance": mu.var(dim=0), "kl": kl_per_dimension(mu, log_var).mean(dim=0)}


def active_units(mean_variance: torch.Tensor) -> int:
    """Number of dimensions whose mean code varies over images by more than 0.01 (Burda et al.).

    mean_variance: the finite, non-negative (z_dim,) of `latent_statistics`.
    """
    check_type(mean_variance, torch.Tensor, "mean_variance")
    if not (torch.isfinite(mean_variance) & (mean_variance >= 0)).all():
        raise ValueError(f"mean_variance must be finite and at least 0, got {mean_variance}")
    return int((mean_variance > ACTIVE_VARIANCE).sum())


@torch.no_grad()
def batched(function, inputs: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    """`function` on batches of `inputs` (N >= 1), on `module`'s device; the results on the CPU."""
    if len(inputs) == 0:
        raise ValueError("nothing to compute: inputs must hold at least one row, got none")
    device, results = next(module.parameters()).device, None
    for start in range(0, len(inputs), BATCH):
        found = function(inputs[start : start + BATCH].to(device)).cpu()
        if results is None:
            results = found.new_empty((len(inputs), *found.shape[1:]))
        results[start : start + BATCH] = found
    return results


def mean_codes(model: FullyConnected, images: torch.Tensor) -> torch.Tensor:
    """mu(x) of a VAE or z(x) of an autoencoder, (N, z_dim)."""
    encode = (lambda x: model.encode(x)[0]) if isinstance(model, VAE) else model.encode
    return batched(encode, check_images(images, model.image_size), model)


def probe_accuracy(
    model: FullyConnected, data: Data, n_train: int = 10_000, neighbours: int = 10
) -> dict[str, float]:
    """Test accuracy of two classifiers on the mean codes of `n_train` training images.

    "linear": logistic regression on standardised codes; "knn": `neighbours` nearest neighbours.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # the training split keeps the file's order, in which the classes are mixed
    known = data.train.take(slice(n_train))
    codes = mean_codes(model, known.floats()).numpy()
    test_codes = mean_codes(model, data.test.floats()).numpy()
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    knn = KNeighborsClassifier(neighbours)
    return {
        name: float(probe.fit(codes, known.labels.numpy()).score(test_codes, data.test.labels))
        for name, probe in [("linear", linear), ("knn", knn)]
    }
