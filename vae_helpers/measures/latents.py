"""Latent vectors: how many dimensions are in use, and densities to draw new ones from."""

from __future__ import annotations

import torch

from ..data import Data, Split
from ..engine.guards import check_choice, check_positive_int, check_seed
from ..losses import kl_divergence
from ..models import Model
from .losses import BATCH

ACTIVE_VARIANCE = 0.01  # Burda et al., arXiv:1509.00519, section 5.2
SAMPLERS = ("prior", "mixture")
COMPONENTS = 10  # Gaussians of a mixture
DENSITY_SAMPLES = 20_000  # latents that a density is fitted to


@torch.no_grad()
def latent_statistics(model: Model, data: Data) -> dict[str, torch.Tensor | float]:
    """What the latent dimensions hold of the test images.

    "variance" (z_dim,): Var_x of the latent vector, E[z|x];
    "active_units": number of dimensions whose variance is above 0.01 (Burda et al.; the threshold
    supposes the scale of N(0, I), which the latent vectors of an autoencoder do not have);
    "kl" (z_dim,): KL to the prior in nats per image, 0 where z is not random.
    Raises ValueError for latent vectors that are not finite: NaN would pass for inactive.
    """
    codes = [model.posterior(x) for x in data.test.float_batches(BATCH)]
    variance = torch.cat([mean for mean, _ in codes]).double().var(dim=0)
    if not torch.isfinite(variance).all():
        raise ValueError(f"{model.label} has latent vectors that are not finite; train it anew")
    kl = [
        torch.zeros_like(mean) if log_var is None else kl_divergence(mean, log_var)
        for mean, log_var in codes
    ]
    return {
        "variance": variance,
        "active_units": int((variance > ACTIVE_VARIANCE).sum()),
        "kl": torch.cat(kl).double().mean(dim=0),
    }


def sampled_latents(
    model: Model, train: Split, sampler: str, n: int, seed: int = 0
) -> torch.Tensor:
    """n latents (n, z_dim) to decode: draws of N(0, I), or of a density of training latents.

    sampler: "prior" for N(0, I), "mixture" for `draw_like` with COMPONENTS Gaussians, fitted to
    DENSITY_SAMPLES latents of `train` (a draw given the image where z is random).
    Raises ValueError for another sampler.
    """
    check_choice(sampler, SAMPLERS, "sampler")
    check_positive_int(n, "n")
    noise = torch.Generator().manual_seed(check_seed(seed))
    if sampler == "prior":
        return torch.randn(n, model.z_dim, generator=noise)
    chosen = train.take(torch.randperm(len(train), generator=noise)[:DENSITY_SAMPLES])
    with torch.no_grad():
        latents = [model.sample_latent(x, noise) for x in chosen.float_batches(BATCH)]
    return draw_like(torch.cat(latents), COMPONENTS, n, seed)


def draw_like(latents: torch.Tensor, components: int, n: int, seed: int = 0) -> torch.Tensor:
    """n draws, float32 (n, d), of a density fitted to latents (N, d); N >= components.

    The density is a mixture of `components` Gaussians with full covariances, by EM.
    Raises ValueError for latents that are not finite, or too few; scikit-learn checks that.
    """
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    density = GaussianMixture(components, max_iter=300, random_state=seed)
    with threadpool_limits(1):  # its many small products are slower, not faster, on more threads
        draws, _ = density.fit(latents.double().numpy()).sample(n)
    # scikit-learn sorts its draws by component; the first few of ours must be a sample too
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return torch.from_numpy(draws).float()[order]
