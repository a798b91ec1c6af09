"""Charts of training and evaluation: curves, intervals, planes and histograms.

Every function returns the matplotlib Figure it drew (or the one that holds the Axes given) and
goes without pyplot, so that a notebook shows it once.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import (
    CLASS_COLORS,
    COLORS,
    DASHES,
    MARKERS,
    WIDTH,
    check_any,
    looks_of,
    new_figure,
    use_style,
)


@use_style()
def plot_loss_curves(
    curves: Mapping[str, Sequence[Mapping[str, Sequence[float]]]],
    *,
    zoom: float = 1 / 6,
    looks: Mapping[str, int] | None = None,
    enlarge: int = 0,
) -> Figure:
    """Loss, reconstruction and KL against the epoch, in nats per image.

    curves: label -> histories (one per seed) as in `training.TrainResult.history`. Lines are
    means over seeds of the validation values, bands reach from the smallest to the largest seed;
    in the first panel dashed lines are the training values. The vertical limits are those after
    the first `zoom` of the epochs, so that the first steps do not flatten the rest. A panel more
    shows the means of the last `enlarge` epochs (0: none), without curves far above the best.
    looks: as in `style.looks_of`.
    """
    check_any(curves, "curves")
    fig = new_figure(2.5)
    places = looks_of(curves, looks)
    axes = list(fig.subplots(1, 4 if enlarge else 3))
    enlarged = axes.pop(1) if enlarge else None
    total = "loss" if enlarge else "loss (reconstruction + KL)"
    panels = {"total": total, "reconstruction": "reconstruction", "kl": "KL"}
    for ax, (term, title) in zip(axes, panels.items(), strict=True):
        shown = []
        for i, (label, histories) in enumerate(curves.items()):
            validated = _seed_values(label, histories, f"validation_{term}")
            first = int(zoom * validated.shape[1])
            named = label if term == "total" else None
            _draw_curve(ax, validated, places[i], i / len(curves), named)
            shown.append(validated[:, first:])
            if term == "total":
                trained = _seed_values(label, histories, "train_total")
                ax.plot(np.arange(1, trained.shape[1] + 1), trained.mean(0),
                        color=COLORS[places[i]], linestyle=DASHES[1], linewidth=0.9)
                shown.append(trained[:, first:])
        ax.set_ylim(*_limits(np.concatenate([values.ravel() for values in shown])))
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(4 if enlarge else 5, integer=True))
    axes[0].set_ylabel("nats per image")
    axes[0].plot([], [], color="0.4", linestyle=DASHES[1], linewidth=0.9, label="dashed: training")
    fig.legend(loc="outside upper center", ncols=min(4, len(curves) + 1))
    if enlarge:
        means = [_seed_values(*item, "validation_total").mean(0) for item in curves.items()]
        _draw_last_epochs(enlarged, means, places, enlarge)
    return fig


def _draw_curve(ax: Axes, values: np.ndarray, look: int, phase: float, label: str | None) -> None:
    """Mean and range over seeds of values (seeds, epochs), marked at about five epochs.

    phase: where in [0, 1) between two marked epochs the first lies, to keep markers apart.
    """
    epochs = np.arange(1, values.shape[1] + 1)
    every = max(1, len(epochs) // 5)
    ax.plot(epochs, values.mean(0), color=COLORS[look], marker=MARKERS[look], markersize=3,
            markevery=(int(phase * every), every), label=label)  # fmt: skip
    ax.fill_between(epochs, values.min(0), values.max(0), color=COLORS[look], alpha=0.2,
                    linewidth=0)  # fmt: skip


def _draw_last_epochs(ax: Axes, means: Sequence[np.ndarray], places, epochs: int) -> None:
    """The last epochs of all curves that end at most 1.5 nats above the lowest."""
    near = min(mean[-1] for mean in means) + 1.5
    for i, (mean, look) in enumerate(zip(means, places, strict=True)):
        if mean[-1] <= near:
            x = np.arange(len(mean) - epochs, len(mean)) + 1
            ax.plot(x, mean[-epochs:], color=COLORS[look], marker=MARKERS[look], markersize=3,
                    markevery=(i % 3, 3))  # fmt: skip
    ax.set(title=f"loss, last {epochs} epochs", xlabel="epoch")
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))


def _seed_values(label: str, histories, name: str) -> np.ndarray:
    """Array (seeds, epochs) of one history entry."""
    lengths = sorted({len(history[name]) for history in histories})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            f"{label}: the seeds' histories must have one equal number of epochs, got {lengths}"
        )
    return np.array([history[name] for history in histories], dtype=float)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The finite values' range and 5 % on either side."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


@use_style()
def plot_lines(
    series: Mapping[str, tuple],
    xlabel: str,
    ylabel: str,
    *,
    logx: bool = False,
    looks: Mapping[str, int] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Lines with labels at their right ends; series: label -> (x, y) or (x, y, low, high).

    low and high, if not None, bound a band. With `logx` the ticks stand at the data's x values.
    looks: as in `style.looks_of`.
    """
    check_any(series, "series")
    ax = ax or new_figure(2.6).subplots()
    ends, all_x, places = [], set(), looks_of(series, looks)
    for i, (x, y, *band) in zip(places, series.values(), strict=True):
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        ax.plot(x, y, color=COLORS[i], marker=MARKERS[i], linestyle=DASHES[i])
        if len(band) == 2 and band[0] is not None and band[1] is not None:
            low, high = (np.asarray(b, dtype=float) for b in band)
            ax.fill_between(x, low, high, color=COLORS[i], alpha=0.2, linewidth=0)
        ends.append((x[-1], y[-1]))
        all_x.update(x)
    if logx:
        ax.set_xscale("log")
        ax.minorticks_off()
        ticks = _thinned(sorted(all_x))
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set(xlabel=xlabel, ylabel=textwrap.fill(ylabel, 36))
    _label_line_ends(ax, list(series), ends, [COLORS[i] for i in places])
    return ax.figure


def _thinned(ticks: list[float], at_most: int = 12) -> list[float]:
    return ticks[:: math.ceil(len(ticks) / at_most)]


def _label_line_ends(ax: Axes, labels: Sequence[str], ends, colors: Sequence[str]) -> None:
    """Each label right of its line's end, moved up or down just enough to stay clear of others."""
    ax.autoscale_view()
    ax.figure.draw_without_rendering()  # the layout, and with it the height of a line of text
    to_axes = ax.transAxes.inverted()
    at = np.array([to_axes.transform(ax.transData.transform(end)) for end in ends])
    line = 9.5 / 72 * ax.figure.dpi / ax.get_window_extent().height
    for i, (label, y) in enumerate(zip(labels, _spread(at[:, 1], line), strict=True)):
        ax.plot([at[i, 0], 1.03], [at[i, 1], y], color=colors[i], linewidth=0.5,
                transform=ax.transAxes, clip_on=False, scalex=False, scaley=False)  # fmt: skip
        ax.text(1.04, y, label, color=_darker(colors[i]), va="center", fontsize=7.5,
                transform=ax.transAxes)  # fmt: skip


def _spread(positions: np.ndarray, gap: float) -> np.ndarray:
    """Positions moved apart to at least `gap`, their order kept, each cluster about its mean."""
    order = np.argsort(positions, kind="stable")
    clusters: list[list[float]] = []  # [sum of positions, count]
    for value in positions[order]:
        clusters.append([value, 1])
        while len(clusters) > 1:
            (a, n), (b, m) = clusters[-2:]
            if b / m - a / n >= gap * (n + m) / 2 - 1e-12:
                break
            clusters[-2:] = [[a + b, n + m]]
    moved = [s / n + gap * (k - (n - 1) / 2) for s, n in clusters for k in range(n)]
    result = np.empty(len(positions))
    result[order] = moved
    return result


@use_style()
def plot_rate_distortion(
    points: Mapping[str, tuple],
    *,
    distortion_label: str = "distortion: reconstruction",
    looks: Mapping[str, int] | None = None,
    enlarge: Sequence[str] = (),
) -> Figure:
    """Reconstruction against KL, both in nats per image, with lines of equal negative ELBO.

    points: label -> (rate, distortion), each a number or one number per seed. Of two models on one
    line, the right one spends more on the latents to reconstruct better (arXiv:1711.00464).
    enlarge: labels shown again in a second panel, where their points would cover each other.
    looks: as in `style.looks_of`.
    """
    check_any(points, "points")
    places = dict(zip(points, looks_of(points, looks), strict=True))
    if not enlarge:
        ax = new_figure(3.1).subplots()
        _draw_rate_distortion(ax, points, places, list(points))
        axes = [ax]
    else:
        axes = new_figure(2.9).subplots(1, 2, width_ratios=[1, 1.35])
        alone = [label for label in points if label not in enlarge]
        _draw_rate_distortion(axes[0], points, places, alone)
        some = {label: points[label] for label in enlarge}
        _draw_rate_distortion(axes[1], some, places, list(some))
        _frame(axes[0], axes[1])
    axes[0].set_ylabel(f"{distortion_label} (nats per image)")
    axes[-1].set_title("lines: equal loss, rate + distortion", fontsize=7.5, color="0.4",
                       loc="right")  # fmt: skip
    return axes[0].figure


def _draw_rate_distortion(ax: Axes, points: Mapping[str, tuple], places, named) -> None:
    """The points of all models, with labels for those `named`."""
    centers, drawn = {}, []
    for label, (rate, distortion) in points.items():
        rate, distortion = np.atleast_1d(rate), np.atleast_1d(distortion)
        look = places[label]
        ax.plot(rate, distortion, MARKERS[look], color=COLORS[look], alpha=0.85, markersize=5,
                markeredgewidth=0)  # fmt: skip
        centers[label] = (rate.mean(), distortion.mean())
        drawn += zip(rate, distortion, strict=True)
    ax.margins(x=0.2, y=0.15)  # room for labels
    ax.set_xlabel("rate: KL (nats per image)")
    ax.grid(False)
    _draw_iso_elbo(ax)
    colors = [COLORS[places[label]] for label in named]
    _place_labels(ax, named, [centers[label] for label in named], colors, around=drawn)


def _frame(ax: Axes, enlarged: Axes) -> None:
    """A frame in `ax` around what `enlarged` shows."""
    (left, right), (bottom, top) = enlarged.get_xlim(), enlarged.get_ylim()
    ax.add_patch(mpl.patches.Rectangle((left, bottom), right - left, top - bottom, fill=False,
                                       edgecolor="0.4", linewidth=0.7))  # fmt: skip
    ax.annotate("enlarged right", (right, bottom), (0, -3), textcoords="offset points",
                fontsize=6.5, color="0.4", ha="right", va="top")  # fmt: skip


def _draw_iso_elbo(ax: Axes) -> None:
    """Lines rate + distortion = constant across the Axes, each with its constant."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for level in MaxNLocator(7).tick_values(left + bottom, right + top):
        x = np.array([max(left, level - top), min(right, level - bottom)])
        if x[1] - x[0] < 0.12 * (right - left):
            continue
        ax.plot(x, level - x, color="0.75", linewidth=0.7, zorder=0, scalex=False, scaley=False)
        at = x[0] + 0.03 * (right - left)
        ax.text(at, level - at, f"{level:g}", color="0.45", fontsize=6.5, rotation=-45, ha="left",
                va="center", rotation_mode="anchor", transform_rotates_text=True, zorder=0.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
    ax.set(xlim=(left, right), ylim=(bottom, top))


BESIDE = [
    (5, 0, "left", "center"), (-5, 0, "right", "center"), (0, 5, "center", "bottom"),
    (0, -5, "center", "top"), (4, 5, "left", "bottom"), (4, -5, "left", "top"),
    (-4, 5, "right", "bottom"), (-4, -5, "right", "top"), (0, 14, "center", "bottom"),
    (0, -14, "center", "top"), (12, 14, "left", "bottom"), (12, -14, "left", "top"),
    (-12, 14, "right", "bottom"), (-12, -14, "right", "top"),
]  # fmt: skip
CENTERED = [(0, y, "center", "center") for y in (0, 5, -5, 9, -9, 13, -13)]


def _place_labels(ax: Axes, labels, points, colors, around=None) -> None:
    """A label for each point (data coordinates), where it covers least of what is there.

    Beside its point and clear of the points `around`; without these, centred on its point and
    clear of the other labels only.
    """
    ax.figure.draw_without_rendering()
    stroke = [patheffects.withStroke(linewidth=1.8, foreground="white")]
    size = 3.5 / 72 * ax.figure.dpi  # half a marker and its space
    pixels = [] if around is None else ax.transData.transform(np.asarray(around, dtype=float))
    taken = [mpl.transforms.Bbox([p - size, p + size]) for p in pixels]
    offsets = CENTERED if around is None else BESIDE
    for i, (label, point) in enumerate(zip(labels, points, strict=True)):
        color = _darker(colors[i % len(colors)])
        text = ax.annotate(label, point, (0, 0), textcoords="offset points", fontsize=7,
                           color=color, path_effects=stroke)  # fmt: skip
        boxes = []
        for x, y, ha, va in offsets:
            text.set(position=(x, y), ha=ha, va=va)
            boxes.append(text.get_window_extent())
        best = int(np.argmin([_covered(box, taken, ax.get_window_extent()) for box in boxes]))
        x, y, ha, va = offsets[best]
        text.set(position=(x, y), ha=ha, va=va)
        taken.append(boxes[best])
        if around is not None and abs(y) > 10:  # too far to be read as this point's
            line = {"arrowstyle": "-", "linewidth": 0.5, "color": color, "shrinkA": 0, "shrinkB": 2}
            ax.annotate("", point, (x, y), textcoords="offset points", arrowprops=line)


def _covered(box, taken, frame) -> float:
    """Pixels of `box` on the boxes taken, plus those outside the frame."""
    overlaps = (mpl.transforms.Bbox.intersection(box, other) for other in taken)
    inside = mpl.transforms.Bbox.intersection(box, frame)
    area = box.width * box.height
    outside = area - (inside.width * inside.height if inside else 0)
    return sum(o.width * o.height for o in overlaps if o) + outside


def _darker(color: str) -> tuple[float, float, float]:
    """The colour at three quarters of its brightness: readable as text on white."""
    return tuple(0.75 * c for c in mpl.colors.to_rgb(color))


@use_style()
def plot_kl_per_dimension(
    per_model: Mapping[str, torch.Tensor],
    *,
    active: Mapping[str, torch.Tensor] | None = None,
    floor: float = 1e-3,
    looks: Mapping[str, int] | None = None,
) -> Figure:
    """The mean KL of every latent dimension, largest first, on a logarithmic scale.

    per_model: label -> (z_dim,) in nats per image. active: label -> bool (z_dim,) in the same
    order; dimensions that are not active get hollow markers. Values below `floor` are drawn there.
    looks: as in `style.looks_of`.
    """
    check_any(per_model, "per_model")
    fig = new_figure(2.6)
    ax = fig.subplots()
    ends, drawn, places = [], [], looks_of(per_model, looks)
    for i, (label, kl) in zip(places, per_model.items(), strict=True):
        kl = np.asarray(kl, dtype=float)
        order = np.argsort(-kl, kind="stable")
        rank, height = np.arange(1, len(kl) + 1), np.maximum(kl[order], floor)
        look = {"color": COLORS[i], "marker": MARKERS[i], "markersize": 3.5}
        used = np.ones(len(kl), bool) if active is None else np.asarray(active[label], bool)[order]
        ax.plot(rank, height, color=COLORS[i], linestyle=DASHES[i], linewidth=0.9)
        ax.plot(rank[used], height[used], linestyle="", **look)
        ax.plot(rank[~used], height[~used], linestyle="", **look, markerfacecolor="white")
        ends.append((rank[-1], height[-1]))
        drawn += zip(rank, height, strict=True)
    ax.set_yscale("log")
    ax.margins(y=0.15)  # room for labels
    ax.set(xlabel="latent dimension, by rank of its KL", ylabel="KL (nats per image)")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if active is not None:
        ax.set_title("hollow: inactive dimensions", fontsize=7.5, color="0.4", loc="right")
    _place_labels(ax, list(per_model), ends, [COLORS[i] for i in places], around=drawn)
    return fig


@use_style()
def plot_latent_map(
    points: Mapping[str, tuple], class_names: Sequence[str], *, xlabel: str = "", ylabel: str = ""
) -> Figure:
    """Points in the plane, coloured by class and labelled at each class's median.

    points: panel title -> (xy (N, 2), labels (N,) into class_names); up to three panels.
    """
    check_any(points, "points")
    fig = new_figure(min(3.3, WIDTH / len(points)))
    axes = fig.subplots(1, len(points), squeeze=False)[0]
    for ax, (title, (xy, labels)) in zip(axes, points.items(), strict=True):
        xy, labels = np.asarray(xy, dtype=float), np.asarray(labels)
        if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) != len(labels):
            raise ValueError(f"{title}: xy must be (N, 2) with N labels, got {xy.shape}, "
                             f"{labels.shape}")  # fmt: skip
        colors = np.array(CLASS_COLORS)[labels % 10]
        ax.scatter(*xy.T, s=2.5, c=colors, alpha=0.6, linewidths=0, rasterized=True)
        low, high = np.percentile(xy, [0.5, 99.5], axis=0)
        margin = 0.05 * (high - low)
        ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), title=title, xlabel=xlabel,
               ylim=(low[1] - margin[1], high[1] + margin[1]), ylabel=ylabel)  # fmt: skip
        ax.grid(False)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="0.7")
    for ax, (xy, labels) in zip(axes, points.values(), strict=True):
        present = np.unique(np.asarray(labels))
        medians = [np.median(np.asarray(xy)[np.asarray(labels) == c], axis=0) for c in present]
        names = [class_names[c] for c in present]
        _place_labels(ax, names, medians, ["0.1"])
    return fig
