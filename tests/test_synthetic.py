import hashlib

import numpy as np
import pytest
import torch

from vae_helpers.synthetic import draw_garments


def sha256(tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def test_shapes_types_and_balance():
    images, labels = draw_garments(123, seed=0)
    assert images.shape == (123, 784) and images.dtype == torch.uint8
    assert labels.shape == (123,) and labels.dtype == torch.int64
    counts = torch.bincount(labels, minlength=10)
    assert counts.max() - counts.min() <= 1
    assert (labels[1:] < labels[:-1]).any(), "the classes come in random order"


def test_a_seed_fixes_the_images_and_leaves_global_random_state_alone():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = draw_garments(50, 3), draw_garments(50, 3), draw_garments(50, 4)
    assert sha256(first[0]) == sha256(again[0]) and sha256(first[1]) == sha256(again[1])
    assert sha256(first[0]) != sha256(other[0])
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_every_picture_is_a_garment_on_black():
    images, _ = draw_garments(600, seed=1)
    pictures = images.reshape(-1, 28, 28).float() / 255
    ink = (pictures > 0.1).float().mean((1, 2))
    assert ink.min() > 0.06 and ink.max() < 0.85
    corners = pictures[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners > 0).float().mean() < 0.02
    assert (pictures.amax((1, 2)) > 0.15).all()


def test_garments_vary_within_a_class():
    images, labels = draw_garments(400, seed=2)
    for label in range(10):
        members = images[labels == label].float() / 255
        distances = torch.cdist(members, members)
        distances.fill_diagonal_(torch.inf)
        assert distances.min() > 0.3, f"two pictures of class {label} are nearly the same"
        outlines = (members > 0.1).float()
        assert outlines.std(0).max() > 0.3, f"class {label} has one outline only"


def test_classes_can_be_told_apart():
    images, labels = draw_garments(2000, seed=5)
    new_images, new_labels = draw_garments(500, seed=6)
    distances = torch.cdist(new_images.float() / 255, images.float() / 255)
    nearest = labels[distances.argmin(1)]
    assert (nearest == new_labels).float().mean() > 0.85


@pytest.mark.parametrize("n, error", [(0, ValueError), (-3, ValueError), (2.5, TypeError)])
def test_wrong_n(n, error):
    with pytest.raises(error, match="n must be"):
        draw_garments(n, 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, None])
def test_wrong_seed(seed):
    with pytest.raises(ValueError, match="seed must be an int"):
        draw_garments(10, seed)
