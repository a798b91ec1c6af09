"""The time to the test loss that the reference's recipe has after its 15 epochs."""

from __future__ import annotations

import time

import torch

from vae_helpers import TrainSettings, image_losses, train
from vae_helpers.plotting.tables import number, pipe_table
from vae_helpers.study import ModelSpec, torch_threads

from . import reference
from .setup import HIDDEN, Z_DIM, Setup
from .timing import ratio, spread

SPEC = ModelSpec("VAE3Layer", (HIDDEN,), Z_DIM)
FAST = TrainSettings(epochs=5, batch_size=128, learning_rate=1.2e-2, warmup_epochs=1)
SEEDS = (0, 1, 2)


def measure(setup: Setup) -> dict:
    """Both train on the same 60,000 images; ours also pays for its validation every epoch."""
    with torch_threads(setup.threads[0]):
        usual = _reference(setup)
        ours = [_ours(setup, seed) for seed in SEEDS]
    settings = f"{FAST.epochs} epochs, peak learning rate {FAST.learning_rate:g}"
    reached = all(run["test loss"] <= usual["test loss"] for run in ours)
    times = [run["seconds"] for run in ours]
    return {"reference": usual, "ours": ours, "settings": settings, "reached": reached,
            "threads": setup.threads[0],
            "reference / ours": ratio([usual["seconds"]] * len(times), times)}  # fmt: skip


def _reference(setup: Setup) -> dict:
    torch.manual_seed(0)
    model = reference.ReferenceVAE()
    optimizer, loader = reference.make_optimizer(model), reference.make_loader(setup.sixty_thousand)
    started = time.perf_counter()
    for _ in range(setup.reference_epochs):
        reference.train_epoch(model, optimizer, loader)
    seconds = time.perf_counter() - started
    return {"epochs": setup.reference_epochs, "seconds": seconds,
            "test loss": _test_loss(reference.as_ours(model), setup)}  # fmt: skip


def _ours(setup: Setup, seed: int) -> dict:
    model = SPEC.build(seed)
    started = time.perf_counter()
    train(model, setup.sixty_thousand, setup.data.validation.images, FAST, seed=seed, device="cpu")
    return {"seconds": time.perf_counter() - started, "test loss": _test_loss(model, setup)}


def _test_loss(model, setup: Setup) -> float:
    return float(image_losses(model, setup.data.test.floats(), draws=1)["total"].mean())


def report(result: dict) -> str:
    usual, ours = result["reference"], result["ours"]
    rows = [[f"reference's recipe, {usual['epochs']} epochs", number(usual["seconds"], 1),
             number(usual["test loss"]), "1"]]  # fmt: skip
    for seed, run in zip(SEEDS, ours, strict=True):
        rows.append([f"ours, seed {seed}", number(run["seconds"], 1), number(run["test loss"]),
                     number(usual["seconds"] / run["seconds"], 1)])  # fmt: skip
    times = spread([run["seconds"] for run in ours])
    verdict = "is below" if result["reached"] else "is NOT always below"
    return (
        f"{pipe_table(['', 'Seconds', 'Test loss (nats per image)', 'Times faster'], rows)}\n\n"
        f"{result['threads']} thread(s), the same 60,000 images and architecture. Ours: "
        f"{result['settings']}, one epoch of warm-up, then half a cosine to 0; median "
        f"{number(times['median'], 1)} s. "
        f"Its loss {verdict} the reference's. The loss of both: negative ELBO on the test images, "
        "one draw per image, the same noise."
    )
