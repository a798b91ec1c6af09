"""Architectures as figures: Figure 2 of the sheet, drawn from the model objects."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import NamedTuple

from matplotlib.axes import Axes

from ..engine.guards import check_type
from ..models import Model
from .display import Chart, chart
from .outputs import labelled, module_of
from .style import COLORS

PIXELS, ENCODER, LATENT, DECODER = "0.75", COLORS[6], COLORS[1], COLORS[4]
STEP, BOX = 12.0, 4.2  # distance of two layers and width of a box, in the units of the heights
EDGE = {"edgecolor": "0.2", "linewidth": 0.7, "zorder": 3}
ARROW = {"arrowstyle": "-|>,head_length=.25,head_width=.1", "color": "0.2", "linewidth": 0.7}


class _Layer(NamedTuple):
    """A layer: its symbol, its size, and how high the centre of its box lies."""

    symbol: str
    size: int
    color: str
    y: float = 0.0

    @property
    def half(self) -> float:
        """Half a side of the square with `size` pixels: an image layer is as high as its image."""
        return math.sqrt(self.size) / 2


@chart
def plot_architectures(models) -> Chart:
    """Layers as boxes from input to output; a box of n units has height sqrt(n), to scale.

    models: a `Model` or what `study.train` returned, or several, which stand side by side. Symbols
    as on the sheet: encoder x -> h -> (mu, sigma), decoder z -> h2 -> x2. Raises TypeError for any
    other module, whose layers are not known.
    """
    models, _ = labelled(models)
    drawn = [_layers(check_type(module_of(model), Model, "model")) for model in models.values()]
    figure = Chart(1.45)
    axes = figure.subplots(1, len(models), width_ratios=[*map(len, drawn)], squeeze=False)[0]
    top = max(layer.half for layers in drawn for column in layers for layer in column)
    for ax, label, layers in zip(axes, models, drawn, strict=True):
        _draw_model(ax, layers)
        ax.set(xlim=(-STEP / 2, STEP * (len(layers) - 0.5)), ylim=(-top - 9, top + 6), title=label)
        ax.set_aspect("equal")
        ax.set_axis_off()
    return figure


def _layers(model: Model) -> list[list[_Layer]]:
    """The layers from left to right; mu and sigma stand above each other."""
    pixels, *hidden, z_dim = model.encoder_sizes
    _, *back, _ = model.decoder_sizes
    depth, count = len(hidden), len(hidden) + len(back)
    names = ["$h$", "$h_2$"] if count == 2 else [f"$h_{{{i + 1}}}$" for i in range(count)]
    apart = max(5.5, math.sqrt(z_dim) / 2 + 1)
    heads = [_Layer(r"$\mu$", z_dim, LATENT, apart), _Layer(r"$\sigma$", z_dim, LATENT, -apart)]
    return [
        [_Layer("$x$", pixels, PIXELS)],
        *([_Layer(names[i], hidden[i], ENCODER)] for i in range(depth)),
        *([heads] if "mu" in model.latent_layer else []),
        [_Layer("$z$", z_dim, LATENT)],
        *([_Layer(names[depth + i], back[i], DECODER)] for i in range(len(back))),
        [_Layer("$x_2$", pixels, PIXELS)],
    ]


def _draw_model(ax: Axes, layers: list[list[_Layer]]) -> None:
    for i, (left, right) in enumerate(pairwise(layers)):
        x = STEP * i + BOX / 2, STEP * (i + 1) - BOX / 2
        for a, b in product(left, right):
            if not a.y:  # fully connected: the gray area between two boxes
                low, high = (-a.half, b.y - b.half), (a.half, b.y + b.half)
                ax.fill_between(x, low, high, color="0.93", linewidth=0)
            ax.annotate("", (x[1], b.y), (x[0], a.y), arrowprops=ARROW)
        if len(left) > 1:
            ax.text(sum(x) / 2, -15.5, r"$z = \mu + \sigma\,\epsilon$", ha="center", va="top")
    for x, layer in ((STEP * i, layer) for i, column in enumerate(layers) for layer in column):
        ax.bar(x, 2 * layer.half, BOX, layer.y - layer.half, color=layer.color, **EDGE)
        y, va = (layer.half + 1, "bottom") if layer.y >= 0 else (-layer.half - 0.8, "top")
        ax.text(x, layer.y + y, layer.symbol, ha="center", va=va, fontsize=9)
        if layer.y == 0:
            ax.text(x, -layer.half - 1, str(layer.size), ha="center", va="top", fontsize=6.5)
