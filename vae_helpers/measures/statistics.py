"""Paired comparison of models: same test images, same seeds, an interval and a verdict.

Two things make a difference of mean losses uncertain: which seeds were trained and which images
were tested. Both are estimated from the paired differences d[s, i] and added:

SE^2 = var_s(mean_i d) / S + var_i(mean_s d) / N,

with Student's t at the Welch-Satterthwaite degrees of freedom. The image part still holds 1/S of
the seed-image interaction, so the interval is, if anything, too wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import t as student_t

from ..engine.guards import check_matrix


@dataclass(frozen=True)
class Difference:
    """Mean paired difference a - b with its interval at `confidence`; nats per image for losses."""

    mean: float
    low: float
    high: float
    confidence: float

    @property
    def verdict(self) -> str:
        """"lower", "higher" or "tie": where a lies with respect to b at this confidence."""
        if self.high < 0:
            return "lower"
        return "higher" if self.low > 0 else "tie"


def paired_difference(
    a: torch.Tensor, b: torch.Tensor, confidence: float = 0.95
) -> Difference:
    """Interval of the mean of a - b, both (seeds, images) with paired rows and columns.

    Raises TypeError for anything but float tensors, ValueError for NaN or infinite values, for
    fewer than 2 seeds or images, for shapes that differ, or for a confidence outside (0, 1).
    """
    check_matrix(a, "a")
    check_matrix(b, "b")
    if a.shape != b.shape or min(a.shape) < 2:
        raise ValueError(
            "a and b must have one shape (seeds, images) with at least 2 of each, got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    if not (isinstance(confidence, float) and 0 < confidence < 1):
        raise ValueError(f"confidence must lie in (0, 1), got {confidence!r}")
    d = a.double() - b.double()
    return _interval(
        float(d.mean()),
        [(float(d.mean(dim=1).var()), d.shape[0]), (float(d.mean(dim=0).var()), d.shape[1])],
        confidence,
    )


def paired_scalars(a: list[float], b: list[float], confidence: float = 0.95) -> Difference:
    """As `paired_difference` for one number per seed (a Frechet distance, an accuracy)."""
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"a and b must hold one number per seed, at least 2; got {a} and {b}")
    d = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    if not torch.isfinite(d).all():  # else its interval would hold 0 for no reason: a "tie"
        raise ValueError(f"a and b must hold finite numbers, got {a} and {b}")
    return _interval(float(d.mean()), [(float(d.var()), len(d))], confidence)


def _interval(mean: float, sources: list[tuple[float, int]], confidence: float) -> Difference:
    """`sources` are (variance, count) pairs; their variance / count add up."""
    squares = [variance / count for variance, count in sources]
    total = sum(squares)
    if total == 0:
        return Difference(mean, mean, mean, confidence)
    freedom = total**2 / sum(
        s**2 / (count - 1) for s, (_, count) in zip(squares, sources, strict=True)
    )
    reach = float(student_t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(total)
    return Difference(mean, mean - reach, mean + reach, confidence)


def compare_with(
    best: str, losses: dict[str, torch.Tensor], family_confidence: float = 0.95
) -> dict[str, Difference]:
    """The difference of every other model's losses to those of the model labelled `best`.

    losses: label -> (seeds, images). The intervals hold together at `family_confidence`
    (Bonferroni over the comparisons), so that a verdict is not the accident of making several.
    """
    if best not in losses or len(losses) < 2:
        raise ValueError(f"need {best!r} and at least one other model, got {list(losses)}")
    confidence = 1 - (1 - family_confidence) / (len(losses) - 1)
    return {
        label: paired_difference(values, losses[best], confidence)
        for label, values in losses.items()
        if label != best
    }
