"""Seconds per epoch: the reference's recipe, our training, and the matrix products alone."""

from __future__ import annotations

import torch

from vae_helpers import TrainSettings, VAE3Layer
from vae_helpers.plotting.tables import number, pipe_table
from vae_helpers.study import torch_threads
from vae_helpers.training import _generator, _train_epoch

from . import reference
from .floor import FloorEpoch, torch_product
from .setup import BATCH, RATE, Setup
from .timing import in_turns, ratio, spread

# so many epochs that the cosine is flat: the reference's constant learning rate
CONSTANT = TrainSettings(epochs=10**6, batch_size=BATCH, learning_rate=RATE, warmup_epochs=0)
NAMES = {"reference": "(a) reference's recipe", "ours": "(b) our training",
         "floor": "(c) its matrix products alone",
         "torch floor": "the same products by torch.mm"}  # fmt: skip


ADAM_EPS = 1e-8  # torch's default


def fused_adam(model, eps: float = ADAM_EPS) -> torch.optim.Adam:
    """The optimizer of `training.train`."""
    return torch.optim.Adam(model.parameters(), lr=RATE, fused=True, eps=eps)


def measure(setup: Setup) -> dict:
    threads = {str(n): _seconds_per_epoch(setup, n) for n in setup.threads}
    images = setup.data.train.images[: 20 * BATCH]
    return {
        "images": len(setup.data.train), "threads": threads, "agreement": agreement(images),
        "agreement with the same epsilon": agreement(images, eps=ADAM_EPS),
    }  # fmt: skip


def _seconds_per_epoch(setup: Setup, threads: int) -> dict:
    images = setup.data.train.images
    usual = reference.ReferenceVAE()
    ours = reference.as_ours(usual)
    loader, optimizer = reference.make_loader(images), reference.make_optimizer(usual)
    our_optimizer = fused_adam(ours)
    functions = {
        "reference": lambda: reference.train_epoch(usual, optimizer, loader),
        "ours": lambda: _train_epoch(ours, our_optimizer, images, CONSTANT, 0, 1),
        "floor": FloorEpoch(ours, len(images), BATCH),
        "torch floor": FloorEpoch(ours, len(images), BATCH, torch_product),
    }
    with torch_threads(threads):
        functions["floor"]()
        functions["torch floor"]()
        _train_epoch(ours, our_optimizer, images[: 10 * BATCH], CONSTANT, 0, 1)
        times = in_turns(functions, setup.repetitions)
    return {
        "seconds": {name: spread(values) for name, values in times.items()},
        "reference / ours": ratio(times["reference"], times["ours"]),
        "ours / floor": ratio(times["ours"], times["floor"]),
        "reference / floor": ratio(times["reference"], times["floor"]),
        "reference / torch floor": ratio(times["reference"], times["torch floor"]),
        "ours / torch floor": ratio(times["ours"], times["torch floor"]),
    }


def agreement(images: torch.Tensor, epochs: int = 3, eps: float = ADAM_EPS / BATCH) -> dict:
    """Both trainings from the same weights, in the same order, with the same noise.

    The mean loss of every epoch over whole batches of `images`, in nats per image, and the largest
    difference. The recipe's loss is a batch's sum, ours its mean: gradients differ by the factor
    128, which Adam cancels but for its epsilon. Hence ours gets an epsilon 128 times smaller here,
    and whole batches alone, to have the same mathematics to the last digit.
    """
    images = images[: len(images) // BATCH * BATCH]
    torch.manual_seed(0)
    usual = reference.ReferenceVAE()
    ours = reference.as_ours(usual)
    optimizer, our_optimizer = reference.make_optimizer(usual), fused_adam(ours, eps)
    losses = {"reference": [], "ours": []}
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(images), generator=_generator("cpu", 0, epoch, 0))
        loader, noise = reference.make_loader(images, order), _generator("cpu", 0, epoch, 1)
        losses["reference"].append(reference.train_epoch(usual, optimizer, loader, noise))
        loss = _train_epoch(ours, our_optimizer, images, CONSTANT, 0, epoch)
        losses["ours"].append(loss.total)
    steps = epochs * len(images) // BATCH
    gaps = [abs(a - b) for a, b in zip(losses["reference"], losses["ours"], strict=True)]
    return {"steps": steps, **losses, "largest difference": max(gaps)}



def report(result: dict) -> str:
    rows = []
    for threads, found in result["threads"].items():
        for name, label in NAMES.items():
            s = found["seconds"][name]
            rows.append([label, threads, *(number(s[k]) for k in ("median", "low", "high")),
                         number(s["median"] / found["seconds"]["floor"]["median"])])  # fmt: skip
    table = pipe_table(
        ["", "Threads", "Seconds per epoch", "Lowest", "Highest", "Times the floor"], rows
    )
    a, same = result["agreement"], result["agreement with the same epsilon"]
    last = f"{number(a['reference'][-1], 3)} and {number(a['ours'][-1], 3)}"

    def over(name):
        return " and ".join(f"{number(found[name]['median'])} on {threads} thread(s)"
                            for threads, found in result["threads"].items())  # fmt: skip

    return (
        f"One epoch over {result['images']:,} images in batches of {BATCH}, "
        f"{VAE3Layer().parameter_count:,} parameters.\n\n{table}\n\n"
        f"(a) / (c) is {over('reference / floor')}: with these products in float32 nothing can "
        f"beat (a) by more. Over the products by torch.mm, (a) takes "
        f"{over('reference / torch floor')} times as long and (b) {over('ours / torch floor')}.\n\n"
        f"(a) and (b) are the same mathematics: from the same weights, with the same order and "
        f"noise, their mean losses of the last of three short epochs ({a['steps']} steps in all) "
        f"are {last} nats per image; the largest difference is {a['largest difference']:.0e}. "
        "This check divides Adam's epsilon by the batch size on our side, since the recipe sums "
        "the loss over the batch and we take its mean; with the same epsilon on both sides the "
        f"difference is {same['largest difference']:.0e}."
    )
