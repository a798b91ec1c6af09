"""The registry: every column reads from its measurement; all of it can go to a worker process."""

import pickle

import joblib
import pytest
import torch

from vae_helpers.measures.columns import COLUMNS, FULL, MEASUREMENTS, QUICK, arguments
from vae_helpers.measures.generated import as_arrays, make_judge
from vae_helpers.measures.statistics import summary
from vae_helpers.models import AutoEncoder, VAE4Layer


@pytest.fixture(scope="module")
def judge(tiny_data):
    return as_arrays(make_judge(tiny_data, QUICK.judge_epochs))


@pytest.mark.parametrize("model", [VAE4Layer(h_dims=(16, 8), z_dim=3), AutoEncoder(h_dim=8)])
def test_every_column_is_a_number_per_image_or_a_number(model, tiny_data, judge):
    sizes, model = QUICK.for_data(tiny_data), model.fresh(0).eval()
    values = {"run": {"best_epoch": 3, "seconds": 1.5}}
    for name, measure in MEASUREMENTS.items():
        if name == "bound" and isinstance(model, AutoEncoder):
            continue
        given = pickle.loads(pickle.dumps(arguments(name, sizes, lambda: judge)))
        assert joblib.hash(given) == joblib.hash(arguments(name, sizes, lambda: judge))
        values[name] = pickle.loads(pickle.dumps(measure))(model, tiny_data, **given)
    for name, column in COLUMNS.items():
        if column.measurement in values:
            value = column.read(values[column.measurement])
            per_image = isinstance(value, torch.Tensor)
            assert per_image == (column.measurement in ("losses", "bound")), name
            assert value.dim() == 1 if per_image else isinstance(value, (int, float)), name
            assert summary([value])["mean"] is not None


def test_the_parts_of_a_loss_add_up(tiny_data):
    model = VAE4Layer(h_dims=(16, 8), z_dim=3).fresh(0).eval()
    value = MEASUREMENTS["losses"](model, tiny_data, **arguments("losses", QUICK, None))
    read = {name: column.read(value) for name, column in COLUMNS.items()
            if column.measurement == "losses"}  # fmt: skip
    for split, n in [("train", 600), ("validation", 100), ("test", 200)]:
        total = read[f"{split}_reconstruction"] + read[f"{split}_kl"]
        assert torch.equal(read[f"{split}_loss"], total) and total.shape == (n,)


def test_headings_tell_the_columns_apart():
    headings = [column.heading for column in COLUMNS.values()]
    assert len(set(headings)) == len(headings)
    assert all(len(heading) <= 30 for heading in headings)
    assert {column.measurement for column in COLUMNS.values()} == {*MEASUREMENTS, "run"}


def test_sizes_never_ask_for_more_images_than_there_are(tiny_data):
    sizes = FULL.for_data(tiny_data)
    assert sizes.bound_images == 200 == sizes.generated and sizes.bound_draws == FULL.bound_draws


def test_a_judge_is_asked_for_only_where_it_judges():
    def no_judge():
        raise AssertionError("asked for")

    for name in MEASUREMENTS:
        if not name.startswith("generated"):
            arguments(name, FULL, no_judge)
    with pytest.raises(AssertionError):
        arguments("generated_prior", FULL, no_judge)
