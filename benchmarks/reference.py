"""The usual way: the given notebook's loop and settings, written for this comparison.

Images one by one through torchvision's dataset and ToTensor, from memory; a DataLoader with
shuffled batches of 128, sigmoid and binary cross-entropy summed over the batch, Adam at 1e-3. The
model is ours, called as the given one is: its two heads in one product favour this side, if any.
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from vae_helpers import VAE3Layer


class _InMemory(FashionMNIST):
    """torchvision's dataset, item access and transform, around images that are already read."""

    def __init__(self, images: torch.Tensor):
        self.data, self.targets = images.view(-1, 28, 28), torch.zeros(len(images))
        self.transform, self.target_transform = ToTensor(), None


class UsualTraining:
    """The loop over uint8 images (N, 784), shuffled or in a given order; a call is an epoch."""

    def __init__(self, images: torch.Tensor, eps: float = 1e-8):
        self.model, self.dataset = VAE3Layer().fresh(0), _InMemory(images)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=eps)

    def __call__(self, order: list[int] | None = None, generator=None) -> None:
        for images, _ in DataLoader(self.dataset, 128, shuffle=order is None, sampler=order):
            x = images.view(len(images), -1)
            probabilities, mu, log_var = self.model(x, generator)
            reconstruction = F.binary_cross_entropy(probabilities, x, reduction="sum")
            loss = reconstruction - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
