"""Pictures of what models reconstruct and generate: grids and rows of images.

Models are copied to the CPU as float32 and run there in evaluation mode, with noise of a fixed
seed: their mode, dtype, device and all random states stay as they are, and the noise is the same
for every model on every device. Any `nn.Module` will do: `forward(x)` returns pixels in [0, 1], or
a tuple led by them, and `decode(z)` pixels of latents (N, z_dim).
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from torch.overrides import TorchFunctionMode

from ..data import Split
from ..engine.guards import check_choice, check_images, check_positive_int
from ..models import Model
from .display import Chart
from .style import MAX_HEIGHT, WIDTH, check_any, use_style

SEED = 0
NOISE_BLOCK = 64  # columns drawn at once: the leading ones do not depend on z_dim
GAP = 2  # pixels between two rows, and at least between two columns
WIDEST_GAP = 6  # pixels between two columns
# From dark to light through gray, so that a gray print shows the sign, too.
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#00083a", "#1238b0", "0.56", "#ffc24a", "#fffbd6"]
)


# --- figures ------------------------------------------------------------------------------------


def plot_reconstruction(
    model: torch.nn.Module | Sequence[Model] | Mapping[str, torch.nn.Module],
    images: torch.Tensor | Split | None = None,
    n: int | None = None,
    *,
    z: str = "sample",
    errors: bool = False,
    titles: Sequence[str] | None = None,
) -> Chart:
    """The first n images (or fewer) and what models make of them.

    One model: pairs (original | reconstruction), eight to a row; n is 24 by default. A list of
    models, or label -> model: the originals and a row for every model, n (12) images wide.

    images: float (N, pixels), (N, H, W) or (N, channels, H, W) with pixels in [0, 1], or a Split.
    z: "sample" decodes one draw of z per image, the same noise for all models; "mean" its mean;
    "both" draws a row of each, but one row where z is not random. errors: under every such row,
    reconstruction minus original (the mean of the channels), on one scale for all. titles: of the
    columns, one per image; for a Split, the names of its classes. With `errors`, `titles` or
    z="both" one model is drawn in rows, too. Raises TypeError or ValueError, saying what to pass,
    for images or models that cannot be drawn.
    """
    if images is None or isinstance(images, int):
        raise TypeError(
            "plot_reconstruction needs images: plot_reconstruction(model, images, n=24) with "
            "data.test.first_of_each_class(), or floats in [0, 1] of shape (N, 784) or (N, 1, H, W)"
        )
    models, several = _labelled(model)
    check_choice(z, ("sample", "mean", "both"), "z")
    in_rows = several or errors or z == "both" or titles is not None
    n = check_positive_int((12 if in_rows else 24) if n is None else n, "n")
    if isinstance(images, Split):
        images = images.take(slice(n))
        titles = titles and [titles[label] for label in images.labels.tolist()]
        images = images.floats()
    check_images(images, None)
    images = images[:n]
    made = {}
    for label, each in models.items():
        drawn = reconstruct(each, images, at_mean=z == "mean")
        made[label] = _drawable(drawn)
        if z == "both" and not torch.equal(mean := reconstruct(each, images, at_mean=True), drawn):
            made[f"{label}\nz = mean"] = _drawable(mean)
    original = _drawable(images)
    if not in_rows:
        pairs = np.concatenate([original, *made.values()], axis=2)
        return _draw(pairs, 8, title="pairs: original | reconstruction")
    rows = [("original", original)]
    for label, picture in made.items():
        rows.append((label, picture))
        if errors:
            rows.append(("difference", SIGNED(((picture - original).mean(-1) + 1) / 2)[..., :3]))
    return _draw_rows(rows, titles, signed=errors)


def plot_generation(
    model: torch.nn.Module | Sequence[Model] | Mapping[str, torch.nn.Module],
    n: int | None = None,
    *,
    z_dim: int | None = None,
) -> Chart:
    """Decodings of n draws of N(0, I), the same draws for all models.

    One model: twelve to a row; n is 24 by default. A list of models, or label -> model: a row of n
    (12) images for every model. z_dim: the width of z for a model that does not state it. Raises
    TypeError or ValueError, saying what to pass, for models that can not be drawn.
    """
    models, several = _labelled(model)
    n = (12 if several else 24) if n is None else n
    made = {label: generate(each, n, z_dim=z_dim) for label, each in models.items()}
    if several:
        return image_rows(made)
    return _draw(
        _drawable(*made.values()),
        12,
        title=r"decoded draws of the prior, $z \sim \mathcal{N}(0, I)$",
    )


def image_rows(rows: Mapping[str, torch.Tensor]) -> Chart:
    """Rows of images (label -> float (N, pixels), (N, H, W) or (N, channels, H, W) in [0, 1])."""
    check_any(rows, "rows")
    for label, images in rows.items():
        check_images(images, None, f"images of row {label!r}")
    return _draw_rows([(label, _drawable(images)) for label, images in rows.items()])


def plot_samples_by_class(split: Split, class_names: Sequence[str], per_class: int = 4) -> Chart:
    """The first `per_class` images of every class, one class per column."""
    check_positive_int(per_class, "per_class")
    members = [(split.labels == c).nonzero()[:per_class, 0] for c in range(len(class_names))]
    if short := [name for name, m in zip(class_names, members, strict=True) if len(m) < per_class]:
        raise ValueError(f"fewer than per_class = {per_class} images of {', '.join(short)}")
    order = torch.stack(members, dim=1).flatten()
    return _draw(_drawable(split.take(order).floats()), len(class_names), titles=class_names)


# --- what the models give -----------------------------------------------------------------------


@contextlib.contextmanager
def _fixed_noise():
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)  # not torch.manual_seed: only the CPU's
        yield


@_fixed_noise()
def reconstruct(
    model: torch.nn.Module, images: torch.Tensor, *, at_mean: bool = False
) -> torch.Tensor:
    """The model's reconstructions of float images in [0, 1]; their shape, on the CPU.

    A draw of z is decoded, with the same noise at every call; models of this package share the
    leading columns of `latent_noise`. `at_mean`: the mean of z, for models of this package.
    """
    model, x = _cpu_copy(model), images.detach().float().cpu()
    if isinstance(model, Model):
        z, log_var = model.posterior(x)
        if log_var is not None and not at_mean:
            z = torch.addcmul(z, torch.exp(0.5 * log_var), latent_noise(*z.shape))
        output = model.decode(z)
    elif at_mean:
        raise TypeError(
            f"{_name(model)} does not tell the mean of its z as this package's models "
            'do; pass z="sample"'
        )
    else:
        output = _call(model, model, x, "pass images in the shape that it was trained with")
    return _pixels(model, output, x.shape)


@_fixed_noise()
def generate(model: torch.nn.Module, n: int = 24, *, z_dim: int | None = None) -> torch.Tensor:
    """The model's decodings of n draws of N(0, I), (n, ...) as it returns them, on the CPU.

    The draws are the same at every call; models of different z_dim share the leading columns.
    """
    check_positive_int(n, "n")
    model = _cpu_copy(model)
    noise = latent_noise(n, z_dim or _latent_width(model))
    output = _call(model, model.decode, noise, "if its z has another width, pass z_dim=")
    return _pixels(model, output, None)


def latent_noise(n: int, z_dim: int) -> torch.Tensor:
    """n fixed draws of N(0, I), (n, z_dim); the first columns are the same for every z_dim."""
    generator = torch.Generator().manual_seed(SEED)
    blocks = [
        torch.randn(n, NOISE_BLOCK, generator=generator) for _ in range(0, z_dim, NOISE_BLOCK)
    ]
    return torch.cat(blocks, dim=1)[:, :z_dim]


def _labelled(models) -> tuple[dict[str, torch.nn.Module], bool]:
    """label -> model, and whether they were given as several, be it a list of one."""
    if not isinstance(models, (Mapping, list, tuple)):
        return {_name(models): models}, False
    check_any(models, "models")
    if isinstance(models, Mapping):
        return dict(models), True
    named = {}
    for model in models:
        if (label := str(getattr(model, "label", _name(model)))) in named:
            raise ValueError(f"two models are called {label!r}; pass {{label: model, ...}}")
        named[label] = model
    return named, True


class _WithoutHistory(TorchFunctionMode):
    """Within it deepcopy takes what it refuses: tensors that autograd made, kept by a forward."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return function(*args, **(kwargs or {}))


def _cpu_copy(model: torch.nn.Module) -> torch.nn.Module:
    """A copy for the CPU, float32 whatever the model is, in evaluation mode."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    with _WithoutHistory():
        return copy.deepcopy(model).cpu().float().eval()


def _call(model: torch.nn.Module, function, x: torch.Tensor, remedy: str):
    """What `function` returns for x in its shape, else for x flat or, if it is flat, square."""
    try:
        return function(x)
    except Exception as error:
        with contextlib.suppress(Exception):
            side = math.isqrt(x[0].numel())
            return function(x.flatten(1) if x.dim() > 2 else x.reshape(len(x), 1, side, side))
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{_name(model)} can not take a tensor of shape {tuple(x.shape)} ({reason}); {remedy}"
        ) from error


def _latent_width(model: torch.nn.Module) -> int:
    """z_dim as the model states it, else the width of what it encodes a black image to."""
    if isinstance(getattr(model, "z_dim", None), int):
        return model.z_dim
    with contextlib.suppress(Exception):
        black = torch.zeros(1, getattr(model, "image_size", 784))
        latent = _leading(_call(model, model.encode, black, ""))
        if latent.dim() == 2:
            return latent.shape[1]
    raise ValueError(
        f"{_name(model)} does not tell how wide its latents are; pass z_dim=, the "
        "width of the z that decode(z) takes"
    )


def _pixels(model: torch.nn.Module, output, shape: Sequence[int] | None) -> torch.Tensor:
    """A model's output as pixels in [0, 1] of this shape, else TypeError or ValueError."""
    output = _leading(output)
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        got = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
        raise TypeError(
            f"{_name(model)} returned {got}; forward and decode must return the pixels "
            "as a float tensor, or a tuple led by it"
        )
    if shape is not None:
        if output.numel() != math.prod(shape):
            raise ValueError(
                f"{_name(model)} returned shape {tuple(output.shape)} for images of "
                f"shape {tuple(shape)}; it must be one value per pixel"
            )
        output = output.reshape(tuple(shape))
    low, high = (float(value) for value in torch.aminmax(output))
    if not (low >= -1e-4 and high <= 1 + 1e-4):  # nor NaN
        raise ValueError(
            f"{_name(model)} returned values in [{low:.3g}, {high:.3g}], pixels lie "
            "in [0, 1]; let it return torch.sigmoid(logits), or (t + 1) / 2 of tanh's "
            "t"
        )
    return output.clamp(0, 1)


def _leading(output):
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _name(model) -> str:
    return type(model).__name__


# --- drawing ------------------------------------------------------------------------------------


def _drawable(images: torch.Tensor) -> np.ndarray:
    """Images as an array (N, H, W, 3)."""
    sizes = tuple(images.shape[1:])
    side = math.isqrt(math.prod(sizes))
    if len(sizes) == 1 and side**2 == sizes[0]:
        sizes = (side, side)
    if len(sizes) == 2:
        sizes = (1, *sizes)
    if len(sizes) != 3 or sizes[0] not in (1, 3):
        shape = " x ".join(map(str, sizes))
        raise ValueError(
            f"images of {shape} values can not be drawn; pass (N, 1, H, W), (N, 3, H, "
            "W) or flat squares"
        )
    colored = images.detach().cpu().float().reshape(-1, *sizes).expand(-1, 3, -1, -1)
    return colored.permute(0, 2, 3, 1).numpy()


def _draw_rows(rows: Sequence[tuple[str, np.ndarray]], titles=None, signed=False) -> Chart:
    """One row per (label, images (N, H, W, 3)); see `_draw`."""
    labels, pictures = zip(*rows, strict=True)
    first = pictures[0].shape
    for label, row in rows:
        if row.shape != first:
            raise ValueError(
                f"rows must hold equally many images of one size: {labels[0]!r} has "
                f"shape {first}, {label!r} has {row.shape}"
            )
    if titles is not None and len(titles) != first[0]:
        raise ValueError(f"{first[0]} titles are needed, one per image, got {len(titles)}")
    return _draw(np.concatenate(pictures), first[0], labels, titles or (), signed=signed)


@use_style()
def _draw(
    cells: np.ndarray, columns: int, labels=(), titles=(), *, title: str = "", signed=False
) -> Chart:
    """Cells (N, H, W, 3) in rows of at most so many; a pixel of the data is a sharp square.

    labels: of the rows. titles: of the columns. signed: with the scale of `SIGNED`. The gaps are
    opaque white: transparent ones show as gray lines in PDF viewers.
    """
    count, height, width = cells.shape[:3]
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    labels = [label.replace(" (", "\n(", 1) for label in labels]
    # About 0.06 inches a letter. Where the rows would make the picture narrower than the page, the
    # columns move apart.
    widest = max(map(len, "\n".join(labels).split("\n")))
    across = WIDTH - 0.06 * widest - 0.8 * signed
    down = MAX_HEIGHT - 0.4
    filling = (across / down * (rows * (height + GAP)) - columns * width) / columns
    apart = min(max(GAP, math.ceil(filling)), WIDEST_GAP)
    shown = np.ones((rows * columns, height + GAP, width + apart, 3))
    shown[:count, :height, :width] = cells
    shown = shown.reshape(rows, columns, *shown.shape[1:]).swapaxes(1, 2)
    shown = shown.reshape(rows * (height + GAP), -1, 3)[:-GAP, :-apart]
    figure = Chart(min(MAX_HEIGHT, 0.9 * rows + 0.4), vector=False)
    ax = figure.subplots()
    ax.imshow(shown, interpolation="nearest")
    ax.set_title(title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.set_yticks((height + GAP) * np.arange(len(labels)) + (height - 1) / 2, labels)
    ax.set_xticks(
        (width + apart) * np.arange(len(titles)) + (width - 1) / 2,
        [name.replace("/", "/\n").replace(" ", "\n") for name in titles],
        fontsize=7,
    )
    if signed:
        bar = figure.colorbar(
            ScalarMappable(Normalize(-1, 1), SIGNED),
            ticks=[-1, 0, 1],
            cax=ax.inset_axes([1.02, 0.2, 0.018, 0.6]),
        )
        bar.set_label("reconstruction \u2212 original", fontsize=7, labelpad=-1)
    return figure
