"""What the plot functions take, and the pixels that it gives.

Taken are a trained model (anything that has `.model` and `.label`), a `Model`, and any `nn.Module`,
also inside torch's wrappers: `forward(x)` returns the pixels, or a tuple led by them, and `decode`
or `decoder` makes them of latents z. A model runs where it is, on its own device and in its own
dtype, in evaluation mode and with noise of a fixed seed; its mode, the attributes that its forward
sets, and all random states are afterwards as they were.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..engine.guards import check_positive_int, check_type
from ..models import Model

SEED = 0
NOISE_BLOCK = 64  # columns drawn at once: the leading ones do not depend on z_dim
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
LOGITS_BELOW = -3  # a pixel below 0.05; neither tanh nor images of mean 0 and deviation 1 go there


def labelled(models, name: str = "models") -> tuple[dict[str, object], bool]:
    """label -> model, and whether they were given as several, be it a list of one.

    Raises ValueError if there are none, or two of one label.
    """
    several = isinstance(models, (Mapping, list, tuple))
    if several and not models:
        raise ValueError(f"{name} is empty; at least one entry is needed")
    if isinstance(models, Mapping):
        return dict(models), True
    models = models if several else [models]
    labels = [str(getattr(model, "label", _name(model))) for model in models]
    if len(set(labels)) < len(labels):
        raise ValueError(f"{name} must have different labels, got {labels}; pass {{label: model}}")
    return dict(zip(labels, models, strict=True)), several


def module_of(given) -> nn.Module:
    """The module of a trained model, or the module given, out of torch's wrappers."""
    if not isinstance(given, nn.Module) and hasattr(given, "label"):
        given = getattr(given, "model", given)
    while isinstance(given, WRAPPERS) or hasattr(given, "_orig_mod"):  # the latter: torch.compile's
        given = given.module if isinstance(given, WRAPPERS) else given._orig_mod
    return check_type(given, nn.Module, "model")


def reconstruct(given, images: torch.Tensor, *, at_mean: bool = False) -> tuple[torch.Tensor, str]:
    """Reconstructions of float images in [0, 1], on the CPU in their shape, and a remark.

    A draw of z is decoded, with the same noise at every call; models of this package share the
    leading columns of `latent_noise`. `at_mean`: the mean of z, for models of this package. The
    remark says what was done to the model's output, if anything.
    """
    with _running(given) as (model, weight):
        x = images.detach().to(weight)
        if isinstance(model, Model):
            z, log_var = model.posterior(x)
            if log_var is not None and not at_mean:
                z = torch.addcmul(z, torch.exp(0.5 * log_var), latent_noise(*z.shape).to(z))
            output = model.decode(z)
        elif at_mean:
            raise TypeError(
                f"{_name(model)} does not tell the mean of its z as this package's models do; pass "
                'z="sample"'
            )
        else:
            remedy = "pass images as in training, move it to its device, or use image_rows"
            output = _call(model, model, _flat_and_square(x), remedy)
        pixels, remark = _pixels(model, output)
    if pixels.numel() != images.numel():
        raise ValueError(
            f"{_name(model)} returned shape {tuple(pixels.shape)} for images of shape "
            f"{tuple(images.shape)}; it must be one value per pixel"
        )
    return pixels.reshape(images.shape), remark


def generate(
    given, n: int = 24, *, z_dim: int | None = None, decode: Callable | None = None
) -> tuple[torch.Tensor, str]:
    """Decodings of n draws of N(0, I), (n, ...) on the CPU, and a remark as in `reconstruct`.

    The draws are the same at every call; models of different z_dim share the leading columns.
    z_dim, decode: see `plot_generation`.
    """
    check_positive_int(n, "n")
    check_positive_int(1 if z_dim is None else z_dim, "z_dim")
    with _running(given) as (model, weight):
        name = "decode" if callable(getattr(model, "decode", None)) else "decoder"
        decoder = decode or getattr(model, name, None)
        if not callable(decoder):
            raise TypeError(
                f"{_name(model)} has neither decode nor decoder; pass decode=, a function that "
                "turns z (N, z_dim) into pixels"
            )
        shape, squashed = _observed(model, name, weight)
        if width := z_dim or getattr(model, "z_dim", None) or getattr(model, "latent_dim", None):
            shape = (width,)
        if not shape:
            raise ValueError(
                f"{_name(model)} does not tell how wide its latents are; pass z_dim=, the width "
                "of the z that its decoder takes"
            )
        z = latent_noise(n, math.prod(shape)).unflatten(1, shape).to(weight)
        output = _call(model, decoder, [z], "pass z_dim=, the width of its z, or decode=")
        return _pixels(model, output, squashed and decode is None)


def latent_noise(n: int, z_dim: int) -> torch.Tensor:
    """n fixed draws of N(0, I), (n, z_dim); the first columns are the same for every z_dim."""
    generator = torch.Generator().manual_seed(SEED)
    blocks = range(0, z_dim, NOISE_BLOCK)
    drawn = [torch.randn(n, NOISE_BLOCK, generator=generator) for _ in blocks]
    return torch.cat(drawn, dim=1)[:, :z_dim]


@contextlib.contextmanager
def _running(given) -> Iterator[tuple[nn.Module, torch.Tensor]]:
    """The module given, ready to run as the head of this file says, and one of its weights."""
    model = module_of(given)
    if getattr(model, "given_to_train", False):
        raise ValueError(
            f"{model.label} was given to train(), which leaves it untrained: draw what train "
            "returned, as in (trained,) = study.train(model)"
        )
    weight = next(filter(torch.is_floating_point, model.parameters()), torch.empty(0))
    kind = weight.device.type
    devices = range(0 if kind == "cpu" else torch.get_device_module(kind).device_count())
    kept = [(part, part.training, dict(vars(part))) for part in model.modules()]
    with torch.no_grad(), torch.random.fork_rng(devices, device_type=kind):
        # torch.manual_seed seeds the accelerators, too
        (torch.manual_seed if devices else torch.default_generator.manual_seed)(SEED)
        try:
            yield model.eval(), weight
        finally:
            for part, training, attributes in kept:
                part.training = training
                vars(part).clear()
                vars(part).update(attributes)


def _call(model: nn.Module, function: Callable, inputs: Sequence[torch.Tensor], remedy: str):
    """What `function` returns, its first if several, for the first of the inputs that it takes."""
    failures = []
    for x in inputs:
        try:
            return _first(function(x))
        except Exception as error:
            reason = (str(error).splitlines() or [_name(error)])[0]
            failures.append(f"of shape {tuple(x.shape)} ({reason})")
    raise ValueError(
        f"{_name(model)} can not take a tensor on {x.device} {', nor '.join(failures)}; {remedy}"
    )


def _flat_and_square(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as they are and, as a model may want them, flat or, if they are flat, square."""
    side = math.isqrt(x[0].numel())
    return x, x.flatten(1) if x.dim() > 2 else x.reshape(len(x), 1, side, side)


def _observed(model: nn.Module, name: str, weight: torch.Tensor) -> tuple[Sequence[int], bool]:
    """How the model uses its decoder of this name when it reconstructs a black image.

    The shape of one z, () if that is not seen; whether it returns the sigmoid of what is decoded.
    """
    decoder, seen, squashed = getattr(model, name, None), [], False

    def watched(z, *more):
        seen.append((z, decoder(z, *more)))
        return seen[-1][1]

    with contextlib.suppress(Exception):
        vars(model)[name] = watched  # hides the decoder until `_running` ends
        black = torch.zeros(1, getattr(model, "image_size", 784)).to(weight)
        pixels = _call(model, model, _flat_and_square(black), "")
        squashed = torch.allclose(pixels.flatten(), torch.sigmoid(_first(seen[-1][1])).flatten())
    return (seen[-1][0].shape[1:] if seen else ()), squashed


def _pixels(model: nn.Module, output, squashed: bool = False) -> tuple[torch.Tensor, str]:
    """A model's output as float pixels in [0, 1] on the CPU, and a remark; see `reconstruct`."""
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        got = getattr(output, "dtype", type(output).__name__)
        raise TypeError(
            f"{_name(model)} returned {got}; forward and decode must return the pixels as a float "
            "tensor, or a tuple led by it"
        )
    output = output.float().cpu()
    low, high = (float(value) for value in torch.aminmax(output))
    if squashed or low < LOGITS_BELOW:
        return torch.sigmoid(output), "(sigmoid of logits)"
    if low >= -1e-4 and high <= 1 + 1e-4:  # nor NaN
        return output.clamp(0, 1), ""
    raise ValueError(
        f"{_name(model)} returned values in [{low:.3g}, {high:.3g}], pixels lie in [0, 1]; let it "
        "return torch.sigmoid(logits), or (t + 1) / 2 of tanh's t"
    )


def _first(output):
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _name(thing) -> str:
    return type(thing).__name__
