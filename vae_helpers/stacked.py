"""Several seeds of one model trained together, as one set of batched operations (torch.func).

For a GPU, where the launch of a small operation costs more than the operation: all seeds share one
launch, and the whole step is captured once as a CUDA graph and replayed. Stacks of several models
may be trained in threads: each works on a stream of its own. On a CPU, training seeds side by side
in processes is faster; the tests run the stack's step there.
"""

from __future__ import annotations

import contextlib
import copy
import math
import threading
import time
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from . import training
from .engine.guards import check_device, check_seed, check_type
from .engine.randomness import seeded_generator
from .losses import Loss, kl_divergence, reconstruction_loss
from .models import VAE, AutoEncoder, Model
from .training import NonFiniteLossError, Progress, Recipe, TrainResult, draws_globally

ONE_AT_A_TIME = threading.Lock()  # captures: another thread's work would be recorded, too
WARM_UP_STEPS = 3  # a capture needs the libraries' and the optimizer's state to exist already


def train_stacked(
    models: list[Model],
    train_images: torch.Tensor,
    validation_images: torch.Tensor,
    recipe: Recipe,
    seeds: list[int],
    device: torch.device | str | None = None,
    on_epoch: Callable[[int, int, dict], None] | None = None,
) -> list[TrainResult]:
    """Train models of one kind, each with a seed of its own, all at once; a result for each.

    models: `model.fresh(seed)` for every seed; they are trained in place. Images are uint8
    (N, image_size). Each result means what `training.train` gives for that seed: same data order,
    noise, schedule, validation and choice of the best weights. The two differ by float rounding,
    which training amplifies: after a few epochs losses agree to about 1e-4 nats in several
    hundred. `history["seconds"]` is a seed's share of the epoch.
    `on_epoch(seed, epoch, history)` is called for every seed after every epoch.

    Raises TypeError or ValueError for a wrong argument or a model with a `stack_fault`;
    NonFiniteLossError, after the epoch, when a loss of one seed is NaN or infinite.
    """
    check_type(recipe, Recipe, "recipe")
    for model in models:
        if fault := stack_fault(check_type(model, Model, "every model")):
            raise ValueError(f"{fault}; train it without a stack")
    seeds = [check_seed(seed, "every seed") for seed in seeds]
    if not seeds or len(set(seeds)) < len(models) or len(seeds) > len(models):
        raise ValueError(f"seeds must be different ints, one per model, got {seeds}")
    if not train_images.dtype == validation_images.dtype == torch.uint8:
        raise TypeError("train_images and validation_images must be uint8 tensors in 0..255")
    device = check_device(device) if device is not None else training.default_device()
    on_cuda = device.type == "cuda"
    with _own_stream(device) if on_cuda else contextlib.nullcontext():
        stack = Stack(models, seeds, device)
        step = training_step(stack, train_images.to(device), recipe)
        step = Captured(step) if on_cuda else step
        runs = [Progress.start_or_resume(each, None, None) for each in stack.models]
        for epoch in range(1, recipe.epochs + 1):
            started = time.perf_counter()
            trained = _train_epoch(stack, step, len(train_images), recipe, epoch)
            validated = _validate(stack, validation_images.to(device), epoch)
            seconds = (time.perf_counter() - started) / len(seeds)
            for number, (seed, run) in enumerate(zip(seeds, runs, strict=True)):
                run.record(stack.models[number], epoch, trained[number], validated[number], seconds)
                if on_epoch is not None:
                    on_epoch(seed, epoch, run.history)
    return [run.result(device, recipe) for run in runs]


def stack_fault(model: Model) -> str:
    """Why a stack would not train `model` as `training.train` does; empty if it would."""
    if next(model.buffers(), None) is not None:  # such as batch normalisation's
        return f"{model.label} holds buffers, which a stack of seeds does not train"
    for name in ("loss", "encode", "posterior", "reparameterize", "decode_logits"):
        ours = [getattr(kind, name, None) for kind in (VAE, AutoEncoder)]
        if getattr(type(model), name, None) not in ours:
            return f"{model.label} has a {name} of its own, and a stack uses the package's"
    if draws_globally(model):  # such as dropout
        return f"{model.label} draws from global generators, which a stack of seeds would share"
    try:
        stack = Stack([copy.deepcopy(model)], [0], torch.device("cpu"))
        stack.mean_losses(torch.zeros(1, 2, model.image_size), torch.zeros(1, 2, model.z_dim))
    except RuntimeError as error:  # what torch.func has no rule for, or what is drawn
        return f"{model.label} can not be computed for several seeds at once ({error})"
    return ""


@contextlib.contextmanager
def _own_stream(device: torch.device):
    """All work on one stream that is not the default, which can not be captured."""
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        yield
        torch.cuda.current_stream().synchronize()  # what is returned may be used on any stream


class _Outputs(nn.Module):
    """Pixel logits of images x (N, image_size) under noise (N, z_dim), and a VAE's mu, log_var."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, eps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean, log_var = self.model.posterior(x)
        if log_var is None:
            return (self.model.decoder(mean),)
        return self.model.decoder(mean + torch.exp(0.5 * log_var) * eps), mean, log_var


class Stack:
    """S models of one kind, one per seed; their weights are slices of `parameters`, tensors with a
    leading S, so that a step on these trains all and nothing has to be copied back."""

    def __init__(self, models: list[Model], seeds: list[int], device: torch.device):
        self.seeds, self.device = seeds, device
        self.models = [model.to(device) for model in models]
        outputs = [_Outputs(each) for each in self.models]
        self.first, (self.parameters, _) = outputs[0], stack_module_state(outputs)
        for index, each in enumerate(outputs):
            for name, parameter in each.named_parameters():
                parameter.data = self.parameters[name].data[index]

    def mean_losses(self, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Reconstruction and KL (S, 2), in nats, of images x (S, B, image_size) under noise
        (S, B, z_dim); x (B, image_size) and noise (B, z_dim) are the same for every model."""
        each = 0 if x.dim() == 3 else None
        logits, *posterior = vmap(
            lambda own, *inputs: functional_call(self.first, own, inputs),
            in_dims=(0, each, each),
        )(self.parameters, x, eps)
        reconstruction = reconstruction_loss(logits, x).mean(dim=1)
        kl = torch.zeros_like(reconstruction)
        if posterior:
            kl = kl_divergence(*posterior).sum(dim=2).mean(dim=1)
        return torch.stack([reconstruction, kl], dim=1)

    def noise(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        """A draw of noise (batch, z_dim)."""
        shape = (batch, self.models[0].z_dim)
        return torch.randn(shape, generator=generator, device=self.device)


def training_step(stack: Stack, images: torch.Tensor, recipe: Recipe) -> Callable:
    """`step(index, eps, rate)` -> losses (S, 2): one optimizer step of all seeds, on images[index].

    index (S, B), eps (S, B, z_dim) and rate (scalar) are tensors on the device; the host reads no
    value back, as a captured graph requires.
    """
    learning_rate = torch.zeros((), device=images.device)
    optimizer = torch.optim.Adam(
        stack.parameters.values(),
        lr=learning_rate,
        betas=recipe.betas,
        fused=True,
        capturable=images.device.type == "cuda",
    )

    def step(index, eps, rate):
        learning_rate.copy_(rate)
        losses = stack.mean_losses(images[index].float().div_(255), eps)
        optimizer.zero_grad(set_to_none=True)  # in a captured step: gradients of fixed address
        losses.sum().backward()  # each seed's loss reaches its own weights only
        optimizer.step()
        return losses.detach()

    return step


class Captured:
    """A step run eagerly WARM_UP_STEPS times, then captured as a CUDA graph and replayed.

    Steps of another shape than the first (an epoch's last batch) get a graph of their own. If the
    capture fails, all go on eagerly after a warning.
    """

    def __init__(self, step: Callable):
        self.step, self.eager_left = step, WARM_UP_STEPS
        self.graph, self.inputs = None, None
        self.other: Captured | None = None

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        if self.inputs is None:
            self.inputs = [value.clone() for value in inputs]  # where the graph reads
        if inputs[0].shape != self.inputs[0].shape:
            self.other = self.other or Captured(self.step)
            return self.other(*inputs)
        if self.graph is None and self.eager_left == 0:
            self._capture()
        if self.graph is not None:
            for fixed, value in zip(self.inputs, inputs, strict=True):
                fixed.copy_(value)
            self.graph.replay()
            return self.losses.clone()
        self.eager_left -= 1
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*capturable=True.*")  # it will be captured
            return self.step(*inputs)

    def _capture(self) -> None:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        options = {"stream": stream, "capture_error_mode": "thread_local"}
        try:
            with ONE_AT_A_TIME, torch.cuda.graph(graph, **options):
                self.losses = self.step(*self.inputs)
            self.graph = graph
        except RuntimeError as error:
            reason = (str(error).splitlines() or ["no reason given"])[0]
            warnings.warn(
                f"the training step can not be captured as a CUDA graph ({reason}); "
                "training goes on without, more slowly",
                stacklevel=2,
            )
            self.eager_left = math.inf


def _train_epoch(stack: Stack, step, count: int, recipe: Recipe, epoch: int) -> list[Loss]:
    """One pass over `count` images in the orders and with the noise of `training.train`."""
    orders = [
        torch.randperm(count, generator=seeded_generator("cpu", seed, epoch, 0))
        for seed in stack.seeds
    ]
    batches = torch.stack(orders).to(stack.device).split(recipe.batch_size, dim=1)
    noise = [seeded_generator(stack.device, seed, epoch, 1) for seed in stack.seeds]
    first, steps, losses = (epoch - 1) * len(batches), len(batches), []
    rates = [recipe.learning_rate_at(first + i, steps) for i in range(steps)]
    for index, rate in zip(batches, torch.tensor(rates, device=stack.device), strict=True):
        eps = torch.stack([stack.noise(index.shape[1], generator) for generator in noise])
        losses.append(step(index, eps, rate))
    sizes = torch.tensor([index.shape[1] for index in batches], dtype=torch.float64)
    sums = torch.tensordot(sizes, torch.stack(losses).cpu().double(), dims=1)
    return _means(stack, sums / count, f"training loss is {{}} in epoch {epoch}")


@torch.no_grad()
def _validate(stack: Stack, images: torch.Tensor, epoch: int, batch_size=1000) -> list[Loss]:
    """Mean validation loss of every model, with the noise that `training.train` uses."""
    generator = seeded_generator(images.device, training.VALIDATION_SEED)
    sums = torch.zeros(len(stack.seeds), 2, dtype=torch.float64)
    for batch in images.split(batch_size):
        x, eps = batch.float().div_(255), stack.noise(len(batch), generator)
        sums += stack.mean_losses(x, eps).cpu().double() * len(batch)
    return _means(stack, sums / len(images), f"validation loss is {{}} after epoch {epoch}")


def _means(stack: Stack, parts: torch.Tensor, fault: str) -> list[Loss]:
    """`Loss` of every model from reconstruction and KL (S, 2), if they are finite."""
    losses = [Loss(bce + kl, bce, kl) for bce, kl in parts.tolist()]
    for seed, model, loss in zip(stack.seeds, stack.models, losses, strict=True):
        if not math.isfinite(loss.total):
            raise NonFiniteLossError(
                f"seed {seed}, {model!r}: {fault.format(loss.total)}; lower "
                "the learning rate or check the images"
            )
    return losses
