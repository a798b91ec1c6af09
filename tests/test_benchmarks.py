"""The benchmarks measure what they say; how fast anything is, is not tested here."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import speed, whole
from benchmarks.reference import UsualTraining
from vae_helpers import VAE3Layer, train
from vae_helpers.training import seeded_generator


@pytest.mark.parametrize(("rate", "agrees"), [(1e-3, True), (1.1e-3, False)])
def test_usual_and_our_training_agree_step_for_step(tiny_data, rate, agrees):
    """The usual loss is a batch's sum, ours its mean: Adam cancels that but for its epsilon."""
    images = tiny_data.train.images[: 4 * 128]
    usual = UsualTraining(images, eps=128e-8)
    ours, losses = usual.model.as_ours(), []
    for epoch in (1, 2, 3, 4):
        order = torch.randperm(len(images), generator=seeded_generator("cpu", 0, epoch, 0))
        losses.append(usual(order.tolist(), seeded_generator("cpu", 0, epoch, 1)))
    recipe = replace(speed.EQUAL, epochs=4, learning_rate=rate)
    found = train(ours, images, images[:1], recipe, seed=0, device="cpu").history["train_total"]
    assert losses[-1] < losses[0] - 20
    assert (found == pytest.approx(losses, abs=1e-2)) is agrees


def calls(recorded) -> Counter:
    """How often each operation was called with tensors of which shapes."""
    return Counter(
        (call[0], tuple(a.shape for a in call[1] if isinstance(a, torch.Tensor)))
        for call in recorded
    )


def test_what_is_replayed_is_called_by_every_step_of_training():
    recipe = replace(speed.EQUAL, epochs=1, batch_size=100)
    images = torch.randint(0, 256, (200, 784), dtype=torch.uint8)
    with speed.StepRecorder() as training:
        train(VAE3Layer(), images, images[:1], recipe, seed=0, device="cpu")
    step = calls(speed.Replay(recipe, 100, products=False).calls)
    assert sum(step.values()) > 90
    assert not step + step - calls(training.calls)  # two steps
    products = speed.Replay(recipe, 100, products=True)
    assert len(products.calls) == 11  # four layers, three each, less one: no gradient of x


def test_usual_run_goes_on_as_if_never_stopped(tiny_data, tmp_path):
    arrays = [tiny_data.train.images.numpy(), tiny_data.test.images.numpy()]
    once = speed.usual_run(tmp_path / "a.pt", 0, 2, *arrays)
    speed.usual_run(tmp_path / "b.pt", 0, 1, *arrays)
    assert speed.usual_run(tmp_path / "b.pt", 0, 2, *arrays) == once
    assert once[1] < once[0]


def test_ratios_are_formed_within_a_round():
    found = speed.summary({"a": [1.0, 20.0, 6.0], "b": [1.0, 10.0, 2.0]}, ("a", "b"))
    assert found["ratios"] == {"a / b": {"median": 2.0, "low": 1.0, "high": 3.0}}


def test_memory_counts_a_process_and_its_children():
    child = "x = bytearray(80_000_000); print(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    assert 0.08 < whole.peak_memory([process]) < 0.2
    process.communicate(b"\n")
    assert whole.peak_memory([process], until=process) == 0


def test_quick_command_measures_and_tells_its_conditions(capsys):
    before = (command.FOLDER / "results.json").read_bytes()
    command.main(["epoch", "study", "--quick"])
    told = capsys.readouterr().out
    assert "| 1: usual / 1: equal " in told and "load average at the start and after" in told
    assert "measuring 2 seeds of every model" in told and "| torch alone (GB) " in told
    assert (command.FOLDER / "results.json").read_bytes() == before
