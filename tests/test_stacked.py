"""Seeds trained as one stack: equal to training them one by one, and to nothing else."""

import warnings
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from own_models import BetaVAE, ConvVAE, Fragile, Noisy
from torch import nn

from vae_helpers import AutoEncoder, Recipe, VAE3Layer, VAE4Layer, train
from vae_helpers.stacked import Captured, Stack, stack_fault, train_stacked, training_step
from vae_helpers.training import NonFiniteLossError

VAE = VAE3Layer(h_dim=33, z_dim=5)
MODELS = [VAE, VAE4Layer(h_dims=(32, 16), z_dim=4), AutoEncoder(h_dim=32, z_dim=4), ConvVAE()]
RECIPE = Recipe(3, 64, 2e-3, warmup_epochs=1, schedule="cosine", betas=(0.8, 0.99))


def alone(model, data, recipe, seed):
    """By the stack's kernel: by oneDNN's, some weights differ by 2e-5, without any stack."""
    images = data.train.images, data.validation.images
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*TF32.*")
        with torch.backends.mkldnn.flags(enabled=False):
            return train(model.fresh(seed), *images, recipe, seed=seed, device="cpu")


def together(model, data, recipe, seeds, *more):
    models = [model.fresh(seed) for seed in seeds]
    images = data.train.images, data.validation.images
    return train_stacked(models, *images, recipe, seeds, "cpu", *more)


def assert_equal_to_float_tolerance(stacked, single, atol=1e-5):
    assert stacked.best_epoch == single.best_epoch
    assert stacked.history.keys() == single.history.keys()
    for name in single.history.keys() - {"seconds"}:  # nats in several hundred: 1e-4 is rounding
        assert stacked.history[name] == pytest.approx(single.history[name], rel=1e-6, abs=1e-4)
    assert stacked.state.keys() == single.state.keys()
    for name, weights in single.state.items():
        torch.testing.assert_close(stacked.state[name], weights, rtol=0, atol=atol)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
@pytest.mark.parametrize(  # 600 images: a ragged last batch; one batch
    "change", [{"batch_size": 64}, {"batch_size": 1000, "schedule": "linear"}]
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_every_seed_equals_the_run_of_that_seed_alone(tiny_data, model, change):
    recipe, seeds = replace(RECIPE, **change), [3, 0]
    before = torch.random.get_rng_state()
    results = together(model, tiny_data, recipe, seeds)
    assert torch.equal(before, torch.random.get_rng_state())
    for seed, result in zip(seeds, results, strict=True):
        assert_equal_to_float_tolerance(result, alone(model, tiny_data, recipe, seed))
        model.fresh(seed).load_state_dict(result.state)  # names and shapes of an ordinary model


def test_best_weights_are_kept_when_validation_gets_worse(tiny_data):
    other = tiny_data.validation.images.flip(1)
    flipped = replace(tiny_data.validation, images=other)
    recipe = Recipe(epochs=8, batch_size=32, learning_rate=0.01)
    (result,) = together(VAE, replace(tiny_data, validation=flipped), recipe, [0])
    losses = result.history["validation_total"]
    assert losses.index(min(losses)) + 1 == result.best_epoch < 8
    single = train(VAE.fresh(0), tiny_data.train.images, other, recipe, seed=0, device="cpu")
    assert result.best_epoch == single.best_epoch
    for name, weights in single.state.items():
        torch.testing.assert_close(result.state[name], weights, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:TF32")
def test_the_step_needs_nothing_from_the_host(tiny_data, monkeypatch):
    """What a CUDA graph demands: weights of fixed address, no read-back."""
    stack = Stack([VAE.fresh(0), VAE.fresh(1)], [0, 1], torch.device("cpu"))
    step = training_step(stack, tiny_data.train.images, RECIPE)
    fixed = list(stack.parameters.values())
    addresses = [tensor.data_ptr() for tensor in fixed]
    inputs = torch.randint(600, (2, 64)), torch.randn(2, 64, 5), torch.tensor(1e-3)

    def read_back(*_):
        raise AssertionError("a step read a value back to the host")

    with torch.backends.mkldnn.flags(enabled=False), monkeypatch.context() as patch:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
            patch.setattr(torch.Tensor, name, read_back)
        for _ in range(3):
            assert step(*inputs).shape == (2, 2)
    assert [tensor.data_ptr() for tensor in fixed] == addresses
    held = stack.models[1].h_to_z.weight  # the models' weights are the stack's, not copies
    assert held.data_ptr() == stack.parameters["model.h_to_z.weight"][1].data_ptr()


@pytest.fixture
def fake_cuda(monkeypatch):
    """CUDA's graphs and streams replaced; `log` says how every step was run."""
    state = SimpleNamespace(log=[], capturing=False, fault=None)

    class Graph:
        def replay(self):
            state.log.append("replay")

    @contextmanager
    def capture(graph, **options):
        state.capturing = True
        try:
            yield
        finally:
            state.capturing = False

    fakes = {"graph": capture, "CUDAGraph": Graph, "current_stream": lambda: None}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    def step(index):
        if state.capturing and state.fault:
            raise RuntimeError(state.fault)
        state.log.append("capture" if state.capturing else "eager")
        return index.sum()

    state.step = Captured(step)
    return state


FULL, RAGGED = torch.ones(2, 64), torch.ones(2, 10)


def test_capture_runs_every_step_exactly_once(fake_cuda):
    """Eager warm-up, one capture that counts for nothing, replays; so for every shape."""
    for batch in (FULL, FULL, RAGGED, FULL, FULL, FULL, RAGGED, RAGGED, RAGGED):
        fake_cuda.step(batch)
    captured = ["capture", "replay"]
    assert fake_cuda.log == ["eager"] * 4 + [*captured, "replay", "eager", "eager", *captured]


def test_a_capture_that_fails_is_said_once_and_training_goes_on(fake_cuda):
    fake_cuda.fault = "operation not permitted when stream is capturing\nmore lines"
    with pytest.warns(UserWarning) as said:
        for _ in range(8):
            assert float(fake_cuda.step(FULL)) == 128
    assert fake_cuda.log == ["eager"] * 8 and len(said) == 1
    message = str(said[0].message)
    assert "(operation not permitted when stream is capturing); training goes on" in message


def test_progress_is_reported_for_every_seed_and_epoch(tiny_data):
    calls = []

    def on_epoch(seed, epoch, history):
        calls.append((seed, epoch, len(history["validation_total"])))

    together(MODELS[2], tiny_data, RECIPE, [4, 2], on_epoch)
    assert calls == [(seed, epoch, epoch) for epoch in (1, 2, 3) for seed in (4, 2)]


def test_losses_that_are_not_finite_are_named_with_their_seed(tiny_data):
    with pytest.raises(NonFiniteLossError, match=r"seed 4, .*learning rate"):
        together(VAE, tiny_data, Recipe(3, 64, 0.99), [4, 2])


class Odd(VAE3Layer):
    """An encoder or a decoder that a stack would not compute as the model does."""

    def __init__(self, of):
        super().__init__(h_dim=8, z_dim=2)
        self.of, self.noise, self.drop = of, torch.Generator().manual_seed(0), nn.Dropout(0.5)

    def encoder(self, x):
        if self.of == "dropout":
            x = self.drop(x)
        elif self.of == "numpy":
            x = x * float(np.random.rand())
        elif self.of == "own generator":
            x = x + torch.randn(x.shape, generator=self.noise)
        elif self.of == "values" and float(x.sum()) > 0:
            x = 2 * x
        return super().encoder(x)


class Cold(VAE3Layer):
    def decode_logits(self, z):
        return 2 * super().decode_logits(z)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (BetaVAE(), r"Beta-VAE .* has a loss of its own"),
        (Fragile(), r"Fragile .* has a loss of its own"),
        (Cold(), r"Cold .* has a decode_logits of its own"),
        (Noisy(), "holds buffers"),
        (Odd("dropout"), "draws from global generators"),
        (Odd("numpy"), "draws from global generators"),
        (Odd("own generator"), "can not be computed for several seeds at once .*random"),
        (Odd("values"), "can not be computed for several seeds at once .*item"),
    ],
)
def test_what_a_stack_would_train_otherwise_is_refused(tiny_data, model, words):
    with pytest.raises(ValueError, match=words):
        together(model, tiny_data, RECIPE, [0])
    assert not stack_fault(Odd("nothing"))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"models": [nn.Linear(784, 2)]}, TypeError, "model must be a Model"),
        ({"models": [], "seeds": []}, ValueError, r"seeds must be .* got \[\]"),
        ({"models": [VAE, VAE], "seeds": [1, 1]}, ValueError, r"seeds must be .* got \[1, 1\]"),
        ({"seeds": [1, 2]}, ValueError, "one per model"),
        ({"train_images": torch.zeros(4, 784)}, TypeError, "train_images must be a uint8 tensor"),
        ({"device": "nowhere"}, ValueError, "nowhere"),
    ],
)
def test_wrong_arguments_are_refused(tiny_data, change, error, words):
    images = tiny_data.validation.images
    right = {"models": [VAE], "seeds": [0], "recipe": RECIPE, "device": "cpu"}
    right |= {"train_images": images, "validation_images": images}
    with pytest.raises(error, match=words):
        train_stacked(**{**right, **change})
