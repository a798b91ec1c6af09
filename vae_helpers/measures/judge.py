"""The judge of generated images: a small classifier, trained here, whose features are compared.

It travels as a plain dict of tensors, which can be stored, hashed and sent to worker processes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..data import Data
from ..engine.guards import check_images, check_positive_int, check_seed
from ..engine.randomness import global_seed

PEAK_LEARNING_RATE = 3e-3
BATCH = 250  # images at a time: convolutions need much memory


def make_classifier(classes: int = 10) -> nn.Sequential:
    """Two convolutions, a dense layer of 128 features, class logits; for images of 28 x 28.

    `.extract` gives the features (N, 128) of images (N, 784), `.head` the logits of features.
    """
    extract = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 32, kernel_size=5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 64, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128),
        nn.ReLU(),
    )
    classifier = nn.Sequential(OrderedDict(extract=extract, head=nn.Linear(128, classes)))
    return classifier.to(memory_format=torch.channels_last)  # 3/4 of the time on a CPU


def train_judge(data: Data, epochs: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights of a classifier of `data`'s classes, trained on `data.train`.

    The same seed gives the same weights on the same machine and thread count; the global random
    state stays as it is. Images must have 784 pixels.
    """
    check_positive_int(epochs, "epochs")
    with global_seed(check_seed(seed)):
        classifier = make_classifier(len(data.class_names)).train()
    images, labels = data.train.images, data.train.labels
    optimizer = torch.optim.Adam(classifier.parameters(), fused=True)
    steps = epochs * -(-len(images) // 128)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, steps)
    order = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(epochs):
            for batch in torch.randperm(len(images), generator=order).split(128):
                x = images[batch].float().div_(255)
                loss = cross_entropy(classifier(x), labels[batch])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rate.step()
    plain = torch.contiguous_format  # a hash of arrays depends on their order in memory
    state = classifier.state_dict()
    return {name: value.clone(memory_format=plain) for name, value in state.items()}


def load_judge(weights: dict) -> nn.Sequential:
    """The classifier with weights from `train_judge`, in evaluation mode."""
    with global_seed(0):  # the initial weights are drawn, and not used
        classifier = make_classifier(len(weights["head.bias"]))
    classifier.load_state_dict(weights)
    return classifier.eval()


@torch.no_grad()
def judged(classifier: nn.Sequential, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Features (N, 128) of images given as float batches (B, 784) in [0, 1].

    Raises TypeError or ValueError for other images, ValueError for a judge that has diverged.
    """
    batches = (check_images(batch).split(BATCH) for batch in batches)
    features = torch.cat([classifier.extract(x) for batch in batches for x in batch])
    if not torch.isfinite(features).all():
        raise ValueError("the judge's features must be finite, got NaN or infinity; train it anew")
    return features
