"""How far means over a few training runs can be trusted: intervals, differences and verdicts.

**A loss of every image**, d[s, i] of seed s and image i: two things make its mean uncertain, which
seeds were trained and which images were tested. With S seeds and N images

SE^2 = var_s(mean_i d) / S + var_i(mean_s d) / N,   interval: mean -+ t(S - 1) SE.

Two models that share seeds and images are compared by d = a - b, in which shared effects cancel.
Assumed: runs are independent, their means normally distributed, and images independent. Then the
interval is exact if the images' part is nothing. Otherwise it is too wide, since Student's t at
S - 1 degrees of freedom is meant for the seeds' part alone; Welch-Satterthwaite degrees of freedom
for the sum are too many if S is small (their five joint intervals at 95 % held in 85 % of
simulated studies of three seeds, in 92 % of five).

**One number per trained model** (Frechet distance, units in use): nothing pairs the runs of two
models, so they are compared by Welch's interval, each with a spread of its own; it is one for
these test images and this judge.

**Several models against the best of them**: Bonferroni over all pairs, since the best is found
with the runs that it is then compared with. In simulated studies of six models and five seeds
(tests/test_statistics.py) all five intervals held in at least 97 %, losses and numbers, whatever
the spreads (of seeds 0.02 to 0.24 nats, of images 0.02), and even for equal models, where the
choice misleads most; counted as five comparisons, in 92 %. Against a model that is fixed
beforehand only the comparisons with it count.
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
    """Mean difference a - b with its interval at `confidence`; nats per image for losses."""

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
    """95 % interval of the mean of a - b, by the kind of their values.

    Tensors (N,), one per seed, or one tensor (seeds, N): paired; both hold the same seeds, in
    order, of the same images. Numbers, one per seed: Welch's interval; the seeds may differ.
    With several `comparisons` the interval is widened (Bonferroni) so that all of them hold
    together at 95 %. Raises ValueError for fewer than 2 seeds, seeds or images that do not pair
    up, or values that are not finite.
    """
    a, b = _as_matrix(a, "a"), _as_matrix(b, "b")
    numbers = a.shape[1] == b.shape[1] == 1
    if min(len(a), len(b)) < 2 or not (numbers or a.shape == b.shape):
        raise ValueError(
            "a and b must have one shape (seeds, images), or hold one number per seed, with at "
            f"least 2 seeds, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    mean = float(a.mean() - b.mean())
    if numbers:
        parts = [(_squared_error(values), len(values) - 1) for values in (a, b)]
        square = sum(part for part, _ in parts)
        slack = sum(part**2 / free for part, free in parts)
        freedom = square**2 / slack if slack else 1
    else:
        square, freedom = _squared_error(a - b), len(a) - 1
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    reach = _reach(square, freedom, confidence)
    return Difference(mean, mean - reach, mean + reach, confidence)


def joint_differences(
    reference: Values, others: Sequence[Values], *, chosen: bool = True
) -> list[Difference]:
    """`difference` of every other model's values to those of one, jointly.

    chosen: whether that one is the best of them all by these runs, not fixed beforehand.
    """
    count = math.comb(len(others) + 1, 2) if chosen else len(others)
    return [difference(values, reference, count) for values in others]


def mean_interval(values: Values) -> tuple[float, float]:
    """95 % interval (low, high) of one model's mean; values as in `difference`, of 2 seeds or more.

    Of a loss per image it covers other test images, too, which models that share them need not:
    for those, pass the seeds' means (`summary(values)["seeds"]`).
    """
    matrix = _as_matrix(values, "a model")
    if len(matrix) < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {len(matrix)}")
    mean = float(matrix.mean())
    reach = _reach(_squared_error(matrix), len(matrix) - 1, CONFIDENCE)
    return mean - reach, mean + reach


def summary(values: Values) -> dict:
    """{"mean", "sd" (over seeds, n - 1; None for one seed), "seeds": a number each}: plain values.

    Raises ValueError for a number that is not finite.
    """
    seeds = _as_matrix(values, "a model").mean(dim=1)
    spread = float(seeds.std()) if len(seeds) > 1 else None
    return {"mean": float(seeds.mean()), "sd": spread, "seeds": seeds.tolist()}


def _squared_error(values: torch.Tensor) -> float:
    """SE^2 of the mean of (seeds, images), at least 2 seeds; one image has no part of its own."""
    seeds, images = values.shape
    square = float(values.mean(dim=1).var()) / seeds
    return square + (float(values.mean(dim=0).var()) / images if images > 1 else 0)


def _reach(square: float, freedom: float, confidence: float) -> float:
    return float(stdtrit(freedom, 0.5 + confidence / 2)) * math.sqrt(square)


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
