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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import t as student_t

from ..engine.guards import check_matrix

Values = Sequence["torch.Tensor | float"]  # of one model, a seed each: (N,) per image, or a number


@dataclass(frozen=True)
class Difference:
    """Mean paired difference a - b with its interval at `confidence`; nats per image for losses.

    Raises ValueError for a number that is not finite: NaN would pass for a tie.
    """

    mean: float
    low: float
    high: float
    confidence: float

    def __post_init__(self):
        if not all(map(math.isfinite, (self.mean, self.low, self.high, self.confidence))):
            raise ValueError(f"a difference must be finite, got {self}")

    @property
    def verdict(self) -> str:
        """"lower", "higher" or "tie": where a lies with respect to b at this confidence."""
        if self.high < 0:
            return "lower"
        return "higher" if self.low > 0 else "tie"


def difference(a: Values, b: Values, confidence: float = 0.95) -> Difference:
    """`paired_difference` of per-image tensors or `paired_scalars` of numbers, a seed each."""
    if all(isinstance(value, torch.Tensor) and value.dim() == 1 for value in (*a, *b)):
        sizes = {len(value) for value in (*a, *b)}
        if len(sizes) > 1:
            raise ValueError(f"a and b must hold the same images, got {sorted(sizes)} of them")
        return paired_difference(torch.stack(list(a)), torch.stack(list(b)), confidence)
    return paired_scalars([float(v) for v in a], [float(v) for v in b], confidence)


def joint_differences(
    best: str, values: Mapping[str, Values], confidence: float = 0.95
) -> dict[str, Difference]:
    """`difference` of every other model's values to those of the model called `best`.

    The intervals hold together at `confidence` (Bonferroni over the comparisons), so that a
    verdict is not the accident of making several. Raises ValueError without another model.
    """
    if best not in values or len(values) < 2:
        raise ValueError(f"need {best!r} and at least one other model, got {list(values)}")
    each = joint_confidence(confidence, len(values) - 1)
    return {
        name: difference(value, values[best], each)
        for name, value in values.items()
        if name != best
    }


def class_differences(
    a: Values, b: Values, labels: torch.Tensor, confidence: float = 0.95
) -> list[Difference]:
    """Per-image `difference` within every class of `labels` (N,), jointly at `confidence`."""
    groups = [labels == label for label in range(int(labels.max()) + 1)]
    each = joint_confidence(confidence, len(groups))
    return [difference([v[g] for v in a], [v[g] for v in b], each) for g in groups]


def joint_confidence(confidence: float, comparisons: int) -> float:
    """The confidence of each interval for which all hold together at `confidence` (Bonferroni)."""
    return 1 - (1 - _check_confidence(confidence)) / comparisons


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
    d = a.double() - b.double()
    return _interval(
        float(d.mean()),
        [(float(d.mean(dim=1).var()), d.shape[0]), (float(d.mean(dim=0).var()), d.shape[1])],
        confidence,
    )


def paired_scalars(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95
) -> Difference:
    """As `paired_difference` for one number per seed (a Frechet distance, a count of latents)."""
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"a and b must hold one number per seed, at least 2; got {a} and {b}")
    d = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    if not torch.isfinite(d).all():
        raise ValueError(f"a and b must hold finite numbers, got {a} and {b}")
    return _interval(float(d.mean()), [(float(d.var()), len(d))], confidence)


def _interval(mean: float, sources: list[tuple[float, int]], confidence: float) -> Difference:
    """`sources` are (variance, count) pairs; their variance / count add up."""
    _check_confidence(confidence)
    squares = [variance / count for variance, count in sources]
    total = sum(squares)
    if total == 0:
        return Difference(mean, mean, mean, confidence)
    freedom = total**2 / sum(
        s**2 / (count - 1) for s, (_, count) in zip(squares, sources, strict=True)
    )
    reach = float(student_t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(total)
    return Difference(mean, mean - reach, mean + reach, confidence)


def _check_confidence(confidence) -> float:
    if not (isinstance(confidence, float) and 0 < confidence < 1):
        raise ValueError(f"confidence must lie in (0, 1), got {confidence!r}")
    return confidence


def summary(values: Values) -> dict:
    """{"mean", "sd" (over seeds, n - 1; None for one seed), "seeds": a number each}: plain values.

    Raises ValueError for a number that is not finite.
    """
    seeds = [float(torch.as_tensor(value).double().mean()) for value in values]
    if not seeds or not all(map(math.isfinite, seeds)):
        raise ValueError(f"every seed must give a finite number, got {seeds}")
    spread = float(torch.tensor(seeds, dtype=torch.float64).std()) if len(seeds) > 1 else None
    return {"mean": math.fsum(seeds) / len(seeds), "sd": spread, "seeds": seeds}
