"""The usual way: a model with the reference's interface, trained after the reference's recipe.

Images one by one through torchvision's dataset and ToTensor, a DataLoader with batches of 128,
sigmoid and binary cross-entropy summed over the batch, Adam at 1e-3. Written for this comparison.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from vae_helpers import VAE3Layer

from .setup import BATCH, RATE


class ReferenceVAE(nn.Module):
    """Encoder 784-400 with heads mu and log_var, decoder 20-400-784."""

    def __init__(self, image_size: int = 784, h_dim: int = 400, z_dim: int = 20):
        super().__init__()
        self.hidden = nn.Linear(image_size, h_dim)
        self.mu_head = nn.Linear(h_dim, z_dim)
        self.log_var_head = nn.Linear(h_dim, z_dim)
        self.hidden_back = nn.Linear(z_dim, h_dim)
        self.pixels = nn.Linear(h_dim, image_size)

    def encode(self, x):
        h = F.relu(self.hidden(x))
        return self.mu_head(h), self.log_var_head(h)

    def reparameterize(self, mu, log_var, generator=None):
        std = torch.exp(log_var / 2)
        eps = torch.randn(std.shape, device=std.device, generator=generator)
        return mu + eps * std

    def decode(self, z):
        return torch.sigmoid(self.pixels(F.relu(self.hidden_back(z))))

    def forward(self, x, generator=None):
        mu, log_var = self.encode(x)
        return self.decode(self.reparameterize(mu, log_var, generator)), mu, log_var


class _InMemory(FashionMNIST):
    """torchvision's dataset, item access and transform, around images that are already read."""

    def __init__(self, images: torch.Tensor):
        self.data, self.targets = images.view(-1, 28, 28), torch.zeros(len(images))
        self.transform, self.target_transform = ToTensor(), None


def make_loader(images: torch.Tensor, order: torch.Tensor | None = None) -> DataLoader:
    """Batches of 128 of the uint8 images (N, 784), shuffled, or in the given order."""
    dataset = _InMemory(images)
    if order is not None:
        return DataLoader(dataset, batch_size=BATCH, sampler=order.tolist())
    return DataLoader(dataset, batch_size=BATCH, shuffle=True)


def make_optimizer(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=RATE)


def train_epoch(model, optimizer, loader: DataLoader, generator=None) -> float:
    """One pass over the loader; the mean loss of its steps, in nats per image."""
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for images, _ in loader:
        x = images.to(device).view(len(images), -1)
        probabilities, mu, log_var = model(x, generator)
        reconstruction = F.binary_cross_entropy(probabilities, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
        loss = reconstruction + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return float(total) / len(loader.dataset)


@torch.no_grad()
def as_ours(model: ReferenceVAE) -> VAE3Layer:
    """Our model with the weights of `model`: the two heads become one layer of double width."""
    image_size, h_dim = model.hidden.in_features, model.hidden.out_features
    ours = VAE3Layer(image_size, h_dim, model.mu_head.out_features)
    for name in ("weight", "bias"):
        heads = [getattr(head, name) for head in (model.mu_head, model.log_var_head)]
        for layer, value in [
            (ours.encoder[0], getattr(model.hidden, name)), (ours.encoder[2], torch.cat(heads)),
            (ours.decoder[0], getattr(model.hidden_back, name)),
            (ours.decoder[2], getattr(model.pixels, name)),
        ]:  # fmt: skip
            getattr(layer, name).copy_(value)
    return ours
