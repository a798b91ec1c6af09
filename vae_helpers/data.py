"""Fashion-MNIST as tensors in memory: 55,000 training, 5,000 validation and 10,000 test images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
VALIDATION_SIZE = 5_000


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, 784) in 0..255; labels: int64 (N,) in 0..9."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def floats(self) -> torch.Tensor:
        """The images as float32 (N, 784) in [0, 1]."""
        return self.images.float().div_(255)

    def take(self, indices) -> Split:
        """The images and labels at `indices`."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Data:
    """The three splits, the name of the data set and the SHA-256 of all its pixels and labels."""

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def is_stand_in(self) -> bool:
        return self.name != "Fashion-MNIST"

    @property
    def checksum(self) -> str:
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(split.images.numpy().tobytes())
            digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()


def split_train_validation(
    images: torch.Tensor, labels: torch.Tensor, validation_size: int = VALIDATION_SIZE
) -> tuple[Split, Split]:
    """A fixed, stratified split: validation_size / 10 images of each class, the same every time.

    RandomState's stream is frozen by NumPy, so the split is the same on every version.
    """
    per_class, rest = divmod(validation_size, len(CLASS_NAMES))
    counts = torch.bincount(labels, minlength=len(CLASS_NAMES))
    if rest or per_class < 1 or int(counts.min()) <= per_class:
        raise ValueError(
            f"validation_size must be a multiple of {len(CLASS_NAMES)} that leaves every class "
            f"training images (class counts {counts.tolist()}), got {validation_size}"
        )
    random = np.random.RandomState(0)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(len(CLASS_NAMES)):
        members = np.flatnonzero(labels.numpy() == label)
        chosen[random.choice(members, per_class, replace=False)] = True
    everything = Split(images, labels)
    return everything.take(torch.from_numpy(~chosen)), everything.take(torch.from_numpy(chosen))


def load_fashion_mnist(root: str | Path = "data") -> Data:
    """Fashion-MNIST from `root`, downloaded there by torchvision if it is missing."""
    from torchvision.datasets import FashionMNIST

    parts = [FashionMNIST(root, train=flag, download=True) for flag in (True, False)]
    full, test = (Split(p.data.reshape(len(p.data), -1), p.targets.long()) for p in parts)
    train, validation = split_train_validation(full.images, full.labels)
    return Data("Fashion-MNIST", train, validation, test)
