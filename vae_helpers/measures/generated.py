"""Quality of generated images, measured in the feature space of the classifier.

Images are float tensors (N, 784) in [0, 1], features float64 tensors (N, d).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data import CLASS_NAMES, Data
from ..engine.guards import check_images, check_matrix, check_positive_int
from ..models import FullyConnected
from .judge import Classifier, class_probabilities, features, from_arrays
from .latents import generated_images, permutation

CHUNK = 256  # rows of a distance matrix held at once


def frechet_distance(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, (N, d) and (M, d).

    |m_r - m_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2))   (Heusel et al., arXiv:1706.08500, eq. 6)

    In float64. It overestimates for small sets, the more so the fewer images: compare values of
    equal set sizes only.
    """
    real, fake = _check_feature_pair(real, fake, at_least=2)
    means = (real.mean(dim=0) - fake.mean(dim=0)).square().sum()
    c_real, c_fake = (torch.atleast_2d(torch.cov(x.T)) for x in (real, fake))
    # the eigenvalues of a product of two covariances are real and not negative but for rounding
    roots = torch.linalg.eigvals(c_real @ c_fake).real.clamp_min(0).sqrt()
    return max(0.0, float(means + c_real.trace() + c_fake.trace() - 2 * roots.sum()))


def precision_recall_density_coverage(
    real: torch.Tensor, fake: torch.Tensor, k: int = 5, real_radii: torch.Tensor | None = None
) -> dict[str, float]:
    """Fidelity and diversity of `fake` features (M, d) against `real` ones (N, d).

    The manifold of a set is the union of open balls around its points, each reaching to the
    point's k-th nearest neighbour in the set.
    precision: fraction of fakes in the real manifold; recall: fraction of real points in the fake
    manifold (Kynkaanniemi et al., arXiv:1904.06991, eq. 1-2).
    density: mean number of real balls around a fake, over k (1 for a perfect model, can exceed 1);
    coverage: fraction of real balls that hold a fake (Naeem et al., arXiv:2002.09797, eq. 3-4).

    real_radii: what `squared_radii(real, k)` gives, to save that computation.
    """
    real, fake = _check_feature_pair(real, fake, at_least=k + 1)
    real_radii = squared_radii(real, k) if real_radii is None else real_radii
    fake_radii = squared_radii(fake, k)
    precise = torch.zeros(len(fake), dtype=torch.bool)
    recalled = covered = inside = 0
    for points, radii in zip(real.split(CHUNK), real_radii.split(CHUNK), strict=True):
        distances = _squared_distances(points, fake)
        in_real_ball = distances < radii[:, None]
        precise |= in_real_ball.any(dim=0)
        inside += int(in_real_ball.sum())
        covered += int(in_real_ball.any(dim=1).sum())
        recalled += int((distances < fake_radii).any(dim=1).sum())
    return {
        "precision": float(precise.double().mean()),
        "recall": recalled / len(real),
        "density": inside / (k * len(fake)),
        "coverage": covered / len(real),
    }


def squared_radii(points: torch.Tensor, k: int = 5) -> torch.Tensor:
    """Squared distance (N,) of every point of (N, d) to its k-th nearest other point."""
    check_positive_int(k, "k")
    if len(points) <= k:
        raise ValueError(f"k = {k} neighbours need at least {k + 1} points, got {len(points)}")
    radii = points.new_empty(len(points))  # allocated first: small results between large
    for start in range(0, len(points), CHUNK):  # temporaries would tear the memory to pieces
        distances = _squared_distances(points[start : start + CHUNK], points)
        # k + 1 of them: the nearest of all is the point itself
        radii[start : start + CHUNK] = distances.topk(k + 1, largest=False).values[:, -1]
    return radii


def _squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared distances (N, M) of a (N, d) to b (M, d) through one matrix product."""
    norms = b.square().sum(dim=1) + a.square().sum(dim=1)[:, None]
    return norms.addmm_(a, b.T, alpha=-2).clamp_min_(0)


def class_histogram(classifier: Classifier, images: torch.Tensor) -> dict:
    """Which classes the classifier sees in `images`, and how sure it is.

    class_fractions: list of 10; total_variation: half the sum of |fraction - 1/10|, 0 for equal
    shares (as in the real data), 0.9 for one class alone; confidence: mean probability of the
    predicted class; entropy: mean entropy of the class probabilities, in nats.
    """
    probabilities = class_probabilities(classifier, images)
    counts = torch.bincount(probabilities.argmax(dim=1), minlength=len(CLASS_NAMES))
    fractions = counts.double() / len(probabilities)
    return {
        "class_fractions": fractions.tolist(),
        "total_variation": float((fractions - 1 / len(CLASS_NAMES)).abs().sum() / 2),
        "confidence": float(probabilities.amax(dim=1).mean()),
        "entropy": float(torch.special.entr(probabilities).sum(dim=1).mean()),
    }


@dataclass(frozen=True)
class Reference:
    """The real images that generated ones are held against: computed once, used many times."""

    classifier: Classifier
    features: torch.Tensor
    radii: torch.Tensor
    k: int


def real_reference(classifier: Classifier, images: torch.Tensor, k: int = 5) -> Reference:
    """The reference for `sample_quality` made of real `images` (N, 784), e.g. the test set."""
    real = features(classifier, images)
    return Reference(classifier, real, squared_radii(real, k), k)


def sample_quality(images: torch.Tensor, reference: Reference) -> dict:
    """All measures of generated `images` (M, 784), best with M equal to the reference's size.

    Keys: frechet_distance, precision, recall, density, coverage, class_fractions,
    total_variation, confidence, entropy; see the functions of these names.
    """
    fake = features(reference.classifier, images)
    return {
        "frechet_distance": frechet_distance(reference.features, fake),
        **precision_recall_density_coverage(
            reference.features, fake, reference.k, reference.radii
        ),
        **class_histogram(reference.classifier, images),
    }


def quality_floor(data: Data, reference: Reference, seed: int = 0) -> dict:
    """`sample_quality` of real training images, as many as the reference holds.

    What a perfect generator would score: training and test images come from one distribution.
    """
    return sample_quality(_random_train_images(data, len(reference.features), seed), reference)


def sample_size_effect(
    images: torch.Tensor, reference: Reference, sizes: Sequence[int] = (1000, 2000, 5000, 10_000)
) -> dict[str, list]:
    """Frechet distance of the first n of `images` to the whole reference, for every n of `sizes`.

    Returns {"n": [...], "frechet_distance": [...]}. Raises ValueError for an n beyond the images.
    """
    if max(sizes) > len(images):
        raise ValueError(f"sizes go up to {max(sizes)}, but there are only {len(images)} images")
    fake = features(reference.classifier, images)
    distances = [frechet_distance(reference.features, fake[:n]) for n in sizes]
    return {"n": list(sizes), "frechet_distance": distances}


def nearest_training_images(
    queries: torch.Tensor, train: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Index (N,) into `train` and Euclidean distance (N,) of every query's nearest neighbour.

    queries (N, d) and train (M, d) are both pixels or both features. Memory: CHUNK x M floats.
    The neighbour is found by matrix products; its distance is then computed from the difference
    in float64, so that an exact copy has distance 0.
    """
    queries, train = check_matrix(queries, "queries"), check_matrix(train, "train")
    if queries.shape[1] != train.shape[1]:
        raise ValueError(
            f"queries and train must have the same number of columns, got {queries.shape[1]} "
            f"and {train.shape[1]}"
        )
    half_norms = train.square().sum(dim=1) / 2
    found = [
        torch.addmm(half_norms, part, train.T, alpha=-1).argmin(dim=1)
        for part in queries.split(CHUNK)
    ]
    index = torch.cat(found)
    return index, (queries.double() - train[index].double()).norm(dim=1)


def memorisation(images: torch.Tensor, data: Data, seed: int = 0) -> dict:
    """Are generated `images` (N, 784) copies of training images? Distances in pixel space.

    nearest_index (N,), nearest_distance (N,): nearest training image of every generated one;
    real_distance (N,): the same for as many test images, which can not be copies;
    distance_ratio: median of the first distances over the median of the second; blurred images
    lie near everything, so that a ratio below 1 alone does not show copying, whereas these do
    (after Meehan et al., arXiv:2004.05675):
    nearer_to_train: the fraction p of generated images nearer to a training than to any test
    image; chance: what it is without copying, p0 = n_train / (n_train + n_test);
    copied: the share of copies that p speaks for, (p - p0) / (1 - p0), 1 if all are; copied_error:
    its standard error.
    """
    images, test = check_images(images), data.test.floats()
    if len(images) > len(test):
        raise ValueError(f"at most {len(test)} images (the test set's size), got {len(images)}")
    index, distance = nearest_training_images(images, data.train.floats())
    some_test = test[permutation(len(test), seed)[: len(images)]]
    _, real_distance = nearest_training_images(some_test, data.train.floats())
    _, to_test = nearest_training_images(images, test)
    nearer = float((distance < to_test).double().mean())
    chance = len(data.train) / (len(data.train) + len(test))
    return {
        "nearest_index": index,
        "nearest_distance": distance,
        "real_distance": real_distance,
        "distance_ratio": float(distance.median() / real_distance.median()),
        "nearer_to_train": nearer,
        "chance": chance,
        "copied": (nearer - chance) / (1 - chance),
        "copied_error": math.sqrt(nearer * (1 - nearer) / len(images)) / (1 - chance),
    }


def _random_train_images(data: Data, n: int, seed: int) -> torch.Tensor:
    if n > len(data.train):
        raise ValueError(f"{n} training images wanted, but there are only {len(data.train)}")
    return data.train.take(permutation(len(data.train), seed)[:n]).floats()


def _check_feature_pair(real, fake, at_least: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as float64 after checks of type, shape and number of rows."""
    pair = check_matrix(real, "real features"), check_matrix(fake, "fake features")
    for name, values in zip(("real", "fake"), pair, strict=True):
        if len(values) < at_least:
            raise ValueError(f"at least {at_least} {name} features are needed, got {len(values)}")
    if pair[0].shape[1] != pair[1].shape[1]:
        raise ValueError(
            "real and fake features must have the same number of columns, got "
            f"{pair[0].shape[1]} and {pair[1].shape[1]}"
        )
    return pair[0].double(), pair[1].double()


def generation_quality(
    model: FullyConnected,
    data: Data,
    *,
    weights: dict[str, np.ndarray],
    samplers: Sequence[str] = ("prior",),
    n: int | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """`sample_quality` of a trained model against the test set, for every sampler: for `map_runs`.

    weights: `to_arrays(classifier)`; arrays, since `map_runs` keys its results by a hash of the
    arguments, which for tensors differs from process to process. n: number of images, by default
    the size of the test set.
    """
    reference = real_reference(from_arrays(weights), data.test.floats())
    n = len(data.test) if n is None else n
    return {
        sampler: sample_quality(generated_images(model, data, sampler, n, seed), reference)
        for sampler in samplers
    }
