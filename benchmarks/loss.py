"""The reconstruction loss alone, forward and backward: ours, torch's from logits, the usual."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vae_helpers.losses import reconstruction_bce
from vae_helpers.plotting.tables import number, pipe_table
from vae_helpers.study import torch_threads

from .setup import BATCH, Setup
from .timing import in_turns, spread

LOSSES = {
    "ours, from logits": lambda logits, x: reconstruction_bce(logits, x).sum(),
    "torch, from logits": lambda logits, x: F.binary_cross_entropy_with_logits(
        logits, x, reduction="sum"),
    "torch, sigmoid then BCE": lambda logits, x: F.binary_cross_entropy(
        torch.sigmoid(logits), x, reduction="sum"),
}  # fmt: skip


def measure(setup: Setup) -> dict:
    """Nanoseconds per pixel of one forward and backward pass, on one thread; and the values."""
    calls = 20 if setup.quick else 300
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(BATCH, 784, generator=generator)
    x = setup.data.train.images[:BATCH].float().div_(255)
    logits.requires_grad_()

    def repeat(loss):
        for _ in range(calls):
            logits.grad = None
            loss(logits, x).backward()

    with torch_threads(1):
        values = {name: float(loss(logits, x).detach()) / BATCH for name, loss in LOSSES.items()}
        times = in_turns({name: lambda loss=loss: repeat(loss) for name, loss in LOSSES.items()},
                         setup.repetitions)  # fmt: skip
    per_pixel = 1e9 / (calls * logits.numel())
    return {name: {"nanoseconds": spread([t * per_pixel for t in times[name]]),
                   "nats": values[name]} for name in LOSSES}  # fmt: skip


def report(result: dict) -> str:
    ours = result["ours, from logits"]["nanoseconds"]["median"]
    rows = []
    for name, found in result.items():
        t = found["nanoseconds"]
        rows.append([name, *(number(t[k]) for k in ("median", "low", "high")),
                     number(t["median"] / ours), number(found["nats"], 3)])  # fmt: skip
    header = ["Loss", "ns per pixel", "Lowest", "Highest", "Times ours", "Nats per image"]
    return (
        f"{pipe_table(header, rows)}\n\nForward and backward, batch of {BATCH}, one thread. "
        "torch's loss from logits takes log1p of every pixel, ours a plain logarithm of a number "
        "in [1/2, 1]."
    )
