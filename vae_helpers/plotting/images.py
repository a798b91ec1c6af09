"""Pictures of what models reconstruct and generate: grids and rows of images.

Models are copied to the CPU as float32 and run there in evaluation mode, with noise of a fixed
seed: their mode, dtype, device and all random states stay as they are, and the noise is the same
for every model on every device. Any `nn.Module` will do: `forward(x)` returns pixels in [0, 1], or
a tuple led by them, and `decode(z)` pixels of latents (N, z_dim).
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import types
from collections.abc import Iterator, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import torch

from ..data import Split
from ..engine.guards import check_images, check_positive_int
from ..models import Model
from .style import MAX_HEIGHT, WIDTH, Chart, break_name, check_any, use_style

SEED = 0
NOISE_BLOCK = 64  # models with up to this many latent dimensions share their leading noise columns
Z_ROWS = {"sample": ["sample"], "mean": ["mean"], "both": ["sample", "mean"]}
GAP = 2  # pixels between two cells


# --- figures ------------------------------------------------------------------------------------


def plot_reconstruction(
    model: torch.nn.Module | Sequence[Model] | Mapping[str, torch.nn.Module],
    images: torch.Tensor | Split | None = None,
    n: int | None = None,
    *,
    errors: bool = False,
    z: str = "sample",
    titles: Sequence[str] | None = None,
) -> Chart:
    """The first n images (or fewer) and what models make of them.

    One model: pairs (original | reconstruction), eight to a row; n is 24 by default. A list of
    models, or label -> model: the originals and a row for every model, n (12) images wide.

    images: float (N, pixels), (N, H, W) or (N, channels, H, W) with pixels in [0, 1], or a Split.
    z: decode a draw of z ("sample", with the same noise for all models), its "mean", or "both".
    errors: under every row, reconstruction minus original, on one scale for all.
    titles: of the columns, one per image; for a Split, the names of its classes.
    With `errors` or `titles` one model is drawn in rows, too. Raises TypeError or ValueError,
    saying what to pass, for images or models that can not be drawn.
    """
    if images is None or isinstance(images, int):
        raise TypeError(
            "plot_reconstruction needs images: plot_reconstruction(model, images, n=24) with "
            "data.test.first_of_each_class(), or floats in [0, 1] of shape (N, 784) or (N, 1, H, W)"
        )
    models = _labelled(model)
    if z not in Z_ROWS:
        raise ValueError(f'z must be "sample", "mean" or "both", got {z!r}')
    in_rows = isinstance(model, (Mapping, list, tuple)) or errors or titles is not None
    n = check_positive_int((12 if in_rows else 24) if n is None else n, "n")
    if isinstance(images, Split):
        images = images.take(slice(n))
        titles = titles and [titles[label] for label in images.labels.tolist()]
        images = images.floats()
    check_images(images, None)
    x = images[:n].detach().float().cpu()
    if not in_rows:
        pictures = [_drawable(p) for p in (x, *(reconstruct(model, x, z=of) for of in Z_ROWS[z]))]
        title = {
            "sample": "pairs: original | reconstruction",
            "mean": "pairs: original | from the mean of $z$",
            "both": "triples: original | from a sampled $z$ | from its mean",
        }[z]
        return _tiles(np.concatenate(pictures, axis=2), 24 // (1 + len(pictures)), title)
    rows = [("original", x, False)]
    for label, each in models.items():
        pictures = [reconstruct(each, x, z=of) for of in Z_ROWS[z]]
        if z == "both" and torch.equal(*pictures):  # nothing is drawn: one row says it
            pictures.pop()
        for picture, name in zip(pictures, (label, "from the mean"), strict=False):
            rows.append((name, picture, False))
            if errors:
                rows.append(("difference", picture - x, True))
    return _image_grid(rows, titles)


def plot_generation(
    model: torch.nn.Module | Sequence[Model] | Mapping[str, torch.nn.Module],
    n: int | None = None,
    *,
    z_dim: int | None = None,
    image_shape: Sequence[int] | None = None,
) -> Chart:
    """Decodings of n draws of N(0, I), the same draws for all models.

    One model: twelve to a row; n is 24 by default. A list of models, or label -> model: a row of n
    (12) images for every model. z_dim: the width of z for a model that does not state it.
    image_shape: (H, W) or (channels, H, W) of flat images that are not square and gray. Raises
    TypeError or ValueError, saying what to pass, for models that can not be drawn.
    """
    models = _labelled(model)
    in_rows = isinstance(model, (Mapping, list, tuple))
    n = (12 if in_rows else 24) if n is None else n
    made = {label: generate(each, n, z_dim=z_dim, image_shape=image_shape)
            for label, each in models.items()}  # fmt: skip
    if in_rows:
        return image_rows(made)
    title = r"decoded draws of the prior, $z \sim \mathcal{N}(0, I)$"
    return _tiles(_drawable(*made.values()), 12, title)


def image_rows(
    rows: Mapping[str, torch.Tensor], *, titles: Sequence[str] | None = None
) -> Chart:
    """Rows of images (label -> float (N, pixels), (N, H, W) or (N, channels, H, W) in [0, 1])."""
    check_any(rows, "rows")
    for label, images in rows.items():
        check_images(images, None, f"images of row {label!r}")
    return _image_grid([(label, images, False) for label, images in rows.items()], titles)


def plot_samples_by_class(split: Split, class_names: Sequence[str], per_class: int = 4) -> Chart:
    """The first `per_class` images of every class, one class per column."""
    check_positive_int(per_class, "per_class")
    members = [(split.labels == c).nonzero()[:per_class, 0] for c in range(len(class_names))]
    if short := [name for name, m in zip(class_names, members, strict=True) if len(m) < per_class]:
        raise ValueError(f"fewer than per_class = {per_class} images of {', '.join(short)}")
    rows = [("", split.take(index).floats(), False) for index in torch.stack(members, dim=1)]
    return _image_grid(rows, class_names)


# --- what the models give -----------------------------------------------------------------------


def reconstruct(model: torch.nn.Module, images: torch.Tensor, *, z: str = "sample") -> torch.Tensor:
    """The model's reconstructions of float images in [0, 1]; their shape, on the CPU.

    z: "sample" decodes a draw of the latents, with the same noise at every call (models of this
    package share the leading columns of `latent_noise`), "mean" their mean.
    """
    model = _cpu_copy(model)
    x = images.detach().float().cpu()
    with _fixed_noise():
        if isinstance(model, Model):
            mean, log_var = model.posterior(check_images(x, model.image_size))
            if z == "sample" and log_var is not None:
                noise = latent_noise(*mean.shape)
                mean = torch.addcmul(mean, torch.exp(0.5 * log_var), noise)
            return _pixels(model, model.decode(mean), x.shape)
        return _pixels(model, _run(model, x, z), x.shape)


def generate(
    model: torch.nn.Module,
    n: int = 24,
    *,
    z_dim: int | None = None,
    image_shape: Sequence[int] | None = None,
) -> torch.Tensor:
    """The model's decodings of n draws of N(0, I), (n, ...) as it returns them, on the CPU.

    The draws are the same at every call; models of different z_dim share the leading columns.
    """
    check_positive_int(n, "n")
    model = _cpu_copy(model)
    with _fixed_noise():
        noise = latent_noise(n, z_dim or _latent_width(model, image_shape))
        try:
            output = model.decode(noise)
        except Exception as error:
            raise ValueError(f"{_name(model)}.decode failed on z of shape {tuple(noise.shape)} "
                             f"({_first_line(error)}); if its latents have another width, pass "
                             "z_dim=") from error  # fmt: skip
    return _pixels(model, output, (n, *image_shape) if image_shape else None)


def latent_noise(n: int, z_dim: int) -> torch.Tensor:
    """n fixed draws of N(0, I), (n, z_dim); the first columns are the same for every z_dim."""
    generator = torch.Generator().manual_seed(SEED)
    blocks = [torch.randn(n, NOISE_BLOCK, generator=generator)
              for _ in range(math.ceil(z_dim / NOISE_BLOCK))]  # fmt: skip
    return torch.cat(blocks, dim=1)[:, :z_dim]


@contextlib.contextmanager
def _fixed_noise():
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)  # not torch.manual_seed: only the CPU's
        yield


def _labelled(models) -> dict[str, torch.nn.Module]:
    """label -> model."""
    if isinstance(models, Mapping):
        named = dict(models)
    elif isinstance(models, (list, tuple)):
        labels = [getattr(model, "label", None) for model in models]
        for model, label in zip(models, labels, strict=True):
            if not isinstance(label, str):
                raise TypeError(f"{_name(model)} has no label; pass several models as "
                                "{label: model, ...}")  # fmt: skip
            if labels.count(label) > 1:
                raise ValueError(f"two models are called {label!r}; pass {{label: model, ...}}")
        named = dict(zip(labels, models, strict=True))
    else:
        named = {_name(models): models}
    check_any(named, "models")
    return named


def _cpu_copy(model: torch.nn.Module) -> torch.nn.Module:
    """A copy for the CPU, float32 whatever the model is, in evaluation mode."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    # deepcopy refuses tensors with a history, such as one kept of the last forward
    memo = {id(tensor): tensor.detach() for tensor in _with_history(model, set())}
    return copy.deepcopy(model, memo).cpu().float().eval()


def _with_history(value, seen: set[int]) -> Iterator[torch.Tensor]:
    """The tensors inside `value` that autograd has made."""
    if id(value) in seen or isinstance(value, (type, types.FunctionType, types.ModuleType)):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if not value.is_leaf:
            yield value
        inside = ()
    elif isinstance(value, (list, tuple, set)):
        inside = value
    else:
        inside = (value if isinstance(value, Mapping) else getattr(value, "__dict__", {})).values()
    for part in inside:
        yield from _with_history(part, seen)


def _run(model: torch.nn.Module, x: torch.Tensor, z: str):
    """What a foreign model returns for x in the user's shape, else for x flat (or made square)."""
    def call(x):
        if z == "mean":
            return model.decode(_leading(model.encode(x)))
        if "generator" in inspect.signature(model.forward).parameters:
            return model(x, generator=torch.Generator().manual_seed(SEED))
        torch.default_generator.manual_seed(SEED)
        return model(x)

    n, pixels = len(x), x[0].numel()
    side = math.isqrt(pixels)
    try:
        return call(x)
    except Exception as error:
        with contextlib.suppress(Exception):
            if x.dim() > 2:
                return call(x.flatten(1))
            if side * side == pixels:
                return call(x.reshape(n, 1, side, side))
        raise ValueError(f"{_name(model)} can not take images of shape {tuple(x.shape)} "
                         f"({_first_line(error)}); pass them in the shape that it was trained "
                         "with") from error  # fmt: skip


def _latent_width(model: torch.nn.Module, image_shape: Sequence[int] | None) -> int:
    """z_dim as the model states it, else the width of what it encodes a black image to."""
    stated = getattr(model, "z_dim", None)
    if isinstance(stated, int):
        return stated
    pixels = getattr(model, "image_size", 784)
    for shape in [image_shape] if image_shape else [(pixels,), (1, 28, 28)]:
        with contextlib.suppress(Exception):
            latent = _leading(model.encode(torch.zeros(1, *shape)))
            if latent.dim() == 2:
                return latent.shape[1]
    raise ValueError(f"{_name(model)} does not tell how wide its latents are; pass z_dim=, the "
                     "width of the z that decode(z) takes")  # fmt: skip


def _pixels(model: torch.nn.Module, output, shape: Sequence[int] | None) -> torch.Tensor:
    """A model's output as pixels in [0, 1] of this shape, else TypeError or ValueError."""
    output = _leading(output)
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        got = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
        raise TypeError(f"{_name(model)} returned {got}; forward and decode must return the pixels "
                        "as a float tensor, or a tuple led by it")  # fmt: skip
    if shape is not None:
        sizes = [[size for size in s if size > 1] for s in (output.shape, shape)]
        alike = sizes[0] == sizes[1] or 2 in (output.dim(), len(shape))  # never axes exchanged
        if output.numel() != math.prod(shape) or not alike:
            raise ValueError(f"{_name(model)} returned shape {tuple(output.shape)} for images of "
                             f"shape {tuple(shape)}; it must be one value per pixel")  # fmt: skip
        output = output.reshape(tuple(shape))
    low, high = (float(value) for value in torch.aminmax(output))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{_name(model)} returned NaN or infinite pixels; train it anew")
    if low < -1e-4 or high > 1 + 1e-4:
        raise ValueError(f"{_name(model)} returned values in [{low:.3g}, {high:.3g}], pixels lie "
                         "in [0, 1]; let it return torch.sigmoid(logits), or (t + 1) / 2 of tanh's "
                         "t")  # fmt: skip
    return output.clamp(0, 1)


def _leading(output):
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _name(model) -> str:
    return type(model).__name__


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# --- drawing ------------------------------------------------------------------------------------


def _drawable(images: torch.Tensor) -> np.ndarray:
    """Images as an array (N, H, W), or (N, H, W, 3) in colour."""
    sizes = tuple(images.shape[1:])
    if len(sizes) == 1 and math.isqrt(sizes[0]) ** 2 == sizes[0]:
        sizes = (math.isqrt(sizes[0]),) * 2
    if len(sizes) == 3 and sizes[0] == 1:
        sizes = sizes[1:]
    if not (len(sizes) == 2 or len(sizes) == 3 and sizes[0] == 3):
        shape = " x ".join(map(str, sizes))
        raise ValueError(f"images of {shape} values can not be drawn; pass (N, 1, H, W), (N, 3, H, "
                         "W) or flat squares, to plot_generation image_shape=(H, W)")  # fmt: skip
    array = images.detach().cpu().float().reshape(-1, *sizes).numpy()
    return array if len(sizes) == 2 else array.transpose(0, 2, 3, 1)


def _tiles(cells: np.ndarray, per_row: int, title: str) -> Chart:
    """Cells (N, H, W) in rows of at most `per_row`; the rest of the last row stays empty."""
    columns = min(len(cells), per_row)
    rows = math.ceil(len(cells) / columns)
    padded = np.ones((rows * columns, *cells.shape[1:]))
    padded[: len(cells)] = cells
    figure = _draw_cells(padded.reshape(rows, columns, *cells.shape[1:]), top=0.22)
    with use_style():
        figure.axes[0].set_title(title)
    return figure


def _image_grid(
    rows: Sequence[tuple[str, torch.Tensor, bool]], titles: Sequence[str] | None
) -> Chart:
    """One row per (label, images, whether they are differences)."""
    cells = [_drawable(images) for _, images, _ in rows]
    for (label, *_), row in zip(rows, cells, strict=True):
        if row.shape != cells[0].shape:
            raise ValueError(f"rows must hold equally many images of one size: {rows[0][0]!r} has "
                             f"shape {cells[0].shape}, {label!r} has {row.shape}")  # fmt: skip
    cells = np.stack(cells)
    if titles is not None and len(titles) != cells.shape[1]:
        raise ValueError(f"{cells.shape[1]} titles are needed, one per image, got {len(titles)}")
    signed = [i for i, (*_, is_difference) in enumerate(rows) if is_difference]
    if signed and cells.ndim == 5:
        raise ValueError("differences are drawn for gray images only; leave out errors=True")
    labels = [label.replace(" (", "\n(", 1) for label, *_ in rows]
    titles = None if titles is None else [break_name(name) for name in titles]
    lines = max(name.count("\n") + 1 for name in titles) if titles else 0
    widest = max(len(line) for label in labels for line in label.split("\n"))
    # about 0.058 inches a letter of 7.5 points; a wider label widens the page
    left = 0.12 + 0.058 * widest if widest else 0.0
    figure = _draw_cells(cells, signed, left, 0.03 + 0.14 * lines)
    ax = figure.axes[0]
    with use_style():
        step_y, step_x = (size + GAP for size in cells.shape[2:4])
        ax.set_yticks(step_y * np.arange(len(cells)) + (step_y - GAP - 1) / 2, labels)
        if titles is not None:
            middles = step_x * np.arange(cells.shape[1]) + (step_x - GAP - 1) / 2
            ax.set_xticks(middles, titles)
            ax.tick_params(axis="x", labeltop=True, labelbottom=False, labelsize=7, pad=1)
    return figure


@use_style()
def _draw_cells(
    cells: np.ndarray, signed: Sequence[int] = (), left: float = 0.0, top: float = 0.03
) -> Chart:
    """Cells (rows, columns, H, W[, 3]) a gap apart; a pixel of the data is a sharp square.

    left and top are the inches for labels; the rows numbered in `signed` hold differences. The
    gaps are opaque white: transparent ones show as gray lines in PDF viewers.
    """
    rows, columns, height, width = cells.shape[:4]
    spaced = np.full((rows, height + GAP, columns, width + GAP, *cells.shape[4:]), np.nan)
    spaced[:, :height, :, :width] = cells.swapaxes(1, 2)
    spaced = spaced.reshape(rows * (height + GAP), columns * (width + GAP), *cells.shape[4:])
    spaced = spaced[:-GAP, :-GAP]
    right = 0.65 if signed else 0.0
    across, down = WIDTH - left - right, MAX_HEIGHT - top - 0.03
    inch = min(across / spaced.shape[1], down / spaced.shape[0], 0.8 / height)  # of a pixel
    wide, high = inch * spaced.shape[1], inch * spaced.shape[0]
    page = Chart(high + top + 0.03, vector=False, layout="none")
    x, total = left + (across - wide) / 2, page.get_figheight()
    ax = page.add_axes((x / WIDTH, 0.03 / total, wide / WIDTH, high / total))
    shown = np.nan_to_num(spaced, nan=1.0)
    strips = [slice(row * (height + GAP), row * (height + GAP) + height) for row in signed]
    for strip in strips:
        shown[strip] = 1.0
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    ax.autoscale(False)
    colors = mpl.colormaps["RdBu_r"].with_extremes(bad="white")
    for strip in strips:
        extent = (-0.5, spaced.shape[1] - 0.5, strip.stop - 0.5, strip.start - 0.5)
        drawn = ax.imshow(spaced[strip], cmap=colors, vmin=-1, vmax=1, interpolation="nearest",
                          aspect="auto", extent=extent)  # fmt: skip
    if strips:
        place = ((x + wide + 0.08) / WIDTH, 0.03 / total + 0.2 * high / total, 0.08 / WIDTH,
                 0.6 * high / total)  # fmt: skip
        bar = page.colorbar(drawn, cax=page.add_axes(place), ticks=[-1, 0, 1])
        bar.set_label("reconstruction \u2212 original", fontsize=7, labelpad=-1)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set(xticks=[], yticks=[])
    ax.tick_params(length=0)
    return page
