"""The registry: every column reads from its measurement; all of it can go to a worker process."""

import pickle

import pytest
import torch

from vae_helpers.engine.cache import Cache
from vae_helpers.measures.columns import COLUMNS, FULL, MEASUREMENTS, QUICK, arguments
from vae_helpers.measures.generated import make_judge
from vae_helpers.measures.statistics import summary
from vae_helpers.models import AutoEncoder, VAE4Layer


@pytest.fixture(scope="module")
def judge(tiny_data):
    return make_judge(tiny_data, QUICK.judge_epochs)


@pytest.mark.parametrize("model", [VAE4Layer(h_dims=(16, 8), z_dim=3), AutoEncoder(h_dim=8)])
def test_every_column_is_a_number_per_image_or_a_number(model, tiny_data, judge):
    sizes, model = QUICK.for_data(tiny_data), model.fresh(0).eval()
    values = {}
    for name, measure in MEASUREMENTS.items():
        if name == "bound" and isinstance(model, AutoEncoder):
            continue
        given = pickle.loads(pickle.dumps(arguments(name, sizes, lambda: judge)))
        keys = [
            Cache(None).key(name, given=each)
            for each in (given, arguments(name, sizes, lambda: judge))
        ]
        assert keys[0] == keys[1]
        values[name] = pickle.loads(pickle.dumps(measure))(model, tiny_data, **given)
    read = {
        name: values[column.measurement][column.key]
        for name, column in COLUMNS.items()
        if column.measurement in values
    }
    for name, value in read.items():
        per_image = isinstance(value, torch.Tensor)
        assert per_image == (COLUMNS[name].measurement in ("losses", "bound")), name
        assert value.dim() == 1 if per_image else isinstance(value, (int, float)), name
        assert summary([value])["mean"] is not None
    for split, n in [("train", 600), ("validation", 100), ("test", 200)]:
        total = read[f"{split}_reconstruction"] + read[f"{split}_kl"]
        assert torch.equal(read[f"{split}_loss"], total) and total.shape == (n,)


def test_headings_tell_the_columns_apart():
    headings = [column.heading for column in COLUMNS.values()]
    assert len(set(headings)) == len(headings) and max(map(len, headings)) <= 30
    assert {column.measurement for column in COLUMNS.values()} == {*MEASUREMENTS}


def test_sizes_ask_for_no_more_images_than_there_are_and_for_a_judge_only_where_it_judges(
    tiny_data,
):
    sizes = FULL.for_data(tiny_data)
    assert sizes.bound_images == 200 == sizes.generated and sizes.bound_draws == FULL.bound_draws
    asked = []
    for name in MEASUREMENTS:
        arguments(name, FULL, lambda name=name: asked.append(name))
    assert asked == [name for name in MEASUREMENTS if name.startswith("generated")]
