"""Paired comparison of models: same test images, same seeds, an interval and a verdict.

Two things make a difference of mean losses uncertain: which seeds were trained and which images
were tested. Both are estimated from the paired differences d[s, i] and added:

SE^2 = var_s(mean_i d) / S + var_i(mean_s d) / N,

with Student's t at the Welch-Satterthwaite degrees of freedom. The image part still holds 1/S of
the seed-image interaction, so the interval is, if anything, too wide. A quantity that is one
number per seed has the first part alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import stdtrit  # not scipy.stats, whose import takes 50 MB

CONFIDENCE = 0.95
Values = Sequence["torch.Tensor | float"]  # of one model, a seed each: (N,) per image, or a number


@dataclass(frozen=True)
class Difference:
    """Mean paired difference a - b with its interval at `confidence`; nats per image for losses."""

    mean: float
    low: float
    high: float
    confidence: float

    @property
    def verdict(self) -> str:
        """ "lower", "higher" or "tie": where a lies with respect to b at this confidence."""
        if self.high < 0:
            return "lower"
        return "higher" if self.low > 0 else "tie"


def difference(a: Values, b: Values, comparisons: int = 1) -> Difference:
    """95 % interval of the mean of a - b; both hold the same seeds, in order, of the same images.

    A tensor (seeds, images) will do for the values of a model. With several `comparisons` the
    interval is widened (Bonferroni) so that all of them hold together at 95 %, and a verdict is
    not the accident of making several. Raises ValueError for fewer than 2 seeds, seeds or images
    that do not pair up, or values that are not finite.
    """
    a, b = _as_matrix(a, "a"), _as_matrix(b, "b")
    if a.shape != b.shape or len(a) < 2:
        raise ValueError(
            "a and b must have one shape (seeds, images) with at least 2 seeds, got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    d, (seeds, images) = a - b, a.shape
    mean, parts = float(d.mean()), [(float(d.mean(dim=1).var()) / seeds, seeds - 1)]
    if images > 1:
        parts.append((float(d.mean(dim=0).var()) / images, images - 1))
    total = sum(square for square, _ in parts)
    if total == 0:
        return Difference(mean, mean, mean, confidence)
    freedom = total**2 / sum(square**2 / free for square, free in parts)
    reach = float(stdtrit(freedom, 0.5 + confidence / 2)) * math.sqrt(total)
    return Difference(mean, mean - reach, mean + reach, confidence)


def _as_matrix(values: Values, name: str) -> torch.Tensor:
    """float64 (seeds, images); (seeds, 1) for one number per seed."""
    rows = [torch.as_tensor(value).double().flatten() for value in values]
    if len({len(row) for row in rows}) != 1:
        raise ValueError(
            f"every seed of {name} must hold the same images, got "
            f"{[len(row) for row in rows]} of them"
        )
    if not all(torch.isfinite(row).all() for row in rows):
        raise ValueError(f"{name} must hold finite numbers; it has NaN or infinite values")
    return torch.stack(rows)


def joint_differences(best: Values, others: Sequence[Values]) -> list[Difference]:
    """`difference` of every other model's values to those of the best, jointly."""
    return [difference(values, best, len(others)) for values in others]


def summary(values: Values) -> dict:
    """{"mean", "sd" (over seeds, n - 1; None for one seed), "seeds": a number each}: plain values.

    Raises ValueError for a number that is not finite.
    """
    seeds = _as_matrix(values, "a model").mean(dim=1)
    spread = float(seeds.std()) if len(seeds) > 1 else None
    return {"mean": float(seeds.mean()), "sd": spread, "seeds": seeds.tolist()}
