"""The fully connected layer of all models: `nn.Linear`, with its products by oneDNN on a CPU.

torch sends float32 products on a CPU to MKL, which is slow on some processors: there the same
products by oneDNN, which torch carries too, take half the time; on others they take the same.
The result differs by float rounding only; second derivatives and torch.func's transforms are not
supported there, and autocast is not followed. Elsewhere (CUDA, other dtypes, a torch without
oneDNN, or inside `torch.backends.mkldnn.flags(enabled=False)`) the layer is `nn.Linear` itself.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """y = x W^T + b, with the parameters and the initial weights of `nn.Linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """y (N, out_features) of x (N, in_features)."""
        if _onednn_takes(x) and _onednn_takes(self.weight) and self.bias is not None:
            return _OneDNNLinear.apply(x, self.weight, self.bias)
        return super().forward(x)


class _OneDNNLinear(torch.autograd.Function):
    """dL/dx = g W,  dL/dW = g^T x,  dL/db = sum_n g_n,  with g = dL/dy."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        to_x = _product(grad, weight.T) if ctx.needs_input_grad[0] else None
        to_weight = _product(grad.T, x.T) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, grad.sum(dim=0) if ctx.needs_input_grad[2] else None


def _product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """a b^T + bias. The operator is the one that torch.compile emits for a CPU."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


def _onednn_takes(x: torch.Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.dim() == 2
        and x.numel() > 0
        and torch.backends.mkldnn.enabled
        and _HAS_OPERATOR
    )


_HAS_OPERATOR = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)
