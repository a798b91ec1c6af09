"""Pictures of what models reconstruct and generate: grids and rows of images.

Every function returns the matplotlib Figure it drew (or the one that holds the Axes given) and
goes without pyplot, so that a notebook shows it once. Models are copied to the CPU and run there
in evaluation mode, with noise of fixed seeds: their mode, their device and all random states stay
as they are, and the noise is the same for every model on every device.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Collection, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from ..engine.guards import check_images, check_positive_int
from ..models import VAE
from .style import MAX_HEIGHT, STYLE, WIDTH, break_name, check_any, new_figure, use_style

SEED = 0
NOISE_BLOCK = 64  # models with up to this many latent dimensions share their leading noise columns


# --- what the models give -----------------------------------------------------------------------


@torch.no_grad()
def reconstruct(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The model's reconstructions (N, image_size) of float images in [0, 1], on the CPU.

    Takes any class whose `forward` returns the reconstruction or a tuple led by it. A VAE's
    latents are sampled, as in its `forward`, with the same noise at every call; VAEs of this
    package share the leading columns of `latent_noise`, whatever their z_dim.
    """
    model, x = _cpu_copy(model), _images_for(model, images)
    if isinstance(model, VAE):
        mu, log_var = model.encode(x)
        return model.decode(torch.addcmul(mu, torch.exp(0.5 * log_var), latent_noise(*mu.shape)))
    if "generator" in inspect.signature(model.forward).parameters:
        output = model(x, generator=torch.Generator().manual_seed(SEED))
    else:
        state = torch.random.get_rng_state()
        try:
            torch.default_generator.manual_seed(SEED)  # not torch.manual_seed: only the CPU's
            output = model(x)
        finally:
            torch.random.set_rng_state(state)
    return (output[0] if isinstance(output, tuple) else output).reshape(x.shape)


@torch.no_grad()
def generate(
    model: torch.nn.Module, n: int = 24, noise: torch.Tensor | None = None
) -> torch.Tensor:
    """The model's decodings (n, image_size) of n draws of N(0, I), on the CPU.

    By default the draws are the same at every call; models of different z_dim share the leading
    columns. `noise`, if given, is a float tensor (>= n, >= z_dim), of which the leading rows and
    columns are used.
    """
    check_positive_int(n, "n")
    model = _cpu_copy(model)
    z_dim = _latent_size(model)
    noise = latent_noise(n, z_dim) if noise is None else noise
    if not isinstance(noise, torch.Tensor) or not noise.is_floating_point():
        got = noise.dtype if isinstance(noise, torch.Tensor) else type(noise).__name__
        raise TypeError(f"noise must be a float tensor, got {got}")
    if noise.dim() != 2 or noise.shape[0] < n or noise.shape[1] < z_dim:
        raise ValueError(
            f"noise must have shape (at least {n}, at least {z_dim}) for {n} images of a model "
            f"with z_dim = {z_dim}, got {tuple(noise.shape)}"
        )
    if not torch.isfinite(noise).all():
        raise ValueError("noise holds NaN or infinite values; it must be finite")
    return model.decode(noise[:n, :z_dim].detach().float().cpu()).flatten(1)


def latent_noise(n: int, z_dim: int) -> torch.Tensor:
    """n fixed draws of N(0, I), (n, z_dim); the first columns are the same for every z_dim."""
    generator = torch.Generator().manual_seed(SEED)
    blocks = [
        torch.randn(n, NOISE_BLOCK, generator=generator)
        for _ in range(math.ceil(z_dim / NOISE_BLOCK))
    ]
    return torch.cat(blocks, dim=1)[:, :z_dim]


def _cpu_copy(model: torch.nn.Module) -> torch.nn.Module:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return copy.deepcopy(model).cpu().eval()


def _images_for(model: torch.nn.Module, images) -> torch.Tensor:
    return check_images(images, getattr(model, "image_size", 784)).detach().float().cpu()


def _latent_size(model: torch.nn.Module) -> int:
    """z_dim as the model states it, else the width of what it encodes a black image to."""
    if hasattr(model, "z_dim"):
        return model.z_dim
    code = model.encode(torch.zeros(1, getattr(model, "image_size", 784)))
    return (code[0] if isinstance(code, tuple) else code).shape[1]


# --- images -------------------------------------------------------------------------------------


@use_style()
def plot_reconstruction(
    model: torch.nn.Module | Mapping[str, torch.nn.Module],
    images: torch.Tensor,
    n: int = 24,
    *,
    ax: Axes | None = None,
    **side_by_side,
) -> Figure:
    """Pairs (original | reconstruction) of the first n images, eight pairs to a row.

    images: float (>= n, image_size) or (>= n, 1, H, W) with pixels in [0, 1]. The model is any
    `nn.Module` whose `forward` returns the reconstruction first. Several models, given as
    label -> model, are drawn row by row under the originals, the first n images or fewer: see
    `compare_reconstructions`, whose options may then be given too. Raises TypeError or ValueError
    for other images and for options without effect.
    """
    check_positive_int(n, "n")
    if isinstance(model, Mapping):
        check_any(model, "models")
        _refuse({"ax": ax}, "one model")
        x = _images_for(next(iter(model.values())), images)
        return compare_reconstructions(model, x[:n], **side_by_side)
    _refuse(side_by_side, "several models, given as label -> model")
    x = _images_for(model, images)
    if len(x) < n:
        raise ValueError(f"n = {n} pairs were asked for, but there are only {len(x)} images")
    pairs = [_square(x[:n]), _square(reconstruct(model, x[:n]))]
    ax = _tiles(np.concatenate(pairs, axis=2), per_row=8, ax=ax)
    ax.set_title("pairs: original | reconstruction")
    return ax.figure


def _refuse(options: Mapping[str, object], takers: str) -> None:
    """Raise TypeError for options that would have no effect."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise TypeError(f"{', '.join(given)} can only be given with {takers}")


@use_style()
def plot_generation(
    model: torch.nn.Module | Mapping[str, torch.nn.Module],
    n: int = 24,
    *,
    noise: torch.Tensor | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Decodings of n draws z of N(0, I), twelve to a row; `noise` as in `generate`.

    Several models, given as label -> model, get a row each, with the same draws for all. Raises
    TypeError or ValueError for a wrong n or noise and for options without effect.
    """
    if isinstance(model, Mapping):
        _refuse({"ax": ax}, "one model")
        return compare_generations(model, n, noise=noise)
    ax = _tiles(_square(generate(model, n, noise)), per_row=12, ax=ax)
    ax.set_title(r"decoded draws of the prior, $z \sim \mathcal{N}(0, I)$")
    return ax.figure


def compare_reconstructions(
    models: Mapping[str, torch.nn.Module],
    images: torch.Tensor,
    *,
    errors: bool = False,
    column_titles: Sequence[str] | None = None,
    row_notes: Mapping[str, str] | None = None,
) -> Figure:
    """The originals, then one row of reconstructions per model (label -> model).

    images: float (N, image_size) or (N, 1, H, W) with pixels in [0, 1], one column each. With
    `errors` every row is followed by reconstruction minus original, on one scale for all.
    `row_notes` maps labels to a remark at the right end of the row, such as a loss.
    """
    check_any(models, "models")
    originals = _images_for(next(iter(models.values())), images)
    labels, rows, signed = ["original"], [originals], []
    for label, model in models.items():
        labels.append(label)
        rows.append(reconstruct(model, originals))
        if errors:
            signed.append(len(rows))
            labels.append("difference")
            rows.append(rows[-1] - originals)
    notes = [(row_notes or {}).get(label, "") for label in labels]
    return _image_grid(labels, rows, column_titles, notes, signed)


def compare_generations(
    models: Mapping[str, torch.nn.Module],
    n: int = 12,
    *,
    noise: torch.Tensor | None = None,
    row_notes: Mapping[str, str] | None = None,
) -> Figure:
    """One row of n decoded draws of N(0, I) per model, the same draws for all; see `generate`."""
    check_any(models, "models")
    rows = {label: generate(model, n, noise) for label, model in models.items()}
    return image_rows(rows, row_notes=row_notes)


def image_rows(
    rows: Mapping[str, torch.Tensor],
    *,
    column_titles: Sequence[str] | None = None,
    row_notes: Mapping[str, str] | None = None,
    signed: Collection[str] = (),
    ax: Axes | None = None,
) -> Figure:
    """Rows of square images (label -> float (N, pixels) in [0, 1]), one below the other.

    Labels stand at the left, `row_notes` (label -> text) at the right. Rows whose label is in
    `signed` are differences in [-1, 1] and get a diverging colour scale.
    """
    check_any(rows, "rows")
    labels = list(rows)
    notes = [(row_notes or {}).get(label, "") for label in labels]
    marked = [i for i, label in enumerate(labels) if label in signed]
    return _image_grid(labels, list(rows.values()), column_titles, notes, marked, ax)


def plot_samples_by_class(
    images: torch.Tensor,
    labels: torch.Tensor,
    class_names: Sequence[str],
    per_class: int = 4,
) -> Figure:
    """The first `per_class` images of every class, one class per column.

    images: float (N, pixels) or (N, 1, H, W) in [0, 1]; labels: int (N,) into class_names.
    """
    check_positive_int(per_class, "per_class")
    _check_rows(["images"], [images], ())
    members = [(labels == c).nonzero().flatten()[:per_class] for c in range(len(class_names))]
    if short := [name for name, m in zip(class_names, members, strict=True) if len(m) < per_class]:
        raise ValueError(f"fewer than per_class = {per_class} images of {', '.join(short)}")
    rows = [images[index] for index in torch.stack(members, dim=1)]
    return _image_grid([""] * per_class, rows, class_names, [""] * per_class)


@use_style()
def _image_grid(labels, rows, column_titles, notes, signed=(), ax=None) -> Figure:
    """One image row per label; the rows numbered in `signed` hold differences."""
    cells = np.stack([_square(x) for x in _check_rows(labels, rows, signed)])
    if column_titles is not None and len(column_titles) != cells.shape[1]:
        raise ValueError(
            f"{cells.shape[1]} column_titles are needed, one per image, got {len(column_titles)}"
        )
    labels = [label.replace(" (", "\n(", 1) for label in labels]
    left, right = _text_width(labels), _text_width(notes) + (0.55 if len(signed) else 0)
    ax = ax or _grid_axes(cells.shape[:2], 1.0, left, right, top=0.3 if column_titles else 0.05)
    _draw_cells(ax, cells, signed)
    step_y, step_x = (size + 2 for size in cells.shape[2:])
    ax.set_yticks(step_y * np.arange(len(cells)) + step_y / 2 - 1.5, labels)
    if column_titles is not None:
        ticks = step_x * np.arange(cells.shape[1]) + step_x / 2 - 1.5
        ax.set_xticks(ticks, [break_name(name) for name in column_titles])
        ax.tick_params(axis="x", top=False, labeltop=True, labelbottom=False, labelsize=7, pad=1)
    for row, note in enumerate(notes):
        middle = step_y * row + step_y / 2 - 1.5
        ax.text(1.01, middle, note, va="center", fontsize=7.5, transform=ax.get_yaxis_transform())
    return ax.figure


def _check_rows(labels, rows, signed) -> list[torch.Tensor]:
    """The rows flattened to (N, pixels), all of one shape; differences may be negative."""
    first = rows[0]
    pixels = math.prod(first.shape[1:]) if isinstance(first, torch.Tensor) else 784
    flat = []
    for i, (label, row) in enumerate(zip(labels, rows, strict=True)):
        name = f"images of row {label!r}"
        if i in signed and isinstance(row, torch.Tensor):
            check_images(row.abs(), pixels, f"absolute {name}")
            flat.append(row.flatten(1))
        else:
            flat.append(check_images(row, pixels, name))
        if len(flat[-1]) != len(flat[0]):
            raise ValueError(
                f"every row must hold the same number of images: {labels[0]!r} has "
                f"{len(flat[0])}, {label!r} has {len(flat[-1])}"
            )
    return flat


def _tiles(cells: np.ndarray, per_row: int, ax: Axes | None) -> Axes:
    """Cells (N, H, W) in rows of at most `per_row`; the rest of the last row stays empty."""
    n, height, width = cells.shape
    columns = min(n, per_row)
    rows = math.ceil(n / columns)
    padded = np.full((rows * columns, height, width), np.nan)
    padded[:n] = cells
    ax = ax or _grid_axes((rows, columns), width / height, 0, 0, top=0.2)
    _draw_cells(ax, padded.reshape(rows, columns, height, width))
    return ax


def _grid_axes(shape, aspect: float, left: float, right: float, top: float) -> Axes:
    """Axes of a new figure in which rows x columns cells (width = aspect x height) fill the page.

    left, right and top are the inches that labels take.
    """
    rows, columns = shape
    cell = (WIDTH - left - right - 0.1) / columns / aspect
    cell = min(cell, 0.8, (MAX_HEIGHT - top - 0.1) / rows)
    return new_figure(rows * cell + top + 0.1, "compressed").subplots()


def _draw_cells(ax: Axes, cells: np.ndarray, signed: Collection[int] = ()) -> None:
    """Cells (rows, columns, H, W) two pixels apart; a pixel of the data is a sharp square.

    The gaps are opaque white: transparent ones show as gray lines in PDF viewers.
    """
    rows, columns, height, width = cells.shape
    spaced = np.full((rows, height + 2, columns, width + 2), np.nan)
    spaced[:, :height, :, :width] = cells.transpose(0, 2, 1, 3)
    spaced = spaced.reshape(rows, height + 2, -1)[:, :, :-2]
    gray = spaced.copy()
    gray[list(signed)] = np.nan
    look = {"vmax": 1, "interpolation": "nearest"}
    colors = mpl.colormaps["gray"].with_extremes(bad="white")
    ax.imshow(gray.reshape(-1, gray.shape[2])[:-2], cmap=colors, vmin=0, **look)
    ax.autoscale(False)
    colors = mpl.colormaps["RdBu_r"].with_extremes(bad="white")
    for row in signed:
        top = row * (height + 2) - 0.5
        extent = (-0.5, gray.shape[2] - 0.5, top + height, top)
        drawn = ax.imshow(spaced[row, :height], cmap=colors, vmin=-1, extent=extent, **look)
    if len(signed):
        bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.6, aspect=25, pad=0.02, ticks=[-1, 0, 1])
        bar.set_label("reconstruction − original", fontsize=7)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set(xticks=[], yticks=[])
    ax.tick_params(length=0)


def _square(images: torch.Tensor) -> np.ndarray:
    """Images (N, pixels) as an array (N, side, side)."""
    side = math.isqrt(images.shape[1])
    if side * side != images.shape[1]:
        raise ValueError(f"images must be square, got {images.shape[1]} pixels")
    if not torch.isfinite(images).all():  # they would be drawn white
        raise ValueError("pixels are NaN or infinite: the model's weights are; train it anew")
    return images.detach().cpu().float().numpy().reshape(-1, side, side)


def _text_width(texts: Sequence[str]) -> float:
    """Inches that the longest line of the texts takes at 7.5 points, and a little space."""
    font = FontProperties(family=STYLE["font.family"])
    lines = [line for text in texts for line in text.split("\n") if line]
    widths = [TextPath((0, 0), line, size=7.5, prop=font).get_extents().width for line in lines]
    return max(widths) / 72 + 0.15 if widths else 0.0
