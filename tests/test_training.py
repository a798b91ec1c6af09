"""One training run: schedule, determinism, exact continuation, best weights, bad numbers."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from own_models import BetaVAE, ConvVAE, Fragile

from vae_helpers import AutoEncoder, Recipe, VAE3Layer, VAE4Layer, train, training
from vae_helpers.training import NonFiniteLossError

RECIPE = Recipe(epochs=5, batch_size=64, learning_rate=2e-3, warmup_epochs=1, schedule="cosine")
MODEL = VAE3Layer(h_dim=32, z_dim=4)


def run(data, recipe=RECIPE, seed=0, model=MODEL, **options):
    model = model.fresh(seed)
    result = train(
        model, data.train.images, data.validation.images, recipe, seed=seed, device="cpu", **options
    )
    return model, result


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copied(model):
    return copy.deepcopy(model.state_dict())


class Stop(Exception):
    pass


def stop_after(epoch):
    def on_epoch(done, history):
        if done == epoch:
            raise Stop

    return on_epoch


@pytest.mark.parametrize(
    ("schedule", "half", "end"), [("cosine", 0.5, 0), ("linear", 0.5, 0), ("constant", 1, 1)]
)
def test_the_rate_warms_up_then_follows_its_schedule(schedule, half, end):
    recipe = Recipe(epochs=10, learning_rate=0.01, warmup_epochs=2, schedule=schedule)
    rates = [recipe.learning_rate_at(step, 100) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01 / 200) and rates[199] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.01) and min(rates) > 0
    assert rates[600] == pytest.approx(0.01 * half)
    assert rates[-1] == pytest.approx(0.01 * end, abs=2e-5)
    assert rates[:200] == sorted(rates[:200]) and rates[200:] == sorted(rates[200:], reverse=True)


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        VAE4Layer(h_dims=(24, 40), z_dim=3),
        AutoEncoder(h_dim=32, z_dim=4),
        ConvVAE(),
        BetaVAE(h_dim=32, z_dim=4),
    ],
    ids=lambda model: model.id,
)
def test_loss_falls_and_history_is_complete(tiny_data, model):
    trained, result = run(tiny_data, model=model)
    history = result.history
    assert len(history) == 7 and {len(values) for values in history.values()} == {5}
    assert history["validation_total"][-1] < history["validation_total"][0] - 10
    beta = 4 if isinstance(model, BetaVAE) else 1
    for split in ("train", "validation"):
        for t, r, k in zip(
            *(history[f"{split}_{x}"] for x in ("total", "reconstruction", "kl")), strict=True
        ):
            assert t == pytest.approx(r + beta * k, rel=1e-5)
    x = tiny_data.validation.floats()
    noise = training.seeded_generator("cpu", training.VALIDATION_SEED)
    again = trained.loss(x, noise).total  # of the weights that were kept
    assert float(again.detach()) == pytest.approx(min(history["validation_total"]), rel=1e-5)


def test_same_seed_same_bits_other_seed_others_and_no_global_random_numbers(tiny_data):
    before = torch.random.get_rng_state()
    first, again, other = (run(tiny_data, seed=s)[1] for s in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(first.state, again.state) and not same(first.state, other.state)
    for name in first.history.keys() - {"seconds"}:
        assert first.history[name] == again.history[name]


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_continued_run_ends_bit_for_bit_like_an_uninterrupted_one(
    tiny_data, tmp_path, monkeypatch, epoch, average
):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0)
    recipe = replace(RECIPE, average=average)
    _, whole = run(tiny_data, recipe)
    checkpoint = tmp_path / "run.part"
    with pytest.raises(Stop):
        run(tiny_data, recipe, checkpoint=checkpoint, on_epoch=stop_after(epoch))
    epochs = []
    _, continued = run(
        tiny_data, recipe, checkpoint=checkpoint, on_epoch=lambda done, history: epochs.append(done)
    )
    assert epochs == list(range(epoch + 1, 6))
    assert same(whole.state, continued.state)
    for name in whole.history.keys() - {"seconds"}:
        assert whole.history[name] == continued.history[name]


def test_checkpoints_are_written_no_more_often_than_they_should(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 3600)  # longer than this run, on any machine
    run(tiny_data, checkpoint=tmp_path / "run.part")
    assert not list(tmp_path.iterdir())


def test_kept_weights_are_those_of_the_best_validation_epoch(tiny_data):
    seen = {}
    model = MODEL.fresh(0)
    # validation images of another kind: learning the training images' structure makes them worse
    other = tiny_data.validation.images.flip(1)
    result = train(
        model,
        tiny_data.train.images,
        other,
        Recipe(12, 16, 0.01),
        seed=0,
        device="cpu",
        on_epoch=lambda epoch, _: seen.update({epoch: copied(model)}),
    )
    losses = result.history["validation_total"]
    assert losses.index(min(losses)) + 1 == result.best_epoch < 12
    assert same(result.state, seen[result.best_epoch])
    assert same(result.state, model.state_dict()) and not model.training


def test_the_average_is_that_of_the_weights_after_every_step(tiny_data):
    """One step per epoch, so that `on_epoch` sees them all."""
    steps = []
    model = MODEL.fresh(0)
    average = copied(model)
    recipe = Recipe(epochs=6, batch_size=600, learning_rate=1e-2, average=0.7)
    result = train(
        model,
        tiny_data.train.images,
        tiny_data.validation.images,
        recipe,
        seed=0,
        device="cpu",
        on_epoch=lambda *_: steps.append(copied(model)),
    )
    for step in steps[: result.best_epoch]:
        average = {name: 0.7 * average[name] + 0.3 * step[name] for name in step}
    assert result.best_epoch == 6 and not same(steps[-1], result.state)
    for name, value in average.items():
        torch.testing.assert_close(result.state[name], value, rtol=0, atol=1e-6)
    assert same(model.state_dict(), result.state)


def test_non_finite_loss_stops_at_once_and_keeps_the_last_good_weights(tiny_data):
    model, good = MODEL.fresh(0), {}

    def poison(epoch, history):
        if epoch == 2:
            good.update(copied(model))
            with torch.no_grad():
                model.x_to_h.weight[0, 0] = float("nan")

    with pytest.raises(NonFiniteLossError) as raised:
        train(
            model,
            tiny_data.train.images,
            tiny_data.validation.images,
            RECIPE,
            seed=0,
            device="cpu",
            on_epoch=poison,
        )
    for words in ("VAE3Layer", "epoch 3, step 1,", "learning rate", "nan"):
        assert words in str(raised.value)
    assert same(model.state_dict(), good)


def test_a_validation_loss_that_is_not_finite_stops_after_its_epoch(tiny_data):
    with pytest.raises(NonFiniteLossError, match="Fragile.*validation loss is nan after epoch 2"):
        run(tiny_data, model=Fragile(h_dim=8, z_dim=2))


@pytest.mark.parametrize("pixel", [0, 255])
@pytest.mark.parametrize("n", [1, 63, 65])
def test_extreme_but_valid_images_and_batches_train(pixel, n):
    images = torch.full((n, 784), pixel, dtype=torch.uint8)
    for model in (VAE3Layer(h_dim=8, z_dim=2), AutoEncoder(h_dim=8, z_dim=2)):
        result = train(model, images, images, Recipe(2, 64), seed=0, device="cpu")
        assert all(math.isfinite(v) for v in result.history["validation_total"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"epochs": 0}, ValueError),
        ({"epochs": 1.5}, TypeError),
        ({"batch_size": -1}, ValueError),
        ({"learning_rate": 0.0}, ValueError),
        ({"learning_rate": float("nan")}, ValueError),
        ({"learning_rate": "fast"}, ValueError),
        ({"warmup_epochs": -1}, ValueError),
        ({"schedule": "steps"}, ValueError),
        ({"betas": (0.9, 1.0)}, ValueError),
        ({"average": 1.0}, ValueError),
        ({"average": float("nan")}, ValueError),
    ],
)
def test_wrong_recipes_are_refused_with_their_value(arguments, error):
    with pytest.raises(error) as raised:
        Recipe(**arguments)
    assert str(next(iter(arguments.values()))) in str(raised.value)
