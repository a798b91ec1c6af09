"""The models against the sheet: layer sizes, parameter counts, interface, errors."""

import copy

import pytest
import torch
from torch import nn

from vae_helpers import VAE, AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.models import Model

MODELS = [VAE3Layer, VAE4Layer, AutoEncoder]


@pytest.mark.parametrize(
    ("model", "layers", "parameters"),
    [  # parameters counted by hand: weights + biases of every layer, two heads for a VAE
        (
            VAE3Layer(),
            "784-400-40 20-400-784",
            (784 * 400 + 400) + 2 * (400 * 20 + 20) + (20 * 400 + 400) + (400 * 784 + 784),
        ),
        (
            VAE4Layer(),
            "784-400-100-40 20-100-400-784",
            (784 * 400 + 400)
            + (400 * 100 + 100)
            + 2 * (100 * 20 + 20)
            + (20 * 100 + 100)
            + (100 * 400 + 400)
            + (400 * 784 + 784),
        ),
        (
            AutoEncoder(),
            "784-400-20 20-400-784",
            (784 * 400 + 400) + (400 * 20 + 20) + (20 * 400 + 400) + (400 * 784 + 784),
        ),
        (
            VAE3Layer(h_dim=300, z_dim=35),
            "784-300-70 35-300-784",
            (784 * 300 + 300) + 2 * (300 * 35 + 35) + (35 * 300 + 300) + (300 * 784 + 784),
        ),
        (
            VAE4Layer(h_dims=(64, 200), z_dim=3),
            "784-64-200-6 3-200-64-784",
            (784 * 64 + 64)
            + (64 * 200 + 200)
            + 2 * (200 * 3 + 3)
            + (3 * 200 + 200)
            + (200 * 64 + 64)
            + (64 * 784 + 784),
        ),
    ],
)
def test_layers_are_those_of_the_sheet_rectified_between_and_nowhere_else(
    model, layers, parameters, generator
):
    """Sizes, counts, and outputs equal to the layers applied one by one, in the sheet's order."""
    assert model.parameter_count == parameters and f"{parameters:,}" in repr(model)
    down, up = ([int(size) for size in part.split("-")] for part in layers.split())
    stack = list(model.children())
    assert [(m.in_features, m.out_features) for m in stack] == [
        *zip(down[:-1], down[1:], strict=True),
        *zip(up[:-1], up[1:], strict=True),
    ]
    halves = stack[: len(down) - 1], stack[len(down) - 1 :]
    for part, half, width in zip((model.encoder, model.decoder), halves, (784, up[0]), strict=True):
        x = h = torch.rand(7, width, generator=generator)
        for layer in half[:-1]:
            h = torch.relu(layer(h))
        assert torch.equal(part(x), half[-1](h))


@pytest.mark.parametrize(
    ("model", "label", "id", "sizes"),
    [
        (VAE3Layer(), "VAE (400, 20)", "vae3-400-20", (784, 400, 20)),
        (
            VAE4Layer(h_dims=[64, 32]),
            "4-layer VAE (64, 32, 20)",
            "vae4-64-32-20",
            (784, 64, 32, 20),
        ),
        (AutoEncoder(h_dim=300, z_dim=5), "AE (300, 5)", "ae-300-5", (784, 300, 5)),
    ],
)
def test_a_model_describes_itself(model, label, id, sizes):
    assert (model.label, model.id, model.encoder_sizes) == (label, id, sizes)
    text = repr(model)
    assert "-".join(map(str, sizes)) in text and "-".join(map(str, reversed(sizes))) in text
    assert type(model).__name__ in text


@pytest.mark.parametrize("shape", [(5, 784), (5, 1, 28, 28), (1, 784)])
@pytest.mark.parametrize("make", MODELS)
def test_interface_shapes_and_probabilities(make, shape, generator):
    model, x = make(), torch.rand(shape, generator=generator)
    with torch.no_grad():
        x_reconst, *latent = model(x)
        mean, log_var = model.posterior(x)
        z = model.sample_latent(x, generator)
    assert x_reconst.shape == (shape[0], 784)
    assert x_reconst.min() >= 0 and x_reconst.max() <= 1
    assert all(part.shape == (shape[0], 20) for part in (*latent, mean, z))
    assert torch.equal(mean, latent[0]) and torch.equal(mean, model.latent(x))
    if make is AutoEncoder:
        assert log_var is None and len(latent) == 1 and torch.equal(z, mean)
    else:
        assert torch.equal(log_var, latent[1]) and not torch.equal(z, mean)


def test_reparameterize_has_the_mean_and_variance_it_is_given(generator):
    mu = torch.tensor([[0.0, 2.0]]).expand(200_000, 2)
    log_var = torch.tensor([[0.0, -2.0]]).expand(200_000, 2)
    z = VAE3Layer(z_dim=2).reparameterize(mu, log_var, generator)
    assert torch.allclose(z.mean(0), mu[0], atol=0.01)
    assert torch.allclose(z.var(0), log_var[0].exp(), rtol=0.02)


@pytest.mark.parametrize("make", MODELS)
def test_loss_reaches_every_parameter_and_depends_on_nothing_but_its_generator(make, generator):
    model, x = make(), torch.rand(4, 784, generator=generator)
    losses = [model.loss(x, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert torch.equal(losses[0].total, losses[1].total)
    assert torch.equal(losses[0].total, losses[2].total) == (make is AutoEncoder)
    losses[0].total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_fresh_weights_come_from_the_seed_alone():
    model, equal_model = VAE3Layer(h_dim=8, z_dim=2), VAE3Layer(h_dim=8, z_dim=2)
    before, state = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    first = model.fresh(3).state_dict()
    for other, same in [(equal_model.fresh(3), True), (model.fresh(4), False)]:
        equal = [torch.equal(first[name], value) for name, value in other.state_dict().items()]
        assert all(equal) if same else not any(equal)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_weights_that_no_seed_can_draw_again_are_named():
    class Scaled(VAE3Layer):
        def __init__(self):
            super().__init__(h_dim=8, z_dim=2)
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(TypeError, match=r"Scaled.*holds weights.*reset_parameters"):
        Scaled().fresh(0)


def test_what_a_model_must_define_is_said():
    model = Model(784, (), 2)
    for call in (model.posterior, model.loss):
        with pytest.raises(NotImplementedError, match=f"Model must define {call.__name__}"):
            call(torch.zeros(1, 784))
    with pytest.raises(AttributeError, match="'VAE' object has no attribute 'encoder'"):
        VAE(784, (), 2).encode(torch.zeros(1, 784))


def test_encoder_and_decoder_may_be_modules_and_the_class_names_the_model():
    class Small(VAE):
        def __init__(self):
            super().__init__(784, (), 2)
            self.encoder, self.decoder = torch.nn.Linear(784, 4), torch.nn.Linear(2, 784)

    model = Small().fresh(0)
    assert (model.label, model.id) == ("Small (2)", "small-2")
    assert model.loss(torch.rand(3, 784)).total > 0


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(4, 783), ValueError, "(4, 783)"),
        (torch.zeros(784), ValueError, "(784,)"),
        (torch.zeros(0, 784), ValueError, "N >= 1"),
        (torch.zeros(4, 784, dtype=torch.uint8), TypeError, "/ 255"),
        (torch.zeros(4, 784, dtype=torch.float64), TypeError, "torch.float32"),
        ([[0.0] * 784], TypeError, "list"),
    ],
)
def test_wrong_images_are_named_with_the_remedy(make, x, error, words):
    for call in (make(), make().loss, make().posterior):
        with pytest.raises(error) as raised:
            call(x)
        assert words in str(raised.value)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: VAE3Layer(z_dim=0), ValueError, "at least 1"),
        (lambda: AutoEncoder(h_dim=-3), ValueError, "at least 1"),
        (lambda: VAE3Layer(z_dim=2.5), TypeError, "2.5"),
        (lambda: VAE4Layer(h_dims=(400,)), ValueError, "two widths"),
        (lambda: VAE3Layer().decode(torch.zeros(3, 21)), ValueError, r"\(N, 20\), got \(3, 21\)"),
    ],
)
def test_wrong_sizes_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
