"""The architectures as a figure: Figure 2 of the sheet, drawn from the model objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from ..models import VAE, AutoEncoder, FullyConnected, VAE3Layer, VAE4Layer
from .style import COLORS, WIDTH, use_style

ENCODER, LATENT, DECODER = COLORS[6], COLORS[1], COLORS[4]
STEP, BOX = 12.0, 4.2  # distance of two layers and width of a box, in the units of the heights


@dataclass(frozen=True)
class _Layer:
    """A layer at place `x`: its symbol, its size, and the centre of its box."""

    symbol: str
    size: int
    color: str
    x: float
    y: float = 0.0
    symbol_below: bool = False

    @property
    def height(self) -> float:
        """The side of the square with `size` pixels: an image layer is as high as its image."""
        return math.sqrt(self.size)


@use_style()
def plot_architectures(models: Mapping[str, FullyConnected] | None = None) -> Figure:
    """Layers as boxes from input to output; a box of n units has height sqrt(n), to scale.

    models: panel title -> model. By default (A) the given VAE, (B) the autoencoder and (C) the
    VAE with four layers. Symbols as on the sheet: encoder x -> h -> (mu, sigma), decoder
    z -> h2 -> x2.
    """
    models = _default_models() if models is None else models
    lengths = [STEP * (2 * len(m.encoder_sizes) - 1 + isinstance(m, VAE)) for m in models.values()]
    fig = Figure(figsize=(WIDTH, 1.5), layout="constrained")
    axes = fig.subplots(1, len(models), width_ratios=lengths, squeeze=False)[0]
    for ax, (title, model), length in zip(axes, models.items(), lengths, strict=True):
        _draw_model(ax, model)
        top = math.sqrt(model.image_size) / 2
        ax.set(xlim=(-STEP / 2, length - STEP / 2), ylim=(-top - 9, top + 6))
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_title(title)
    return fig


def _default_models() -> dict[str, FullyConnected]:
    with torch.device("meta"):  # sizes without weights: no memory and no random numbers
        return {
            "(A) VAE, three layers": VAE3Layer(),
            "(B) autoencoder": AutoEncoder(z_dim=50),
            "(C) VAE, four layers": VAE4Layer(),
        }


def _draw_model(ax: Axes, model: FullyConnected) -> None:
    sizes = model.encoder_sizes
    depth = len(sizes) - 2  # hidden layers on either side
    names = ["$h$", "$h_2$"] if depth == 1 else [f"$h_{i + 1}$" for i in range(2 * depth)]
    column = [STEP * i for i in range(2 * len(sizes) + 1)]
    down = [_Layer("$x$", sizes[0], "0.75", column[0])]
    down += [_Layer(names[i], sizes[i + 1], ENCODER, column[i + 1]) for i in range(depth)]
    after = depth + 1
    if isinstance(model, VAE):
        mu = _Layer(r"$\mu$", sizes[-1], LATENT, column[after], 5.5)
        sigma = _Layer(r"$\sigma$", sizes[-1], LATENT, column[after], -5.5, symbol_below=True)
        heads, after = [mu, sigma], after + 1
    else:
        heads = []
    z = _Layer("$z$", sizes[-1], LATENT, column[after])
    up = [z]
    for i in range(depth):
        up.append(_Layer(names[depth + i], sizes[depth - i], DECODER, column[after + 1 + i]))
    up.append(_Layer("$x_2$", sizes[0], "0.75", column[after + 1 + depth]))
    dense = list(zip(down[:-1], down[1:], strict=True)) + list(zip(up[:-1], up[1:], strict=False))
    dense += [(down[-1], head) for head in heads or [z]]
    for left, right in dense:
        _connect(ax, left, right)
    for head in heads:
        _arrow(ax, (head.x + BOX / 2, head.y), (z.x - BOX / 2, z.y + math.copysign(0.8, head.y)))
    if heads:
        ax.text((heads[0].x + z.x) / 2, -15.5, r"$z = \mu + \sigma\,\epsilon$", ha="center",
                va="top", fontsize=8)  # fmt: skip
    for layer in [*down, *heads, *up]:
        _draw_layer(ax, layer)


def _draw_layer(ax: Axes, layer: _Layer) -> None:
    half = layer.height / 2
    ax.add_patch(FancyBboxPatch((layer.x - BOX / 2, layer.y - half), BOX, layer.height,
                                boxstyle="round,pad=0,rounding_size=0.8", facecolor=layer.color,
                                edgecolor="0.2", linewidth=0.7, zorder=3))  # fmt: skip
    if layer.symbol_below:
        ax.text(layer.x, layer.y - half - 0.8, layer.symbol, ha="center", va="top", fontsize=9)
        return
    ax.text(layer.x, layer.y + half + 1, layer.symbol, ha="center", va="bottom", fontsize=9)
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
