"""Charts of training and evaluation: loss curves, latents in use, latent maps, classes.

All take label -> values and, as `looks`, the `style.Looks` of the study, so that a model looks the
same in all of its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .style import Chart, Looks, break_name, check_any, use_style

TITLES = {"total": "loss", "reconstruction": "reconstruction", "kl": "KL"}
NEAR = 1.5  # nats: the enlarged panel shows the curves that end at most so far above the lowest
DOTTED = {"linestyle": ":", "linewidth": 1}
TRAINED_UP_TO = 3  # models of a figure that also shows their training loss
# Ten classes: dark and strong colours, any two of them at least 32 apart in CIELAB.
CLASS_COLORS = (
    "#1f4fd8", "#000000", "#d81b1b", "#00b7d8", "#ff8c00",
    "#1a7f2e", "#8e2bd9", "#8fd400", "#8a4b20", "#ff6fc1",
)  # fmt: skip


@use_style()
def plot_loss_curves(
    histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]],
    looks: Looks | None = None,
    *,
    enlarge: int = 0,
) -> Chart:
    """Loss, reconstruction and KL of the validation images against the epoch, nats per image.

    histories: label -> one history per seed, as training keeps them. Lines are means over seeds,
    bands reach from the smallest to the largest seed. With up to three models dotted lines show
    the training loss. A KL panel needs models that all have a KL term; where none has one,
    reconstruction is the loss and gets no panel. The vertical limits are those after the first
    sixth of the epochs.

    enlarge: instead of reconstruction and KL show the last so many epochs of the loss, without
    curves far above the best; this is for many models.
    """
    check_any(histories, "histories")
    looks = Looks() if looks is None else looks
    terms = {term: {label: _by_seed(label, group, f"validation_{term}")
                    for label, group in histories.items()} for term in TITLES}  # fmt: skip
    has_kl = [bool(kl.any()) for kl in terms["kl"].values()]
    if enlarge:
        ends = {label: values[:, -1].mean() for label, values in terms["total"].items()}
        near = {k: terms["total"][k] for k in ends if ends[k] <= min(ends.values()) + NEAR}
        panels = {TITLES["total"]: terms["total"], f"loss, last {enlarge} epochs": near}
    else:
        tells = {"total": True, "reconstruction": any(has_kl), "kl": all(has_kl)}
        panels = {title: terms[term] for term, title in TITLES.items() if tells[term]}
    figure = Chart(2.6 if len(histories) <= 4 else 3.0)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    trained = {}
    if len(histories) <= TRAINED_UP_TO:
        trained = {label: _by_seed(label, group, "train_total")
                   for label, group in histories.items()}  # fmt: skip
    for k, (ax, (title, curves)) in enumerate(zip(axes, panels.items(), strict=True)):
        _draw_panel(ax, curves, {} if k else trained, enlarge if k else 0, looks)
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel("nats per image")
    _legend(figure, list(histories), looks, "dotted: training loss" if trained else "")
    return figure


def _draw_panel(ax: Axes, curves: Mapping[str, np.ndarray], trained, last: int, looks) -> None:
    """Mean and range of values (seeds, epochs), of all epochs or the `last`, and limits to fit."""
    settled = []
    for i, (label, values) in enumerate(curves.items()):
        first = max(0, values.shape[1] - last) if last else 0
        settled.append(values[:, max(first, values.shape[1] // 6) :])
        epochs, values = np.arange(first, values.shape[1]) + 1, values[:, first:]
        every = max(1, len(epochs) // 5)
        marked = (i * every // len(curves), every)  # shifted, to keep the models' markers apart
        ax.plot(epochs, values.mean(0), markevery=marked, **looks[label]._asdict())
        ax.fill_between(epochs, values.min(0), values.max(0), color=looks[label].color, alpha=0.15,
                        linewidth=0)  # fmt: skip
    for label, values in trained.items():
        ax.plot(np.arange(values.shape[1]) + 1, values.mean(0), **DOTTED, color=looks[label].color)
        settled.append(values[:, values.shape[1] // 6 :])
    shown = np.concatenate([values.ravel() for values in settled])
    if np.isfinite(shown).any():
        low, high = shown[np.isfinite(shown)].min(), shown[np.isfinite(shown)].max()
        margin = 0.05 * (high - low) or 0.5
        ax.set_ylim(low - margin, high + margin)


def _by_seed(label: str, histories, name: str) -> np.ndarray:
    """Array (seeds, epochs) of one history entry."""
    lengths = sorted({len(history[name]) for history in histories})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            f"{label}: the seeds' histories must have one equal number of epochs, got {lengths}"
        )
    return np.array([history[name] for history in histories], dtype=float)


def _legend(figure: Chart, labels: Sequence[str], looks: Looks, dotted: str = "", **drop) -> None:
    """The looks of the labels above the panels, in rows of at most four; `drop` replaces parts."""
    ax = figure.axes[0]
    lines = [ax.plot([], [], label=label, **{**looks[label]._asdict(), **drop})[0]
             for label in labels]  # fmt: skip
    if dotted:
        lines += ax.plot([], [], color="0.4", label=dotted, **DOTTED)
    rows = -(-len(lines) // 4)
    figure.legend(handles=lines, loc="outside upper center", ncols=-(-len(lines) // rows),
                  handlelength=3)  # fmt: skip


@use_style()
def plot_kl_per_dimension(
    kl: Mapping[str, Sequence[float]],
    active: Mapping[str, Sequence[bool]] | None = None,
    looks: Looks | None = None,
    *,
    floor: float = 1e-3,
) -> Chart:
    """The mean KL of every latent dimension, largest first, on a logarithmic scale.

    kl: label -> (z_dim,) in nats per image. active: label -> bool (z_dim,) in the same order;
    dimensions that are not active get hollow markers. Values below `floor` are drawn there.
    """
    check_any(kl, "kl")
    looks = Looks() if looks is None else looks
    figure = Chart(2.7)
    ax = figure.subplots()
    for label, values in kl.items():
        values = np.asarray(values, dtype=float)
        order = np.argsort(-values, kind="stable")
        rank, height = np.arange(1, len(values) + 1), np.maximum(values[order], floor)
        used = np.asarray(active[label], bool)[order] if active else np.ones(len(values), bool)
        look = looks[label]
        ax.plot(rank, height, color=look.color, linestyle=look.linestyle, linewidth=0.9)
        for mask, face in ((used, look.color), (~used, "white")):
            ax.plot(rank[mask], height[mask], linestyle="", color=look.color, marker=look.marker,
                    markerfacecolor=face)  # fmt: skip
    ax.set_yscale("log")
    ax.set(xlabel="latent dimension, by rank of its KL", ylabel="KL (nats per image)")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if active:
        ax.set_title("hollow: inactive dimensions", fontsize=7.5, color="0.3", loc="right")
    _legend(figure, list(kl), looks)
    return figure


@use_style()
def plot_latent_map(points: Mapping[str, tuple], class_names: Sequence[str]) -> Chart:
    """Points in the plane, coloured by class, and each class's number where it is densest.

    points: panel title -> (xy (N, 2), labels (N,) into class_names); up to three panels and ten
    classes.
    """
    check_any(points, "points")
    figure = Chart(min(3.5, 6.3 / len(points) + 0.4))
    axes = figure.subplots(1, len(points), squeeze=False)[0]
    halo = [patheffects.withStroke(linewidth=2, foreground="white")]
    for ax, (title, (xy, labels)) in zip(axes, points.items(), strict=True):
        xy, labels = np.asarray(xy, dtype=float), np.asarray(labels)
        if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) != len(labels):
            raise ValueError(f"{title}: xy must be (N, 2) with N labels, got {xy.shape}, "
                             f"{labels.shape}")  # fmt: skip
        colors = np.array(CLASS_COLORS)[labels % 10]
        ax.scatter(*xy.T, s=3.5, c=colors, alpha=0.75, linewidths=0, rasterized=True)
        low, high = np.percentile(xy, [0.5, 99.5], axis=0)
        margin = 0.05 * (high - low)
        for c in np.unique(labels):
            ax.text(*_densest(xy[labels == c]), str(c), ha="center", va="center", fontsize=8,
                    fontweight="bold", path_effects=halo, clip_on=True)  # fmt: skip
        ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), title=title,
               ylim=(low[1] - margin[1], high[1] + margin[1]), xticks=[], yticks=[])  # fmt: skip
        ax.spines[:].set(visible=True, color="0.7")
    for c, name in enumerate(class_names):
        axes[0].plot([], [], "o", color=CLASS_COLORS[c % 10], label=f"{c} {name}")
    figure.legend(loc="outside upper center", ncols=5, handletextpad=0.2, columnspacing=1.2)
    return figure


def _densest(xy: np.ndarray) -> np.ndarray:
    """The point (of at most 500) whose tenth part of nearest neighbours lies closest."""
    some = xy[:500]
    distances = np.linalg.norm(some[:, None] - some[None], axis=2)
    return some[np.sort(distances, axis=1)[:, len(some) // 10].argmin()]


@use_style()
def plot_class_losses(
    differences: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    class_names: Sequence[str],
    looks: Looks | None = None,
    *,
    ylabel: str = "difference of the loss\n(nats per image)",
) -> Chart:
    """Differences class by class with their intervals: dots about the line of no difference.

    differences: label -> (means, lows, highs), each one number per class.
    """
    check_any(differences, "differences")
    looks = Looks() if looks is None else looks
    figure = Chart(2.5)
    ax = figure.subplots()
    ax.axhline(0, color="0.3", linewidth=0.8)
    for i, (label, intervals) in enumerate(differences.items()):
        mean, low, high = (np.asarray(values, dtype=float) for values in intervals)
        if not len(mean) == len(low) == len(high) == len(class_names):
            raise ValueError(f"{label}: {len(class_names)} means, lows and highs are needed, got "
                             f"{len(mean)}, {len(low)} and {len(high)}")  # fmt: skip
        x = np.arange(len(mean)) + 0.16 * (i - (len(differences) - 1) / 2)
        ax.errorbar(x, mean, [mean - low, high - mean], linestyle="", color=looks[label].color,
                    marker=looks[label].marker, elinewidth=1, capsize=2)  # fmt: skip
    ax.set_xticks(range(len(class_names)), [break_name(name) for name in class_names])
    ax.set(ylabel=ylabel)
    ax.grid(False, axis="x")
    _legend(figure, list(differences), looks, linestyle="")
    return figure
