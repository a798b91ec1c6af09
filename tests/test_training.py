"""One training run: schedule, determinism, exact continuation, best weights, bad numbers."""

import _thread
import copy
import math
import threading
from dataclasses import replace

import pytest
import torch
from own_models import DENORMAL, BetaVAE, ConvVAE, Noisy, Witness

from vae_helpers import AutoEncoder, Recipe, VAE3Layer, VAE4Layer, train, training
from vae_helpers.engine.files import load_tensors
from vae_helpers.engine.randomness import global_state
from vae_helpers.training import NonFiniteLossError

RECIPE = Recipe(epochs=5, batch_size=64, learning_rate=2e-3, warmup_epochs=1, schedule="cosine")
MODEL = VAE3Layer(h_dim=32, z_dim=4)
ROUNDED = replace(RECIPE, products="bfloat16")
has_units = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
needs_units = pytest.mark.skipif(not has_units, reason="a CPU without units for bfloat16")


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
    assert replace(recipe, warmup_epochs=0).learning_rate_at(0, 100) == pytest.approx(0.01)
    assert rates[:200] == sorted(rates[:200]) and rates[200:] == sorted(rates[200:], reverse=True)


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        VAE4Layer(h_dims=(24, 40), z_dim=3),
        AutoEncoder(h_dim=32, z_dim=4),
        ConvVAE(),
        BetaVAE(h_dim=32, z_dim=4),
        Noisy(h_dim=32, z_dim=4),
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


def test_the_given_notebooks_recipe_is_the_default():
    assert Recipe() == Recipe(
        epochs=15,
        batch_size=128,
        learning_rate=1e-3,
        warmup_epochs=0,
        schedule="constant",
        betas=(0.9, 0.999),
        products="float32",
    )


def test_the_rate_goes_on_from_epoch_to_epoch(tiny_data, monkeypatch):
    steps, rate = [], Recipe.learning_rate_at

    def noted(recipe, step, steps_per_epoch):
        steps.append((step, steps_per_epoch))
        return rate(recipe, step, steps_per_epoch)

    monkeypatch.setattr(Recipe, "learning_rate_at", noted)
    run(tiny_data, replace(RECIPE, epochs=3))
    count = math.ceil(len(tiny_data.train) / RECIPE.batch_size)
    assert steps == [(step, count) for step in range(3 * count)] and count > 1


def test_the_training_loss_is_the_mean_over_the_images_of_an_epoch(tiny_data):
    still = Recipe(epochs=1, batch_size=len(tiny_data.train) - 1, learning_rate=1e-12)
    model = AutoEncoder(h_dim=32, z_dim=4)
    _, result = run(tiny_data, still, model=model)  # two batches, the last of one image
    loss = model.fresh(0).loss(tiny_data.train.floats())
    for term, value in loss._asdict().items():
        expected = [pytest.approx(float(value.detach()), rel=1e-5)]
        assert result.history[f"train_{term}"] == expected


@pytest.mark.parametrize("recipe", [RECIPE, ROUNDED], ids=lambda recipe: recipe.products)
@pytest.mark.parametrize("model", [MODEL, Noisy()], ids=lambda model: model.id)
def test_same_seed_same_bits_other_seed_others_and_no_global_random_numbers(
    tiny_data, model, recipe
):
    before = global_state()
    first, again, other = (run(tiny_data, recipe, s, model)[1] for s in (0, 0, 1))
    assert global_state() == before
    assert same(first.state, again.state) and not same(first.state, other.state)
    assert first.weights == again.weights != other.weights
    for name in first.history.keys() - {"seconds"}:
        assert first.history[name] == again.history[name]


@pytest.mark.parametrize("model", [MODEL, Noisy()], ids=lambda model: model.id)
@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_continued_run_ends_bit_for_bit_like_an_uninterrupted_one(
    tiny_data, tmp_path, monkeypatch, epoch, model
):
    """Buffers and dropout's own randomness included; Adam's sums are float32."""
    monkeypatch.setattr(training, "SAVE_SECONDS", 0)
    _, whole = run(tiny_data, ROUNDED, model=model)
    options = {"model": model, "checkpoint": tmp_path / "run.part"}
    with pytest.raises(Stop):
        run(tiny_data, ROUNDED, on_epoch=stop_after(epoch), **options)
    stored = load_tensors(tmp_path / "run.part")["optimizer"]["state"]
    assert {value.dtype for one in stored.values() for value in one.values()} == {torch.float32}
    epochs = []
    _, continued = run(tiny_data, ROUNDED, on_epoch=lambda done, _: epochs.append(done), **options)
    assert epochs == list(range(epoch + 1, 6))
    assert same(whole.state, continued.state)
    for name in whole.history.keys() - {"seconds"}:
        assert whole.history[name] == continued.history[name]


def test_checkpoints_are_written_no_more_often_than_they_should(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 3600)  # longer than this run, on any machine
    run(tiny_data, checkpoint=tmp_path / "run.part")
    assert not list(tmp_path.iterdir())


def test_kept_weights_are_those_of_the_best_validation_epoch(tiny_data):
    model, seen = MODEL.fresh(0), {}

    def on_epoch(epoch, _):
        seen[epoch] = copied(model)

    # validation images of another kind: learning the training images' structure makes them worse
    images = tiny_data.train.images, tiny_data.validation.images.flip(1)
    recipe = Recipe(12, 16, 0.01)
    result = train(model, *images, recipe, seed=0, device="cpu", on_epoch=on_epoch)
    losses = result.history["validation_total"]
    assert losses.index(min(losses)) + 1 == result.best_epoch < 12
    assert same(result.state, seen[result.best_epoch])
    assert same(result.state, model.state_dict()) and not model.training


# --- the thread that trains ----------------------------------------------------------------------


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="a CPU without this setting")
@pytest.mark.parametrize("recipe", [RECIPE, ROUNDED], ids=lambda recipe: recipe.products)
def test_denormals_and_products_are_rounded_in_training_and_nowhere_else(
    tiny_data, three_threads, recipe
):
    """In all threads of an operation; what the caller has set stays, and does not matter."""
    model, outside = Witness().fresh(0), set()

    def on_epoch(*_):
        outside.add(torch.is_autocast_enabled("cpu"))

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, inside = run(tiny_data, recipe, on_epoch=on_epoch, model=Witness())
        images = tiny_data.train.images, tiny_data.validation.images
        train(model, *images, recipe, seed=0, device="cpu")
        assert torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
    rounds = recipe is ROUNDED and has_units
    assert model.seen == {("training", 0, rounds, 3), ("validation", 0, False, 3)}
    assert (DENORMAL * 1).all() and outside == {False} and torch.get_num_threads() == 3
    assert same(inside.state, run(tiny_data, recipe, model=Witness())[1].state)


@needs_units
def test_products_in_bfloat16_change_little_and_nothing_where_there_are_no_units(
    tiny_data, monkeypatch
):
    exact, rounded = (run(tiny_data, recipe)[1] for recipe in (RECIPE, ROUNDED))
    assert (exact.products, rounded.products) == ("float32", "bfloat16")
    assert {value.dtype for value in rounded.state.values()} == {torch.float32}
    for name in ("train_total", "validation_total"):
        assert rounded.history[name] != exact.history[name]
        assert rounded.history[name] == pytest.approx(exact.history[name], rel=5e-3)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    _, without = run(tiny_data, ROUNDED)
    assert without.products == "float32" and same(without.state, exact.state)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # another version of torch
    assert training.products_on(torch.device("cpu"), "bfloat16") == "float32"


def test_an_interruption_ends_the_training(tiny_data):
    """Ctrl-C reaches the caller's thread alone, while another one trains."""
    before, epochs = threading.active_count(), []

    def on_epoch(epoch, _):
        epochs.append(epoch)
        if epoch == 2:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        run(tiny_data, replace(RECIPE, epochs=100_000), on_epoch=on_epoch)
    assert threading.active_count() == before and 2 <= len(epochs) < 100_000


# --- bad numbers ---------------------------------------------------------------------------------


def test_non_finite_loss_stops_at_once_and_keeps_the_last_good_weights(tiny_data):
    model, good = MODEL.fresh(0), {}

    def poison(epoch, history):
        if epoch == 2:
            good.update(copied(model))
            with torch.no_grad():
                model.x_to_h.weight[0, 0] = float("nan")

    images = tiny_data.train.images, tiny_data.validation.images
    with pytest.raises(NonFiniteLossError) as raised:
        train(model, *images, RECIPE, seed=0, device="cpu", on_epoch=poison)
    for words in ("VAE3Layer", "epoch 3, step 1,", "learning rate", "nan"):
        assert words in str(raised.value)
    assert same(model.state_dict(), good)


@pytest.mark.parametrize("pixel", [0, 255])
@pytest.mark.parametrize("n", [1, 63, 65])
def test_extreme_but_valid_images_and_batches_train(pixel, n):
    images = torch.full((n, 784), pixel, dtype=torch.uint8)
    for model in (VAE3Layer(h_dim=8, z_dim=2), AutoEncoder(h_dim=8, z_dim=2)):
        result = train(model, images, images, Recipe(2, 64), seed=0, device="cpu")
        assert all(math.isfinite(v) for v in result.history["validation_total"])
