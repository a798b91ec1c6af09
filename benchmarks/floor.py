"""The floor: the matrix products of a training step, at its shapes, and nothing else."""

from __future__ import annotations

import torch
from torch import nn


class MatrixProducts:
    """Forward and backward products of every Linear layer of `model` for one batch size.

    y = x W', then dW = dy' x and, except for the first layer, dx = dy W; all into memory that is
    allocated once.
    """

    def __init__(self, model: nn.Module, batch: int):
        layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
        self.layers = []
        for index, layer in enumerate(layers):
            x, dy = torch.rand(batch, layer.in_features), torch.rand(batch, layer.out_features)
            w = torch.rand(layer.out_features, layer.in_features)
            out = [torch.empty_like(dy), torch.empty_like(w), torch.empty_like(x)]
            self.layers.append((x, w, dy, out, index > 0))

    def step(self) -> None:
        for x, w, _, (y, _, _), _ in self.layers:
            torch.mm(x, w.T, out=y)
        for x, w, dy, (_, dw, dx), has_dx in reversed(self.layers):
            torch.mm(dy.T, x, out=dw)
            if has_dx:
                torch.mm(dy, w, out=dx)


class FloorEpoch:
    """The products of one epoch over n images, the last batch as short as it is."""

    def __init__(self, model: nn.Module, n: int, batch: int):
        full, rest = divmod(n, batch)
        self.parts = [(full, MatrixProducts(model, batch))]
        if rest:
            self.parts.append((1, MatrixProducts(model, rest)))

    def __call__(self) -> None:
        for steps, products in self.parts:
            for _ in range(steps):
                products.step()
