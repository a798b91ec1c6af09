"""Evaluation against an implementation of its own in float64 NumPy, and its identities."""

import math

import numpy as np
import numpy_reference
import pytest
import torch

from vae_helpers import ModelSpec, bce_floor, image_losses, iwae_bounds, train
from vae_helpers.measures.losses import (
    active_units,
    latent_statistics,
    log_importance_weights,
    mean_image_bce,
    pca_bce,
    probe_accuracy,
    split_losses,
)
from vae_helpers.training import TrainSettings

TOLERANCE = 1e-4  # nats per image


@pytest.fixture(scope="module")
def trained(tiny_data):
    model = ModelSpec("VAE4Layer", (64, 32), 6).build(0)
    settings = TrainSettings(epochs=15, batch_size=32, learning_rate=3e-3)
    train(model, tiny_data.train.images, tiny_data.validation.images, settings, seed=0,
          device="cpu")  # fmt: skip
    return model


@pytest.fixture(scope="module")
def images(tiny_data):
    return tiny_data.test.floats()[:50].double()


@pytest.fixture(scope="module")
def trained64(trained):
    import copy

    return copy.deepcopy(trained).double()


def noise(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_elbo_agrees_with_numpy(trained64, images):
    draws = 4
    losses = image_losses(trained64, images, draws=draws, seed=3)
    generator = torch.Generator().manual_seed(3)
    eps = [torch.randn(50, 6, generator=generator, dtype=torch.float64) for _ in range(draws)]
    reconstruction, kl = numpy_reference.negative_elbo(
        trained64, images.numpy(), [e.numpy() for e in eps]
    )
    assert np.abs(losses["reconstruction"].numpy() - reconstruction).max() < TOLERANCE
    assert np.abs(losses["kl"].numpy() - kl).max() < TOLERANCE
    assert np.abs(losses["total"].numpy() - reconstruction - kl).max() < TOLERANCE


def test_float32_evaluation_is_within_tolerance_of_numpy(trained, images):
    losses = image_losses(trained, images.float(), seed=3)
    eps = noise(3, 50, 6, dtype=torch.float32).double().numpy()
    x = images.float().double().numpy()
    reconstruction, kl = numpy_reference.negative_elbo(trained, x, [eps])
    assert abs(losses["total"].double().mean() - (reconstruction + kl).mean()) < 1e-3
    assert np.abs(losses["kl"].numpy() - kl).max() < 1e-3


def test_iwae_bound_agrees_with_numpy(trained64, images):
    k = 40
    log_w = log_importance_weights(trained64, images, k, torch.Generator().manual_seed(3), 170)
    generator = torch.Generator().manual_seed(3)
    eps = torch.cat([  # chunk 170 over 50 images: three draws a pass
        torch.randn(min(3, k - s), 50, 6, generator=generator, dtype=torch.float64)
        for s in range(0, k, 3)
    ])  # fmt: skip
    theirs = numpy_reference.log_weights(trained64, images.numpy(), eps.numpy())
    assert np.abs(log_w.numpy() - theirs).max() < TOLERANCE
    bound = np.logaddexp.reduce(theirs, axis=1) - math.log(k)
    ours = iwae_bounds(trained64, images[:50], (k,), seed=3)[k]
    generator = torch.Generator().manual_seed(3)
    eps = torch.randn(k, 50, 6, generator=generator, dtype=torch.float64).numpy()
    theirs = numpy_reference.log_weights(trained64, images.numpy(), eps)
    bound = np.logaddexp.reduce(theirs, axis=1) - math.log(k)
    assert np.abs(ours.numpy() - bound).max() < TOLERANCE


def test_floor_agrees_with_numpy_and_nothing_goes_below_it(images, trained64):
    floor = bce_floor(images)
    assert np.abs(floor.numpy() - numpy_reference.entropy(images.numpy())).max() < TOLERANCE
    assert (image_losses(trained64, images)["reconstruction"] > floor).all()
    assert float(bce_floor(images.round()).max()) == 0


def test_floor_is_reached_by_the_image_itself():
    x = torch.rand(20, 784, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = numpy_reference.bce(torch.logit(x).numpy(), x.numpy())
    assert np.abs(bce_floor(x).numpy() - own).max() < TOLERANCE


def test_bounds_start_at_the_elbo_and_never_fall(trained64, images):
    bounds = iwae_bounds(trained64, images, (1, 5, 50, 500))
    levels = [bounds[k] for k in (1, 5, 50, 500)]
    for low, high in zip(levels[:-1], levels[1:], strict=True):
        assert (high >= low - 1e-9).all()
    elbo = -image_losses(trained64, images, draws=500, seed=9)["total"]
    assert float((levels[0] - elbo).mean()) == pytest.approx(0, abs=0.3)
    assert float(levels[-1].mean()) > float(levels[0].mean()) + 0.1


def test_bounds_do_not_depend_on_the_chunk(trained64, images):
    # one draw a pass, whatever the chunk below 2 N: the same stream of noise
    a, b = (log_importance_weights(trained64, images, 6, torch.Generator().manual_seed(0), chunk)
            for chunk in (50, 99))  # fmt: skip
    assert torch.equal(a, b)


@pytest.mark.parametrize("ks", [(10, 1), (2, 3), (1, 1), (0,)])
def test_ks_that_do_not_nest_are_refused(trained, images, ks):
    with pytest.raises(ValueError):
        iwae_bounds(trained, images.float(), ks)


def test_losses_of_an_image_do_not_depend_on_who_else_is_evaluated(tiny_data):
    model, x = ModelSpec("AutoEncoder", (32,), 4).build(0), tiny_data.test.floats()
    whole = image_losses(model, x)["total"]
    assert torch.allclose(whole[:7], image_losses(model, x[:7])["total"], rtol=1e-5)
    assert float(image_losses(model, x)["kl"].abs().max()) == 0


def test_split_losses_cover_the_splits(tiny_data, trained):
    losses = split_losses(trained, tiny_data, draws=2)
    assert {len(losses[f"{s}_total"]) for s in ("train", "validation", "test")} == {600, 100, 200}
    assert len(losses) == 12
    for split in ("train", "validation", "test"):
        at_mean = losses[f"{split}_reconstruction_at_mean"].mean()
        assert at_mean < losses[f"{split}_reconstruction"].mean()  # noise in z costs something


def test_baselines_are_ordered_and_pca_improves_with_components(tiny_data):
    train_x, x = tiny_data.train.floats(), tiny_data.test.floats()
    values = [float(mean_image_bce(train_x, x).mean())]
    values += [float(pca_bce(train_x, x, c).mean()) for c in (2, 5, 9)]
    assert values == sorted(values, reverse=True)
    assert values[-1] > float(bce_floor(x).mean())


def test_active_units_are_those_that_follow_the_input(tiny_data):
    model = ModelSpec("VAE3Layer", (16,), 5).build(0)
    with torch.no_grad():  # two latents that ignore x
        model.encoder[-1].weight[[1, 3]] = 0
        model.encoder[-1].weight[[0, 2, 4]] *= 20
    found = latent_statistics(model, tiny_data)
    assert active_units(found["mean_variance"]) == 3
    assert found["kl"].shape == (5,) and (found["kl"] >= 0).all()


def test_probes_find_planted_classes_and_chance_without_them(tiny_data, trained):
    good = probe_accuracy(trained, tiny_data, n_train=600)
    assert good["linear"] > 0.9 and good["knn"] > 0.9
    blind = ModelSpec("AutoEncoder", (8,), 3).build(0)
    with torch.no_grad():
        blind.encoder[-1].weight.zero_()
    assert probe_accuracy(blind, tiny_data, n_train=600)["linear"] < 0.2
