"""What can be measured of a trained model, by name, and how a table shows it.

`MEASUREMENTS[name](model, data, **arguments(name, sizes))` measures one run: a dict of tensors and
plain values, given a judge in place of its seed. What a model does not have is left out (hidden
units in use, of a model without ReLUs) or raises NotApplicable (an autoencoder has no bound). A
column reads one quantity from that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..data import Data
from .generated import generation_quality
from .latents import SAMPLERS, hidden_units, latent_statistics
from .losses import SPLITS, bound, split_losses

SECOND_JUDGE = "_second_judge"  # ends the name of what the judge of seed 1, not 0, measures
MEASUREMENTS: dict[str, Callable[..., dict]] = {
    **{f"losses_{split}": partial(split_losses, split=split) for split in SPLITS},
    "bound": bound,
    "latents": latent_statistics,
    "hidden": hidden_units,
}
MEASUREMENTS |= {
    f"generated_{sampler}{judge}": partial(generation_quality, sampler=sampler)
    for sampler in SAMPLERS
    for judge in ("", SECOND_JUDGE)
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    draws: samples of z per test and validation image; bound_images, bound_draws: test images and
    draws of the importance-weighted bound (the difference of two models' bounds has a standard
    error of 0.18 nats on 500 images, of 0.05 on 10,000; from 50 to 200 draws a bound falls by 0.2,
    from 200 to 1,000 by 0.1 to 0.15); generated: images per sampler; judge_epochs: of a judge's
    training.
    """

    draws: int = 5
    bound_images: int = 10_000
    bound_draws: int = 100
    generated: int = 10_000
    judge_epochs: int = 6

    def for_data(self, data: Data) -> Sizes:
        """The same, with no more images than there are."""
        images, both = len(data.test), min(len(data.test), len(data.train))
        bound_images, generated = min(self.bound_images, images), min(self.generated, both)
        return replace(self, bound_images=bound_images, generated=generated)


FULL = Sizes()
SHORT = Sizes(draws=1, bound_images=1_000, bound_draws=20, generated=2_000, judge_epochs=3)
QUICK = Sizes(draws=1, bound_images=100, bound_draws=10, generated=1_000, judge_epochs=1)


def arguments(measurement: str, sizes: Sizes) -> dict:
    """The keyword arguments of a measurement at these sizes; as "judge", the judge's seed."""
    if measurement.startswith("losses"):
        return {"draws": sizes.draws}
    if measurement == "bound":
        return {"images": sizes.bound_images, "k": sizes.bound_draws, "draws": sizes.draws}
    if measurement.startswith("generated"):
        return {"judge": int(measurement.endswith(SECOND_JUDGE)), "n": sizes.generated}
    return {}


@dataclass(frozen=True)
class Column:
    """One quantity of a model.

    heading: of its column in a table; decimals: as printed; measurement: the name of what it is
    read from; keys: the names there whose values are added.
    """

    heading: str
    decimals: int
    measurement: str
    keys: tuple[str, ...]

    def read(self, value: dict) -> torch.Tensor | float | None:
        """The quantity of one run: a number, or a tensor (N,) of one number per image, whose mean
        is shown and over whose images models are paired; None if the model has no such quantity."""
        return sum(value[key] for key in self.keys) if set(self.keys) <= set(value) else None


COLUMNS = {
    "test_reconstruction_at_mean": Column(
        "Test reconstruction, z = mean", 2, "losses_test", ("reconstruction_at_mean",)
    ),
    "bound": Column("IWAE bound", 2, "bound", ("bound",)),
    "bound_gap": Column("Test loss minus IWAE bound", 2, "bound", ("gap",)),
    "active_units": Column("Active latents", 1, "latents", ("active_units",)),
}
COLUMNS |= {
    f"{half}_units{layer}": Column(
        f"{half.capitalize()} units in use{said}", 1, "hidden", (f"{half}_units{layer}",)
    )
    for half in ("encoder", "decoder")
    for layer, said in [("", ""), ("_1", ", layer 1"), ("_2", ", layer 2")]
}
COLUMNS |= {
    f"{split}_{term.lower()}": Column(f"{word} {term}", 2, f"losses_{split}", keys)
    for split, word in [("train", "Training"), ("validation", "Validation"), ("test", "Test")]
    for term, keys in [
        ("loss", ("reconstruction", "kl")),
        ("reconstruction", ("reconstruction",)),
        ("KL", ("kl",)),
    ]
}
# "frechet" is that of draws of N(0, I); "recall_mixture_second_judge" has all that can be added
COLUMNS |= {
    f"{key}_{sampler}{judge}".replace("_prior", ""): Column(
        heading + {"prior": "", "gaussian": ", Gaussian"}.get(sampler, f", {sampler}") + said,
        decimals,
        f"generated_{sampler}{judge}",
        (key,),
    )
    for sampler in SAMPLERS
    for judge, said in [("", ""), (SECOND_JUDGE, ", 2nd judge")]
    for key, heading, decimals in [
        ("frechet", "Frechet distance", 1),
        ("precision", "Precision", 2),
        ("recall", "Recall", 2),
    ]
}
