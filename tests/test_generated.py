"""The judge and its measures against identities and independent NumPy/SciPy computations."""

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import python
from scipy.spatial.distance import cdist

from vae_helpers.data import Data, Split
from vae_helpers.engine.cache import Cache
from vae_helpers.measures import latents
from vae_helpers.measures.generated import (
    frechet_distance,
    generation_quality,
    image_quality,
    make_judge,
    precision_recall,
    quality_floor,
    squared_radii,
)
from vae_helpers.measures.judge import judged, load_judge
from vae_helpers.measures.latents import draw_like, sampled_latents
from vae_helpers.models import AutoEncoder, VAE3Layer


def gaussian(n, d=8, seed=0, shift=0.0, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=random, dtype=torch.float64) * scale + shift


def toy_split(n, seed):
    """Ten classes of 28x28 images, each a bright square at a place of its own, plus noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    images = torch.randint(0, 80, (n, 28, 28), generator=random, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        row, column = 5 * (label % 5), 14 * (label // 5)
        images[i, row : row + 6, column : column + 12] += 120
    return Split(images.flatten(1), labels)


@pytest.fixture(scope="module")
def data():
    splits = toy_split(1500, 1), toy_split(200, 2), toy_split(500, 3)
    return Data("toy", *splits, class_names=tuple("0123456789"))


@pytest.fixture(scope="module")
def judge(data):
    return make_judge(data, epochs=2)


# The judge


def test_judge_learns_reproducibly_and_leaves_the_random_state_alone(data, judge):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again, other = make_judge(data, epochs=2), make_judge(data, epochs=2, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert judge["accuracy"] > 0.95
    keys = [Cache(None).key("judge", judge=each) for each in (again, judge, other)]
    assert keys[0] == keys[1] != keys[2]


def test_judged_images_do_not_depend_on_the_batches(data, judge):
    classifier, x = load_judge(judge["weights"]), data.test.floats()
    features, parts = judged(classifier, [x]), judged(classifier, x.split(70))
    torch.testing.assert_close(features, parts)
    torch.testing.assert_close(features, judge["features"])
    assert features.shape == (500, 128) and float(features.min()) >= 0  # after the ReLU
    with torch.no_grad():
        right = classifier(x).argmax(dim=1) == data.test.labels
    assert float(right.double().mean()) == judge["accuracy"]


# The measures


def test_frechet_distance_equals_the_definition_with_scipys_matrix_root():
    real = gaussian(400) @ torch.rand(8, 8, dtype=torch.float64)
    fake = gaussian(300, seed=1, shift=0.3)
    r, f = real.numpy(), fake.numpy()
    cov_r, cov_f = np.cov(r, rowvar=False), np.cov(f, rowvar=False)
    root = scipy.linalg.sqrtm(cov_r @ cov_f).real
    expected = ((r.mean(0) - f.mean(0)) ** 2).sum() + np.trace(cov_r + cov_f - 2 * root)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_has_its_closed_forms():
    real = gaussian(500)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    for shift in (0.1, 1.0, 4.0):  # equal covariances: |m_r - m_f|^2 = 8 * shift^2
        assert frechet_distance(real, real + shift) == pytest.approx(8 * shift**2, rel=1e-8)
    centred = real - real.mean(dim=0)  # covariances C and 9 C: tr(C) (1 - 3)^2
    expected = 4 * float(torch.cov(real.T).trace())
    assert frechet_distance(centred, 3 * centred) == pytest.approx(expected, rel=1e-8)
    one = gaussian(50, d=1)
    assert frechet_distance(one, one + 2) == pytest.approx(4)
    real, fake = gaussian(50), gaussian(40, seed=1)
    real[:, 3] = fake[:, 3] = 0  # a dead feature
    keep = [i for i in range(8) if i != 3]
    expected = frechet_distance(real[:, keep], fake[:, keep])
    assert frechet_distance(real, fake) == pytest.approx(expected, abs=1e-6)


def plain_measures(real, fake, k):
    """From full distance matrices, term by term as the papers define them."""
    to_fake = cdist(real, fake)
    real_radius = np.sort(cdist(real, real), axis=1)[:, k]
    fake_radius = np.sort(cdist(fake, fake), axis=1)[:, k]
    return {
        "precision": np.mean([(to_fake[:, j] < real_radius).any() for j in range(len(fake))]),
        "recall": np.mean([(to_fake[i] < fake_radius).any() for i in range(len(real))]),
    }


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_and_recall_equal_the_definitions(k, dtype):
    real, fake = gaussian(600, d=4), gaussian(350, d=4, seed=1, shift=0.5, scale=0.7)
    real, fake = (x.to(dtype) + 30 for x in (real, fake))  # as far from 0 as features lie
    found = precision_recall(real, squared_radii(real, k), fake, k)
    expected = plain_measures(real.double().numpy(), fake.double().numpy(), k)
    assert found == pytest.approx(expected, abs=1e-12)
    assert len(set(found.values())) == 2  # two different measures, or the test shows little


def test_identical_sets_score_one_distant_ones_zero_and_half_the_modes_half():
    real = gaussian(600)
    radii = squared_radii(real)
    assert set(precision_recall(real, radii, real.clone()).values()) == {1}
    assert set(precision_recall(real, radii, real + 100).values()) == {0}
    two = torch.cat([gaussian(300), gaussian(300, seed=1, shift=50)])
    found = precision_recall(two, squared_radii(two), gaussian(600, seed=2))
    assert found["precision"] > 0.9 and found["recall"] < 0.55


def test_squared_radii():
    points = torch.tensor([[0.0], [1.0], [3.0], [10.0]], dtype=torch.float64)
    assert squared_radii(points, 2).tolist() == pytest.approx([9.0, 4.0, 9.0, 81.0])


def test_quality_falls_from_the_real_images_to_noise(data, judge):
    x = data.test.floats()
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    same, floor = image_quality([x], judge), quality_floor(data, judge, 500)
    noisy, worst = image_quality([0.7 * x + 0.3 * noise], judge), image_quality([noise], judge)
    distances = [found["frechet"] for found in (same, floor, noisy, worst)]
    assert distances == sorted(distances) and distances[0] == pytest.approx(0, abs=1e-6)
    assert worst["recall"] < 0.1 < 0.5 < floor["recall"]
    for images, error, words in [
        (data.test.images, TypeError, "uint8"),
        (torch.rand(9, 100), ValueError, r"\(N, 784\)"),
        (x * torch.nan, ValueError, "NaN"),
    ]:
        with pytest.raises(error, match=words):
            image_quality([images], judge)
    weights = {**judge["weights"], "extract.7.bias": torch.full((128,), torch.nan)}
    with pytest.raises(ValueError, match="judge's features must be finite"):
        image_quality([x], {**judge, "weights": weights})


def test_generation_quality_is_that_of_the_decoded_latents_in_any_order(data, judge):
    model = VAE3Layer(h_dim=16, z_dim=3).fresh(0).eval()
    found = {s: generation_quality(model, data, judge, s, 200, seed=3) for s in latents.SAMPLERS}
    for sampler in reversed(latents.SAMPLERS):
        z = sampled_latents(model, data.train, sampler, 200, seed=3)
        with torch.no_grad():
            expected = image_quality(model.decode(z).split(70), judge)
        assert found[sampler] == pytest.approx(expected, rel=1e-5)
    assert len({quality["frechet"] for quality in found.values()}) == 4


# The samplers


def test_draws_have_the_mean_and_covariance_of_the_latents():
    given = gaussian(3000, d=4) @ torch.rand(4, 4, dtype=torch.float64) + 2
    draws = draw_like(given, 1, 40_000)
    assert draws.shape == (40_000, 4) and draws.dtype == torch.float32
    np.testing.assert_allclose(draws.mean(0), given.mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(given.T), atol=0.06)


def test_mixture_recovers_planted_components_and_mixes_its_draws():
    centres = torch.tensor([[-8.0, 0.0], [8.0, 0.0], [0.0, 9.0]])
    points = torch.cat(
        [gaussian(n, d=2, seed=i).float() + centres[i] for i, n in enumerate((1000, 2000, 3000))]
    )
    draws = draw_like(points, 3, 6000)
    for part in (draws[:1000], draws):
        nearest = cdist(part, centres).argmin(axis=1)
        shares = np.bincount(nearest) / len(part)
        np.testing.assert_allclose(shares, [1 / 6, 2 / 6, 3 / 6], atol=0.05)
    assert cdist(draws, centres).min(axis=1).mean() == pytest.approx((np.pi / 2) ** 0.5, abs=0.1)


def test_latents_of_images_are_draws_of_a_vae_and_the_vectors_of_an_autoencoder(data, monkeypatch):
    monkeypatch.setattr(latents, "draw_like", lambda z, *rest: (z, rest))
    monkeypatch.setattr(latents, "DENSITY_SAMPLES", 1000)
    vae, ae = VAE3Layer(h_dim=16, z_dim=3).fresh(0), AutoEncoder(h_dim=16, z_dim=3).fresh(0)
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(4))
    for sampler, n, images, rest in [
        ("gaussian", 7, 1000, (1, 7, 4)),
        ("mixture", 7, 1000, (10, 7, 4)),
        ("reconstructions", 1100, 1100, None),
    ]:
        drawn, vectors = (sampled_latents(m, data.train, sampler, n, seed=4) for m in (vae, ae))
        if rest:
            (drawn, got), (vectors, _) = drawn, vectors
            assert got == rest
        x = data.train.floats()[order[:images]]
        with torch.no_grad():
            torch.testing.assert_close(vectors, ae.latent(x))
            mean, log_var = vae.posterior(x)
        eps = (drawn - mean) / (0.5 * log_var).exp()
        assert abs(float(eps.mean())) < 0.06 and abs(float(eps.std()) - 1) < 0.05


def test_real_images_and_perfect_reconstructions_score_the_same(data, judge):
    class Perfect(AutoEncoder):
        """Its latent vector is the image's logits."""

        def encoder(self, x):
            return torch.logit(x, 1e-6)

        def decoder(self, z):
            return z

    model = Perfect(h_dim=2, z_dim=784).eval()
    found = generation_quality(model, data, judge, "reconstructions", 500)
    assert found == pytest.approx(quality_floor(data, judge, 500), rel=1e-3)


@pytest.mark.parametrize("sampler", latents.SAMPLERS)
def test_samplers_are_deterministic_by_seed(data, sampler):
    model = AutoEncoder(h_dim=16, z_dim=3).fresh(0)
    first, again, other = (sampled_latents(model, data.train, sampler, 25, s) for s in (1, 1, 2))
    assert first.shape == (25, 3) and torch.equal(first, again)
    assert not torch.equal(first.sort(dim=0).values, other.sort(dim=0).values)


# Bad input, and what an import costs


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: squared_radii(gaussian(5)), "k = 5 neighbours need at least 6 points, got 5"),
        (lambda: precision_recall(gaussian(9), torch.ones(9), gaussian(5)), "6 points, got 5"),
        (lambda: draw_like(gaussian(9), 0, 1), "n_components"),
        (lambda: draw_like(gaussian(9), 10, 1), "n_components = 10"),
        (lambda: draw_like(gaussian(9) * np.nan, 1, 1), "NaN"),
        (lambda: sampled_latents(AutoEncoder(), None, "prior", 0), "n must be at least 1"),
        (lambda: sampled_latents(AutoEncoder(), None, "normal", 5), "\", got 'normal'"),
        (
            lambda: sampled_latents(AutoEncoder(), toy_split(20, 0), "reconstructions", 21),
            "n must be at most the 20 training images, got 21",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_import_loads_no_heavy_library():
    code = (
        "import sys, vae_helpers.measures.columns; "
        "sys.exit(str([m for m in ('sklearn', 'torchvision') if m in sys.modules]))"
    )
    assert python("-c", code).stderr.strip() == "[]"
