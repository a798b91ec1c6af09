"""One training run: Adam under a schedule, validation after every epoch.

Data order and noise of an epoch come from (seed, epoch) alone, so that a run continued after any
epoch ends bit for bit like one that was never interrupted (same machine, same thread count).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import platform
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
from .engine.parallel import in_own_thread
from .engine.randomness import global_seed, global_state, seed_of, seeded_generator
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
    ("linear"), or stays ("constant"). `betas` are Adam's. The defaults are the given notebook's.

    products: "bfloat16" lets training (not validation) round what it multiplies to bfloat16, on a
    CPU that has units for it: weights, losses and Adam's sums stay float32. Elsewhere, or with
    "float32", nothing is rounded.

    Raises TypeError or ValueError for unusable values.
    """

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_epochs: int = 0
    schedule: str = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    products: str = "float32"

    def __post_init__(self):
        check_positive_int(self.epochs, "epochs")
        check_positive_int(self.batch_size, "batch_size")
        check_between(self.learning_rate, "learning_rate", 0, 1)
        check_positive_int(self.warmup_epochs, "warmup_epochs", at_least=0)
        check_choice(self.schedule, tuple(SCHEDULES), "schedule")
        pair = isinstance(self.betas, tuple) and len(self.betas) == 2
        if not pair or not all(isinstance(b, (int, float)) and 0 <= b < 1 for b in self.betas):
            raise ValueError(
                f"betas must be a tuple of two numbers in [0, 1), such as (0.9, 0.999), got "
                f"{self.betas!r}"
            )
        check_choice(self.products, ("float32", "bfloat16"), "products")

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


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves: weights of the best validation epoch, and the history of all epochs.

    history maps train/validation x total/reconstruction/kl (e.g. "validation_kl", nats per image)
    and "seconds" to one value per epoch. Training values are means over the epoch's steps, taken
    while the weights change; `measures.losses.image_losses` gives the loss at fixed weights.
    best_epoch counts from 1. machine: what the run ended on, e.g. "AMD EPYC, PyTorch 2.14.1".
    products: "float32" or "bfloat16", in which training multiplied. weights: SHA-256 of `state`.
    """

    state: dict[str, torch.Tensor]
    history: dict[str, list[float]]
    best_epoch: int
    machine: str
    products: str
    weights: str


def default_device() -> torch.device:
    """CUDA if there is one, else the CPU; any other device only when it is asked for."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def draws_globally(model: Model) -> bool:
    """Whether the model draws from global generators, as dropout does, in training or after."""
    model, noise = copy.deepcopy(model).cpu(), torch.Generator()
    x = torch.rand(2, model.image_size, generator=noise).to(next(model.parameters()).dtype)
    with global_seed(0):
        before = global_state()
        for mode in (True, False):
            model.train(mode).loss(x, noise)
        return global_state() != before


def products_on(device: torch.device, asked: str) -> str:
    """In what training multiplies: "bfloat16" where it is asked for and a CPU has units for it.

    These are AVX512_BF16 or AMX, which comes with it.
    """
    has_units = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # of torch >= 2.6
    usable = asked == "bfloat16" and device.type == "cpu" and has_units()
    return "bfloat16" if usable else "float32"


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
    model.given_to_train = False

    def work() -> TrainResult:
        # Weights whose gradients are all zero (of units that never fire, of pixels that are always
        # black) leave moments in Adam that decay until they are denormal, after some 800 steps. A
        # CPU computes with such numbers many times more slowly; so they are taken as zero. The
        # setting is the thread's and of those that it starts, and ends with it.
        torch.set_flush_denormal(True)
        images = train_images.to(device), validation_images.to(device)
        return _train(model, *images, recipe, seed, device, checkpoint, on_epoch)

    return in_own_thread(work)


def _train(
    model, train_images, validation_images, recipe, seed, device, checkpoint, on_epoch
) -> TrainResult:
    model.to(device).train()
    optimizer = torch.optim.Adam(
        model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, fused=True
    )
    run = Progress.start_or_resume(model, optimizer, checkpoint)
    draws, saved = draws_globally(model), time.monotonic()
    for epoch in range(run.epochs_done + 1, recipe.epochs + 1):
        started = time.perf_counter()
        # what the model draws by itself, as dropout does, also depends on seed and epoch alone
        own = global_seed(seed_of(seed, epoch, 2), device) if draws else contextlib.nullcontext()
        try:
            with own:
                trained = _train_epoch(model, optimizer, train_images, recipe, seed, epoch)
                validated = _validate(model.eval(), validation_images, epoch)
            model.train()
        except NonFiniteLossError:
            model.load_state_dict(run.best_state)
            raise
        # remembers the weights if this is the best validation loss so far
        run.record(model, epoch, trained, validated, time.perf_counter() - started)
        if checkpoint is not None and time.monotonic() - saved >= SAVE_SECONDS:
            run.save(model, optimizer, checkpoint)
            saved = time.monotonic()
        if on_epoch is not None:
            on_epoch(epoch, run.history)
    # the weights of the best validation epoch, not of the last
    model.load_state_dict(run.best_state)
    model.eval()
    return run.result(device, recipe)


def _train_epoch(model, optimizer, images, recipe, seed, epoch) -> Loss:
    """One pass over the images in the order of (seed, epoch); the mean loss of its steps."""
    # order and noise depend on seed and epoch alone, so a continued run is the same bit for bit
    order = torch.randperm(len(images), generator=seeded_generator("cpu", seed, epoch, 0))
    order = order.to(images.device)
    noise = seeded_generator(images.device, seed, epoch, 1)
    batches = order.split(recipe.batch_size)
    first_step = (epoch - 1) * len(batches)
    terms = torch.zeros(len(batches), 3, device=images.device)
    rounds = products_on(images.device, recipe.products) == "bfloat16"
    for step, batch in enumerate(batches):
        rate = recipe.learning_rate_at(first_step + step, len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = images.index_select(0, batch).float().div_(255)  # whole rows, unlike images[batch]
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            loss = model.loss(x, noise)
        # one step of Adam down the gradient of the mean loss of the batch
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        optimizer.step()
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
    def start_or_resume(cls, model, optimizer, checkpoint: Path | None) -> Progress:
        stored = load_tensors(checkpoint) if checkpoint is not None else None
        if stored is None:
            names = [f"{s}_{t}" for s in ("train", "validation") for t in Loss._fields]
            return cls({name: [] for name in [*names, "seconds"]}, _copy_state(model))
        model.load_state_dict(stored["model"])
        optimizer.load_state_dict(stored["optimizer"])
        return cls(stored["history"], stored["best_state"], stored["best_epoch"])

    def record(self, model, epoch: int, trained: Loss, validated: Loss, seconds: float) -> None:
        for split, loss in [("train", trained), ("validation", validated)]:
            for term, value in loss._asdict().items():
                self.history[f"{split}_{term}"].append(value)
        self.history["seconds"].append(seconds)
        if validated.total <= min(self.history["validation_total"]):
            self.best_epoch, self.best_state = epoch, _copy_state(model)

    def result(self, device: torch.device, recipe: Recipe) -> TrainResult:
        state = {name: value.cpu() for name, value in self.best_state.items()}
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
        machine = f"{name}, PyTorch {torch.__version__.split('+')[0]}"
        products, digest = products_on(device, recipe.products), weights_digest(state)
        return TrainResult(state, self.history, self.best_epoch, machine, products, digest)

    def save(self, model, optimizer, checkpoint: Path) -> None:
        save_tensors(
            checkpoint,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": self.history,
                "best_state": self.best_state,
                "best_epoch": self.best_epoch,
            },
        )


def _copy_state(model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def weights_digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a model's weights: what was measured of them belongs to no others."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())  # NumPy knows no bfloat16
    return digest.hexdigest()


def _processor() -> str:
    """The CPU's name, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "CPU"
