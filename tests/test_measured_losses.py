"""Losses, bounds and the baseline against float64 NumPy of their own, and their identities."""

import copy
import math

import numpy as np
import numpy_reference
import pytest
import torch
from own_models import ConvVAE, trained_a_little

from vae_helpers.measures.latents import hidden_units, latent_statistics
from vae_helpers.measures.losses import (
    NotApplicable,
    bce_floor,
    bound,
    floors,
    image_losses,
    iwae_bounds,
    split_losses,
)
from vae_helpers.models import AutoEncoder, VAE3Layer, VAE4Layer

TOLERANCE = 1e-4  # nats per image


@pytest.fixture(scope="module")
def trained(tiny_data):
    return trained_a_little(VAE4Layer(h_dims=(64, 32), z_dim=6), tiny_data, 20, 32, 3e-3)


@pytest.fixture(scope="module")
def trained64(trained):
    return copy.deepcopy(trained).double()


@pytest.fixture(scope="module")
def images(tiny_data):
    return tiny_data.test.floats()[:50].double()


def test_elbo_agrees_with_numpy(trained64, images):
    losses = image_losses(trained64, images, draws=4, seed=3)
    stream = torch.Generator().manual_seed(3)
    eps = [torch.randn(50, 6, generator=stream, dtype=torch.float64).numpy() for _ in range(4)]
    reconstruction, kl = numpy_reference.negative_elbo(trained64, images.numpy(), eps)
    zero = np.zeros((50, 6))
    at_mean, _ = numpy_reference.negative_elbo(trained64, images.numpy(), [zero])
    for name, expected in [
        ("reconstruction", reconstruction),
        ("kl", kl),
        ("total", reconstruction + kl),
        ("reconstruction_at_mean", at_mean),
    ]:
        assert np.abs(losses[name].numpy() - expected).max() < TOLERANCE, name


def test_float32_losses_are_within_a_thousandth_of_a_nat_of_float64(trained, trained64, images):
    single, double = image_losses(trained, images.float()), image_losses(trained64, images)
    assert (single["kl"] - double["kl"]).abs().max() < 1e-3
    difference = single["reconstruction_at_mean"].double() - double["reconstruction_at_mean"]
    assert difference.abs().max() < 1e-3


def test_bounds_agree_with_numpy(trained64, images):
    stream = torch.Generator().manual_seed(3)
    eps = torch.stack(
        [torch.randn(50, 6, generator=stream, dtype=torch.float64) for _ in range(40)]
    ).numpy()
    log_w = numpy_reference.log_weights(trained64, images.numpy(), eps)
    elbo, tighter = iwae_bounds(trained64, images, 40, seed=3)
    expected = np.logaddexp.reduce(log_w, axis=1) - math.log(40)
    assert np.abs(tighter.numpy() - expected).max() < TOLERANCE
    assert np.abs(elbo.numpy() - log_w.mean(axis=1)).max() < TOLERANCE


def test_bounds_start_at_the_elbo_and_never_fall(trained64, images):
    levels = [iwae_bounds(trained64, images, k) for k in (1, 5, 50, 500)]
    for elbo, tighter in levels:
        assert (tighter >= elbo - 1e-9).all()
    torch.testing.assert_close(*levels[0])
    means = [float(tighter.mean()) for _, tighter in levels]
    assert means == sorted(means) and means[-1] > means[0] + 0.1
    elbo = -image_losses(trained64, images, draws=500, seed=9)["total"]
    assert float((levels[-1][0] - elbo).mean()) == pytest.approx(0, abs=0.3)


def test_bound_with_an_exact_posterior_is_the_likelihood():
    model = VAE3Layer(image_size=4, h_dim=3, z_dim=2).double()
    with torch.no_grad():  # a decoder that does not look at z: the posterior is the prior
        for layer in (model.h_to_z, model.z_to_h2):
            layer.weight.zero_()
            layer.bias.zero_()
    x = torch.rand(5, 4, dtype=torch.float64)
    logits = torch.relu(torch.zeros(3).double()) @ model.h2_to_x2.weight.T + model.h2_to_x2.bias
    exact = -numpy_reference.bce(logits.detach().numpy(), x.numpy())
    for level in iwae_bounds(model, x, 20):
        assert np.abs(level.numpy() - exact).max() < 1e-9


def test_bound_and_gap_add_up_to_the_test_loss_of_the_same_images(trained, tiny_data):
    found = bound(trained, tiny_data, images=60, k=50, draws=2)
    _, tighter = iwae_bounds(trained, tiny_data.test.floats()[:60], 50)
    assert torch.equal(found["bound"], -tighter.float()) and float(found["gap"].mean()) > 0.5
    loss = image_losses(trained, tiny_data.test, draws=2)["total"][:60]
    torch.testing.assert_close(found["bound"] + found["gap"], loss)


def test_an_autoencoder_has_no_bound_and_no_kl(tiny_data):
    model = AutoEncoder(h_dim=16, z_dim=3).eval()
    with pytest.raises(NotApplicable, match=r"AE \(16, 3\) has no importance-weighted bound"):
        iwae_bounds(model, tiny_data.test.floats(), 2)
    losses = split_losses(model, tiny_data, "test", draws=3)
    assert float(losses["kl"].abs().max()) == 0
    assert torch.equal(losses["reconstruction"], losses["reconstruction_at_mean"])
    assert float(latent_statistics(model, tiny_data)["kl"].abs().max()) == 0


def test_floor_agrees_with_numpy_and_is_reached_by_the_image_itself(trained64, images, tiny_data):
    floor = bce_floor(images)
    assert np.abs(floor.numpy() - numpy_reference.entropy(images.numpy())).max() < TOLERANCE
    x = images.clamp(1e-3, 1 - 1e-3)
    own = numpy_reference.bce(torch.logit(x).numpy(), x.numpy())
    assert np.abs(bce_floor(x).numpy() - own).max() < TOLERANCE
    assert (image_losses(trained64, images)["reconstruction"] > floor).all()
    assert float(bce_floor(images.round()).max()) == 0
    for split, found in floors(tiny_data).items():
        x = getattr(tiny_data, split).floats().double().numpy()
        assert found == pytest.approx(numpy_reference.entropy(x).mean(), rel=1e-6)


def test_split_losses_cover_the_splits_and_depend_on_nothing_else(tiny_data, trained):
    losses, validation, train = (
        split_losses(trained, tiny_data, split, draws=2)
        for split in ("test", "validation", "train")
    )
    assert len(losses["kl"]) == 200 and set(validation) == {"reconstruction", "kl"}
    expected = image_losses(trained, tiny_data.validation, draws=2)
    assert all(torch.equal(values, expected[term]) for term, values in validation.items())
    once = image_losses(trained, tiny_data.train)  # one draw, however many the others have
    assert train == {term: float(once[term].double().mean()) for term in ("reconstruction", "kl")}
    assert losses["reconstruction_at_mean"].mean() < losses["reconstruction"].mean()
    for images in (tiny_data.test.floats(), tiny_data.test):
        found = image_losses(trained, images, draws=2)["total"]
        torch.testing.assert_close(losses["reconstruction"] + losses["kl"], found)
    torch.manual_seed(77)  # no part
    again = split_losses(trained, tiny_data, "test", draws=2)
    assert all(torch.equal(again[name], losses[name]) for name in losses)


def test_active_units_are_those_that_follow_the_input(tiny_data):
    model = VAE3Layer(h_dim=16, z_dim=5).fresh(0)
    with torch.no_grad():  # latents of these variances, one of which ignores x
        x, wanted = tiny_data.test.floats(), torch.tensor([0.012, 0, 0.05, 0.009, 4])
        sd = model.latent(x).std(dim=0)
        model.h_to_z.weight[:5] *= (wanted.sqrt() / sd)[:, None]
        mu, log_var = model.encode(x)
    found = latent_statistics(model, tiny_data)
    assert found["active_units"] == 3 and found["kl"].shape == (5,)
    np.testing.assert_allclose(found["variance"], mu.double().numpy().var(0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(found["variance"], wanted, rtol=1e-4, atol=1e-9)
    assert float(found["kl"].sum()) == pytest.approx(
        float(numpy_reference.kl(mu.double().numpy(), log_var.double().numpy()).mean()), rel=1e-5
    )
    torch.nn.init.constant_(model.h_to_z.bias[2], math.nan)
    for measure in (latent_statistics, hidden_units):
        with pytest.raises(
            ValueError, match=r"VAE \(16, 5\) has latent vectors that are not finite"
        ):
            measure(model, tiny_data)


def units_above_zero(x, weights):
    """(used, of) of every hidden layer, and the output, in NumPy; weights: of `layers`."""
    found = []
    for w, b in weights[:-1]:
        x = np.maximum(x @ w.T + b, 0)
        found.append((int((x > 0).any(axis=0).sum()), len(b)))
    return found, x @ weights[-1][0].T + weights[-1][1]


@pytest.mark.parametrize("kind", [VAE3Layer, VAE4Layer, AutoEncoder])
def test_hidden_units_in_use_are_those_that_fire_for_some_test_image(kind, tiny_data, monkeypatch):
    monkeypatch.setattr("vae_helpers.measures.latents.BATCH", 70)  # a unit may fire in one only
    model, x = kind(z_dim=4).fresh(0), tiny_data.test.floats().double().numpy()
    *_, last = model.children()
    with torch.no_grad():
        for i, layer in enumerate(layer for layer in model.children() if layer is not last):
            layer.bias[: 3 + i] = -100  # never
            layer.weight[-10:-2] *= 3  # for some images
            layer.bias[-10:-2] -= 3 * layer.weight[-10:-2].abs().mean() * layer.in_features**0.5
    encoder, code = units_above_zero(x, numpy_reference.layers(model, "encoder"))
    mean = code[:, : model.z_dim]
    decoder, _ = units_above_zero(mean, numpy_reference.layers(model, "decoder"))
    found = hidden_units(model, tiny_data)
    assert found["encoder_hidden"] == encoder and found["decoder_hidden"] == decoder
    assert found["encoder_units"] == sum(used for used, _ in encoder) < sum(model.hidden)
    assert found["decoder_units"] == sum(used for used, _ in decoder) < sum(model.hidden)


class Own(VAE3Layer):
    """A user's: module or tensor's method, an activation that is none, two heads."""

    def __init__(self, activation):
        super().__init__(h_dim=6, z_dim=2)
        self.activation, self.log_var = activation, torch.nn.Linear(6, 2)

    def encoder(self, x):
        h = self.activation(self.x_to_h(x))
        return torch.cat([self.h_to_z(h)[:, :2], self.log_var(h)], dim=1)

    def decoder(self, z):
        return self.h2_to_x2(torch.tanh(self.z_to_h2(z)))


@pytest.mark.parametrize(
    "activation",
    [torch.nn.ReLU(), torch.relu, torch.relu_, torch.Tensor.relu, torch.tanh],
)
def test_hidden_units_of_other_models(tiny_data, activation):
    model = Own(activation).fresh(0)
    torch.nn.init.constant_(model.x_to_h.bias[:2], -100)
    torch.nn.init.constant_(model.x_to_h.bias[2:], 100)
    expected = {"encoder_hidden": [(4, 6)], "encoder_units_1": 4, "encoder_units": 4}
    assert hidden_units(model, tiny_data) == ({} if activation is torch.tanh else expected)


def test_hidden_units_of_a_convolution_are_the_numbers_that_it_gives_of_an_image(tiny_data):
    assert [of for _, of in hidden_units(ConvVAE(2), tiny_data)["encoder_hidden"]] == [2 * 7 * 7]
