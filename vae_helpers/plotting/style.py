"""One style for all figures: fonts, sizes, and looks that survive print and colour blindness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

WIDTH = 6.3  # inches: 16 cm, the text width of an A4 page
MAX_HEIGHT = 4.4  # inches; higher figures leave half-empty pages
PRINT_DPI = 200  # pictures of pixels: about two dots per millimetre of screen and sharp on paper
SCREEN_DPI = 144  # figures that print from their vector form need the PNG for browsers only
CSS_PIXELS_PER_INCH = 96

STYLE = {
    "figure.dpi": 200,
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
    "pdf.fonttype": 42,
}
# Okabe & Ito's colours with wine and gray for their yellow, which is too pale on white. Neighbours
# differ in lightness. The three lengths share no divisor: 360 looks until one comes again.
COLORS = "#0072B2 #E69F00 #000000 #CC79A7 #009E73 #D55E00 #56B4E9 #7F7F7F #882255".split()
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
DASHES = ("-", (0, (5, 1.5)), (0, (8, 2, 2, 2)), (0, (3, 1)), (0, (5, 1, 1, 1, 1, 1)))
NOTE = {"color": COLORS[5], "size": 7, "family": "DejaVu Sans", "style": "italic"}


class Look(NamedTuple):
    """How a model's line is drawn: keywords of `Axes.plot`."""

    color: str
    marker: str
    linestyle: str | tuple


def look_of(order: int) -> Look:
    """The look of the model of this place among a study's models, from 0."""
    return Look(*(kind[order % len(kind)] for kind in (COLORS, MARKERS, DASHES)))


def looks_of(orders: Sequence[int]) -> list[Look]:
    """The looks of one figure's models: in every figure the same, unless two would share a colour.

    Then that of the higher place takes the next look with a free colour, while there are any.
    """
    taken, looks = set(), {}
    for i in sorted(range(len(orders)), key=orders.__getitem__):
        order = orders[i]
        while order % len(COLORS) in taken and len(taken) < len(COLORS):
            order += 1
        taken.add(order % len(COLORS))
        looks[i] = look_of(order)
    return [looks[i] for i in range(len(orders))]


def use_style():
    """The figures' style, as a context manager or a decorator; rcParams are restored after it."""
    return mpl.rc_context(STYLE)


def page_box(figure: Figure) -> Bbox:
    """The part of a figure to save, in inches: full width, and from its lowest to highest ink."""
    with use_style():
        for _ in range(3):  # each drawing moves images of fixed aspect less than the one before
            figure.draw_without_rendering()
        ink = figure.get_tightbbox()
    right = max(figure.get_figwidth(), ink.x1)
    return Bbox([[min(0, ink.x0), ink.y0 - 0.03], [right, ink.y1 + 0.03]])


def mark(figure: Figure, note: str) -> Figure:
    """Write `note` under the figure, once, where it covers nothing. Returns the figure."""
    if note and not any(text.get_gid() == "note" for text in figure.texts):
        below = (page_box(figure).y0 - 0.02) / figure.get_figheight()
        figure.text(0.995, below, note, ha="right", va="top", gid="note", **NOTE)
    return figure
