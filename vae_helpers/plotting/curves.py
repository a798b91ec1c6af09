"""Curves: losses of training, and measured values with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .display import Chart, chart
from .outputs import labelled
from .style import look_of, looks_of

NEAR = 1.5  # nats: the enlarged panel shows the curves that end at most so far above the lowest
AT_LEAST = 4  # curves that it shows, however far apart they end
DOTTED = {"linestyle": ":", "linewidth": 1}
TRAINED_UP_TO = 3  # models of a figure that also shows their training loss
Lines = Sequence[tuple[np.ndarray, dict]]  # values (seeds, epochs), and how to draw them


@chart
def plot_loss_curves(models, *, enlarge: int = 0) -> Chart:
    """Loss, reconstruction and KL of the validation images against the epoch, nats per image.

    models: what `study.train` returned, one or a list; each keeps its look (`looks_of`). Or label
    -> one history per seed, as training keeps them. Lines are means over seeds, bands reach from
    the smallest to the largest seed. With up to three models dotted lines show the training loss.
    A KL panel needs models that all have a KL term; where none has one, reconstruction is the loss
    and gets no panel. The vertical limits are those after the first sixth of the epochs.

    enlarge: instead of reconstruction and KL show the last so many epochs of the loss, without
    curves far above the best four, each named at its end; this is for many models. Raises
    ValueError for models without histories and for seeds of different lengths.
    """
    models, _ = labelled(models)
    looks = looks_of([getattr(model, "order", i) for i, model in enumerate(models.values())])
    solid = [{"label": label, **look._asdict()} for label, look in zip(models, looks, strict=True)]
    dotted = [{"color": look.color, **DOTTED} for look in looks]
    total, reconstruction, kl = (
        _lines(models, f"validation_{term}", solid) for term in ("total", "reconstruction", "kl")
    )
    trained = _lines(models, "train_total", dotted) if len(models) <= TRAINED_UP_TO else []
    has_kl = [bool(values.any()) for values, _ in kl]
    panels = {"loss": total + trained}
    if enlarge:
        ends = sorted(values[:, -1].mean() for values, _ in total)
        limit = max(ends[0] + NEAR, ends[:AT_LEAST][-1])
        near = [line for line in total if line[0][:, -1].mean() <= limit]
        panels[f"loss, last {enlarge} epochs"] = near
    else:
        panels |= {"reconstruction": reconstruction} if any(has_kl) else {}
        panels |= {"KL": kl} if all(has_kl) else {}
    figure = Chart(2.1)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        _draw_panel(ax, lines, enlarge if ax is not axes[0] else 0)
        ax.set(title=title, xlabel="epoch")
    axes[0].set_ylabel("nats per image")
    if enlarge:
        _name_ends(axes[1])
    if trained:
        axes[0].plot([], [], color="0.4", label="dotted: training loss", **DOTTED)
    _legend(figure)
    return figure


@chart
def plot_lines(
    series: Mapping[str, Sequence[Sequence[float]]],
    x_label: str,
    y_label: str,
    *,
    marked: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    texts: Sequence[tuple[float, float, str]] = (),
    reference: tuple[str, float] | None = None,
) -> Chart:
    """Measured values against a setting or against each other, a line per label.

    series: label -> (x, y) or (x, y, half the width of y's interval), of one length. x_label,
    y_label: with their units. marked: what the legend says -> points (x, y) that get a ring.
    texts: (x, y, text) to write beside points. reference: what the legend says, and the y of a
    horizontal line. Raises ValueError for an empty or uneven series.
    """
    series, _ = labelled(series, "series")
    figure = Chart(2.15)
    ax = figure.subplots()
    for order, (label, (x, y, *error)) in enumerate(series.items()):
        lengths = [len(values) for values in (x, y, *error)]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(f"{label}: x, y and error must have one length, got {lengths}")
        (line,) = ax.plot(x, y, label=label, **look_of(order)._asdict())
        ax.errorbar(x, y, *error, fmt="none", ecolor=line.get_color(), capsize=2.5)
    ring = {"linestyle": "", "markersize": 9, "markerfacecolor": "none", "color": "0.2"}
    for label, points in (marked or {}).items():
        ax.plot(*zip(*points, strict=True), marker="o", label=label, **ring)
    if reference:
        ax.axhline(reference[1], label=reference[0], color="0.4", **DOTTED)
    for x, y, text in texts:  # on the side where no other line is
        below = any(np.interp(x, *_ascending(*each[:2])) > y for each in series.values())
        place = {"xytext": (-4, -5), "ha": "right", "va": "top"} if below else {"xytext": (5, 4)}
        ax.annotate(text, (x, y), textcoords="offset points", fontsize=7, **place)
    if texts:
        ax.margins(0.06, 0.12)
    ax.set(xlabel=x_label, ylabel=y_label)
    _legend(figure)
    return figure


def _ascending(x: Sequence[float], y: Sequence[float]) -> tuple:
    """The points in the order of x."""
    return tuple(zip(*sorted(zip(x, y, strict=True)), strict=True))


def _lines(models: Mapping, name: str, looks: Sequence[dict]) -> Lines:
    """One history entry of every model."""
    lines = []
    for (label, model), look in zip(models.items(), looks, strict=True):
        histories = getattr(model, "histories", model)
        several = isinstance(histories, (list, tuple))
        lengths = sorted({len(history[name]) for history in histories}) if several else None
        if not several or len(lengths) != 1 or lengths[0] == 0:
            raise ValueError(
                f"{label} must be what study.train returned, or a list of one history per seed, of "
                f"equally many epochs, got {type(model).__name__} with epochs {lengths}"
            )
        lines.append((np.array([history[name] for history in histories], float), look))
    return lines


def _draw_panel(ax: Axes, lines: Lines, last: int) -> None:
    """Mean and range over the seeds, of all epochs or the `last`, and limits to fit."""
    settled = []
    for i, (values, look) in enumerate(lines):
        count = values.shape[1]
        shown = slice(max(0, count - last) if last else 0, None)
        epochs = np.arange(count)[shown] + 1
        every = max(1, len(epochs) // 5)
        marked = (i * every // len(lines), every)  # shifted, to keep the models' markers apart
        ax.plot(epochs, values.mean(0)[shown], markevery=marked, **look)
        low, high = values.min(0)[shown], values.max(0)[shown]
        faint = {"alpha": min(0.15, 0.6 / len(lines)), "linewidth": 0}
        ax.fill_between(epochs, low, high, color=look["color"], **faint)
        settled.append(values[:, max(shown.start, count // 6) :].ravel())
    low, high = np.concatenate(settled).min(), np.concatenate(settled).max()
    margin = 0.05 * (high - low) or 0.5
    ax.set_ylim(low - margin, high + margin)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _name_ends(ax: Axes) -> None:
    """Every line's label at its right end, moved apart where lines end close to each other."""
    lines = sorted(ax.lines, key=lambda line: line.get_ydata()[-1])
    low, high = ax.get_ylim()
    steps = 0.09 * (high - low) * np.arange(len(lines))  # a text is so high
    ends = np.array([line.get_ydata()[-1] for line in lines])
    places = np.maximum.accumulate(ends - steps) + steps
    places -= max(0, places[-1] - high)
    look = {"textcoords": ("axes fraction", "data"), "va": "center", "fontsize": 6.5}
    leader = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkB": 0, "relpos": (0, 0.5)}
    for line, end, place in zip(lines, ends, places, strict=True):
        line.set_linewidth(0.8)
        last = (line.get_xdata()[-1], end)
        ax.annotate(line.get_label(), last, (1.04, place), arrowprops=leader, **look)


def _legend(figure: Chart) -> None:
    """The labels of the first panel above all panels, in rows of at most four."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = -(-len(labels) // -(-len(labels) // 4))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, handlelength=3)
