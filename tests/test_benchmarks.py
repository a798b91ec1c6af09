"""The benchmarks measure what they say; how fast anything is, is not tested here."""

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import speed
from benchmarks.reference import UsualTraining
from vae_helpers import Recipe, VAE3Layer, train
from vae_helpers.engine.randomness import seeded_generator
from vae_helpers.training import TrainResult


@pytest.mark.parametrize(("rate", "agrees"), [(1e-3, True), (1.1e-3, False)])
def test_usual_and_our_training_agree_step_for_step(tiny_data, rate, agrees):
    """The usual loss is a batch's sum, ours its mean: Adam cancels that but for its epsilon."""
    images = tiny_data.train.images[: 4 * 128]
    usual, ours = UsualTraining(images, eps=128e-8), VAE3Layer()
    ours.load_state_dict(usual.model.state_dict())

    @torch.no_grad()
    def loss(model):
        return float(model.loss(images / 255, torch.Generator().manual_seed(0)).total)

    before = loss(ours)
    for epoch in (1, 2, 3, 4):
        order = torch.randperm(len(images), generator=seeded_generator("cpu", 0, epoch, 0))
        usual(order.tolist(), seeded_generator("cpu", 0, epoch, 1))
    train(ours, images, images, Recipe(epochs=4, learning_rate=rate), seed=0, device="cpu")
    assert loss(ours) < before - 20
    assert (loss(ours) == pytest.approx(loss(usual.model), abs=1e-2)) is agrees


@pytest.mark.parametrize("flush", [True, False])
def test_denormals_are_kept_only_where_that_is_timed(tiny_data, flush):
    class Probe(VAE3Layer):
        def loss(self, x, generator=None):
            seen.append(float(torch.full((1,), 1e-39) * 1.5) == 0)
            return super().loss(x, generator)

    seen, images = [], tiny_data.train.images[:128].numpy()
    speed.our_run(Probe(), Recipe(epochs=1), 0, images, images, flush=flush)
    assert seen[-1] is flush


def test_late_epochs_start_from_the_same_state_in_every_turn(tiny_data, tmp_path):
    images, part = tiny_data.train.images.numpy(), tmp_path / "0.part"
    speed.our_run(VAE3Layer(), Recipe(epochs=2), 0, images, images, part, save=0)
    kept = part.read_bytes()
    runs = [speed.our_run(VAE3Layer(), Recipe(epochs=4), 0, images, images, part) for _ in "ab"]
    first, second = (run.history["seconds"][:2] for run in runs)
    assert first == second  # taken from the file, not trained again
    assert runs[0].weights == runs[1].weights and part.read_bytes() == kept


@pytest.mark.parametrize(("weights", "told"), [("aa", ": equal"), ("ab", "**not equal**")])
def test_shares_ratios_and_repeated_weights(monkeypatch, weights, told):
    clock = iter([0, 12, 12, 18, 20, 50, 50, 62])
    runs = iter([TrainResult({}, {}, 1, "", "", weight)] for weight in weights)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(speed, "CORES", 1)
    found = speed.in_turns(lambda: None, {"ours": lambda: next(runs)}, turns=2)
    assert found["values"]["ours (s)"] == [2, 4]  # of three epochs each
    assert found["values"]["usual / ours"] == [6, 7.5]
    assert told in found["note"]


def test_a_core_waits_for_the_last_autoencoder(monkeypatch):
    monkeypatch.setattr(speed, "CORES", 2)
    cost = {"three layers": 60, "four layers": 120, "AE": 30}
    assert speed.minutes(3, cost) == 3 * (7 + 2) + 4 / 2


@pytest.mark.parametrize(("told", "met"), [("quiet", "yes no "), ("**not** quiet", "not not")])
def test_targets_are_met_only_by_quiet_runs(told, met):
    part = {"values": {name: [9.0] for _, name, _ in command.TARGETS}, "note": "", "told": told}
    lines = command.page(dict.fromkeys(("fresh", "late", "study"), part)).splitlines()
    assert " ".join(lines[i].split("|")[-2][1:4] for i in (5, 8)) == met  # a ratio; minutes


def test_quick_command_measures_and_tells_its_conditions(capsys):
    before = [(command.FOLDER / n).read_bytes() for n in ("results.json", "README.md")]
    command.main(["--quick"])
    told = capsys.readouterr().out
    assert "| late: usual / ours " in told and "load average at the start" in told
    assert told.count("2 turns: equal, bit for bit") == 2 and "Nine models, extrapolated" in told
    assert [(command.FOLDER / n).read_bytes() for n in ("results.json", "README.md")] == before
