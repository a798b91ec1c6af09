"""What every measurement is given: the images, and how much of each to do."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vae_helpers.data import Data, Split, load_fashion_mnist, load_stand_in

BATCH = 128  # of the reference's recipe
RATE = 1e-3
Z_DIM, HIDDEN = 20, 400


@dataclass(frozen=True)
class Setup:
    """threads: numbers of threads to measure with, the first for the race to the reference's loss;
    repetitions: of every timed piece; reference_epochs: of that race; growth_images: per epoch of
    the measurements of growth; quick: only see that everything runs.
    """

    data: Data
    threads: tuple[int, ...]
    repetitions: int
    reference_epochs: int
    growth_images: int
    quick: bool

    @property
    def sixty_thousand(self) -> torch.Tensor:
        """All images that the reference trains on: our training and validation images (uint8)."""
        return torch.cat([self.data.train.images, self.data.validation.images])


def full_setup() -> Setup:
    return Setup(load_fashion_mnist("data"), (2, 1), 5, 15, 12_800, quick=False)


def quick_setup() -> Setup:
    return Setup(load_stand_in(1_280, 200, 200), (1,), 2, 1, 640, quick=True)


def take_training_images(data: Data, n: int) -> Data:
    """`data` with its first n training images."""
    train = Split(data.train.images[:n], data.train.labels[:n])
    return Data(data.name, train, data.validation, data.test)
