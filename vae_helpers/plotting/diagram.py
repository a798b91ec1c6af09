"""Architectures as figures: Figure 2 of the sheet, drawn from the model objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Polygon

from ..models import Model
from .style import COLORS, Chart, check_any, use_style

ENCODER, LATENT, DECODER = COLORS[6], COLORS[1], COLORS[4]
STEP, BOX = 12.0, 4.2  # distance of two layers and width of a box, in the units of the heights
PER_ROW = 3


@dataclass(frozen=True)
class _Layer:
    """A layer at place `x`: its symbol, its size, and the centre of its box."""

    symbol: str
    size: int
    color: str
    x: float
    y: float = 0.0

    @property
    def height(self) -> float:
        """The side of the square with `size` pixels: an image layer is as high as its image."""
        return math.sqrt(self.size)


@use_style()
def plot_architectures(models: Sequence[Model]) -> Chart:
    """Layers as boxes from input to output; a box of n units has height sqrt(n), to scale.

    Symbols as on the sheet: encoder x -> h -> (mu, sigma), decoder z -> h2 -> x2. Three models to
    a row.
    """
    check_any(models, "models")
    rows = [models[i : i + PER_ROW] for i in range(0, len(models), PER_ROW)]
    figure = Chart(1.55 * len(rows))
    for band, row in zip(figure.subfigures(len(rows), squeeze=False)[:, 0], rows, strict=True):
        drawn = [_layers(model) for model in row]
        lengths = [max(layer.x for layer in d[-1]) + STEP for d in drawn]
        axes = band.subplots(1, len(row), width_ratios=lengths, squeeze=False)[0]
        top = max(layer.height for *_, layers in drawn for layer in layers) / 2
        for ax, model, parts, length in zip(axes, row, drawn, lengths, strict=True):
            _draw_model(ax, *parts)
            ax.set(xlim=(-STEP / 2, length - STEP / 2), ylim=(-top - 9, top + 6), title=model.label)
            ax.set_aspect("equal")
            ax.set_axis_off()
    return figure


def _layers(model: Model) -> tuple[list[_Layer], list[_Layer], list[_Layer], list[_Layer]]:
    """Encoder, heads (mu and sigma, or none), decoder from z on, and all of them together."""
    sizes = model.encoder_sizes
    depth = len(sizes) - 2  # hidden layers on either side
    names = ["$h$", "$h_2$"] if depth == 1 else [f"$h_{{{i + 1}}}$" for i in range(2 * depth)]
    down = [_Layer("$x$", sizes[0], "0.75", 0.0)]
    down += [_Layer(names[i], sizes[i + 1], ENCODER, STEP * (i + 1)) for i in range(depth)]
    at = STEP * (depth + 1)
    heads = []
    if "mu" in model.latent_layer:
        apart = max(5.5, math.sqrt(sizes[-1]) / 2 + 1)
        heads = [_Layer(symbol, sizes[-1], LATENT, at, y)
                 for symbol, y in ((r"$\mu$", apart), (r"$\sigma$", -apart))]  # fmt: skip
        at += STEP
    up = [_Layer("$z$", sizes[-1], LATENT, at)]
    up += [_Layer(names[depth + i], sizes[depth - i], DECODER, at + STEP * (i + 1))
           for i in range(depth)]  # fmt: skip
    up.append(_Layer("$x_2$", sizes[0], "0.75", at + STEP * (depth + 1)))
    return down, heads, up, [*down, *heads, *up]


def _draw_model(ax: Axes, down, heads, up, layers) -> None:
    dense = [*zip(down[:-1], down[1:], strict=True), *zip(up[:-1], up[1:], strict=True)]
    for left, right in [*dense, *((down[-1], head) for head in heads or up[:1])]:
        _connect(ax, left, right)
    z = up[0]
    for head in heads:
        _arrow(ax, (head.x + BOX / 2, head.y), (z.x - BOX / 2, z.y + math.copysign(0.8, head.y)))
    if heads:
        ax.text((heads[0].x + z.x) / 2, -15.5, r"$z = \mu + \sigma\,\epsilon$", ha="center",
                va="top", fontsize=8)  # fmt: skip
    for layer in layers:
        half, below = layer.height / 2, layer.y < 0
        ax.add_patch(FancyBboxPatch((layer.x - BOX / 2, layer.y - half), BOX, layer.height,
                                    boxstyle="round,pad=0,rounding_size=0.8", edgecolor="0.2",
                                    facecolor=layer.color, linewidth=0.7, zorder=3))  # fmt: skip
        ax.text(layer.x, layer.y + (-half - 0.8 if below else half + 1), layer.symbol, ha="center",
                va="top" if below else "bottom", fontsize=9)  # fmt: skip
        if layer.y == 0:
            ax.text(layer.x, -half - 1, str(layer.size), ha="center", va="top", fontsize=6.5)


def _connect(ax: Axes, left: _Layer, right: _Layer) -> None:
    """A fully connected layer: the gray area between two boxes, and an arrow."""
    x0, x1 = left.x + BOX / 2, right.x - BOX / 2
    corners = [(x0, left.y - left.height / 2), (x0, left.y + left.height / 2),
               (x1, right.y + right.height / 2), (x1, right.y - right.height / 2)]  # fmt: skip
    ax.add_patch(Polygon(corners, facecolor="0.93", edgecolor="none", zorder=1))
    _arrow(ax, (x0, right.y * 0.5), (x1, right.y))


def _arrow(ax: Axes, start, end) -> None:
    ax.annotate("", end, start, zorder=4, arrowprops={
        "arrowstyle": "-|>", "color": "0.2", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0,
        "mutation_scale": 6})  # fmt: skip
