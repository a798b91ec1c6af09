"""How much the notebook computes: the full study, or a quick pass to see that everything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .engine.guards import check_positive_int
from .training import TrainSettings


@dataclass(frozen=True)
class Plan:
    """Sizes of the study.

    ladder: epoch budgets of Section "trained long enough"; bound_images, bound_ks: test images and
    draws of the importance-weighted bound; generated: images per quality measurement.
    """

    seeds: tuple[int, ...]
    settings: TrainSettings
    classifier_settings: TrainSettings | None
    ladder: tuple[int, ...]
    bound_images: int
    bound_ks: tuple[int, ...]
    generated: int


def make_plan(seeds: int, epochs: int, quick: bool = False) -> Plan:
    """The full plan with `seeds` runs of `epochs` epochs per model, or the quick one.

    Raises ValueError for fewer than 2 seeds, which would leave no spread to compare with.
    """
    if check_positive_int(seeds, "seeds") < 2:
        raise ValueError(f"seeds must be at least 2 to measure a spread, got {seeds}")
    settings = replace(TrainSettings(), epochs=check_positive_int(epochs, "epochs"))
    if not quick:
        return Plan(tuple(range(seeds)), settings, None, (10, 20, epochs, 80), 1000,
                    (1, 10, 100, 1000), 10_000)  # fmt: skip
    settings = replace(settings, epochs=2, warmup_epochs=1)
    return Plan((0, 1), settings, replace(settings, epochs=1), (1, 2, 3), 100, (1, 10), 1000)
