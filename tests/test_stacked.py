"""Seeds trained as one stack: equal to training them one by one, and to nothing else."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from vae_helpers import AutoEncoder, ModelSpec, TrainSettings, study, train, train_study
from vae_helpers.data import Data, Split
from vae_helpers.engine import stacked
from vae_helpers.engine.stacked import (
    _Captured,
    _EpochInputs,
    _Stack,
    _training_step,
    train_stacked,
)
from vae_helpers.training import NonFiniteLossError

SPECS = [
    ModelSpec("VAE3Layer", (33,), 5),
    ModelSpec("VAE4Layer", (32, 16), 4),
    ModelSpec("AutoEncoder", (32,), 4),
]
SETTINGS = TrainSettings(epochs=3, batch_size=64, learning_rate=2e-3, warmup_epochs=1)


def alone(spec, data, settings, seed):
    return train(spec.build(seed), data.train.images, data.validation.images, settings,
                 seed=seed, device="cpu")  # fmt: skip


def assert_equal_to_float_tolerance(stacked, single):
    assert stacked.best_epoch == single.best_epoch
    assert stacked.history.keys() == single.history.keys()
    for name in single.history.keys() - {"seconds"}:  # nats in several hundred: 1e-4 is rounding
        assert stacked.history[name] == pytest.approx(single.history[name], rel=1e-6, abs=1e-4)
    assert stacked.state.keys() == single.state.keys()
    for name, weights in single.state.items():
        torch.testing.assert_close(stacked.state[name], weights, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
@pytest.mark.parametrize("batch_size", [64, 1000])  # 600 images: a ragged last batch; one batch
def test_every_seed_equals_the_run_of_that_seed_alone(tiny_data, spec, batch_size):
    settings = TrainSettings(3, batch_size, 2e-3, 1)
    seeds = [3, 0]
    results = train_stacked(spec, tiny_data, settings, seeds, device="cpu")
    for seed, result in zip(seeds, results, strict=True):
        assert_equal_to_float_tolerance(result, alone(spec, tiny_data, settings, seed))
        model = spec.build(seed)
        model.load_state_dict(result.state)  # the names and shapes of an ordinary model


def test_a_seed_does_not_depend_on_the_seeds_beside_it(tiny_data):
    spec = SPECS[0]
    (single,) = train_stacked(spec, tiny_data, SETTINGS, [1], device="cpu")
    among = train_stacked(spec, tiny_data, SETTINGS, [0, 1, 2], device="cpu")
    assert_equal_to_float_tolerance(among[1], single)
    first, second = among[0].state, among[1].state
    assert max(float((first[n] - second[n]).abs().max()) for n in first) > 1e-2


def test_best_weights_are_kept_when_validation_gets_worse(tiny_data):
    other = Split(tiny_data.validation.images.flip(1), tiny_data.validation.labels)
    data = Data("flipped validation", tiny_data.train, other, tiny_data.test)
    settings = TrainSettings(epochs=8, batch_size=32, learning_rate=0.01, warmup_epochs=0)
    for seed, result in zip((0, 1), train_stacked(SPECS[0], data, settings, [0, 1], "cpu"),
                            strict=True):  # fmt: skip
        losses = result.history["validation_total"]
        assert losses.index(min(losses)) + 1 == result.best_epoch < 8
        single = alone(SPECS[0], data, settings, seed)
        assert result.best_epoch == single.best_epoch
        for name, weights in single.state.items():
            torch.testing.assert_close(result.state[name], weights, rtol=0, atol=1e-3)


def test_the_step_needs_nothing_from_the_host(tiny_data, monkeypatch):
    """What a CUDA graph demands: one function for every step, fixed addresses, no read-back."""
    images = tiny_data.train.images
    stack = _Stack([SPECS[0].build(seed) for seed in (0, 1)], torch.device("cpu"))
    inputs = _EpochInputs(stack, images, SETTINGS, [0, 1])
    step = _training_step(stack, inputs)
    buffers = [v for v in vars(inputs).values() if isinstance(v, torch.Tensor)]
    fixed = [*buffers, *stack.parameters.values()]
    addresses = [tensor.data_ptr() for tensor in fixed]

    def read_back(*_):
        raise AssertionError("a step read a value back to the host")

    for epoch in (1, 2):
        inputs.prepare(epoch)
        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
                patch.setattr(torch.Tensor, name, read_back)
            for _ in inputs.sizes:
                step()
        assert int(inputs.position) == len(inputs.sizes)
    assert [tensor.data_ptr() for tensor in fixed] == addresses
    held = stack.models[1].decoder[2].weight  # the models' weights are the stack's, not copies
    assert held.data_ptr() == stack.parameters["decoder.2.weight"][1].data_ptr()


def test_capture_runs_every_step_exactly_once(monkeypatch):
    """Eager warm-up, one capture that counts for nothing, replays; with CUDA replaced by fakes."""
    log, capturing = [], []

    class Graph:
        def replay(self):
            log.append("replay")

    @contextmanager
    def capture(graph):
        capturing.append(graph)
        yield
        capturing.pop()

    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {"Stream": lambda: stream, "stream": lambda s: nullcontext(), "graph": capture,
             "CUDAGraph": Graph, "current_stream": lambda: stream}  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    step = _Captured(lambda: log.append("capture" if capturing else "eager"))
    for _ in range(6):
        step()
    assert log == ["eager"] * 3 + ["capture"] + ["replay"] * 3


def test_progress_is_reported_for_every_seed_and_epoch(tiny_data):
    calls = []
    train_stacked(SPECS[2], tiny_data, SETTINGS, [4, 2], "cpu",
                  lambda seed, epoch, history: calls.append(
                      (seed, epoch, len(history["validation_total"]))))  # fmt: skip
    assert calls == [(seed, epoch, epoch) for epoch in (1, 2, 3) for seed in (4, 2)]


def test_global_random_state_is_left_alone(tiny_data):
    before = torch.random.get_rng_state()
    train_stacked(SPECS[0], tiny_data, SETTINGS, [0, 1], "cpu")
    assert torch.equal(before, torch.random.get_rng_state())


class Poisoned:
    """Builds a model that is broken for one seed."""

    def build(self, seed, image_size):
        model = AutoEncoder(image_size, 8, 2)
        if seed == 5:
            torch.nn.init.constant_(model.decoder[0].weight, float("nan"))
        return model


def test_non_finite_loss_names_the_seed_and_the_step(tiny_data):
    with pytest.raises(NonFiniteLossError) as raised:
        train_stacked(Poisoned(), tiny_data, SETTINGS, [1, 5], "cpu")
    message = str(raised.value)
    assert "seed 5" in message and "epoch 1, step 1," in message and "nan" in message


@pytest.mark.parametrize("seeds", [[], [1, 2, 1]])
def test_wrong_seeds_are_refused_with_their_value(tiny_data, seeds):
    with pytest.raises(ValueError, match="seeds must be") as raised:
        train_stacked(SPECS[0], tiny_data, SETTINGS, seeds, "cpu")
    assert str(seeds) in str(raised.value)


# --- in a study: what an accelerator would do, here on the CPU -----------------------------------


def stacked_study(data, runs_dir, monkeypatch, seeds=(0, 1), **arguments):
    monkeypatch.setattr(study, "_trains_in_stacks", lambda device: True)
    return train_study(SPECS[::2], data, SETTINGS, list(seeds), runs_dir=runs_dir, device="cpu",
                       **arguments)  # fmt: skip


def test_a_study_in_stacks_equals_one_in_processes(tiny_data, tmp_path, monkeypatch):
    single = train_study(SPECS[::2], tiny_data, SETTINGS, [0, 1], runs_dir=None, device="cpu")
    stacked_runs = stacked_study(tiny_data, tmp_path, monkeypatch)
    for spec, runs in single.items():
        for a, b in zip(runs, stacked_runs[spec], strict=True):
            assert (a.spec, a.seed, a.settings) == (b.spec, b.seed, b.settings)
            assert_equal_to_float_tolerance(b.result, a.result)
    assert len(list(tmp_path.iterdir())) == 4  # a file per run, no progress log left


def test_a_study_in_stacks_trains_only_what_is_missing(tiny_data, tmp_path, monkeypatch):
    first = stacked_study(tiny_data, tmp_path, monkeypatch)
    trained = []

    def counting(spec, data, settings, seeds, *rest):
        trained.append((spec, seeds))
        return train_stacked(spec, data, settings, seeds, *rest)

    monkeypatch.setattr(stacked, "train_stacked", counting)
    again = stacked_study(tiny_data, tmp_path, monkeypatch)
    assert trained == []
    for spec, runs in first.items():
        for a, b in zip(runs, again[spec], strict=True):
            assert all(torch.equal(w, b.result.state[n]) for n, w in a.result.state.items())
    (tmp_path / f"{first[SPECS[0]][1].key}.run").unlink()
    stacked_study(tiny_data, tmp_path, monkeypatch, seeds=(0, 1, 2))
    assert trained == [(SPECS[0], [1, 2]), (SPECS[2], [2])]
    stacked_study(tiny_data, tmp_path, monkeypatch, fresh=True)
    assert trained[2:] == [(SPECS[0], [0, 1]), (SPECS[2], [0, 1])]


def test_only_a_local_cuda_device_trains_in_stacks(monkeypatch):
    assert not study._trains_in_stacks("cpu")
    monkeypatch.setattr(study, "check_device", torch.device)  # as if the device were there
    assert study._trains_in_stacks("cuda") and not study._trains_in_stacks("mps")
    monkeypatch.setattr(study, "_caller_of_workers", lambda: None)  # a cluster's backend
    assert not study._trains_in_stacks("cuda")


def test_a_run_in_a_stack_has_a_key_of_its_own(tiny_data):
    arguments = (SPECS[0], 0, SETTINGS, tiny_data)
    assert study.run_key(*arguments) != study.run_key(*arguments, in_stack=True)
