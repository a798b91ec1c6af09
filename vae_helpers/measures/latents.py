"""Latent dimensions and hidden units that are in use, and densities to draw new latents from."""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..data import Data, Split
from ..engine.guards import check_choice, check_positive_int, check_seed
from ..losses import kl_divergence
from ..models import Model
from .losses import BATCH

ACTIVE_VARIANCE = 0.01  # Burda et al., arXiv:1509.00519, section 5.2
RELUS = (functional.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_)
SAMPLERS = ("prior", "gaussian", "mixture", "reconstructions")
COMPONENTS = {"gaussian": 1, "mixture": 10}  # Gaussians of a fitted density
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
    variance = _finite(torch.cat([mean for mean, _ in codes]), model).double().var(dim=0)
    kl = [
        torch.zeros_like(mean) if log_var is None else kl_divergence(mean, log_var)
        for mean, log_var in codes
    ]
    return {
        "variance": variance,
        "active_units": int((variance > ACTIVE_VARIANCE).sum()),
        "kl": torch.cat(kl).double().mean(dim=0),
    }


@torch.no_grad()
def hidden_units(model: Model, data: Data) -> dict[str, list[tuple[int, int]] | int]:
    """Hidden units in use: units of a ReLU whose output is above 0 for at least one test image.

    "encoder_hidden": (units in use, units) of every ReLU layer of the encoder, in order, images
    given; "encoder_units_1", ...: units in use in the first, ...; "encoder_units": in all of them;
    "decoder_hidden", ...: the same of the decoder, given the latent vectors E[z|x]. A unit is one
    number that a ReLU gives of one image, whether the ReLU is a module or a function. A half
    without any has no entries.
    Raises ValueError for latent vectors that are not finite: NaN would pass for silent.
    """
    batches = []
    for x in data.test.float_batches(BATCH):
        with _FiredUnits() as encoder:
            mean, _ = model.posterior(x)
        with _FiredUnits() as decoder:
            model.decode_logits(_finite(mean, model))
        batches.append((encoder.layers, decoder.layers))
    found = {}
    for half, fired in zip(("encoder", "decoder"), zip(*batches, strict=True), strict=True):
        layers = [torch.stack(layer).any(dim=0) for layer in zip(*fired, strict=True)]
        if layers:
            found[f"{half}_hidden"] = [(int(layer.sum()), len(layer)) for layer in layers]
            used = [count for count, _ in found[f"{half}_hidden"]]
            found |= {f"{half}_units_{i}": count for i, count in enumerate(used, start=1)}
            found[f"{half}_units"] = sum(used)
    return found


class _FiredUnits(TorchFunctionMode):
    """Within it, `layers` collects of every ReLU called which units are above 0 for some image."""

    def __init__(self):
        super().__init__()
        self.layers = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in RELUS:
            self.layers.append((result > 0).any(dim=0).flatten())
        return result


def _finite(latents: torch.Tensor, model: Model) -> torch.Tensor:
    if not torch.isfinite(latents).all():
        raise ValueError(f"{model.label} has latent vectors that are not finite; train it anew")
    return latents


def sampled_latents(
    model: Model, train: Split, sampler: str, n: int, seed: int = 0
) -> torch.Tensor:
    """n latents (n, z_dim) to decode, by one of SAMPLERS.

    "prior": draws of N(0, I). "gaussian", "mixture": of `draw_like` with 1 and 10 Gaussians,
    fitted to the latents of DENSITY_SAMPLES images of `train`. "reconstructions": the latents of n
    images of `train` themselves. Latents of images are a draw given the image where z is random.
    Raises ValueError for another sampler, or fewer than n images to reconstruct.
    """
    check_choice(sampler, SAMPLERS, "sampler")
    check_positive_int(n, "n")
    noise = torch.Generator().manual_seed(check_seed(seed))
    if sampler == "prior":
        return torch.randn(n, model.z_dim, generator=noise)
    fitted = sampler in COMPONENTS
    if not fitted and n > len(train):
        raise ValueError(f"n must be at most the {len(train)} training images, got {n}")
    order = torch.randperm(len(train), generator=noise)
    chosen = train.take(order[: DENSITY_SAMPLES if fitted else n])
    with torch.no_grad():
        latents = [model.sample_latent(x, noise) for x in chosen.float_batches(BATCH)]
    latents = torch.cat(latents)
    return draw_like(latents, COMPONENTS[sampler], n, seed) if fitted else latents


def draw_like(latents: torch.Tensor, components: int, n: int, seed: int = 0) -> torch.Tensor:
    """n draws, float32 (n, d), of a density fitted to latents (N, d); N >= components.

    The density is a mixture of `components` Gaussians with full covariances, by EM; a single one
    has the mean and the covariance of the latents.
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
