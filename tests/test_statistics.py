"""Intervals: their joint coverage by simulation, agreement with SciPy, verdicts, errors."""

import numpy as np
import pytest
import torch
from scipy import stats

from vae_helpers.measures.statistics import (
    difference,
    joint_differences,
    mean_interval,
    summary,
)

MODELS, SEEDS, IMAGES, STUDIES = 6, 5, 30, 4000
MARGIN = 3 * (0.95 * 0.05 / STUDIES) ** 0.5  # 3 standard errors of a simulated 95 %: 1 %
SPREADS = {  # standard deviations over seeds, in nats
    **{str(sd): [sd] * MODELS for sd in (0.02, 0.04, 0.08, 0.12, 0.24)},
    "rising": [0.02, 0.05, 0.08, 0.12, 0.18, 0.24],
    "one wide": [0.24, 0.02, 0.02, 0.02, 0.02, 0.02],
    "one narrow": [0.02, 0.24, 0.24, 0.24, 0.24, 0.24],
}


def simulate(spread, gap):
    """Many studies of six models, true means `gap` apart: losses (studies, seeds, models, images).

    Images shift all models alike by nats, each model by a standard error of 0.02 in a pair, and
    each run once more. Second result: the runs' mean validation losses, whose images are others.
    """
    random = np.random.default_rng(0)
    seeds = gap * np.arange(MODELS) + random.normal(size=(STUDIES, SEEDS, MODELS)) * SPREADS[spread]
    own = 0.02 * (IMAGES / 2) ** 0.5
    images = own * random.normal(size=(STUDIES, 1, MODELS, IMAGES))
    both = own * random.normal(size=(STUDIES, SEEDS, MODELS, IMAGES))
    shared = 5 * random.normal(size=(STUDIES, 1, 1, IMAGES))
    validation = seeds + 0.02 * random.normal(size=(STUDIES, 1, MODELS))
    return seeds[..., None] + images + both + shared, validation.mean(axis=1)


def order(best):
    """All models, the best first."""
    return [best, *(m for m in range(MODELS) if m != best)]


def joint_coverage(values, best, truth, half_widths):
    """In how many studies all differences to the best are within `half_widths` of the truth.

    The half widths are compared with those of `joint_differences` in the first studies.
    """
    studies = np.arange(len(values))
    for study in range(5):
        first, *others = [torch.tensor(values[study][:, m]) for m in order(best[study])]
        found = joint_differences(first, others)
        widths = [(each.high - each.low) / 2 for each in found]
        assert widths == pytest.approx(half_widths[study, order(best[study])[1:]])
        expected = [float(other.mean() - first.mean()) for other in others]
        assert [each.mean for each in found] == pytest.approx(expected, abs=1e-9)
    means = values.reshape(len(values), SEEDS, MODELS, -1).mean(axis=(1, 3))
    errors = means - means[studies, best][:, None] - (truth - truth[best][:, None])
    return (np.abs(errors) <= half_widths + 1e-12).all(axis=1).mean()


@pytest.mark.parametrize("gap", [0, 0.1])
@pytest.mark.parametrize("spread", SPREADS)
def test_all_intervals_against_the_best_by_validation_hold_together(spread, gap):
    losses, validation = simulate(spread, gap)
    best = validation.argmin(axis=1)
    d = losses - losses[np.arange(STUDIES), :, best][:, :, None]
    square = d.mean(axis=3).var(axis=1, ddof=1) / SEEDS + d.mean(axis=1).var(2, ddof=1) / IMAGES
    half_widths = stats.t.ppf(1 - 0.05 / 30, SEEDS - 1) * square**0.5
    truth = gap * np.arange(MODELS)
    assert joint_coverage(losses, best, truth, half_widths) >= 0.95 + MARGIN


@pytest.mark.parametrize("spread", SPREADS)
def test_all_intervals_of_one_number_per_model_hold_together(spread):
    random = np.random.default_rng(0)
    numbers = random.normal(size=(STUDIES, SEEDS, MODELS)) * SPREADS[spread]
    best, studies = numbers.mean(axis=1).argmin(axis=1), np.arange(STUDIES)
    part = numbers.var(axis=1, ddof=1) / SEEDS
    square = part + part[studies, best][:, None]
    freedom = (SEEDS - 1) * square**2 / (part**2 + part[studies, best][:, None] ** 2)
    half_widths = stats.t.ppf(1 - 0.05 / 30, freedom) * square**0.5
    half_widths[studies, best] = 0
    assert joint_coverage(numbers, best, np.zeros(MODELS), half_widths) >= 0.95 + MARGIN


def test_pairing_removes_what_the_models_share(generator):
    shared = 50 * torch.randn(1, 300, generator=generator)
    a = shared + 0.1 * torch.randn(5, 300, generator=generator)
    b = shared + 0.1 * torch.randn(5, 300, generator=generator) + 0.5
    found, back = difference(list(a), list(b)), difference(b, a)
    assert found.verdict == "lower" and found.high - found.low < 0.2
    assert back.verdict == "higher" and back.mean == pytest.approx(-found.mean)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
    assert difference(a, a.roll(1, dims=0)).verdict == "tie"


def test_intervals_follow_their_formula(generator):
    d = torch.randn(3, 40, generator=generator, dtype=torch.float64) + torch.arange(3)[:, None]
    square = float(d.mean(1).var() / 3 + d.mean(0).var() / 40)
    for comparisons, quantile in [(1, 0.975), (5, 0.995)]:  # Bonferroni
        found = difference(d + 9, torch.full((3, 40), 9.0), comparisons)
        reach = stats.t.ppf(quantile, 2) * square**0.5
        assert (found.low, found.high) == pytest.approx((found.mean - reach, found.mean + reach))
        assert found.mean == pytest.approx(float(d.mean()))
        assert found.confidence == pytest.approx(2 * quantile - 1)
    found = difference(d, torch.zeros(3, 40))
    assert mean_interval(d) == mean_interval(list(d)) == pytest.approx((found.low, found.high))


def test_numbers_per_seed_agree_with_scipy():
    a, b = [1.0, 1.4, 1.2, 0.9], [0.7, 1.5, 0.8]
    ours = difference(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.confidence == 0.95 and ours.mean == pytest.approx(0.125)
    one_group = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    assert mean_interval(a) == pytest.approx((one_group.low, one_group.high))
    constant = difference(a, [1, 1, 1, 1])  # no spread in one of the two
    assert (constant.low, constant.high) == pytest.approx([x - 1 for x in one_group])


@pytest.mark.parametrize("value, verdict", [(3, "tie"), (4, "lower"), (2, "higher")])
def test_without_any_spread_equal_is_a_tie_and_nothing_else(value, verdict):
    found = difference([3, 3, 3], [value] * 3)
    assert found.verdict == verdict and found.low == found.mean == found.high == 3 - value
    images = torch.arange(4.0).expand(2, 4)
    assert difference(images + 3, images + value).verdict == verdict


NAN, INFINITE = (torch.tensor([[1, 1, bad], [1, 1, 1]]) for bad in (float("nan"), float("inf")))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: difference([1.0, float("nan")], [1.0, 2.0]), "a must hold finite numbers"),
        (lambda: difference(torch.ones(2, 3), NAN), "b must hold finite numbers"),
        (lambda: difference(INFINITE, torch.ones(2, 3)), "a must hold finite numbers"),
        (lambda: summary([1.0, float("inf")]), "finite"),
        (lambda: mean_interval(NAN), "finite"),
        (lambda: mean_interval([1.0]), "at least 2 seeds, got 1"),
        (lambda: difference([1.0], [2.0, 3.0]), r"at least 2 seeds, got \(1, 1\) and \(2, 1\)"),
        (lambda: difference(torch.ones(2, 3), torch.ones(3, 3)), r"\(2, 3\) and \(3, 3\)"),
        (lambda: difference(torch.ones(2, 3), torch.ones(2, 4)), r"\(2, 3\) and \(2, 4\)"),
        (lambda: difference(torch.ones(2, 3), [1.0, 2.0]), r"\(2, 3\) and \(2, 1\)"),
        (lambda: difference([torch.ones(3), torch.ones(2)], [1, 2]), r"seed of a .* got \[3, 2\]"),
    ],
)
def test_what_cannot_be_compared_is_no_tie_but_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_summary_has_plain_numbers():
    found = summary([torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0])])
    assert found == {"mean": 2.75, "sd": pytest.approx(stats.tstd([2, 3.5])), "seeds": [2.0, 3.5]}
    assert type(found["mean"]) is type(found["sd"]) is float
    assert summary([4]) == {"mean": 4.0, "sd": None, "seeds": [4.0]}
