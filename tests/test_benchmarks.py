"""The benchmarks measure what they say; how fast anything is, is not tested here."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


class ProductShapes(TorchDispatchMode):
    """The sizes (rows, inner, columns), sorted, of all matrix products inside the block."""

    found: list

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm", "_linear_pointwise"):
            a, b = args[1:3] if name == "addmm" else args[:2]
            columns = b.shape[0] if name == "_linear_pointwise" else b.shape[1]
            self.found.append(sorted((*a.shape, columns)))
        return function(*args, **(kwargs or {}))


def test_products_are_those_of_a_training_step():
    products, training = ProductShapes(), ProductShapes()
    products.found, training.found = [], []
    floor, model = speed.Products(100, replace(speed.EQUAL, epochs=1, batch_size=100)), VAE3Layer()
    with products:
        floor()
    with training:
        model.loss(torch.rand(100, 784)).total.backward()
    assert sorted(products.found) == sorted(training.found)
    assert len(products.found) == 11  # four layers, three each, less one: no gradient of x


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
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)  # fmt: skip
    process.stdout.readline()
    assert 0.08 < whole.peak_memory([process]) < 0.2
    process.communicate(b"\n")
    assert whole.peak_memory([process], until=process) == 0


def test_quick_command_measures_and_tells_its_conditions(capsys):
    before = (command.FOLDER / "results.json").read_bytes()
    command.main(["epoch", "gpu", "study", "--quick"])
    told = capsys.readouterr().out
    assert "| 1: usual / 1: equal |" in told and "load average at the start and after" in told
    assert "measuring 2 seeds of every model" in told and "| torch alone (GB) |" in told
    assert torch.cuda.is_available() or "has not run on a GPU" in told
    assert (command.FOLDER / "results.json").read_bytes() == before
