"""One training run: Adam under a schedule, validation after every epoch.

Data order and noise of an epoch come from (seed, epoch) alone, so that a run continued after any
epoch ends bit for bit like one that was never interrupted (same machine, same thread count).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from .engine.files import load_tensors, save_tensors
from .engine.guards import (
    check_between,
    check_choice,
    check_device,
    check_pixels,
    check_positive_int,
    check_seed,
    check_type,
)
from .losses import Loss
from .models import Model

VALIDATION_SEED = 90_210  # the same posterior noise at every epoch: a curve of the model alone
FINITE_CHECK_STEPS = 50  # one host synchronisation per this many steps
SAVE_SECONDS = 10  # an interruption costs at most this much work; a save takes 1/20 s


class NonFiniteLossError(RuntimeError):
    """The training or the validation loss became NaN or infinite."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: Adam (Kingma & Ba, arXiv:1412.6980) under a schedule.

    The learning rate rises linearly over `warmup_epochs`; then it falls to 0 on half a cosine
    (schedule "cosine"; Loshchilov & Hutter, arXiv:1608.03983, without restarts), on a line
    ("linear"), or stays ("constant"). `betas` are Adam's. With `average` above 0 an exponential
    moving average of the weights, of this decay, is validated and kept in their place. The
    defaults are the given notebook's. Raises TypeError or ValueError for unusable values.
    """

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_epochs: int = 0
    schedule: str = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    average: float = 0.0

    def __post_init__(self):
        check_positive_int(self.epochs, "epochs")
        check_positive_int(self.batch_size, "batch_size")
        check_between(self.learning_rate, "learning_rate", 0, 1)
        check_positive_int(self.warmup_epochs, "warmup_epochs", at_least=0)
        check_choice(self.schedule, tuple(SCHEDULES), "schedule")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two floats in [0, 1), got {self.betas!r}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be a decay in [0, 1), got {self.average!r}")

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of 0-based optimizer step `step`."""
        warmup = self.warmup_epochs * steps_per_epoch
        total = self.epochs * steps_per_epoch
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        progress = max(0.0, (step - warmup) / max(1, total - warmup))
        return self.learning_rate * rising * SCHEDULES[self.schedule](progress)


SCHEDULES = {  # fraction of the learning rate left after a fraction of the steps
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


@dataclass
class TrainResult:
    """What a run leaves: weights of the best validation epoch, and the history of all epochs.

    history maps train/validation x total/reconstruction/kl (e.g. "validation_kl", nats per image)
    and "seconds" to one value per epoch. Training values are means over the epoch's steps, taken
    while the weights change; `measures.losses.image_losses` gives the loss at fixed weights.
    best_epoch counts from 1. machine: what the run ended on, e.g. "CPU, PyTorch 2.14.1".
    """

    state: dict[str, torch.Tensor]
    history: dict[str, list[float]]
    best_epoch: int
    machine: str


def default_device() -> torch.device:
    """CUDA if there is one, else the CPU; any other device only when it is asked for."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    model: Model,
    train_images: torch.Tensor,
    validation_images: torch.Tensor,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[int, dict], None] | None = None,
) -> TrainResult:
    """Train `model` in place and leave it with the weights of its best validation epoch.

    train_images, validation_images: uint8 tensors (N, image_size), scaled to [0, 1] batch by
    batch. With `checkpoint`, the state is kept in that file after an epoch, at most every
    SAVE_SECONDS, and a run finding it continues from there; the file is removed by the caller once
    the result is safe. `on_epoch(epoch, history)` is called after every epoch.

    Raises NonFiniteLossError when the loss is NaN or infinite; the model then holds the best
    weights so far. Raises TypeError or ValueError for a wrong argument, before anything changes.
    """
    check_type(model, Model, "model")
    check_type(recipe, Recipe, "recipe")
    check_seed(seed)
    for name, images in [("train_images", train_images), ("validation_images", validation_images)]:
        check_pixels(images, model.image_size, name)
    device = check_device(device) if device is not None else default_device()
    checkpoint = Path(checkpoint) if checkpoint is not None else None
    model.to(device).train()
    train_images, validation_images = train_images.to(device), validation_images.to(device)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, fused=True
    )
    # what is validated and kept: the weights themselves, or a running average of them
    kept = copy.deepcopy(model).requires_grad_(False) if recipe.average else model
    run = Progress.start_or_resume(model, kept, optimizer, checkpoint)
    saved = time.monotonic()
    for epoch in range(run.epochs_done + 1, recipe.epochs + 1):
        started = time.perf_counter()
        try:
            trained = _train_epoch(model, kept, optimizer, train_images, recipe, seed, epoch)
            validated = _validate(kept.eval(), validation_images, epoch)
            kept.train()
        except NonFiniteLossError:
            model.load_state_dict(run.best_state)
            raise
        # remembers the weights if this is the best validation loss so far
        run.record(kept, epoch, trained, validated, time.perf_counter() - started)
        if checkpoint is not None and time.monotonic() - saved >= SAVE_SECONDS:
            run.save(model, kept, optimizer, checkpoint)
            saved = time.monotonic()
        if on_epoch is not None:
            on_epoch(epoch, run.history)
    # the weights of the best validation epoch, not of the last
    model.load_state_dict(run.best_state)
    model.eval()
    return run.result(device)


def _train_epoch(model, kept, optimizer, images, recipe, seed, epoch) -> Loss:
    """One pass over the images in the order of (seed, epoch); the mean loss of its steps."""
    # order and noise depend on seed and epoch alone, so a continued run is the same bit for bit
    order = torch.randperm(len(images), generator=seeded_generator("cpu", seed, epoch, 0))
    order = order.to(images.device)
    noise = seeded_generator(images.device, seed, epoch, 1)
    batches = order.split(recipe.batch_size)
    first_step = (epoch - 1) * len(batches)
    terms = torch.zeros(len(batches), 3, device=images.device)
    for step, batch in enumerate(batches):
        rate = recipe.learning_rate_at(first_step + step, len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = images.index_select(0, batch).float().div_(255)  # whole rows, unlike images[batch]
        loss = model.loss(x, noise)
        # one step of Adam down the gradient of the mean loss of the batch
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        optimizer.step()
        if kept is not model:
            torch._foreach_lerp_(
                list(kept.parameters()), list(model.parameters()), 1 - recipe.average
            )
        # kept on the device: asking for a value at every step would make a GPU wait
        terms[step] = torch.stack([t.detach() for t in loss])
        if (step + 1) % FINITE_CHECK_STEPS == 0 or step + 1 == len(batches):
            check_finite(terms[: step + 1, 0], model, epoch, rate)
    sizes = torch.tensor([len(b) for b in batches], device=terms.device, dtype=terms.dtype)
    return Loss(*(sizes @ terms / sizes.sum()).tolist())


def check_finite(totals: torch.Tensor, model: Model, epoch: int, rate: float) -> None:
    """Raise NonFiniteLossError for the first of an epoch's step losses that is not finite."""
    bad = (~torch.isfinite(totals)).nonzero()
    if len(bad):
        step = int(bad[0]) + 1
        raise NonFiniteLossError(
            f"{model!r}: loss is {float(totals[step - 1])} at epoch {epoch}, step {step}, "
            f"learning rate {rate:.3g}; lower the learning rate or check the images"
        )


@torch.no_grad()
def _validate(model, images: torch.Tensor, epoch: int, batch_size: int = 1000) -> Loss:
    """Mean loss over the validation images, one posterior draw per image, the same every time."""
    noise = seeded_generator(images.device, VALIDATION_SEED)
    sums = torch.zeros(3, dtype=torch.float64)
    for batch in images.split(batch_size):
        terms = model.loss(batch.float().div_(255), noise)
        sums += torch.stack(list(terms)).cpu().double() * len(batch)
    loss = Loss(*(sums / len(images)).tolist())
    if not math.isfinite(loss.total):
        raise NonFiniteLossError(
            f"{model!r}: validation loss is {loss.total} after epoch {epoch}; lower the learning "
            "rate or check the images"
        )
    return loss


@dataclass
class Progress:
    """State of a run between two epochs: all that is needed to go on exactly as before."""

    history: dict[str, list[float]]
    best_state: dict[str, torch.Tensor]
    best_epoch: int = 0

    @property
    def epochs_done(self) -> int:
        return len(self.history["seconds"])

    @classmethod
    def start_or_resume(cls, model, kept, optimizer, checkpoint: Path | None) -> Progress:
        stored = load_tensors(checkpoint) if checkpoint is not None else None
        if stored is None:
            names = [f"{s}_{t}" for s in ("train", "validation") for t in Loss._fields]
            return cls({name: [] for name in [*names, "seconds"]}, _copy_state(model))
        model.load_state_dict(stored["model"])
        kept.load_state_dict(stored["kept"])
        optimizer.load_state_dict(stored["optimizer"])
        return cls(stored["history"], stored["best_state"], stored["best_epoch"])

    def record(self, model, epoch: int, trained: Loss, validated: Loss, seconds: float) -> None:
        for split, loss in [("train", trained), ("validation", validated)]:
            for term, value in loss._asdict().items():
                self.history[f"{split}_{term}"].append(value)
        self.history["seconds"].append(seconds)
        if validated.total <= min(self.history["validation_total"]):
            self.best_epoch, self.best_state = epoch, _copy_state(model)

    def result(self, device: torch.device) -> TrainResult:
        state = {name: value.cpu() for name, value in self.best_state.items()}
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
        machine = f"{name}, PyTorch {torch.__version__.split('+')[0]}"
        return TrainResult(state, self.history, self.best_epoch, machine)

    def save(self, model, kept, optimizer, checkpoint: Path) -> None:
        save_tensors(
            checkpoint,
            {
                "model": model.state_dict(),
                "kept": kept.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": self.history,
                "best_state": self.best_state,
                "best_epoch": self.best_epoch,
            },
        )


def _copy_state(model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def seeded_generator(device, *numbers: int) -> torch.Generator:
    """A generator on `device` seeded by the tuple `numbers` (a polynomial hash, 63 bits)."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (2**63)
    return torch.Generator(device=device).manual_seed(seed)
