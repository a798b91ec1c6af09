"""Latents and the images they decode to: from the prior, from a fitted density, along lines."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from ..data import Data, Split
from ..engine.guards import check_matrix, check_positive_int
from ..models import VAE, FullyConnected
from .losses import batched, mean_codes

DENSITY_SAMPLES = 20_000  # latents a density is fitted to: a fit takes a second or two

SAMPLERS = ("prior", "gaussian", "mixture")


def prior_latents(n: int, z_dim: int, seed: int) -> torch.Tensor:
    """n draws of N(0, I), float32 (n, z_dim)."""
    check_positive_int(n, "n")
    return torch.randn(n, z_dim, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def training_latents(model: FullyConnected, split: Split, seed: int) -> torch.Tensor:
    """Latents (N, z_dim) of the images: one draw z ~ q(z|x) each for a VAE, z for an autoencoder.

    The model is on the CPU, as `Run.model` returns it.
    """
    codes = [model.encode(x) for x in split.float_batches()]
    if not isinstance(model, VAE):
        return torch.cat(codes)
    mu, log_var = (torch.cat(part) for part in zip(*codes, strict=True))
    return model.reparameterize(mu, log_var, torch.Generator().manual_seed(seed))


def permutation(n: int, seed: int) -> torch.Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def fit_latent_density(latents: torch.Tensor, kind: str, *, components: int = 10, seed: int = 0):
    """A density fitted to latents (N, z_dim): scikit-learn's GaussianMixture, full covariances.

    kind "gaussian" has one component, "mixture" has `components`. At most DENSITY_SAMPLES latents,
    drawn with `seed`, enter the fit.
    """
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    if kind not in ("gaussian", "mixture"):
        raise ValueError(f"kind must be 'gaussian' or 'mixture', got {kind!r}")
    count = check_positive_int(components, "components") if kind == "mixture" else 1
    latents = check_matrix(latents, "latents")
    if len(latents) < max(2, count):
        raise ValueError(f"{count} components need more than {len(latents)} latents")
    chosen = latents[permutation(len(latents), seed)[:DENSITY_SAMPLES]]
    density = GaussianMixture(count, max_iter=300, random_state=seed)
    with threadpool_limits(1):  # its many small products are slower, not faster, on more threads
        return density.fit(chosen.double().numpy())


def sample_latents(density, n: int, seed: int) -> torch.Tensor:
    """n draws, float32 (n, z_dim), of what `fit_latent_density` returned; the same for a seed."""
    check_positive_int(n, "n")
    draws, _ = copy.copy(density).set_params(random_state=seed).sample(n)
    # scikit-learn returns the draws sorted by component; the first n of them must be a sample too.
    return torch.from_numpy(draws).float()[permutation(n, seed)]


def generated_images(
    model: FullyConnected, data: Data, sampler: str, n: int, seed: int
) -> torch.Tensor:
    """n decoded images (n, 784): latents from the "prior" or from a density of training latents.

    sampler: "prior" for N(0, I), "gaussian" or "mixture" for `fit_latent_density` of that kind.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")
    if sampler == "prior":
        latents = prior_latents(n, model.z_dim, seed)
    else:
        train = training_latents(model, data.train, seed)
        latents = sample_latents(fit_latent_density(train, sampler, seed=seed), n, seed)
    return batched(model.decode, latents, model)


def interpolate(
    model: FullyConnected, x_a: torch.Tensor, x_b: torch.Tensor, steps: int = 8
) -> torch.Tensor:
    """Decoded images (N, steps, 784) on the straight lines between the latents of x_a and x_b.

    x_a, x_b: (N, 784). The first and last column are the reconstructions (from mu for a VAE).
    """
    z_a, z_b = mean_codes(model, x_a), mean_codes(model, x_b)
    if z_a.shape != z_b.shape:
        raise ValueError(f"x_a and x_b must pair up, got {len(z_a)} and {len(z_b)} images")
    weights = torch.linspace(0, 1, check_positive_int(steps, "steps"))[None, :, None]
    return _decode_grid(model, torch.lerp(z_a[:, None], z_b[:, None], weights))


def traverse(
    model: FullyConnected, x: torch.Tensor, dimension: int, values: Sequence[float]
) -> torch.Tensor:
    """Decoded images (N, len(values), 784): latents of x (N, 784), one dimension set to `values`.

    The other dimensions keep the value they have for x (mu for a VAE).
    """
    if not 0 <= dimension < model.z_dim:
        raise ValueError(f"dimension must lie in 0..{model.z_dim - 1}, got {dimension}")
    z = mean_codes(model, x)[:, None].repeat(1, len(values), 1)
    z[:, :, dimension] = torch.as_tensor(values, dtype=z.dtype)
    return _decode_grid(model, z)


def _decode_grid(model: FullyConnected, z: torch.Tensor) -> torch.Tensor:
    """Images (N, K, 784) of latents (N, K, z_dim)."""
    return batched(model.decode, z.flatten(0, 1), model).unflatten(0, z.shape[:2])


def latent_plane(model: FullyConnected, split: Split, seed: int) -> tuple:
    """Mean codes of the split's images in the plane by t-SNE, (N, 2), and their labels (N,)."""
    from sklearn.manifold import TSNE

    codes = mean_codes(model, split.floats()).numpy()
    return TSNE(random_state=seed, init="pca").fit_transform(codes), split.labels.numpy()
