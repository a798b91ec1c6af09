"""Measures of generated images against identities and independent NumPy/SciPy computations."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.distance import cdist

from vae_helpers.data import CLASS_NAMES, Data, Split
from vae_helpers.measures import judge
from vae_helpers.measures import latents as sampling
from vae_helpers.measures.generated import (
    class_histogram,
    frechet_distance,
    generation_quality,
    memorisation,
    nearest_training_images,
    precision_recall_density_coverage,
    quality_floor,
    real_reference,
    sample_quality,
    sample_size_effect,
    squared_radii,
)
from vae_helpers.measures.judge import (
    classifier_accuracy,
    load_or_train_classifier,
    train_classifier,
)
from vae_helpers.measures.latents import (
    fit_latent_density,
    generated_images,
    interpolate,
    prior_latents,
    sample_latents,
    training_latents,
    traverse,
)
from vae_helpers.models import AutoEncoder, VAE3Layer
from vae_helpers.training import TrainSettings

QUICK = TrainSettings(epochs=2, learning_rate=2e-3)


def gaussian(n, d=8, seed=0, shift=0.0, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=random, dtype=torch.float64) * scale + shift


def toy_split(n, seed):
    """Ten classes of 28x28 images, each a bright square at a place of its own, plus noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(CLASS_NAMES)
    images = torch.randint(0, 80, (n, 28, 28), generator=random, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        row, column = 5 * (label % 5), 14 * (label // 5)
        images[i, row : row + 6, column : column + 12] += 120
    return Split(images.flatten(1), labels)


@pytest.fixture(scope="module")
def data():
    return Data("toy", toy_split(1500, 1), toy_split(200, 2), toy_split(500, 3))


@pytest.fixture(scope="module")
def classifier(data):
    return train_classifier(data, QUICK, device="cpu")


@pytest.fixture(scope="module")
def reference(classifier, data):
    return real_reference(classifier, data.test.floats())


# The classifier


def test_classifier_learns_and_leaves_the_random_state_alone(data):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    classifier = train_classifier(data, QUICK, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert classifier_accuracy(classifier, data.test.floats(), data.test.labels) > 0.95
    assert not classifier.training


def test_classifier_is_reproducible_by_seed(data, classifier):
    again = train_classifier(data, QUICK, device="cpu").state_dict()
    other = train_classifier(data, QUICK, seed=1, device="cpu").state_dict()
    state = classifier.state_dict()
    assert all(torch.equal(again[name], state[name]) for name in state)
    assert not torch.equal(other["head.weight"], state["head.weight"])


def test_classifier_keeps_the_best_validation_epoch(data, monkeypatch):
    accuracies, states = iter([0.3, 0.9, 0.5]), []

    def scripted(classifier, images, labels):
        states.append({name: v.clone() for name, v in classifier.state_dict().items()})
        return next(accuracies)

    monkeypatch.setattr(judge, "classifier_accuracy", scripted)
    kept = train_classifier(data, TrainSettings(epochs=3), device="cpu").state_dict()
    assert torch.equal(kept["head.weight"], states[1]["head.weight"])
    assert not torch.equal(kept["head.weight"], states[2]["head.weight"])


def test_classifier_is_kept_on_disk_and_a_corrupt_file_retrained(data, tmp_path, monkeypatch):
    trained = []
    original = judge.train_classifier
    monkeypatch.setattr(
        judge, "train_classifier", lambda *a, **k: trained.append(1) or original(*a, **k)
    )

    def get(**changes):
        return load_or_train_classifier(
            data, tmp_path, **{"settings": TrainSettings(epochs=1), "device": "cpu", **changes}
        )

    first, second = get(), get()
    assert len(trained) == 1
    assert torch.equal(first.head.weight, second.head.weight)
    get(seed=1)
    assert len(trained) == 2
    get(fresh=True)
    assert len(trained) == 3
    for file in tmp_path.glob("*.run"):
        file.write_bytes(file.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="corrupt"):
        third = get()
    assert len(trained) == 4
    assert torch.equal(first.head.weight, third.head.weight)


def test_features_and_probabilities(classifier, data):
    images = data.test.floats()
    found = judge.features(classifier, images)
    assert found.shape == (500, 128) and found.dtype == torch.float64
    assert float(found.min()) >= 0  # after the ReLU
    with torch.no_grad():
        logits = classifier(images).double()
        head = classifier.head(found.float()).double()
    torch.testing.assert_close(head, logits, atol=1e-4, rtol=1e-4)
    odds = np.exp(logits.numpy())
    expected = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        judge.class_probabilities(classifier, images), expected, atol=1e-5
    )


# The measures


def test_frechet_distance_equals_the_closed_form():
    real = gaussian(400) @ torch.rand(8, 8, dtype=torch.float64)
    fake = gaussian(300, seed=1, shift=0.3)
    r, f = real.numpy(), fake.numpy()
    cov_r, cov_f = np.cov(r, rowvar=False), np.cov(f, rowvar=False)
    root = scipy.linalg.sqrtm(cov_r @ cov_f).real
    expected = ((r.mean(0) - f.mean(0)) ** 2).sum() + np.trace(cov_r + cov_f - 2 * root)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("d", [1, 3, 40])
def test_frechet_distance_is_that_of_torchmetrics(d):
    from torchmetrics.image.fid import FrechetInceptionDistance

    generator = torch.Generator().manual_seed(d)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    real = torch.randn(300, d, generator=generator, dtype=torch.float64) @ mixing + 2
    fake = torch.randn(200, d, generator=generator, dtype=torch.float64).relu()
    identity = torch.nn.Identity()  # the features are there already
    identity.num_features = d
    metric = FrechetInceptionDistance(feature=identity)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert frechet_distance(real, fake) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_frechet_distance_is_zero_for_equal_sets_and_the_square_of_a_shift():
    real = gaussian(500)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    for shift in (0.1, 1.0, 4.0):  # equal covariances: |m_r - m_f|^2 = 8 * shift^2
        assert frechet_distance(real, real + shift) == pytest.approx(8 * shift**2, rel=1e-8)


def test_frechet_distance_survives_dead_features():
    real, fake = gaussian(50), gaussian(40, seed=1)
    real[:, 3] = fake[:, 3] = 0
    keep = [i for i in range(8) if i != 3]
    expected = frechet_distance(real[:, keep], fake[:, keep])
    assert frechet_distance(real, fake) == pytest.approx(expected, abs=1e-6)


def plain_prdc(real, fake, k):
    """The four measures from full distance matrices, term by term as the papers define them."""
    to_fake = cdist(real, fake)
    real_radius = np.sort(cdist(real, real), axis=1)[:, k]
    fake_radius = np.sort(cdist(fake, fake), axis=1)[:, k]
    return {
        "precision": np.mean([(to_fake[:, j] < real_radius).any() for j in range(len(fake))]),
        "recall": np.mean([(to_fake[i] < fake_radius).any() for i in range(len(real))]),
        "density": (to_fake < real_radius[:, None]).sum() / (k * len(fake)),
        "coverage": np.mean([to_fake[i].min() < real_radius[i] for i in range(len(real))]),
    }


@pytest.mark.parametrize("k", [1, 5])
def test_precision_recall_density_coverage_equal_the_definitions(k):
    real = gaussian(600, d=4)
    fake = gaussian(350, d=4, seed=1, shift=0.5, scale=0.7)
    found = precision_recall_density_coverage(real, fake, k)
    expected = plain_prdc(real.numpy(), fake.numpy(), k)
    assert found == pytest.approx(expected, abs=1e-12)
    assert len(set(found.values())) == 4  # four different measures, or the test shows little


def test_identical_sets_score_one_and_distant_ones_zero():
    real = gaussian(600)
    same = precision_recall_density_coverage(real, real.clone())
    assert same == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    far = precision_recall_density_coverage(real, real + 100)
    assert far == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_one_mode_of_two_has_full_precision_and_half_coverage():
    real = torch.cat([gaussian(300), gaussian(300, seed=1, shift=50)])
    found = precision_recall_density_coverage(real, gaussian(600, seed=2))
    assert found["precision"] > 0.9
    assert found["recall"] < 0.55 and found["coverage"] <= 0.5


def test_squared_radii_need_more_points_than_neighbours():
    points = torch.tensor([[0.0], [1.0], [3.0], [10.0]], dtype=torch.float64)
    assert squared_radii(points, 2).tolist() == [9.0, 4.0, 9.0, 81.0]
    with pytest.raises(ValueError, match="k = 4 neighbours need at least 5 points, got 4"):
        squared_radii(points, 4)


def test_class_histogram(classifier, data):
    images = data.test.floats()
    everything = class_histogram(classifier, images)
    assert sum(everything["class_fractions"]) == pytest.approx(1)
    assert everything["total_variation"] < 0.03
    only_threes = class_histogram(classifier, images[data.test.labels == 3])
    assert np.argmax(only_threes["class_fractions"]) == 3
    assert only_threes["total_variation"] == pytest.approx(0.9, abs=0.05)
    p = judge.class_probabilities(classifier, images).numpy()
    assert everything["entropy"] == pytest.approx(-(p * np.log(p)).sum(1).mean(), rel=1e-6)
    assert everything["confidence"] == pytest.approx(p.max(1).mean())


def test_sample_quality_of_the_reference_itself_and_of_worse_images(data, reference):
    images = data.test.floats()
    same = sample_quality(images, reference)
    assert same["frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert [same[m] for m in ("precision", "recall", "density", "coverage")] == [1, 1, 1, 1]
    floor = quality_floor(data, reference)
    noise = torch.rand(500, 784, generator=torch.Generator().manual_seed(0))
    noisy = sample_quality(0.7 * images + 0.3 * noise, reference)
    worst = sample_quality(noise, reference)
    distances = [m["frechet_distance"] for m in (same, floor, noisy, worst)]
    assert distances == sorted(distances) and distances[1] > 1e-3
    assert worst["coverage"] < 0.1 < 0.5 < floor["coverage"]


def test_frechet_distance_falls_with_the_number_of_images(data, reference):
    images = data.train.floats()[:500]
    effect = sample_size_effect(images, reference, sizes=(50, 150, 500))
    assert effect["n"] == [50, 150, 500]
    found = effect["frechet_distance"]
    assert found[0] > found[1] > found[2]
    for n, distance in zip((150, 500), found[1:], strict=True):
        expected = sample_quality(images[:n], reference)["frechet_distance"]
        assert distance == pytest.approx(expected)
    with pytest.raises(ValueError, match="go up to 501.*only 500"):
        sample_size_effect(images, reference, sizes=(501,))


# Memorisation


def test_nearest_training_images_equal_the_full_distance_matrix(data):
    train, queries = data.train.floats(), data.test.floats()
    index, distance = nearest_training_images(queries, train)
    full = cdist(queries.double(), train.double())
    np.testing.assert_array_equal(index, full.argmin(axis=1))
    np.testing.assert_allclose(distance, full.min(axis=1), rtol=1e-10)


def test_a_planted_training_image_is_found_at_distance_zero(data):
    train = data.train.floats()
    planted = torch.tensor([1234, 0, 77])
    index, distance = nearest_training_images(train[planted], train)
    assert torch.equal(index, planted)
    assert distance.tolist() == [0, 0, 0]


def test_memorisation_tells_copies_from_new_images(data):
    few = Data("toy", data.train.take(torch.arange(500)), data.validation, data.test)
    copies = few.train.floats() * 0.999
    found = memorisation(copies, few)
    assert found["nearer_to_train"] == 1 == found["copied"] and found["distance_ratio"] < 0.1
    assert torch.equal(found["nearest_index"], torch.arange(500))
    fresh = memorisation(toy_split(500, 9).floats(), few)
    assert fresh["chance"] == 500 / (500 + len(few.test))
    assert abs(fresh["copied"]) < 4 * fresh["copied_error"] < 0.5
    half = memorisation(torch.cat([copies[:250], toy_split(250, 9).floats()]), few)
    assert half["copied"] == pytest.approx(0.5, abs=4 * half["copied_error"])
    assert fresh["distance_ratio"] == pytest.approx(1, abs=0.02)


# The samplers


def test_samplers_are_deterministic_by_seed():
    density = fit_latent_density(gaussian(500, d=3).float(), "mixture", components=3)
    for draw in (lambda s: prior_latents(40, 3, s), lambda s: sample_latents(density, 40, s)):
        assert torch.equal(draw(1), draw(1))
        first, second = (draw(s).sort(dim=0).values for s in (1, 2))
        assert not torch.equal(first, second)  # other draws, not the same in another order
        assert draw(1).shape == (40, 3) and draw(1).dtype == torch.float32


def test_gaussian_density_has_the_mean_and_covariance_of_the_latents():
    latents = gaussian(3000, d=4) @ torch.rand(4, 4, dtype=torch.float64) + 2
    density = fit_latent_density(latents, "gaussian")
    np.testing.assert_allclose(density.means_[0], latents.mean(0), atol=1e-8)
    expected = np.cov(latents.numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(density.covariances_[0], expected, atol=1e-5)
    draws = sample_latents(density, 20_000, seed=0)
    np.testing.assert_allclose(draws.mean(0), latents.mean(0), atol=0.05)


def test_mixture_recovers_planted_components_and_mixes_its_draws():
    centres = torch.tensor([[-8.0, 0.0], [8.0, 0.0], [0.0, 9.0]])
    points = torch.cat([gaussian(n, d=2, seed=i).float() + centres[i]
                        for i, n in enumerate((1000, 2000, 3000))])  # fmt: skip
    density = fit_latent_density(points, "mixture", components=3)
    order = np.argsort(density.weights_)
    np.testing.assert_allclose(density.weights_[order], [1 / 6, 2 / 6, 3 / 6], atol=0.01)
    np.testing.assert_allclose(density.means_[order], centres, atol=0.15)
    nearest = cdist(sample_latents(density, 3000, seed=0)[:600], centres).argmin(axis=1)
    np.testing.assert_allclose(np.bincount(nearest) / 600, [1 / 6, 2 / 6, 3 / 6], atol=0.07)


def test_training_latents_are_posterior_draws_or_codes(data):
    images = data.test.floats()
    vae, ae = VAE3Layer(h_dim=16, z_dim=3).eval(), AutoEncoder(h_dim=16, z_dim=3).eval()
    with torch.no_grad():
        mu, log_var = vae.encode(images)
        torch.testing.assert_close(training_latents(ae, data.test, 0), ae.encode(images))
    draws = torch.stack([training_latents(vae, data.test, seed) for seed in range(200)])
    eps = (draws - mu) / (0.5 * log_var).exp()
    assert abs(float(eps.mean())) < 0.01 and abs(float(eps.std()) - 1) < 0.01
    assert torch.equal(draws[3], training_latents(vae, data.test, 3))


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_generated_images(data, sampler):
    model = AutoEncoder(h_dim=16, z_dim=3).eval()
    images = generated_images(model, data, sampler, 25, seed=0)
    assert images.shape == (25, 784) and not images.requires_grad
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    assert torch.equal(images, generated_images(model, data, sampler, 25, seed=0))


def test_generation_quality_is_sample_quality_of_the_generated_images(data, classifier, reference):
    model = VAE3Layer(h_dim=16, z_dim=3).eval()
    found = generation_quality(
        model, data, weights=judge.to_arrays(classifier), samplers=("prior", "gaussian"), n=200
    )
    images = generated_images(model, data, "gaussian", 200, seed=0)
    assert list(found) == ["prior", "gaussian"]
    assert found["gaussian"] == sample_quality(images, reference)


def test_interpolation_and_traversal_pass_through_the_reconstructions(data):
    x = data.test.floats()[:3]
    for model in (VAE3Layer(h_dim=16, z_dim=4).eval(), AutoEncoder(h_dim=16, z_dim=4).eval()):
        with torch.no_grad():
            z = model.encode(x)
            z = z[0] if isinstance(z, tuple) else z
            reconstructed = model.decode(z)
            line = interpolate(model, x, x.flip(0), steps=5)
            assert line.shape == (3, 5, 784)
            torch.testing.assert_close(line[:, 0], reconstructed)
            torch.testing.assert_close(line[:, -1], reconstructed.flip(0))
            torch.testing.assert_close(line[:, 2], model.decode((z + z.flip(0)) / 2))
            steps = traverse(model, x, 2, [-3.0, float(z[1, 2]), 3.0])
            torch.testing.assert_close(steps[1, 1], reconstructed[1])
            moved = z[0].clone()
            moved[2] = 3.0
            torch.testing.assert_close(steps[0, 2], model.decode(moved[None])[0])


# Bad input, and what an import costs


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: frechet_distance(gaussian(9), gaussian(9, d=3)), ValueError, "8 and 3"),
        (lambda: frechet_distance(gaussian(9), gaussian(1)), ValueError, "at least 2 fake"),
        (lambda: frechet_distance(gaussian(9)[0], gaussian(9)), ValueError, r"\(N, d\).*\(8,\)"),
        (lambda: frechet_distance(gaussian(9) * np.nan, gaussian(9)), ValueError, "NaN"),
        (lambda: frechet_distance(np.zeros((9, 8)), gaussian(9)), TypeError, "ndarray"),
        (lambda: precision_recall_density_coverage(gaussian(5), gaussian(9)), ValueError,
         "at least 6 real"),
        (lambda: nearest_training_images(gaussian(2), gaussian(2, d=3)), ValueError, "8 and 3"),
        (lambda: fit_latent_density(gaussian(9), "flow"), ValueError, "'flow'"),
        (lambda: fit_latent_density(gaussian(9), "mixture", components=0), ValueError,
         "components must be at least 1"),
        (lambda: fit_latent_density(gaussian(9), "mixture"), ValueError, "10 components"),
        (lambda: prior_latents(0, 3, 0), ValueError, "n must be at least 1"),
        (lambda: traverse(AutoEncoder(z_dim=4), torch.zeros(1, 784), 4, [0.0]), ValueError,
         r"0\.\.3, got 4"),
        (lambda: interpolate(AutoEncoder(), torch.zeros(1, 784), torch.zeros(2, 784)), ValueError,
         "1 and 2 images"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bad_images_and_sizes_are_named(data, classifier, reference):
    with pytest.raises(TypeError, match="uint8"):
        judge.features(classifier, data.test.images)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        judge.features(classifier, data.test.floats() * 255)
    with pytest.raises(ValueError, match="at most 500 images"):
        memorisation(data.train.floats()[:501], data)
    with pytest.raises(ValueError, match="'normal'"):
        generated_images(AutoEncoder(), data, "normal", 5, seed=0)


def test_import_loads_no_heavy_library():
    code = (
        "import sys, vae_helpers.measures.generated; "
        "sys.exit(str([m for m in ('torchmetrics', 'sklearn', 'torchvision') if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stderr.strip() == "[]"
