"""The usual way: the given notebook's interface, loop and settings, written for this comparison.

Images one by one through torchvision's dataset and ToTensor, a DataLoader with shuffled batches of
128, sigmoid and binary cross-entropy summed over the batch, Adam at 1e-3. The images are in memory
before any clock starts.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from vae_helpers import VAE3Layer


class ReferenceVAE(nn.Module):
    """Encoder 784-400 with heads mu and log_var, decoder 20-400-784."""

    def __init__(self, image_size: int = 784, h_dim: int = 400, z_dim: int = 20):
        super().__init__()
        self.hidden = nn.Linear(image_size, h_dim)
        self.mu_head = nn.Linear(h_dim, z_dim)
        self.log_var_head = nn.Linear(h_dim, z_dim)
        self.hidden_back = nn.Linear(z_dim, h_dim)
        self.pixels = nn.Linear(h_dim, image_size)

    def forward(self, x, generator=None):
        h = F.relu(self.hidden(x))
        mu, log_var = self.mu_head(h), self.log_var_head(h)
        std = torch.exp(log_var / 2)
        eps = torch.randn(std.shape, device=std.device, generator=generator)
        h = F.relu(self.hidden_back(mu + eps * std))
        return torch.sigmoid(self.pixels(h)), mu, log_var

    @torch.no_grad()
    def as_ours(self) -> VAE3Layer:
        """Our model with these weights: the two heads become one layer of double width."""
        ours = VAE3Layer(
            self.hidden.in_features, self.hidden.out_features, self.mu_head.out_features
        )
        for kind in ("weight", "bias"):
            values = [getattr(layer, kind) for layer in self.children()]
            values[1:3] = [torch.cat(values[1:3])]
            for layer, value in zip(ours.children(), values, strict=True):
                getattr(layer, kind).copy_(value)
        return ours


class _InMemory(FashionMNIST):
    """torchvision's dataset, item access and transform, around images that are already read."""

    def __init__(self, images: torch.Tensor):
        self.data, self.targets = images.view(-1, 28, 28), torch.zeros(len(images))
        self.transform, self.target_transform = ToTensor(), None


class UsualTraining:
    """The loop over uint8 images (N, 784), shuffled or in a given order; a call is an epoch."""

    def __init__(self, images, device: str = "cpu", eps: float = 1e-8):
        self.model, self.dataset = ReferenceVAE().to(device), _InMemory(torch.as_tensor(images))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=eps)
        self.device = device

    def __call__(self, order: list[int] | None = None, generator=None) -> float:
        """The mean loss of the epoch's steps, in nats per image."""
        total = torch.zeros((), device=self.device)
        for images, _ in DataLoader(self.dataset, 128, shuffle=order is None, sampler=order):
            x = images.to(self.device).view(len(images), -1)
            probabilities, mu, log_var = self.model(x, generator)
            reconstruction = F.binary_cross_entropy(probabilities, x, reduction="sum")
            loss = reconstruction - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        return float(total) / len(self.dataset)
