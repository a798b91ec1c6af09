"""Architectures as figures: Figure 2 of the sheet, drawn from the model objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Polygon

from ..models import Model
from .display import Chart
from .style import COLORS, check_any, use_style

PIXELS, ENCODER, LATENT, DECODER = "0.75", COLORS[6], COLORS[1], COLORS[4]
STEP, BOX = 12.0, 4.2  # distance of two layers and width of a box, in the units of the heights


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


@use_style()
def plot_architectures(models: Sequence[Model]) -> Chart:
    """Layers as boxes from input to output; a box of n units has height sqrt(n), to scale.

    Symbols as on the sheet: encoder x -> h -> (mu, sigma), decoder z -> h2 -> x2. The models stand
    side by side.
    """
    check_any(models, "models")
    drawn = [_layers(model) for model in models]
    figure = Chart(1.55)
    axes = figure.subplots(1, len(models), width_ratios=[*map(len, drawn)], squeeze=False)[0]
    top = max(layer.half for layers in drawn for column in layers for layer in column)
    for ax, model, layers in zip(axes, models, drawn, strict=True):
        _draw_model(ax, layers)
        ax.set(
            xlim=(-STEP / 2, STEP * (len(layers) - 0.5)),
            ylim=(-top - 9, top + 6),
            title=model.label,
        )
        ax.set_aspect("equal")
        ax.set_axis_off()
    return figure


def _layers(model: Model) -> list[list[_Layer]]:
    """The layers from left to right; mu and sigma stand above each other."""
    pixels, *hidden, z_dim = model.encoder_sizes
    depth = len(hidden)
    names = ["$h$", "$h_2$"] if depth == 1 else [f"$h_{{{i + 1}}}$" for i in range(2 * depth)]
    apart = max(5.5, math.sqrt(z_dim) / 2 + 1)
    heads = [_Layer(r"$\mu$", z_dim, LATENT, apart), _Layer(r"$\sigma$", z_dim, LATENT, -apart)]
    return [
        [_Layer("$x$", pixels, PIXELS)],
        *([_Layer(names[i], hidden[i], ENCODER)] for i in range(depth)),
        *([heads] if "mu" in model.latent_layer else []),
        [_Layer("$z$", z_dim, LATENT)],
        *([_Layer(names[depth + i], hidden[-1 - i], DECODER)] for i in range(depth)),
        [_Layer("$x_2$", pixels, PIXELS)],
    ]


def _draw_model(ax: Axes, layers: list[list[_Layer]]) -> None:
    for i, (left, right) in enumerate(pairwise(layers)):
        x0, x1 = STEP * i + BOX / 2, STEP * (i + 1) - BOX / 2
        for a, b in product(left, right):
            if not a.y:  # fully connected: the gray area between two boxes
                corners = [(x0, -a.half), (x0, a.half), (x1, b.y + b.half), (x1, b.y - b.half)]
                ax.add_patch(Polygon(corners, facecolor="0.93", edgecolor="none", zorder=1))
            end = b.y or math.copysign(0.8, a.y) * bool(a.y)  # mu and sigma meet z side by side
            ax.annotate(
                "",
                (x1, end),
                (x0, a.y or b.y / 2),
                zorder=4,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "0.2",
                    "linewidth": 0.7,
                    "shrinkA": 0,
                    "shrinkB": 0,
                    "mutation_scale": 6,
                },
            )
        if len(left) > 1:
            ax.text(
                (x0 + x1) / 2,
                -15.5,
                r"$z = \mu + \sigma\,\epsilon$",
                ha="center",
                va="top",
                fontsize=8,
            )
    for x, layer in ((STEP * i, layer) for i, column in enumerate(layers) for layer in column):
        below = layer.y < 0
        ax.add_patch(
            FancyBboxPatch(
                (x - BOX / 2, layer.y - layer.half),
                BOX,
                2 * layer.half,
                boxstyle="round,pad=0,rounding_size=0.8",
                edgecolor="0.2",
                facecolor=layer.color,
                linewidth=0.7,
                zorder=3,
            )
        )
        ax.text(
            x,
            layer.y + (-layer.half - 0.8 if below else layer.half + 1),
            layer.symbol,
            ha="center",
            va="top" if below else "bottom",
            fontsize=9,
        )
        if layer.y == 0:
            ax.text(x, -layer.half - 1, str(layer.size), ha="center", va="top", fontsize=6.5)
