"""The layer equals `nn.Linear` in value and gradient, wherever its products run."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vae_helpers.engine.kernels import Linear

without_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


def pair(n_in, n_out, seed=0, dtype=torch.float32):
    """Our layer and torch's, with the same weights."""
    torch.manual_seed(seed)
    ours = Linear(n_in, n_out, dtype=dtype)
    torch.manual_seed(seed)
    return ours, nn.Linear(n_in, n_out, dtype=dtype)


def value_and_gradients(layer, x):
    x = x.clone().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, layer.weight.grad, layer.bias.grad]


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 300),
    n_in=st.integers(1, 130),
    n_out=st.integers(1, 130),
    seed=st.integers(0, 99),
    strided=st.booleans(),
)
def test_value_and_gradients_are_those_in_double_precision(n, n_in, n_out, seed, strided):
    ours, _ = pair(n_in, n_out, seed)
    exact = nn.Linear(n_in, n_out, dtype=torch.float64)
    exact.load_state_dict(ours.state_dict())
    x = torch.randn(n_in, n).T if strided else torch.randn(n, n_in)
    for a, b in zip(
        value_and_gradients(ours, x), value_and_gradients(exact, x.double()), strict=True
    ):
        assert a.dtype == torch.float32 and a.shape == b.shape
        scale = max(1.0, float(b.abs().max()))
        assert float((a - b).abs().max()) < 1e-5 * scale


def test_weights_names_and_start_are_those_of_torch():
    ours, torchs = pair(784, 40)
    for (name, a), (other, b) in zip(
        ours.state_dict().items(), torchs.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's, of the switch itself
@pytest.mark.parametrize(
    ("dtype", "shape", "onednn"),
    [
        (torch.float64, (5, 8), True),
        (torch.float32, (2, 5, 8), True),
        (torch.float32, (0, 8), True),
        (torch.float32, (5, 8), False),
    ],
)
def test_what_onednn_does_not_take_is_torchs_own_to_the_last_bit(dtype, shape, onednn):
    ours, torchs = pair(8, 3, dtype=dtype)
    x = torch.randn(shape, dtype=dtype)
    with torch.backends.mkldnn.flags(enabled=onednn):
        for a, b in zip(value_and_gradients(ours, x), value_and_gradients(torchs, x), strict=True):
            assert torch.equal(a, b)


@without_onednn
def test_float_matrices_on_a_cpu_do_run_on_onednn():
    ours, _ = pair(784, 400)
    assert type(ours(torch.randn(128, 784)).grad_fn).__name__ == "_OneDNNLinearBackward"


def test_the_same_product_twice_is_the_same_to_the_last_bit():
    ours, _ = pair(784, 400)
    x = torch.randn(128, 784)
    first = [v.clone() for v in value_and_gradients(ours, x)]
    ours.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(first, value_and_gradients(ours, x), strict=True))


def test_frozen_weights_get_no_gradient():
    ours, _ = pair(8, 3)
    ours.weight.requires_grad_(False)
    x = torch.randn(5, 8, requires_grad=True)
    ours(x).sum().backward()
    assert ours.weight.grad is None and ours.bias.grad is not None and x.grad is not None
