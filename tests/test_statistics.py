"""Paired intervals: coverage by simulation, agreement with SciPy, verdicts, errors."""

import pytest
import torch
from scipy import stats

from vae_helpers.measures.statistics import difference, joint_differences, summary


def simulate(generator, seeds=4, images=200, shift=0.0):
    seed_effect = 0.3 * torch.randn(seeds, 1, generator=generator)
    image_effect = 2.0 * torch.randn(1, images, generator=generator)
    return shift + seed_effect + image_effect + torch.randn(seeds, images, generator=generator)


def test_interval_covers_the_truth_about_as_often_as_it_says(generator):
    repeats, covered = 600, 0
    for _ in range(repeats):
        found = difference(simulate(generator, shift=0.7), torch.zeros(4, 200))
        covered += found.low <= 0.7 <= found.high
    assert 0.93 <= covered / repeats <= 0.995


def test_pairing_removes_what_the_models_share(generator):
    shared = 50 * torch.randn(1, 300, generator=generator)
    a = shared + 0.1 * torch.randn(5, 300, generator=generator)
    b = shared + 0.1 * torch.randn(5, 300, generator=generator) + 0.5
    found = difference(list(a), list(b))
    assert found.verdict == "lower" and found.high - found.low < 0.2
    back = difference(b, a)
    assert back.verdict == "higher" and found.mean == pytest.approx(-back.mean)
    assert found.low == pytest.approx(-back.high)


def test_interval_follows_its_formula(generator):
    d = simulate(generator, seeds=3, images=40).double()
    over_seeds, over_images = d.mean(1).var() / 3, d.mean(0).var() / 40
    square = float(over_seeds + over_images)
    freedom = square**2 / float(over_seeds**2 / 2 + over_images**2 / 39)
    for comparisons, quantile in [(1, 0.975), (5, 0.995)]:  # Bonferroni
        found = difference(d, torch.zeros(3, 40), comparisons)
        reach = stats.t.ppf(quantile, freedom) * square**0.5
        assert (found.low, found.high) == pytest.approx((found.mean - reach, found.mean + reach))
        assert found.confidence == pytest.approx(2 * quantile - 1)
    assert difference(d - d.mean(), torch.zeros(3, 40)).verdict == "tie"


def test_numbers_per_seed_agree_with_scipys_paired_t_interval():
    a, b = [1.0, 1.4, 1.2, 0.9], [0.7, 1.5, 0.8, 0.6]
    ours, theirs = difference(a, b), stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.confidence == 0.95
    assert difference([3, 4], [3, 4]).verdict == "tie"  # counts, and no spread at all
    assert difference([3, 4], [4, 5]).verdict == "lower"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_a_tie(bad):
    one_image = torch.tensor([[1, 1, bad], [1, 1, 1]])
    for call in (
        lambda: difference([1.0, bad], [1.0, 2.0]),
        lambda: summary([1.0, bad]),
        lambda: difference(torch.ones(2, 3), one_image),
    ):
        with pytest.raises(ValueError, match="finite"):
            call()


@pytest.mark.parametrize("scalars", [False, True])
def test_joint_intervals_are_bonferronis(generator, scalars):
    values = {name: simulate(generator) for name in "abcdef"}
    if scalars:
        values = {name: v.mean(1).tolist() for name, v in values.items()}
    joint = joint_differences("a", values)
    assert joint == {name: difference(values[name], values["a"], 5) for name in "bcdef"}


def test_summary_has_plain_numbers():
    found = summary([torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0])])
    assert found == {"mean": 2.75, "sd": pytest.approx(stats.tstd([2, 3.5])), "seeds": [2.0, 3.5]}
    assert type(found["mean"]) is type(found["sd"]) is float
    assert summary([4]) == {"mean": 4.0, "sd": None, "seeds": [4.0]}
