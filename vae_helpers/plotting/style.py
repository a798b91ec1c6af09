"""One style for all figures: fonts, colours that survive print and colour blindness, and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import matplotlib as mpl
from matplotlib.figure import Figure

WIDTH = 6.3  # inches: 16 cm, the text width of an A4 page
MAX_HEIGHT = 3.6  # inches; higher figures leave half-empty pages
STAND_IN_NOTE = "synthetic stand-in data, not Fashion-MNIST"

STYLE = {
    "figure.dpi": 200,
    "savefig.dpi": "figure",
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "cm",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
}
# Okabe & Ito's colours with wine and gray for their yellow, which is too pale on white. Neighbours
# in the list differ in lightness, and dashes and markers differ too, for print in grayscale.
COLORS = ("#0072B2", "#E69F00", "#000000", "#CC79A7", "#009E73", "#D55E00", "#56B4E9", "#7F7F7F",
          "#882255")  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)), "-.",
          (0, (1, 2)), (0, (10, 1)))  # fmt: skip
LOOKS = len(COLORS)
# Ten classes: Petroff's cycle (arXiv:2107.02270), chosen for colour-blind readers.
CLASS_COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip


def use_style():
    """The figures' style, as a context manager or a decorator; rcParams are restored after it."""
    return mpl.rc_context(STYLE)


def mark_stand_in(fig: Figure, note: str = STAND_IN_NOTE) -> Figure:
    """Write `note` below the figure, in a strip added for it: it covers nothing. Returns `fig`."""
    if any(text.get_gid() == "stand-in" for text in fig.texts):
        return fig
    strip = 0.17
    width, height = fig.get_size_inches()
    fig.set_size_inches(width, height + strip)
    if fig.get_layout_engine() is not None:
        below = strip / (height + strip)
        fig.get_layout_engine().set(rect=(0, below, 1, 1 - below))
    fig.text(0.995, 0.01, note, ha="right", va="bottom", color=COLORS[5], fontsize=7,
             fontfamily="DejaVu Sans", fontstyle="italic", gid="stand-in")  # fmt: skip
    return fig


def new_figure(height: float, layout: str = "constrained") -> Figure:
    """An empty Figure as wide as the page's text and `height` inches high, without pyplot."""
    return Figure(figsize=(WIDTH, height), layout=layout)


def looks_of(labels: Iterable[str], looks: Mapping[str, int] | None) -> list[int]:
    """The place of every label in COLORS, MARKERS and DASHES: what `looks` says, or their order.

    With one mapping for all figures a model looks the same in each.
    """
    labels = list(labels)
    if looks is None:
        return [i % LOOKS for i in range(len(labels))]
    unknown = [label for label in labels if label not in looks]
    if unknown:
        raise ValueError(f"looks has no entry for {unknown}; it has {list(looks)}")
    return [looks[label] % LOOKS for label in labels]


def check_any(values, name: str) -> None:
    """Raise ValueError if there is nothing to draw."""
    if len(values) == 0:
        raise ValueError(f"{name} is empty; at least one entry is needed")


def break_name(name: str) -> str:
    """A class name on several lines, for narrow columns."""
    return name.replace("/", "/\n").replace(" ", "\n")
