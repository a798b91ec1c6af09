"""The three models: the given 3-layer VAE, its 4-layer variant, and the plain autoencoder.

A model is its own description: its class and its constructor's arguments. It knows its loss, its
latent vector and its label, so that nothing else asks what kind of model it is. The layers carry
the sheet's names: x -> h1 -> h2 -> z = (mu, log_var) and z -> h3 -> h4 -> x2.

Interface of the given model (dataflowr/notebooks, HW3/VAE_clustering): `encode`, `reparameterize`,
`decode` (pixel probabilities) and `forward(x) -> (x_reconst, mu, log_var)`.
"""

from __future__ import annotations

import copy
import inspect
import re

import torch
from torch import nn
from torch.nn.functional import relu

from .engine.guards import check_like, check_positive_int, check_seed, check_shape
from .engine.randomness import global_seed
from .losses import Loss, ae_loss, vae_loss

# arguments that the label shows anyway
SIZES = ("image_size", "h_dim", "h_dims", "hidden", "z_dim")


class Model(nn.Module):
    """What the study asks of a model; base of `VAE` and `AutoEncoder`.

    A subclass gives `encoder`, from images (N, image_size) to what the latent layer holds, and
    `decoder`, from z (N, z_dim) to pixel logits (N, image_size): methods or modules. It states its
    sizes: image_size, the encoder's hidden widths `hidden`, z_dim, and the decoder's hidden widths
    where they are not the encoder's, reversed. Whatever else it depends on
    should be an argument of its constructor, which builds the model anew for every seed.
    """

    kind = ""  # begins the label, as "VAE" in "VAE (400, 20)"; not inherited: else the class's name
    short = ""  # begins the id, as "vae3" in "vae3-400-20"; likewise
    latent_layer = "z"
    given_to_train = False  # a study trains fresh copies: this object is not what was trained

    def __new__(cls, *args, **kwargs):
        model = super().__new__(cls)
        model.__dict__["_arguments"] = copy.deepcopy((args, kwargs))  # as they are at this moment
        return model

    def __init__(
        self,
        image_size: int,
        hidden: tuple[int, ...],
        z_dim: int,
        decoder_hidden: tuple[int, ...] | None = None,
    ):
        super().__init__()
        decoder_hidden = tuple(reversed(hidden)) if decoder_hidden is None else decoder_hidden
        for name, value in [("image_size", image_size), ("z_dim", z_dim)]:
            check_positive_int(value, name)
        for width in (*hidden, *decoder_hidden):
            check_positive_int(width, "every hidden width")
        self.image_size, self.hidden, self.z_dim = image_size, tuple(hidden), z_dim
        self.decoder_hidden = tuple(decoder_hidden)

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(mean, log variance) of z given x, each (N, z_dim); None for a z that is not random."""
        raise NotImplementedError(f"{type(self).__name__} must define posterior(x)")

    def loss(self, x: torch.Tensor, generator: torch.Generator | None = None) -> Loss:
        """What training minimises on images x (N, image_size), in nats per image."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(x)")

    def latent(self, x: torch.Tensor) -> torch.Tensor:
        """The latent vector of every image, (N, z_dim): mu(x) of a VAE, z(x) of an autoencoder."""
        return self.posterior(x)[0]

    def sample_latent(
        self, x: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """A draw of z given every image, (N, z_dim); the latent vector itself if not random."""
        mean, log_var = self.posterior(x)
        return mean if log_var is None else draw_latent(mean, log_var, generator)

    def decode_logits(self, z: torch.Tensor) -> torch.Tensor:
        """Pixel logits (N, image_size) of latents z (N, z_dim), or of one (z_dim,)."""
        if not isinstance(z, torch.Tensor) or z.dim() == 0 or z.shape[-1] != self.z_dim:
            got = tuple(z.shape) if isinstance(z, torch.Tensor) else type(z).__name__
            raise ValueError(f"z must be a tensor of shape (N, {self.z_dim}), got {got}")
        return self.decoder(self._checked_like(z, "z")).type_as(z)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Pixel probabilities in [0, 1], shape (N, image_size), of latents z (N, z_dim)."""
        return torch.sigmoid(self.decode_logits(z))

    def fresh(self, seed: int) -> Model:
        """A model built anew, on the CPU, by the constructor and its arguments as they were given.

        All that the constructor draws is drawn from `seed`; global random states stay. A module
        among the arguments, also one that another object holds, starts anew by the
        `reset_parameters` of its layers: TypeError for one whose layers with weights have none.
        """
        check_seed(seed)
        copies: dict[int, object] = {}  # of all that the arguments hold
        args, kwargs = copy.deepcopy(self._arguments, copies)
        with global_seed(seed):
            for layer in copies.values():
                if isinstance(layer, nn.Module):
                    _restart(layer)
            return type(self)(*args, **kwargs).cpu().train()

    @property
    def arguments(self) -> dict:
        """The constructor's arguments by name, defaults included, as they were given."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *named = bound.arguments.items()
        return dict(named)

    @property
    def label(self) -> str:
        """How figures and tables call the model, e.g. "VAE (400, 20)".

        Arguments that are no sizes follow, where they are not the default.
        """
        sizes = ", ".join(map(str, (*self.hidden, self.z_dim)))
        extra = [f", {name}={value}" for name, value in self._extra_arguments().items()]
        return f"{self._own('kind') or type(self).__name__} ({sizes}){''.join(extra)}"

    @property
    def id(self) -> str:
        """Short name for files and results, e.g. "vae3-400-20": letters, digits, "-" and "_"."""
        extra = [f"{name}_{value}" for name, value in self._extra_arguments().items()]
        name = self._own("short") or type(self).__name__.lower()
        parts = [name, *self.hidden, self.z_dim, *extra]
        return re.sub(r"[^\w-]+", "_", "-".join(map(str, parts)))

    @property
    def encoder_sizes(self) -> tuple[int, ...]:
        """Layer sizes as the sheet writes them, e.g. (784, 400, 20)."""
        return (self.image_size, *self.hidden, self.z_dim)

    @property
    def decoder_sizes(self) -> tuple[int, ...]:
        """As `encoder_sizes`, e.g. (20, 400, 784)."""
        return (self.z_dim, *self.decoder_hidden, self.image_size)

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def __repr__(self) -> str:
        down = "-".join(map(str, self.encoder_sizes))
        up = "-".join(map(str, self.decoder_sizes))
        return (
            f"{type(self).__name__}: encoder {down}, decoder {up}, "
            f"latent layer {self.latent_layer}, {self.parameter_count:,} parameters"
        )

    def _own(self, name: str) -> str:
        """An attribute of the object or its class, not of a base: another class is another kind."""
        return vars(self).get(name) or vars(type(self)).get(name, "")

    def _extra_arguments(self) -> dict[str, str]:
        """The arguments that are no sizes and not the default, as short texts."""
        parameters = inspect.signature(type(self).__init__).parameters
        extra = {}
        for name, value in self.arguments.items():
            if parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                extra |= value
            elif parameters[name].kind is not inspect.Parameter.VAR_POSITIONAL:
                extra |= {name: value} if repr(value) != repr(parameters[name].default) else {}
        return {name: _short(value) for name, value in extra.items() if name not in SIZES}

    def _checked(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., image_size) as it is, or (N, 1, H, W) flattened, if the layers can take it."""
        is_float = isinstance(x, torch.Tensor) and x.is_floating_point()
        if not is_float or x.shape[-1:] != (self.image_size,):
            x = check_shape(x, self.image_size, "x")
        return self._checked_like(x, "x")

    def _checked_like(self, values: torch.Tensor, name: str) -> torch.Tensor:
        weight = next(self.parameters(), values)  # quantized layers and replicas hold none
        return check_like(values, weight, name)


def _short(value) -> str:
    """A text of one line and at most 20 characters."""
    text = " ".join((getattr(value, "__name__", None) or repr(value)).split())
    return text if len(text) <= 20 else text[:17] + "..."


def _restart(layer: nn.Module) -> None:
    """Draw the weights that the layer itself holds anew."""
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
    elif next(layer.parameters(recurse=False), None) is not None:
        raise TypeError(
            f"a module among the arguments holds a {type(layer).__name__} with weights and without "
            "reset_parameters(), so that a seed can not start it anew: give it reset_parameters(), "
            "or build it in the model's __init__"
        )


def draw_latent(
    mu: torch.Tensor, log_var: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """One draw z = mu + sigma * eps, eps ~ N(0, I), sigma = exp(log_var / 2); shape of mu."""
    if generator is None:
        eps = torch.randn_like(mu)  # which torch.export can record for batches of any size
    else:
        eps = torch.randn(mu.shape, dtype=mu.dtype, device=mu.device, generator=generator)
    return torch.addcmul(mu, torch.exp(0.5 * log_var), eps)


class VAE(Model):
    """Variational autoencoder with a diagonal Gaussian posterior q(z|x) = N(mu, diag(sigma^2)).

    Kingma & Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114. A subclass's `encoder`
    returns mu and log_var side by side, (N, 2 z_dim).
    """

    latent_layer = "(mu, log_var)"

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(mu, log_var), each (N, z_dim), of images x (N, image_size) or (N, 1, H, W)."""
        x = self._checked(x)
        both = self.encoder(x).type_as(x)  # float32, also where training uses bfloat16
        return both[..., : self.z_dim], both[..., self.z_dim :]

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `encode`."""
        return self.encode(x)

    def reparameterize(
        self, mu: torch.Tensor, log_var: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """`draw_latent`, under the given model's name."""
        return draw_latent(mu, log_var, generator)

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None):
        """(x_reconst, mu, log_var): probabilities (N, image_size), then two (N, z_dim)."""
        mu, log_var = self.encode(x)
        return self.decode(self.reparameterize(mu, log_var, generator)), mu, log_var

    def loss(self, x: torch.Tensor, generator: torch.Generator | None = None) -> Loss:
        """`vae_loss` with one draw of z per image."""
        x = self._checked(x)
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var, generator)
        return vae_loss(x, mu, log_var, logits=self.decode_logits(z))


class VAE3Layer(VAE):
    """The given model: encoder (x, h, z) = 784-400-20, decoder (z, h2, x2) = 20-400-784."""

    kind = "VAE"
    short = "vae3"

    def __init__(self, image_size: int = 784, h_dim: int = 400, z_dim: int = 20):
        super().__init__(image_size, (h_dim,), z_dim)
        self.h_dim = h_dim
        self.x_to_h = nn.Linear(image_size, h_dim)
        self.h_to_z = nn.Linear(h_dim, 2 * z_dim)  # the heads for mu and log_var in one product
        self.z_to_h2 = nn.Linear(z_dim, h_dim)
        self.h2_to_x2 = nn.Linear(h_dim, image_size)

    def encoder(self, x):
        h = relu(self.x_to_h(x))
        return self.h_to_z(h)

    def decoder(self, z):
        h2 = relu(self.z_to_h2(z))
        return self.h2_to_x2(h2)


class VAE4Layer(VAE):
    """Subtask a: encoder (x, h1, h2, z) = 784-400-100-20, decoder (z, h3, h4, x2), mirrored."""

    kind = "4-layer VAE"
    short = "vae4"

    def __init__(
        self, image_size: int = 784, h_dims: tuple[int, int] = (400, 100), z_dim: int = 20
    ):
        if not isinstance(h_dims, (tuple, list)) or len(h_dims) != 2:
            raise ValueError(f"h_dims must be two widths such as (400, 100), got {h_dims!r}")
        super().__init__(image_size, tuple(h_dims), z_dim)
        h1_dim, h2_dim = self.h_dims = tuple(h_dims)
        self.x_to_h1 = nn.Linear(image_size, h1_dim)
        self.h1_to_h2 = nn.Linear(h1_dim, h2_dim)  # the added layer
        self.h2_to_z = nn.Linear(h2_dim, 2 * z_dim)  # the heads for mu and log_var in one product
        self.z_to_h3 = nn.Linear(z_dim, h2_dim)  # the added layer of the decoder
        self.h3_to_h4 = nn.Linear(h2_dim, h1_dim)
        self.h4_to_x2 = nn.Linear(h1_dim, image_size)

    def encoder(self, x):
        h1 = relu(self.x_to_h1(x))
        h2 = relu(self.h1_to_h2(h1))
        return self.h2_to_z(h2)

    def decoder(self, z):
        h3 = relu(self.z_to_h3(z))
        h4 = relu(self.h3_to_h4(h3))
        return self.h4_to_x2(h4)


class AutoEncoder(Model):
    """Subtask c: one fully connected layer z in the place of the pair (mu, log_var); no noise."""

    kind = "AE"
    short = "ae"

    def __init__(self, image_size: int = 784, h_dim: int = 400, z_dim: int = 20):
        super().__init__(image_size, (h_dim,), z_dim)
        self.h_dim = h_dim
        self.x_to_h = nn.Linear(image_size, h_dim)
        self.h_to_z = nn.Linear(h_dim, z_dim)  # z itself: no mu, no log_var
        self.z_to_h2 = nn.Linear(z_dim, h_dim)
        self.h2_to_x2 = nn.Linear(h_dim, image_size)

    def encoder(self, x):
        h = relu(self.x_to_h(x))
        return self.h_to_z(h)

    def decoder(self, z):
        h2 = relu(self.z_to_h2(z))
        return self.h2_to_x2(h2)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents z (N, z_dim) of images x (N, image_size) or (N, 1, H, W)."""
        x = self._checked(x)
        return self.encoder(x).type_as(x)

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        """(z, None): the latent vector of an image is one point."""
        return self.encode(x), None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(x_reconst, z): pixel probabilities (N, image_size) and latents (N, z_dim)."""
        z = self.encode(x)
        return self.decode(z), z

    def loss(self, x: torch.Tensor, generator: torch.Generator | None = None) -> Loss:
        """`ae_loss`; nothing is drawn, so `generator` is not used."""
        x = self._checked(x)
        return ae_loss(x, logits=self.decode_logits(self.encode(x)))
