"""The three models: the given 3-layer VAE, its 4-layer variant, and the plain autoencoder.

All are fully connected. What they share (the two stacks of layers, the pixel logits, the printed
summary) is written once in `FullyConnected`; the classes below differ in their layer sizes and in
what stands between encoder and decoder.

Interface of the given model (dataflowr/notebooks, HW3/VAE_clustering): `encode`, `reparameterize`,
`decode` (pixel probabilities) and `forward(x) -> (x_reconst, mu, log_var)`.
"""

from __future__ import annotations

import torch
from torch import nn

from .engine.guards import check_like, check_positive_int, check_shape
from .engine.kernels import Linear


def _stack(sizes) -> nn.Sequential:
    """Linear layers of the given sizes with a ReLU between each two."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class FullyConnected(nn.Module):
    """Encoder x -> latent layer, decoder z -> pixel logits; base of the VAE and the autoencoder.

    `hidden` are the encoder's hidden widths; the decoder mirrors them. `latent_outputs` is the
    number of values per latent dimension that the encoder emits: 2 for (mu, log_var), 1 for z.
    """

    def __init__(self, image_size: int, hidden: tuple[int, ...], z_dim: int, latent_outputs: int):
        super().__init__()
        for name, value in [("image_size", image_size), ("z_dim", z_dim)]:
            check_positive_int(value, name)
        for width in hidden:
            check_positive_int(width, "every hidden width")
        self.image_size, self.hidden, self.z_dim = image_size, tuple(hidden), z_dim
        # The heads for mu and log_var are one Linear of double width: the same function and the
        # same initial distribution as two, in one matrix product.
        self.encoder = _stack((image_size, *hidden, latent_outputs * z_dim))
        self.decoder = _stack((z_dim, *reversed(hidden), image_size))

    def decode_logits(self, z: torch.Tensor) -> torch.Tensor:
        """Pixel logits (N, image_size) of latents z (N, z_dim)."""
        if not isinstance(z, torch.Tensor) or z.dim() != 2 or z.shape[1] != self.z_dim:
            got = tuple(z.shape) if isinstance(z, torch.Tensor) else type(z).__name__
            raise ValueError(f"z must be a tensor of shape (N, {self.z_dim}), got {got}")
        return self.decoder(check_like(z, self.decoder[0].weight, "z"))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Pixel probabilities in [0, 1], shape (N, image_size), of latents z (N, z_dim)."""
        return torch.sigmoid(self.decode_logits(z))

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        """The encoder's output for images x (N, image_size) or (N, 1, H, W), checked."""
        return self.encoder(
            check_like(check_shape(x, self.image_size, "x"), self.encoder[0].weight, "x")
        )

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def encoder_sizes(self) -> tuple[int, ...]:
        """Layer sizes as the sheet writes them, e.g. (784, 400, 20); the decoder's, reversed."""
        return (self.image_size, *self.hidden, self.z_dim)

    _latent_layer = "z"

    def __repr__(self) -> str:
        down = "-".join(map(str, self.encoder_sizes))
        up = "-".join(map(str, reversed(self.encoder_sizes)))
        return (
            f"{type(self).__name__}: encoder {down}, decoder {up}, "
            f"latent layer {self._latent_layer}, {self.parameter_count:,} parameters"
        )


class VAE(FullyConnected):
    """Variational autoencoder with a diagonal Gaussian posterior q(z|x) = N(mu, diag(sigma^2)).

    Kingma & Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    _latent_layer = "(mu, log_var)"

    def __init__(self, image_size: int, hidden: tuple[int, ...], z_dim: int):
        super().__init__(image_size, hidden, z_dim, latent_outputs=2)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(mu, log_var), each (N, z_dim), of images x (N, image_size) or (N, 1, H, W)."""
        mu, log_var = self._encode(x).chunk(2, dim=1)
        return mu, log_var

    def reparameterize(
        self, mu: torch.Tensor, log_var: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """One draw z = mu + sigma * eps, eps ~ N(0, I), sigma = exp(log_var / 2); (N, z_dim)."""
        eps = torch.randn(mu.shape, dtype=mu.dtype, device=mu.device, generator=generator)
        return torch.addcmul(mu, torch.exp(0.5 * log_var), eps)

    def forward_logits(self, x: torch.Tensor, generator: torch.Generator | None = None):
        """As `forward`, with pixel logits in the place of probabilities (for the stable loss)."""
        mu, log_var = self.encode(x)
        return self.decode_logits(self.reparameterize(mu, log_var, generator)), mu, log_var

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None):
        """(x_reconst, mu, log_var): probabilities (N, image_size), then two (N, z_dim)."""
        logits, mu, log_var = self.forward_logits(x, generator)
        return torch.sigmoid(logits), mu, log_var


class VAE3Layer(VAE):
    """The given model: encoder (x, h, z) = 784-400-20, decoder (z, h2, x2) = 20-400-784."""

    def __init__(self, image_size: int = 784, h_dim: int = 400, z_dim: int = 20):
        super().__init__(image_size, (h_dim,), z_dim)


class VAE4Layer(VAE):
    """Subtask a: encoder (x, h1, h2, z) = 784-400-100-20, decoder (z, h3, h4, x2), mirrored."""

    def __init__(
        self, image_size: int = 784, h_dims: tuple[int, int] = (400, 100), z_dim: int = 20
    ):
        if not isinstance(h_dims, (tuple, list)) or len(h_dims) != 2:
            raise ValueError(f"h_dims must be two widths such as (400, 100), got {h_dims!r}")
        super().__init__(image_size, tuple(h_dims), z_dim)


class AutoEncoder(FullyConnected):
    """Subtask c: one fully connected layer z in the place of the pair (mu, log_var); no noise."""

    def __init__(self, image_size: int = 784, h_dim: int = 400, z_dim: int = 20):
        super().__init__(image_size, (h_dim,), z_dim, latent_outputs=1)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents z (N, z_dim) of images x (N, image_size) or (N, 1, H, W)."""
        return self._encode(x)

    def forward_logits(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `forward`, with pixel logits in the place of probabilities (for the stable loss)."""
        z = self.encode(x)
        return self.decode_logits(z), z

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(x_reconst, z): pixel probabilities (N, image_size) and latents (N, z_dim)."""
        logits, z = self.forward_logits(x)
        return torch.sigmoid(logits), z
