"""Paired intervals: coverage by simulation, agreement with SciPy, verdicts, errors."""

import pytest
import torch
from scipy import stats

from vae_helpers.measures.statistics import compare_with, paired_difference, paired_scalars


def simulate(generator, seeds=4, images=200, shift=0.0):
    seed_effect = 0.3 * torch.randn(seeds, 1, generator=generator)
    image_effect = 2.0 * torch.randn(1, images, generator=generator)
    return shift + seed_effect + image_effect + torch.randn(seeds, images, generator=generator)


def test_interval_covers_the_truth_about_as_often_as_it_says(generator):
    repeats, covered = 600, 0
    for _ in range(repeats):
        found = paired_difference(simulate(generator, shift=0.7), torch.zeros(4, 200))
        covered += found.low <= 0.7 <= found.high
    assert 0.93 <= covered / repeats <= 0.995


def test_seeds_alone_and_images_alone_would_cover_less(generator):
    repeats, hits = 300, {"seeds": 0, "images": 0}
    for _ in range(repeats):
        d = simulate(generator)
        for name, values in [("seeds", d.mean(1)), ("images", d.mean(0))]:
            low, high = stats.t.interval(0.95, len(values) - 1, float(values.mean()),
                                         float(values.std()) / len(values) ** 0.5)  # fmt: skip
            hits[name] += low <= 0 <= high
    assert hits["images"] / repeats < 0.9


def test_pairing_removes_what_the_models_share(generator):
    shared = 50 * torch.randn(1, 300, generator=generator)
    a = shared + 0.1 * torch.randn(5, 300, generator=generator)
    b = shared + 0.1 * torch.randn(5, 300, generator=generator) + 0.5
    found = paired_difference(a, b)
    assert found.verdict == "lower" and found.high - found.low < 0.2


def test_difference_is_antisymmetric_and_scale_free(generator):
    a, b = simulate(generator), simulate(generator)
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert forth.mean == pytest.approx(-back.mean) and forth.low == pytest.approx(-back.high)
    scaled = paired_difference(3 * a, 3 * b)
    assert scaled.high == pytest.approx(3 * forth.high, rel=1e-5)


def test_scalars_agree_with_scipys_paired_t_interval():
    a, b = [1.0, 1.4, 1.2, 0.9], [0.7, 1.5, 0.8, 0.6]
    ours = paired_scalars(a, b)
    theirs = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_verdicts(generator):
    zero = torch.zeros(3, 50)
    noise = torch.randn(3, 50, generator=generator)
    assert paired_difference(noise - 9, zero).verdict == "lower"
    assert paired_difference(noise + 9, zero).verdict == "higher"
    assert paired_difference(noise - noise.mean(), zero).verdict == "tie"
    assert paired_difference(zero, zero).verdict == "tie"


def test_a_family_of_comparisons_is_wider_than_a_single_one(generator):
    losses = {name: simulate(generator) for name in "abcdef"}
    single = paired_difference(losses["b"], losses["a"])
    family = compare_with("a", losses)
    assert set(family) == set("bcdef") and family["b"].confidence == pytest.approx(0.99)
    assert family["b"].high - family["b"].low > single.high - single.low


@pytest.mark.parametrize(("a", "b"), [((3, 5), (3, 4)), ((1, 5), (1, 5)), ((3, 1), (3, 1))])
def test_unpaired_or_single_samples_are_refused(a, b):
    with pytest.raises(ValueError, match="seeds, images"):
        paired_difference(torch.zeros(a), torch.zeros(b))


def test_other_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="confidence"):
        paired_difference(torch.zeros(2, 2), torch.zeros(2, 2), confidence=95)
    with pytest.raises(ValueError, match="best"):
        compare_with("best", {"a": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="one number per seed"):
        paired_scalars([1.0], [1.0])
