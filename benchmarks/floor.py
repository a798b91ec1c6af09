"""The floor: the matrix products of a training step, at its shapes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from vae_helpers.engine.kernels import _onednn_takes, _product


def our_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b', as the layers of `vae_helpers` compute it."""
    return _product(a, b) if _onednn_takes(a) else torch_product(a, b)


def torch_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b', as torch computes it by itself."""
    return torch.mm(a, b.T)


class MatrixProducts:
    """Forward and backward products of every Linear layer of `model` for one batch size.

    y = x W', then dW = dy' x and, except for the first layer, dx = dy W.
    """

    def __init__(self, model: nn.Module, batch: int, product: Callable):
        self.product = product
        layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
        self.layers = []
        for index, layer in enumerate(layers):
            x, dy = torch.rand(batch, layer.in_features), torch.rand(batch, layer.out_features)
            w = torch.rand(layer.out_features, layer.in_features)
            self.layers.append((x, w, dy, index > 0))

    def step(self) -> None:
        for x, w, _, _ in self.layers:
            self.product(x, w)
        for x, w, dy, has_dx in reversed(self.layers):
            self.product(dy.T, x.T)
            if has_dx:
                self.product(dy, w.T)


class FloorEpoch:
    """The products of one epoch over n images, the last batch as short as it is."""

    def __init__(self, model: nn.Module, n: int, batch: int, product: Callable = our_product):
        full, rest = divmod(n, batch)
        self.parts = [(full, MatrixProducts(model, batch, product))]
        if rest:
            self.parts.append((1, MatrixProducts(model, rest, product)))

    def __call__(self) -> None:
        for steps, products in self.parts:
            for _ in range(steps):
                products.step()
