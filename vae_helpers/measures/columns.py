"""What can be measured of a trained model, by name, and how a table shows it.

`MEASUREMENTS[name](model, data, **arguments(name, sizes, judge))` measures one run: a dict of
tensors and plain values. A column reads one quantity from that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from ..data import Data
from .generated import generation_quality
from .latents import SAMPLERS, latent_statistics
from .losses import bound, split_losses

MEASUREMENTS: dict[str, Callable[..., dict]] = {
    "losses": split_losses,
    "bound": bound,
    "latents": latent_statistics,
    **{f"generated_{name}": partial(generation_quality, sampler=name) for name in SAMPLERS},
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    draws: samples of z per test and validation image; bound_images, bound_draws: test images and
    draws of the importance-weighted bound (500 of them leave a standard error of 0.05 nats, where
    seeds differ by 0.1 to 0.2); generated: images per sampler; judge_epochs: of the
    judge's training.
    """

    draws: int = 5
    bound_images: int = 500
    bound_draws: int = 1_000
    generated: int = 10_000
    judge_epochs: int = 6

    def for_data(self, data: Data) -> Sizes:
        """The same, with no more images than the test split has."""
        fewer = {n: min(getattr(self, n), len(data.test)) for n in ("bound_images", "generated")}
        return replace(self, **fewer)


FULL = Sizes()
QUICK = Sizes(draws=1, bound_images=100, bound_draws=10, generated=1_000, judge_epochs=1)


def arguments(measurement: str, sizes: Sizes) -> dict:
    """The keyword arguments of a measurement at these sizes; "judge" stands for the judge's seed."""
    if measurement == "losses":
        return {"draws": sizes.draws}
    if measurement == "bound":
        return {"images": sizes.bound_images, "k": sizes.bound_draws, "draws": sizes.draws}
    if measurement.startswith("generated"):
        return {"judge": 0, "n": sizes.generated}
    return {}


@dataclass(frozen=True)
class Column:
    """One quantity of a model.

    heading: of its column in a table; decimals: as printed; measurement: the name of what it is
    read from; key: its name there. What is read of one run is a float, or a tensor (N,) of one
    number per image, whose mean is shown and over whose images models are paired.
    """

    heading: str
    decimals: int
    measurement: str
    key: str


COLUMNS = {
    "test_reconstruction_at_mean": Column(
        "Test reconstruction, z = mean", 2, "losses", "test_reconstruction_at_mean"
    ),
    "bound": Column("IWAE bound", 2, "bound", "bound"),
    "active_units": Column("Active latents", 1, "latents", "active_units"),
}
COLUMNS |= {
    f"{split}_{term.lower()}": Column(f"{word} {term}", 2, "losses", f"{split}_{key}")
    for split, word in [("train", "Training"), ("validation", "Validation"), ("test", "Test")]
    for term, key in [("loss", "total"), ("reconstruction", "reconstruction"), ("KL", "kl")]
}
COLUMNS |= {
    key + ending: Column(heading + said, decimals, measurement, key)
    for measurement, ending, said in [
        ("generated_prior", "", ""),
        ("generated_mixture", "_mixture", ", mixture"),
    ]
    for key, heading, decimals in [
        ("frechet", "Frechet distance", 1),
        ("precision", "Precision", 2),
        ("recall", "Recall", 2),
    ]
}
