"""The given notebook's class, and models that a user could write with the package's interface."""

import torch
from torch import nn
from torch.nn.functional import relu

from vae_helpers import VAE, Data, Recipe, Split, VAE3Layer, train


class Given(nn.Module):
    """Written for the tests to the interface of the given notebook's class `VAE`."""

    def __init__(self, image_size=784, h_dim=400, z_dim=20):
        super().__init__()
        self.fc1 = nn.Linear(image_size, h_dim)
        self.fc2, self.fc3 = nn.Linear(h_dim, z_dim), nn.Linear(h_dim, z_dim)
        self.fc4, self.fc5 = nn.Linear(z_dim, h_dim), nn.Linear(h_dim, image_size)

    def encode(self, x):
        hidden = torch.relu(self.fc1(x))
        return self.fc2(hidden), self.fc3(hidden)

    def reparameterize(self, mu, log_var):
        return mu + torch.randn_like(mu) * (log_var / 2).exp()

    def decode(self, z):
        return self.fc5(torch.relu(self.fc4(z))).sigmoid()

    def forward(self, x):
        mu, log_var = self.encode(x)
        return self.decode(self.reparameterize(mu, log_var)), mu, log_var


class ConvVAE(VAE):
    """A convolutional encoder and decoder; nothing but what `Model` asks for."""

    kind, short = "Convolutional VAE", "conv"

    def __init__(self, channels=4, z_dim=3):
        super().__init__(784, (channels,), z_dim)
        self.down = nn.Conv2d(1, channels, 4, stride=4)  # 28 x 28 -> 7 x 7
        self.to_z = nn.Linear(49 * channels, 2 * z_dim)
        self.from_z = nn.Linear(z_dim, 49 * channels)
        self.up = nn.ConvTranspose2d(channels, 1, 4, stride=4)

    def encoder(self, x):
        return self.to_z(relu(self.down(x.unflatten(1, (1, 28, 28)))).flatten(1))

    def decoder(self, z):
        return self.up(relu(self.from_z(z)).unflatten(1, (-1, 7, 7))).flatten(1)


class BetaVAE(VAE3Layer):
    """A loss of its own: the KL term weighs more."""

    kind, short = "Beta-VAE", "beta"

    def loss(self, x, generator=None):
        loss = super().loss(x, generator)
        return loss._replace(total=loss.reconstruction + 4 * loss.kl)


class Beta(VAE3Layer):
    """beta is an argument that reaches nothing: equal weights."""

    def __init__(self, beta):
        super().__init__(16, 8, 2)
        self.beta = beta


class Fragile(VAE3Layer):
    """Its validation loss is NaN from the second epoch on."""

    kind, short, validations = "Fragile", "fragile", 0

    def loss(self, x, generator=None):
        loss = super().loss(x, generator)
        if not torch.is_grad_enabled():
            self.validations += 1
            if self.validations > 1:
                return loss._replace(total=loss.total * float("nan"))
        return loss


class Noisy(VAE3Layer):
    """Dropout, which draws from torch's global generator, and batch normalisation's buffers."""

    kind, short = "Noisy VAE", "noisy"

    def __init__(self, h_dim=8, z_dim=2):
        super().__init__(h_dim=h_dim, z_dim=z_dim)
        self.norm, self.drop = nn.BatchNorm1d(h_dim), nn.Dropout(0.3)

    def encoder(self, x):
        return self.h_to_z(self.drop(relu(self.norm(self.x_to_h(x)))))


DENORMAL = torch.full((1_000_000,), 1e-39)  # large enough for an operation of several threads


class Witness(VAE3Layer):
    """`seen` holds what the threads that compute its losses are set to."""

    kind, short = "Witness", "witness"

    def __init__(self, h_dim=8, z_dim=2):
        super().__init__(h_dim=h_dim, z_dim=z_dim)
        self.seen = set()

    def loss(self, x, generator=None):
        denormals = int((DENORMAL * 1 != 0).sum())
        mode = "training" if torch.is_grad_enabled() else "validation"
        self.seen.add((mode, denormals, torch.is_autocast_enabled("cpu"), torch.get_num_threads()))
        return super().loss(x, generator)


def trained_a_little(model, data, *recipe):
    """A fresh copy that has learned something, ready to be measured."""
    images = data.train.images, data.validation.images
    train(model := model.fresh(0), *images, Recipe(*recipe), seed=0, device="cpu")
    return model


def small(data, pixels=16):
    """The data's first images, a few pixels of each: trains in no time."""
    cut = [
        Split(split.images[:100, 300 : 300 + pixels].contiguous(), split.labels[:100])
        for split in (data.train, data.validation, data.test)
    ]
    return Data("small", *cut, data.class_names)
