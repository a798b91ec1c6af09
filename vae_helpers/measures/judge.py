"""The judge of generated images: a small classifier, trained here, whose features are compared.

It travels as a plain dict of arrays, which can be stored, hashed and sent to worker processes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..data import Data, Split
from ..engine.guards import check_images, check_positive_int, check_seed

PEAK_LEARNING_RATE = 3e-3
BATCH = 250  # images at a time: convolutions need much memory


class Classifier(nn.Module):
    """Two convolutions, a dense layer of 128 features, class logits; for images of 28 x 28."""

    feature_count = 128

    def __init__(self, classes: int = 10):
        super().__init__()
        self.extract = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 32, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, self.feature_count),
            nn.ReLU(),
        )
        self.head = nn.Linear(self.feature_count, classes)
        self.to(memory_format=torch.channels_last)  # convolutions take 3/4 of the time on a CPU

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class logits (N, classes) of images x (N, 784)."""
        return self.head(self.extract(x))


def train_judge(
    data: Data, epochs: int = 6, seed: int = 0, device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """The weights of a `Classifier` of `data`'s classes, trained on `data.train`; on the CPU.

    The same seed gives the same weights on the same machine and thread count; the global random
    state stays as it is. Images must have 784 pixels.
    """
    check_positive_int(epochs, "epochs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_seed(seed))
        classifier = Classifier(int(data.train.labels.max()) + 1).to(device).train()
    images, labels = data.train.images.to(device), data.train.labels.to(device)
    optimizer = torch.optim.Adam(classifier.parameters(), fused=True)
    steps = epochs * -(-len(images) // 128)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, steps)
    order = torch.Generator().manual_seed(seed)
    with torch.enable_grad(), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        for _ in range(epochs):
            for batch in torch.randperm(len(images), generator=order).to(device).split(128):
                x = images[batch].float().div_(255)
                loss = cross_entropy(classifier(x), labels[batch])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rate.step()
    return {name: value.cpu() for name, value in classifier.state_dict().items()}


def load_judge(weights: dict) -> Classifier:
    """The classifier with weights from `train_judge` (tensors or arrays), in evaluation mode."""
    weights = {name: torch.tensor(np.asarray(value)) for name, value in weights.items()}
    classifier = Classifier(len(weights["head.bias"]))
    classifier.load_state_dict(weights)
    return classifier.eval()


@torch.no_grad()
def judged(classifier: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(features (N, 128), predicted classes (N,)) of float images (N, 784) in [0, 1]."""
    images = check_images(images)
    features = images.new_empty(len(images), classifier.feature_count)
    for part, found in zip(images.split(BATCH), features.split(BATCH), strict=True):
        found.copy_(classifier.extract(part))
    return features, classifier.head(features).argmax(dim=1)


def judged_split(classifier: Classifier, split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """`judged` for the images of a split, never all of them in memory as floats."""
    parts = [judged(classifier, x) for x in split.float_batches(BATCH)]
    return torch.cat([f for f, _ in parts]), torch.cat([c for _, c in parts])
