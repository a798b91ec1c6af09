"""The losses: identities, Monte Carlo, torch's own implementation, extreme values, errors."""

import numpy as np
import numpy_reference
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from vae_helpers import AutoEncoder, VAE3Layer, ae_loss, vae_loss
from vae_helpers.losses import kl_divergence, reconstruction_loss


def batch(generator, n=6, pixels=784, z_dim=5):
    """Arguments of `vae_loss`, by name."""

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    x = torch.rand(n, pixels, generator=generator)
    return {"x": x, "mu": draw(n, z_dim), "log_var": draw(n, z_dim), "logits": 3 * draw(n, pixels)}


def test_closed_form_kl_equals_monte_carlo(generator):
    mu, log_var = torch.tensor([0.5, -1.5, 0.0]), torch.tensor([0.3, -2.0, 0.0])
    q, p = Normal(mu, (0.5 * log_var).exp()), Normal(0, 1)
    eps = torch.randn(400_000, 3, generator=generator)
    z = mu + (0.5 * log_var).exp() * eps
    log_ratio = q.log_prob(z) - p.log_prob(z)
    error = 5 * log_ratio.std(0) / len(z) ** 0.5 + 1e-6
    assert ((log_ratio.mean(0) - kl_divergence(mu, log_var)).abs() < error).all()


def test_kl_is_zero_only_at_the_prior(generator):
    assert float(kl_divergence(torch.zeros(1), torch.zeros(1))) == 0
    values = torch.randn(1000, generator=generator), torch.randn(1000, generator=generator)
    assert (kl_divergence(*values) > 0).all()


def test_loss_from_logits_equals_loss_from_probabilities(generator):
    given = {name: value.double() for name, value in batch(generator).items()}
    x, mu, log_var, logits = given.values()
    loss = vae_loss(**given)
    bce = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
    kl = -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum()
    assert float(loss.reconstruction) == pytest.approx(float(bce) / len(x), rel=1e-9)
    assert float(loss.kl) == pytest.approx(float(kl) / len(x), rel=1e-6)
    assert float(loss.total) == pytest.approx(float(loss.reconstruction + loss.kl), rel=1e-12)
    ae = ae_loss(x, logits=logits)
    assert torch.equal(ae.total, loss.reconstruction) and float(ae.kl) == 0
    singles = [vae_loss(*rows, logits=row) for *rows, row in zip(*given.values(), strict=True)]
    assert float(sum(one.total for one in singles)) / len(x) == pytest.approx(float(loss.total))


def test_float32_loss_is_within_1e_4_nats_of_float64_numpy(generator):
    x, mu, log_var, logits = batch(generator).values()
    ours = reconstruction_loss(logits, x).numpy()
    theirs = numpy_reference.bce(logits.double().numpy(), x.double().numpy())
    assert np.abs(ours - theirs).max() / theirs.max() < 1e-6
    kl = kl_divergence(mu, log_var).sum(1).numpy()
    expected = numpy_reference.kl(mu.double().numpy(), log_var.double().numpy())
    assert np.abs(kl - expected).max() < 1e-4


def test_gradients_of_first_and_second_order_are_those_of_the_formula(generator):
    given = [part.double()[:3, :4].requires_grad_() for part in batch(generator).values()]

    def loss(x, mu, log_var, logits):
        return vae_loss(x, mu, log_var, logits=logits).total

    assert torch.autograd.gradcheck(loss, given) and torch.autograd.gradgradcheck(loss, given)


@pytest.mark.parametrize("value", [-1e4, -100.0, -50.0, 0.0, 50.0, 100.0, 1e4])
@pytest.mark.parametrize("pixel", [0.0, 1.0, 0.5])
def test_extreme_logits_stay_finite_and_exact(value, pixel):
    logits = torch.full((1, 784), value, requires_grad=True)
    loss = ae_loss(torch.full((1, 784), pixel), logits=logits).total
    loss.backward()
    expected = 784 * (max(value, 0) - pixel * value + np.log1p(np.exp(-abs(value))))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5, abs=1e-3)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("log_var", [-50.0, 50.0])
def test_extreme_log_var_stays_finite(log_var):
    mu = torch.zeros(2, 20, requires_grad=True)
    spread = torch.full((2, 20), log_var, requires_grad=True)
    loss = vae_loss(torch.zeros(2, 784), mu, spread, logits=torch.zeros(2, 784)).total
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(spread.grad).all()


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 5),
    pixels=st.integers(1, 40),
    z_dim=st.integers(1, 6),
    scale=st.floats(0.01, 30),
    seed=st.integers(0, 2**31),
)
def test_any_valid_batch_is_finite_and_above_its_floor(n, pixels, z_dim, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    x, mu, log_var, logits = batch(generator, n, pixels, z_dim).values()
    loss = vae_loss(x, mu, log_var, logits=scale * logits)
    floor = numpy_reference.entropy(x.double().numpy()).mean()
    assert torch.isfinite(loss.total) and float(loss.kl) >= 0
    assert float(loss.reconstruction) >= floor - 1e-3


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("x", lambda v: v[:4]),
        ("x", lambda v: v.view(-1, 1, 28, 28)),
        ("mu", lambda v: v[:, :3]),
        ("log_var", lambda v: v[:4]),
        ("logits", lambda v: v[:, :-1]),
    ],
)
def test_shapes_that_do_not_belong_together_are_named(name, cut, generator):
    arguments = batch(generator)
    arguments[name] = cut(arguments[name])
    with pytest.raises(ValueError) as raised:
        vae_loss(**arguments)
    assert str(tuple(arguments[name].shape)) in str(raised.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, vae, ae: vae_loss(x, *vae(x)),
        lambda x, vae, ae: vae_loss(vae(x)[0], x, *vae(x)[1:]),  # the order that is usual elsewhere
        lambda x, vae, ae: vae_loss(x, *vae.encode(x)),
        lambda x, vae, ae: ae_loss(x, *ae(x)),
        lambda x, vae, ae: ae_loss(ae(x)[0], x),
        lambda x, vae, ae: ae_loss(x),
    ],
)
def test_probabilities_in_the_place_of_logits_are_refused(call, generator):
    """What `forward` returns would train without a word, to worse pictures."""
    with pytest.raises(TypeError, match=r"logits must be passed by name.*logits=.*probabilities"):
        call(torch.rand(3, 784, generator=generator), VAE3Layer(), AutoEncoder())
