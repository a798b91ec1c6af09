"""One training run: schedule, determinism, exact continuation, best weights, bad numbers."""

import math

import pytest
import torch

from vae_helpers import AutoEncoder, ModelSpec, TrainSettings, VAE3Layer, train
from vae_helpers.training import NonFiniteLossError

SETTINGS = TrainSettings(epochs=5, batch_size=64, learning_rate=2e-3, warmup_epochs=1)
SPEC = ModelSpec("VAE3Layer", (32,), 4)


def run(tiny_data, settings=SETTINGS, seed=0, **options):
    model = SPEC.build(seed)
    result = train(model, tiny_data.train.images, tiny_data.validation.images, settings,
                   seed=seed, device="cpu", **options)  # fmt: skip
    return model, result


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


class Stop(Exception):
    pass


def stop_after(epoch):
    def on_epoch(done, history):
        if done == epoch:
            raise Stop

    return on_epoch


def test_schedule_warms_up_then_falls_to_zero():
    settings = TrainSettings(epochs=10, learning_rate=0.01, warmup_epochs=2)
    rates = [settings.learning_rate_at(step, 100) for step in range(1000)]
    assert rates[199] == pytest.approx(0.01) and max(rates) == pytest.approx(0.01)
    assert all(b >= a for a, b in zip(rates[:199], rates[1:200], strict=True))
    assert all(b <= a for a, b in zip(rates[200:-1], rates[201:], strict=True))
    assert rates[0] == pytest.approx(0.01 / 200) and 0 < rates[-1] < 1e-6


def test_loss_falls_and_history_is_complete(tiny_data):
    _, result = run(tiny_data)
    history = result.history
    assert len(history) == 7 and {len(values) for values in history.values()} == {5}
    assert history["validation_total"][-1] < history["validation_total"][0] - 20
    for split in ("train", "validation"):
        for t, r, k in zip(*(history[f"{split}_{x}"] for x in ("total", "reconstruction", "kl")),
                           strict=True):
            assert t == pytest.approx(r + k, rel=1e-5)


def test_same_seed_same_result_other_seed_another(tiny_data):
    first, again, other = (run(tiny_data, seed=s)[1] for s in (0, 0, 1))
    assert same(first.state, again.state)
    assert first.history["train_total"] == again.history["train_total"]
    assert not same(first.state, other.state)


def test_global_random_state_is_left_alone(tiny_data):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run(tiny_data)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_continued_run_ends_bit_for_bit_like_an_uninterrupted_one(tiny_data, tmp_path, epoch):
    _, whole = run(tiny_data)
    checkpoint = tmp_path / "run.part"
    with pytest.raises(Stop):
        run(tiny_data, checkpoint=checkpoint, on_epoch=stop_after(epoch))
    _, continued = run(tiny_data, checkpoint=checkpoint)
    assert same(whole.state, continued.state)
    for name in whole.history:
        if name != "seconds":
            assert whole.history[name] == continued.history[name]


def test_kept_weights_are_those_of_the_best_validation_epoch(tiny_data):
    seen = {}
    model = SPEC.build(0)

    def on_epoch(epoch, history):
        seen[epoch] = {k: v.clone() for k, v in model.state_dict().items()}

    # validation images of another kind: learning the training images' structure makes them worse
    settings = TrainSettings(epochs=12, batch_size=16, learning_rate=0.01, warmup_epochs=0)
    other = tiny_data.validation.images.flip(1)
    result = train(model, tiny_data.train.images, other, settings, seed=0, device="cpu",
                   on_epoch=on_epoch)  # fmt: skip
    losses = result.history["validation_total"]
    assert losses.index(min(losses)) + 1 == result.best_epoch < 12
    assert same(result.state, seen[result.best_epoch])
    assert same(result.state, model.state_dict()) and not model.training


def test_non_finite_loss_stops_at_once_and_keeps_the_last_good_weights(tiny_data):
    model = SPEC.build(0)
    good = {}

    def poison(epoch, history):
        if epoch == 2:
            good.update({k: v.clone() for k, v in model.state_dict().items()})
            with torch.no_grad():
                model.decoder[0].weight[0, 0] = float("nan")

    with pytest.raises(NonFiniteLossError) as raised:
        train(model, tiny_data.train.images, tiny_data.validation.images, SETTINGS, seed=0,
              device="cpu", on_epoch=poison)  # fmt: skip
    message = str(raised.value)
    assert "VAE3Layer" in message and "epoch 3, step 1," in message
    assert "learning rate" in message and "nan" in message
    assert same(model.state_dict(), good)


@pytest.mark.parametrize("pixel", [0, 255])
@pytest.mark.parametrize("n", [1, 63, 65])
def test_extreme_but_valid_images_and_batches_train(pixel, n):
    images = torch.full((n, 784), pixel, dtype=torch.uint8)
    for model in (VAE3Layer(h_dim=8, z_dim=2), AutoEncoder(h_dim=8, z_dim=2)):
        settings = TrainSettings(epochs=2, batch_size=64)
        result = train(model, images, images, settings, seed=0, device="cpu")
        assert all(math.isfinite(v) for v in result.history["validation_total"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"epochs": 0}, ValueError), ({"epochs": 1.5}, TypeError), ({"batch_size": -1}, ValueError),
        ({"learning_rate": 0.0}, ValueError), ({"learning_rate": float("nan")}, ValueError),
        ({"learning_rate": "fast"}, ValueError), ({"warmup_epochs": -1}, ValueError),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_with_their_value(arguments, error):
    with pytest.raises(error) as raised:
        TrainSettings(**arguments)
    assert str(next(iter(arguments.values()))) in str(raised.value)


def test_float_images_are_refused_with_the_remedy(tiny_data):
    with pytest.raises(TypeError, match="uint8"):
        train(SPEC.build(0), tiny_data.train.floats(), tiny_data.validation.images, SETTINGS,
              seed=0, device="cpu")  # fmt: skip
