"""The models against the sheet: layer sizes, parameter counts, interface, errors."""

import pytest
import torch
from torch import nn

from vae_helpers import AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.engine.kernels import Linear

MODELS = [VAE3Layer, VAE4Layer, AutoEncoder]


def linear_sizes(stack):
    return [(m.in_features, m.out_features) for m in stack if isinstance(m, nn.Linear)]


@pytest.mark.parametrize(
    ("model", "encoder", "decoder", "parameters"),
    [  # parameters counted by hand: weights + biases of every layer, two heads for a VAE
        (VAE3Layer(), [(784, 400), (400, 2 * 20)], [(20, 400), (400, 784)],
         (784 * 400 + 400) + 2 * (400 * 20 + 20) + (20 * 400 + 400) + (400 * 784 + 784)),
        (VAE4Layer(), [(784, 400), (400, 100), (100, 2 * 20)],
         [(20, 100), (100, 400), (400, 784)],
         (784 * 400 + 400) + (400 * 100 + 100) + 2 * (100 * 20 + 20)
         + (20 * 100 + 100) + (100 * 400 + 400) + (400 * 784 + 784)),
        (AutoEncoder(), [(784, 400), (400, 20)], [(20, 400), (400, 784)],
         (784 * 400 + 400) + (400 * 20 + 20) + (20 * 400 + 400) + (400 * 784 + 784)),
        (VAE3Layer(h_dim=300, z_dim=35), [(784, 300), (300, 70)], [(35, 300), (300, 784)],
         (784 * 300 + 300) + 2 * (300 * 35 + 35) + (35 * 300 + 300) + (300 * 784 + 784)),
    ],
)  # fmt: skip
def test_layers_and_parameter_counts_are_those_of_the_sheet(model, encoder, decoder, parameters):
    assert linear_sizes(model.encoder) == encoder
    assert linear_sizes(model.decoder) == decoder
    assert model.parameter_count == parameters


def test_hidden_layers_are_rectified_and_outputs_are_not():
    for stack in (VAE4Layer().encoder, VAE4Layer().decoder):
        kinds = [type(m) for m in stack]
        assert kinds == [Linear, nn.ReLU, Linear, nn.ReLU, Linear]


def test_repr_shows_the_architecture_as_the_sheet_writes_it():
    text = repr(VAE4Layer())
    assert "784-400-100-20" in text and "20-100-400-784" in text
    assert f"{VAE4Layer().parameter_count:,}" in text


@pytest.mark.parametrize("shape", [(5, 784), (5, 1, 28, 28), (1, 784)])
@pytest.mark.parametrize("make", MODELS)
def test_forward_shapes_and_probabilities(make, shape, generator):
    model, x = make(), torch.rand(shape, generator=generator)
    with torch.no_grad():
        x_reconst, *latent = model(x)
    assert x_reconst.shape == (shape[0], 784)
    assert 0 <= float(x_reconst.min()) and float(x_reconst.max()) <= 1
    assert [tuple(part.shape) for part in latent] == [(shape[0], 20)] * len(latent)
    assert len(latent) == (1 if make is AutoEncoder else 2)


def test_reparameterize_has_the_mean_and_variance_it_is_given(generator):
    mu = torch.tensor([[0.0, 2.0]]).expand(200_000, 2)
    log_var = torch.tensor([[0.0, -2.0]]).expand(200_000, 2)
    z = VAE3Layer(z_dim=2).reparameterize(mu, log_var, generator)
    assert torch.allclose(z.mean(0), mu[0], atol=0.01)
    assert torch.allclose(z.var(0), log_var[0].exp(), rtol=0.02)


def test_same_generator_seed_gives_the_same_forward(generator):
    model, x = VAE3Layer(), torch.rand(3, 784, generator=generator)
    first = model(x, torch.Generator().manual_seed(7))[0]
    assert torch.equal(first, model(x, torch.Generator().manual_seed(7))[0])
    assert not torch.equal(first, model(x, torch.Generator().manual_seed(8))[0])


def test_gradients_reach_every_parameter(generator):
    for make in MODELS:
        model = make()
        model.forward_logits(torch.rand(4, 784, generator=generator))[0].sum().backward()
        reached = [name for name, p in model.named_parameters() if p.grad is not None]
        assert len(reached) == len(list(model.parameters()))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(4, 783), ValueError, "(4, 783)"),
        (torch.zeros(784), ValueError, "(784,)"),
        (torch.zeros(0, 784), ValueError, "N >= 1"),
        (torch.zeros(4, 784, dtype=torch.uint8), TypeError, "/ 255"),
        (torch.zeros(4, 784, dtype=torch.int64), TypeError, "int64"),
        ([[0.0] * 784], TypeError, "list"),
    ],
)
def test_wrong_images_are_named_with_the_remedy(make, x, error, words):
    with pytest.raises(error) as raised:
        make()(x)
    assert words in str(raised.value)


@pytest.mark.parametrize("arguments", [{"z_dim": 0}, {"z_dim": -3}, {"h_dim": 0}])
def test_sizes_below_one_are_refused(arguments):
    with pytest.raises(ValueError, match="at least 1"):
        VAE3Layer(**arguments)


def test_other_wrong_sizes_are_refused():
    with pytest.raises(TypeError, match="2.5"):
        VAE3Layer(z_dim=2.5)
    with pytest.raises(ValueError, match="two widths"):
        VAE4Layer(h_dims=(400,))
    with pytest.raises(ValueError, match="20"):
        VAE3Layer().decode(torch.zeros(3, 21))
