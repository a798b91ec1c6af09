"""Quality of generated images: their features in the judge's eyes against those of test images.

Features are float tensors (N, d), one row per image. They are not checked here: `judged`, which
makes them, checks the images and that features are finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from ..data import Data, Split
from ..engine.guards import check_positive_int
from ..models import Model
from .judge import judged, load_judge, train_judge
from .latents import sampled_latents

NEIGHBOURS = 5  # k of precision and recall
CHUNK = 250  # rows of a distance matrix held at once


def frechet_distance(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, (N, d) and (M, d).

    |m_r - m_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2))   (Heusel et al., arXiv:1706.08500, eq. 6)

    In float64. It overestimates for small sets, the more so the fewer images: compare values of
    equal set sizes only.
    """
    real, fake = real.double(), fake.double()
    means = (real.mean(dim=0) - fake.mean(dim=0)).square().sum()
    c_real, c_fake = (torch.atleast_2d(torch.cov(x.T)) for x in (real, fake))
    # C_r C_f has the eigenvalues of the symmetric C_r^(1/2) C_f C_r^(1/2)
    values, vectors = torch.linalg.eigh(c_real)
    root = vectors * values.clamp_min(0).sqrt()
    roots = torch.linalg.eigvalsh(root.T @ c_fake @ root).clamp_min(0).sqrt()
    found = float(means + c_real.trace() + c_fake.trace() - 2 * roots.sum())
    return max(found, 0.0)  # in this order NaN stays NaN


def precision_recall(
    real: torch.Tensor, real_radii: torch.Tensor, fake: torch.Tensor, k: int = NEIGHBOURS
) -> dict[str, float]:
    """Fidelity and diversity of `fake` features (M, d) against `real` ones (N, d), in [0, 1].

    The manifold of a set is the union of open balls around its points, each reaching to the
    point's k-th nearest neighbour in the set.
    precision: fraction of fakes in the real manifold; recall: fraction of real points in the fake
    manifold (Kynkaanniemi et al., arXiv:1904.06991, eq. 1-2).

    real_radii: what `squared_radii(real, k)` gives. Distances are taken in the features' own
    precision.
    """
    fake_radii = squared_radii(fake, k)
    centre = real.mean(dim=0)  # small norms lose fewer digits in a difference of squares
    real, fake = real - centre, fake - centre
    precise = torch.zeros(len(fake), dtype=torch.bool)
    recalled = 0
    for points, radii in zip(real.split(CHUNK), real_radii.split(CHUNK), strict=True):
        distances = _squared_distances(points, fake)
        precise |= (distances < radii[:, None]).any(dim=0)
        recalled += int((distances < fake_radii).any(dim=1).sum())
    return {"precision": float(precise.double().mean()), "recall": recalled / len(real)}


def squared_radii(points: torch.Tensor, k: int = NEIGHBOURS) -> torch.Tensor:
    """Squared distance (N,) of every point of (N, d) to its k-th nearest other point."""
    if len(points) <= check_positive_int(k, "k"):
        raise ValueError(f"k = {k} neighbours need at least {k + 1} points, got {len(points)}")
    points = points - points.mean(dim=0)
    radii = points.new_empty(len(points))  # allocated first: small results between large
    for part, found in zip(points.split(CHUNK), radii.split(CHUNK), strict=True):  # temporaries
        # would tear the memory to pieces. k + 1: the nearest of all is the point itself
        found.copy_(_squared_distances(part, points).topk(k + 1, largest=False).values[:, -1])
    return radii


def _squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared distances (N, M) of a (N, d) to b (M, d) through one matrix product."""
    norms = b.square().sum(dim=1) + a.square().sum(dim=1)[:, None]
    return norms.addmm_(a, b.T, alpha=-2).clamp_min_(0)


def make_judge(data: Data, epochs: int = 6, seed: int = 0) -> dict:
    """A trained classifier, and the test images as it sees them: what images are held against.

    {"weights": of `train_judge`, "features" (N, 128), "radii" (N,): `squared_radii` of them,
    "accuracy": on the test images}
    """
    weights = train_judge(data, epochs, seed)
    classifier = load_judge(weights)
    features = judged(classifier, data.test.float_batches())
    with torch.no_grad():
        classes = classifier.head(features).argmax(dim=1)
    return {
        "weights": weights,
        "features": features,
        "radii": squared_radii(features),
        "accuracy": float((classes == data.test.labels).double().mean()),
    }


def image_quality(batches: Iterable[torch.Tensor], judge: Mapping) -> dict[str, float]:
    """What the `judge` of `make_judge` says of images, given as float batches (B, 784) in [0, 1].

    "frechet", "precision", "recall": against the test images, best with as many images as those.
    """
    fake = judged(load_judge(judge["weights"]), batches)
    real = judge["features"]
    measured = precision_recall(real, judge["radii"], fake)
    return {"frechet": frechet_distance(real, fake), **measured}


@torch.no_grad()
def generated_images(
    model: Model, train: Split, sampler: str = "prior", n: int = 12, seed: int = 0
) -> torch.Tensor:
    """n images (n, pixels) decoded from `sampled_latents` of this sampler and seed."""
    latents = sampled_latents(model, train, sampler, n, seed)
    return torch.cat([model.decode(z) for z in latents.split(1_000)])


def generation_quality(
    model: Model, data: Data, judge: Mapping, sampler: str = "prior", n: int = 10_000, seed: int = 0
) -> dict[str, float]:
    """`image_quality` of n `generated_images` of this sampler and seed."""
    return image_quality([generated_images(model, data.train, sampler, n, seed)], judge)


def quality_floor(data: Data, judge: Mapping, n: int = 10_000, seed: int = 0) -> dict[str, float]:
    """`image_quality` of n real training images: what a perfect generator would score.

    With one seed these are the images that the sampler "reconstructions" shows.
    """
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    return image_quality(data.train.take(order[:n]).float_batches(), judge)
