"""Every column against what it should read, computed apart, and after a trip to a worker."""

import pickle
from dataclasses import replace

import pytest
import torch
from own_models import trained_a_little

from vae_helpers.engine.cache import Cache
from vae_helpers.engine.files import load_tensors, save_tensors
from vae_helpers.measures.columns import COLUMNS, FULL, MEASUREMENTS, QUICK, arguments
from vae_helpers.measures.generated import generated_images, image_quality, make_judge
from vae_helpers.measures.latents import SAMPLERS, hidden_units
from vae_helpers.measures.losses import image_losses, iwae_bounds
from vae_helpers.models import AutoEncoder, VAE4Layer

SIZES = replace(QUICK, draws=2, bound_images=30, generated=120)


@pytest.fixture(scope="module")
def judges(tiny_data):
    """Of seeds 0 and 1, generous: precision is then not 0, as recall is on these noisy images."""
    made = [make_judge(tiny_data, 1, seed) for seed in (0, 1)]
    return [{**judge, "radii": 1_000 * judge["radii"]} for judge in made]


@pytest.fixture(scope="module", params=[VAE4Layer(h_dims=(16, 8), z_dim=3), AutoEncoder(h_dim=8)])
def model(request, tiny_data):
    return trained_a_little(request.param, tiny_data, 6, 64, 1e-2)


def expected_values(model, data, judges):
    """Column -> its value, from the functions that the other tests check."""
    values = {}
    for split, draws in [("train", 1), ("validation", 2), ("test", 2)]:
        losses = image_losses(model, getattr(data, split), draws)
        for column, term in [("loss", "total"), ("reconstruction", "reconstruction"), ("kl", "kl")]:
            mean = float(losses[term].double().mean())
            values[f"{split}_{column}"] = mean if split == "train" else losses[term]
    values["test_reconstruction_at_mean"] = losses["reconstruction_at_mean"]
    latents = torch.cat([model.latent(x) for x in data.test.float_batches()])
    values["active_units"] = int((latents.double().var(dim=0) > 0.01).sum())
    if not isinstance(model, AutoEncoder):
        values["bound"] = -iwae_bounds(model, data.test.floats()[:30], 10)[1]
        values["bound_gap"] = values["test_loss"][:30] - values["bound"]
    for half in ("encoder", "decoder"):
        layers = hidden_units(model, data)[f"{half}_hidden"]
        values[f"{half}_units"] = sum(used for used, _ in layers)
        values |= {f"{half}_units_{i}": used for i, (used, _) in enumerate(layers, start=1)}
    for sampler, name in zip(
        SAMPLERS, ["", "_gaussian", "_mixture", "_reconstructions"], strict=True
    ):
        images = generated_images(model, data.train, sampler, 120)
        for judge, ending in zip(judges, ["", "_second_judge"], strict=True):
            for measure, value in image_quality([images], judge).items():
                values[measure + name + ending] = value
    return values


@torch.no_grad()
def test_every_column_reads_what_it_says(model, tiny_data, judges, tmp_path):
    measured = {}
    for name, measure in MEASUREMENTS.items():
        if isinstance(model, AutoEncoder) and name == "bound":
            continue
        given = arguments(name, SIZES)
        if "judge" in given:
            given["judge"] = judges[given["judge"]]
        sent = pickle.loads(pickle.dumps((measure, given)))
        assert Cache(None).key(name, given=given) == Cache(None).key(name, given=sent[1])
        save_tensors(tmp_path / name, sent[0](model, tiny_data, **sent[1]))
        measured[name] = load_tensors(tmp_path / name)
    read = {
        name: column.read(measured[column.measurement])
        for name, column in COLUMNS.items()
        if column.measurement in measured and column.read(measured[column.measurement]) is not None
    }
    expected = expected_values(model, tiny_data, judges)
    assert set(read) == set(expected)
    for name, value in expected.items():
        assert isinstance(read[name], torch.Tensor) == isinstance(value, torch.Tensor), name
        torch.testing.assert_close(
            read[name], value, rtol=1e-5, atol=1e-5, check_dtype=False, msg=name
        )
    assert read["precision"] > read["recall"]  # two quantities, or the test shows little
    lacking = {"bound", "bound_gap", "encoder_units_2", "decoder_units_2"}
    assert set(COLUMNS) - set(read) == (lacking if isinstance(model, AutoEncoder) else set())


def test_headings_tell_the_columns_apart():
    headings = {name: column.heading for name, column in COLUMNS.items()}
    assert len(set(headings.values())) == len(headings)
    assert headings["test_kl"] == "Test KL" and headings["train_loss"] == "Training loss"
    assert headings["recall"] == "Recall"
    assert headings["frechet_gaussian"] == "Frechet distance, Gaussian"
    assert headings["precision_mixture_second_judge"] == "Precision, mixture, 2nd judge"
    assert {column.measurement for column in COLUMNS.values()} == {*MEASUREMENTS}
    assert {COLUMNS[name].decimals for name in ("test_loss", "bound", "recall")} == {2}


def test_sizes_ask_for_images_that_are_there_and_for_a_judge_only_where_it_judges(tiny_data):
    sizes = FULL.for_data(tiny_data)
    assert (sizes.bound_images, sizes.generated) == (200, 200)
    assert replace(sizes, bound_images=10_000, generated=10_000) == FULL
    few = replace(tiny_data, train=tiny_data.train.take(slice(50)))
    assert (FULL.for_data(few).bound_images, FULL.for_data(few).generated) == (200, 50)
    asked = {name: arguments(name, FULL).get("judge") for name in MEASUREMENTS}
    assert asked == {
        name: int("second" in name) if "generated" in name else None for name in MEASUREMENTS
    }
