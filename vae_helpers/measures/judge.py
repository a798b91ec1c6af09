"""The judge of generated images: a small classifier, trained here and kept on disk."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..data import CLASS_NAMES, Data
from ..engine.files import load_tensors, save_tensors, source_digest, usable_runs_dir
from ..engine.guards import check_images
from ..training import TrainSettings, default_device
from .losses import batched

CLASSIFIER_SETTINGS = TrainSettings(6, batch_size=128, learning_rate=3e-3, warmup_epochs=1)


class Classifier(nn.Module):
    """Two convolutions, a dense layer of 128 features, class logits."""

    feature_count = 128

    def __init__(self):
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
        self.head = nn.Linear(self.feature_count, len(CLASS_NAMES))
        self.to(memory_format=torch.channels_last)  # convolutions take 3/4 of the time on a CPU

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class logits (N, 10) of images x (N, 784)."""
        return self.head(self.extract(x))


def train_classifier(
    data: Data,
    settings: TrainSettings = CLASSIFIER_SETTINGS,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Classifier:
    """A classifier trained on `data.train`, with the weights of its best validation epoch.

    The same seed gives the same weights on the same machine and thread count; the global random
    state stays as it is. The classifier comes back on the CPU, in evaluation mode.
    """
    device = torch.device(device) if device is not None else default_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier().to(device)
    images, labels = data.train.images.to(device), data.train.labels.to(device)
    validation = data.validation.floats().to(device)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=settings.learning_rate, fused=True)
    order = torch.Generator().manual_seed(seed)
    best_accuracy, best_state, step = -1.0, {}, 0
    with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        for _ in range(settings.epochs):
            batches = torch.randperm(len(images), generator=order).to(device)
            batches = batches.split(settings.batch_size)
            for batch in batches:
                optimizer.param_groups[0]["lr"] = settings.learning_rate_at(step, len(batches))
                x = images[batch].float().div_(255)
                loss = F.cross_entropy(classifier(x), labels[batch])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                step += 1
            accuracy = classifier_accuracy(classifier, validation, data.validation.labels)
            if accuracy > best_accuracy:
                best_accuracy, best_state = accuracy, copy.deepcopy(classifier.state_dict())
    classifier.load_state_dict(best_state)
    return classifier.cpu().eval()


def load_or_train_classifier(
    data: Data,
    runs_dir: str | Path | None = "runs",
    *,
    settings: TrainSettings = CLASSIFIER_SETTINGS,
    seed: int = 0,
    device: torch.device | str | None = None,
    fresh: bool = False,
) -> Classifier:
    """`train_classifier`, or what it gave before for the same settings, seed, data and code.

    `fresh` trains anew; `runs_dir=None` keeps nothing.
    """
    runs_dir = usable_runs_dir(runs_dir)
    identity = {
        "settings": asdict(settings),
        "seed": seed,
        "data": data.checksum,
        "code": source_digest(sys.modules[__name__]),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    path = runs_dir / f"Classifier-seed{seed}-{digest[:12]}.run" if runs_dir else None
    stored = load_tensors(path) if path and not fresh else None
    if stored is not None:
        classifier = Classifier().eval()
        classifier.load_state_dict(stored["state"])
        return classifier
    classifier = train_classifier(data, settings, seed=seed, device=device)
    if path:
        save_tensors(path, {"state": classifier.state_dict()})
    return classifier


def to_arrays(classifier: Classifier) -> dict[str, np.ndarray]:
    """The weights as NumPy arrays, as `generation_quality` takes them."""
    return {name: value.numpy() for name, value in classifier.state_dict().items()}


def from_arrays(weights: dict[str, np.ndarray]) -> Classifier:
    """The classifier whose weights `to_arrays` gave, in evaluation mode."""
    classifier = Classifier()
    classifier.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    return classifier.eval()


def features(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Activations of the penultimate layer, float64 (N, 128) on the CPU."""
    return batched(classifier.extract, check_images(images), classifier).double()


def class_probabilities(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Softmax probabilities of the ten classes, float64 (N, 10) on the CPU."""
    return batched(classifier, check_images(images), classifier).double().softmax(dim=1)


def classifier_accuracy(
    classifier: Classifier, images: torch.Tensor, labels: torch.Tensor
) -> float:
    """Fraction of `images` (N, 784) whose most probable class is the one in `labels` (N,)."""
    predicted = class_probabilities(classifier, images).argmax(dim=1)
    return float((predicted == labels.cpu()).double().mean())
