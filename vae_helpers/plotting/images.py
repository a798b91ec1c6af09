"""Pictures of what models reconstruct and generate: grids and rows of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize

from ..data import Split
from ..engine.guards import check_choice, check_images, check_positive_int
from .display import Chart, chart
from .outputs import generate, labelled, reconstruct
from .style import MAX_HEIGHT

GAP = 2  # pixels between two images
# From dark to light through gray, so that a gray print shows the sign, too.
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#00083a", "#1238b0", "0.56", "#ffc24a", "#fffbd6"]
)


def plot_reconstruction(
    model,
    images: torch.Tensor | Split | None = None,
    n: int | None = None,
    *,
    z: str = "sample",
    errors: bool = False,
    titles: Sequence[str] | None = None,
) -> Chart:
    """The first n images (or fewer) and what models make of them.

    model: what `study.train` returned, any `nn.Module`, a list of them, or label -> model. One:
    pairs (original | reconstruction), eight to a row; n is 24 by default. Several: the originals
    and a row for every model, n (12) images wide. At the end of a row stands the mean absolute
    error of its pixels, in gray values from 0 to 1: |reconstruction - original| averaged over all
    pixels of the images shown. Logits are drawn as their sigmoid, which the figure says.

    images: float (N, pixels), (N, H, W) or (N, channels, H, W) with pixels in [0, 1], or a Split.
    z: "sample" decodes one draw of z per image, the same noise for all models; "mean" its mean;
    "both" draws a row of each, but one row where z is not random. errors: under every such row,
    reconstruction minus original (the mean of the channels), on one scale for all. titles: of the
    columns, one per image; for a Split, the names of its classes. With `errors`, `titles` or
    z="both" one model is drawn in rows, too. Raises TypeError or ValueError, saying what to pass,
    for images or models that can not be drawn.
    """
    if images is None or isinstance(images, int):
        raise TypeError(
            "plot_reconstruction needs images: plot_reconstruction(model, images, n=24) with "
            "data.test.first_of_each_class(), or floats in [0, 1] of shape (N, 784) or (N, 1, H, W)"
        )
    models, several = labelled(model)
    check_choice(z, ("sample", "mean", "both"), "z")
    in_rows = several or errors or z == "both" or titles is not None
    n = check_positive_int((12 if in_rows else 24) if n is None else n, "n")
    if isinstance(images, Split):
        images = images.take(slice(n))
        titles = titles and [titles[label] for label in images.labels.tolist()]
        images = images.floats()
    check_images(images, None)
    images = images[:n]
    original, made = _drawable(images), {}
    for label, each in models.items():
        drawn, remark = reconstruct(each, images, at_mean=z == "mean")
        made[f"{label}\n{remark}".rstrip()] = drawn
        if z == "both":
            mean, _ = reconstruct(each, images, at_mean=True)
            made |= {} if torch.equal(mean, drawn) else {f"{label}\nz = mean": mean}
    if not in_rows:
        pairs = np.concatenate([original, _drawable(drawn)], axis=2)
        return _draw(pairs, 8, title=f"pairs: original | reconstruction {remark}")
    if len(titles or images) != len(images):
        raise ValueError(f"{len(images)} titles are needed, one per image, got {len(titles)}")
    rows = [("original", original, "")]
    for label, pixels in made.items():
        picture = _drawable(pixels)
        rows.append((label, picture, f"{np.abs(picture - original).mean():.3f}"))
        if errors:
            difference = SIGNED(((picture - original).mean(-1) + 1) / 2)[..., :3]
            rows.append(("difference", difference, ""))
    labels, pictures, ends = zip(*rows, strict=True)
    return _draw(np.concatenate(pictures), len(images), labels, titles or (), ends, signed=errors)


def plot_generation(
    model, n: int | None = None, *, z_dim: int | None = None, decode: Callable | None = None
) -> Chart:
    """Decodings of n draws of N(0, I), the same draws for all models.

    model: as in `plot_reconstruction`. One: twelve to a row; n is 24 by default. Several: a row
    of n (12) images for every model. z_dim: the width of z for a model whose forward does not tell.
    decode: a function from z (N, z_dim) to pixels, for one model that has neither `decode` nor
    `decoder`. Logits are drawn as their sigmoid, which the figure says. Raises TypeError or
    ValueError, saying what to pass, for models that can not be drawn.
    """
    models, several = labelled(model)
    if decode is not None and len(models) > 1:
        raise ValueError("decode= is for one model; draw the others by themselves")
    n = (12 if several else 24) if n is None else n
    made = {}
    for label, each in models.items():
        images, remark = generate(each, n, z_dim=z_dim, decode=decode)
        made[f"{label}\n{remark}".rstrip()] = images
    if several:
        return image_rows(made)
    title = rf"decoded draws of the prior, $z \sim \mathcal{{N}}(0, I)$ {remark}"
    return _draw(_drawable(images), 12, title=title)


def image_rows(rows: Mapping[str, torch.Tensor]) -> Chart:
    """Rows of images (label -> float (N, pixels), (N, H, W) or (N, channels, H, W) in [0, 1])."""
    rows, _ = labelled(rows, "rows")
    for label, images in rows.items():
        check_images(images, None, f"images of row {label!r}")
    pictures = [_drawable(images) for images in rows.values()]
    if len(shapes := {picture.shape for picture in pictures}) > 1:
        raise ValueError(f"rows must hold equally many images of one size, got {sorted(shapes)}")
    return _draw(np.concatenate(pictures), len(pictures[0]), [*rows])


def plot_samples_by_class(split: Split, class_names: Sequence[str], per_class: int = 4) -> Chart:
    """The first `per_class` images of every class, one class per column."""
    check_positive_int(per_class, "per_class")
    members = [(split.labels == c).nonzero()[:per_class, 0] for c in range(len(class_names))]
    if short := [name for name, m in zip(class_names, members, strict=True) if len(m) < per_class]:
        raise ValueError(f"fewer than per_class = {per_class} images of {', '.join(short)}")
    order = torch.stack(members, dim=1).flatten()
    return _draw(_drawable(split.take(order).floats()), len(class_names), titles=class_names)


def _drawable(images: torch.Tensor) -> np.ndarray:
    """Images as an array (N, H, W, 3)."""
    sizes = images.shape[1:]
    if len(sizes) == 1 and math.isqrt(sizes[0]) ** 2 == sizes[0]:
        sizes = (1, math.isqrt(sizes[0]), math.isqrt(sizes[0]))
    sizes = (1, *sizes) if len(sizes) == 2 else sizes
    if len(sizes) != 3 or sizes[0] not in (1, 3):
        raise ValueError(
            f"images of {' x '.join(map(str, sizes))} values can not be drawn; pass (N, 1, H, W), "
            "(N, 3, H, W) or flat squares"
        )
    colored = images.detach().cpu().float().reshape(-1, *sizes).expand(-1, 3, -1, -1)
    return colored.permute(0, 2, 3, 1).numpy()


@chart
def _draw(
    cells: np.ndarray, columns: int, labels=(), titles=(), ends=(), *, title="", signed=False
) -> Chart:
    """Cells (N, H, W, 3) in rows of at most so many; a pixel of the data is a sharp square.

    labels, ends: left and right of the rows; the ends are mean errors. titles: of the columns.
    signed: with the scale of `SIGNED`. The gaps are opaque white: transparent ones show as gray
    lines in PDF viewers.
    """
    count, height, width = cells.shape[:3]
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    down, across = height + GAP, width + GAP  # from one image to the next
    shown = np.ones((rows * columns, down, across, 3))
    shown[:count, :height, :width] = cells
    shown = shown.reshape(rows, columns, down, across, 3).swapaxes(1, 2)
    shown = shown.reshape(rows * down, columns * across, 3)[:-GAP, :-GAP]
    figure = Chart(min(MAX_HEIGHT, 0.9 * rows + 0.4))
    ax = figure.subplots()
    ax.imshow(shown, interpolation="nearest")
    ax.set_title(title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    middles = down * np.arange(rows) + (height - 1) / 2
    ax.set_yticks(middles[: len(labels)], [label.replace(" (", "\n(", 1) for label in labels])
    names = [name.replace("/", "/\n").replace(" ", "\n") for name in titles]
    ax.set_xticks(across * np.arange(len(names)) + (width - 1) / 2, names, fontsize=7)
    for y, end in [
        (-0.3 * down, "mean\n|error|" if ends else ""),
        *zip(middles, ends, strict=False),
    ]:
        ax.text(columns * across, y, end, va="center", fontsize=7)
    if signed:
        beside = ax.inset_axes([1.1, 0.2, 0.018, 0.6])
        scale = ScalarMappable(Normalize(-1, 1), SIGNED)
        bar = figure.colorbar(scale, cax=beside, ticks=[-1, 0, 1])
        bar.set_label("reconstruction \u2212 original", fontsize=7, labelpad=-1)
    return figure
