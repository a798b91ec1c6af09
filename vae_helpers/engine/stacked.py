"""Several seeds of one model trained together, as one set of batched matrix products.

For accelerators, where the launch of each small operation costs more than the operation: all seeds
share one launch, and on CUDA the whole step is captured once as a graph and replayed, so that a
step costs one launch and no synchronisation with the host. On a CPU it brings nothing
(benchmarks/README.md has the ratio); there `study.train_study` trains seeds side by side.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from .. import training
from ..data import Data
from ..losses import Loss, kl_per_dimension, reconstruction_bce
from ..models import VAE, FullyConnected
from ..training import NonFiniteLossError, TrainResult, TrainSettings
from .guards import check_device, check_seed, check_type

if TYPE_CHECKING:
    from ..study import ModelSpec

WARM_UP_STEPS = 3  # a capture needs the libraries' and the optimizer's state to exist already


def train_stacked(
    spec: ModelSpec,
    data: Data,
    settings: TrainSettings,
    seeds: list[int],
    device: torch.device | str | None = None,
    on_epoch: Callable[[int, int, dict], None] | None = None,
) -> list[TrainResult]:
    """Train `spec` with every seed of `seeds` at once; one result per seed, in their order.

    Each result means what `training.train` returns for `spec.build(seed)`: same initial weights,
    data order, noise, schedule, validation after every epoch and choice of the best weights. On one
    device the two differ by float rounding only, which training amplifies: after a few epochs
    losses agree to about 1e-4 nats in several hundred. `history["seconds"]` is a seed's share of
    the epoch. `on_epoch(seed, epoch, history)` is called for every seed after every epoch.

    The CUDA path (capture and replay) has not been run on a GPU yet; its step is the one that
    the tests run on the CPU.

    Raises TypeError or ValueError for a wrong argument, no seeds or a seed given twice,
    NonFiniteLossError (after the epoch) when the loss of one seed is NaN or infinite.
    """
    check_type(data, Data, "data")
    check_type(settings, TrainSettings, "settings")
    seeds = [check_seed(seed, "every seed") for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be one or more different ints, got {seeds}")
    pixels = data.train.images.shape[1]
    device = check_device(device) if device is not None else training.default_device()
    on_cuda = device.type == "cuda"
    with torch.cuda.device(device) if on_cuda else contextlib.nullcontext():
        stack = _Stack([spec.build(seed, pixels) for seed in seeds], device)
        inputs = _EpochInputs(stack, data.train.images.to(device), settings, seeds)
        step = _training_step(stack, inputs)
        return _train(stack, inputs, _Captured(step) if on_cuda else step, settings, seeds,
                      data.validation.images.to(device), on_epoch)  # fmt: skip


def _train(stack, inputs, step, settings, seeds, validation_images, on_epoch) -> list[TrainResult]:
    runs = [training._Progress.start_or_resume(model, None, None) for model in stack.models]
    for epoch in range(1, settings.epochs + 1):
        started = time.perf_counter()
        inputs.prepare(epoch)
        for _ in inputs.sizes:
            step()
        trained = inputs.mean_losses(stack.models, epoch)
        validated = _validate(stack, validation_images)
        seconds = (time.perf_counter() - started) / len(seeds)
        for index, (seed, run) in enumerate(zip(seeds, runs, strict=True)):
            run.record(stack.models[index], epoch, trained[index], validated[index], seconds)
            if on_epoch is not None:
                on_epoch(seed, epoch, run.history)
    return [TrainResult(run.best_state, run.history, run.best_epoch) for run in runs]


class _Stack:
    """S models of one shape; their parameters are slices of tensors with a leading S."""

    def __init__(self, models: list[FullyConnected], device: torch.device):
        self.models = [model.to(device) for model in models]
        self.parameters, _ = torch.func.stack_module_state(self.models)
        for index, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                parameter.data = self.parameters[name].data[index]  # a view: nothing to copy back

    def __len__(self) -> int:
        return len(self.models)

    def _layers(self, part: str, h: torch.Tensor) -> torch.Tensor:
        """h (S, B, n_in) through the encoder or decoder of every model; (S, B, n_out)."""
        for index, layer in enumerate(getattr(self.models[0], part)):
            if isinstance(layer, nn.Linear):
                weight = self.parameters[f"{part}.{index}.weight"]
                bias = self.parameters[f"{part}.{index}.bias"]
                h = torch.baddbmm(bias.unsqueeze(1), h, weight.mT)
            else:
                h = layer(h)
        return h

    def image_losses(self, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Reconstruction and KL, stacked (2, S, B), in nats, of images x (S, B, image_size).

        eps: noise (S, B, z_dim) or (B, z_dim), not used by the autoencoder.
        """
        code = self._layers("encoder", x)
        if not isinstance(self.models[0], VAE):
            reconstruction = reconstruction_bce(self._layers("decoder", code), x)
            return torch.stack([reconstruction, torch.zeros_like(reconstruction)])
        mu, log_var = code.chunk(2, dim=2)
        z = torch.addcmul(mu, torch.exp(0.5 * log_var), eps)
        reconstruction = reconstruction_bce(self._layers("decoder", z), x)
        return torch.stack([reconstruction, kl_per_dimension(mu, log_var).sum(dim=2)])


class _EpochInputs:
    """All that the steps of an epoch read and write, on the device; the step number comes first.

    The buffers are filled again for every epoch and never moved, as a captured graph requires. The
    last batch is padded to full size with images of weight 0, so that one graph serves all steps.
    """

    def __init__(self, stack: _Stack, images: torch.Tensor, settings: TrainSettings, seeds):
        batch = min(settings.batch_size, len(images))
        self.images, self.settings, self.seeds = images, settings, seeds
        self.sizes = [len(part) for part in torch.arange(len(images)).split(batch)]
        steps, device = len(self.sizes), images.device
        self.indices = torch.zeros(steps, len(stack), batch, dtype=torch.long, device=device)
        self.noise = torch.zeros(steps, len(stack), batch, stack.models[0].z_dim, device=device)
        self.weights = torch.zeros(steps, batch)
        for step, size in enumerate(self.sizes):
            self.weights[step, :size] = 1 / size
        self.weights = self.weights.to(device)
        self.rates = torch.zeros(steps, device=device)
        self.losses = torch.zeros(steps, 2, len(stack), device=device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)

    def prepare(self, epoch: int) -> None:
        """Order and noise of (seed, epoch), in the streams of `training.train`; learning rates."""
        steps = len(self.sizes)
        rates = [self.settings.learning_rate_at((epoch - 1) * steps + i, steps)
                 for i in range(steps)]  # fmt: skip
        self.rates.copy_(torch.tensor(rates))
        for index, seed in enumerate(self.seeds):
            order = torch.zeros(self.indices[:, 0].numel(), dtype=torch.long)
            generator = training._generator("cpu", seed, epoch, 0)
            order[: len(self.images)] = torch.randperm(len(self.images), generator=generator)
            self.indices[:, index] = order.view(steps, -1).to(self.images.device)
            generator = training._generator(self.images.device, seed, epoch, 1)
            for step, size in enumerate(self.sizes):
                self.noise[step, index, :size].normal_(generator=generator)
        self.position.zero_()

    def mean_losses(self, models, epoch: int) -> list[Loss]:
        """The mean loss of every seed's steps; raises NonFiniteLossError if one is not finite."""
        losses = self.losses.cpu().double()
        last_rate = float(self.rates[-1])
        for index, (seed, model) in enumerate(zip(self.seeds, models, strict=True)):
            try:
                training._check_finite(losses[:, :, index].sum(dim=1), model, epoch, last_rate)
            except NonFiniteLossError as error:
                raise NonFiniteLossError(f"seed {seed}, {error}") from None
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        return _as_losses(torch.tensordot(sizes, losses, dims=1) / sizes.sum())


def _training_step(stack: _Stack, inputs: _EpochInputs) -> Callable[[], None]:
    """One optimizer step of all seeds: tensors in, tensors out, not one value from the host."""
    parameters = list(stack.parameters.values())
    device = inputs.images.device
    rate = torch.zeros((), device=device)
    optimizer = torch.optim.Adam(
        parameters, lr=rate, fused=True, capturable=device.type == "cuda"
    )

    def step() -> None:
        position = inputs.position
        rate.copy_(inputs.rates[position][0])
        x = inputs.images[inputs.indices[position][0]].float().div_(255)
        losses = stack.image_losses(x, inputs.noise[position][0])
        losses = (losses * inputs.weights[position]).sum(dim=2)  # (2, S): mean over the images
        optimizer.zero_grad(set_to_none=True)  # in a captured step: gradients of fixed address
        losses.sum().backward()  # each seed's loss reaches its own weights only
        optimizer.step()
        inputs.losses[position] = losses.detach()
        position.add_(1)

    return step


class _Captured:
    """A step run eagerly WARM_UP_STEPS times, then captured as a CUDA graph and replayed."""

    def __init__(self, step: Callable[[], None]):
        self.step, self.warm_up_left = step, WARM_UP_STEPS
        self.stream, self.graph = torch.cuda.Stream(), None

    def __call__(self) -> None:
        if self.warm_up_left:
            self.warm_up_left -= 1
            return self._run_eagerly()
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.step()
        self.graph.replay()

    def _run_eagerly(self) -> None:
        """The step on a side stream, as PyTorch's notes on CUDA graphs ask for before capture."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*capturable=True.*")  # it will be captured
            self.step()
        torch.cuda.current_stream().wait_stream(self.stream)


@torch.no_grad()
def _validate(stack: _Stack, images: torch.Tensor, batch_size: int = 1000) -> list[Loss]:
    """Mean validation loss of every model, with the noise that `training.train` uses."""
    noise = training._generator(images.device, training.VALIDATION_SEED)
    sums = torch.zeros(2, len(stack), dtype=torch.float64)
    for batch in images.split(batch_size):
        shape = (len(batch), stack.models[0].z_dim)
        eps = torch.randn(shape, generator=noise, device=images.device)
        x = batch.float().div_(255).expand(len(stack), -1, -1)
        sums += stack.image_losses(x, eps).sum(dim=2).cpu().double()
    return _as_losses(sums / len(images))


def _as_losses(parts: torch.Tensor) -> list[Loss]:
    """`Loss` of every model from reconstruction and KL (2, S)."""
    return [Loss(r + kl, r, kl) for r, kl in parts.T.tolist()]
