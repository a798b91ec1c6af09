"""Loss curves of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .display import Chart
from .style import Looks, check_any, use_style

NEAR = 1.5  # nats: the enlarged panel shows the curves that end at most so far above the lowest
AT_LEAST = 4  # curves that it shows, however far apart they end
DOTTED = {"linestyle": ":", "linewidth": 1}
TRAINED_UP_TO = 3  # models of a figure that also shows their training loss


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
    sixth of the epochs. looks: those of the study, so that a model looks the same in all figures.

    enlarge: instead of reconstruction and KL show the last so many epochs of the loss, without
    curves far above the best four; this is for many models.
    """
    check_any(histories, "histories")
    looks = Looks() if looks is None else looks
    solid = {label: {"label": label, **looks[label]._asdict()} for label in histories}
    dotted = {label: {"color": looks[label].color, **DOTTED} for label in histories}
    total, reconstruction, kl = (
        _lines(histories, f"validation_{term}", solid) for term in ("total", "reconstruction", "kl")
    )
    few = len(histories) <= TRAINED_UP_TO
    trained = _lines(histories, "train_total", dotted) if few else []
    panels = [("loss", total + trained, 0)]
    has_kl = [bool(values.any()) for values, _ in kl]
    if enlarge:
        ends = sorted(values[:, -1].mean() for values, _ in total)
        limit = max(ends[0] + NEAR, ends[:AT_LEAST][-1])
        near = [line for line in total if line[0][:, -1].mean() <= limit]
        panels.append((f"loss, last {enlarge} epochs", near, enlarge))
    else:
        panels += [("reconstruction", reconstruction, 0)] if any(has_kl) else []
        panels += [("KL", kl, 0)] if all(has_kl) else []
    figure = Chart(2.4)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, lines, last) in zip(axes, panels, strict=True):
        _draw_panel(ax, lines, last)
        ax.set(title=title, xlabel="epoch")
    axes[0].set_ylabel("nats per image")
    if trained:
        axes[0].plot([], [], color="0.4", label="dotted: training loss", **DOTTED)
    _legend(figure)
    return figure


def _lines(histories, name: str, looks: Mapping[str, dict]) -> list[tuple[np.ndarray, dict]]:
    """(values (seeds, epochs), how to draw them) of one history entry, for every label."""
    lines = []
    for label, group in histories.items():
        lengths = sorted({len(history[name]) for history in group})
        if len(lengths) != 1 or lengths[0] == 0:
            raise ValueError(
                f"{label}: the seeds' histories must have one equal number of epochs, got {lengths}"
            )
        lines.append((np.array([history[name] for history in group], float), looks[label]))
    return lines


def _draw_panel(ax: Axes, lines: Sequence[tuple[np.ndarray, dict]], last: int) -> None:
    """Mean and range of values (seeds, epochs), of all epochs or the `last`, and limits to fit."""
    settled = []
    for i, (values, look) in enumerate(lines):
        count = values.shape[1]
        shown = slice(max(0, count - last) if last else 0, None)
        epochs = np.arange(count)[shown] + 1
        every = max(1, len(epochs) // 5)
        marked = (i * every // len(lines), every)  # shifted, to keep the models' markers apart
        ax.plot(epochs, values.mean(0)[shown], markevery=marked, **look)
        ax.fill_between(
            epochs,
            values.min(0)[shown],
            values.max(0)[shown],
            color=look["color"],
            alpha=min(0.15, 0.6 / len(lines)),
            linewidth=0,
        )
        settled.append(values[:, max(shown.start, count // 6) :].ravel())
    low, high = np.concatenate(settled).min(), np.concatenate(settled).max()
    margin = 0.05 * (high - low) or 0.5
    ax.set_ylim(low - margin, high + margin)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _legend(figure: Chart) -> None:
    """The labels of the first panel above all panels, in rows of at most four."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    rows = -(-len(labels) // 4)
    figure.legend(
        handles, labels, loc="outside upper center", ncols=-(-len(labels) // rows), handlelength=3
    )
