"""`python -m benchmarks.gpu`: the reference's recipe against stacked seeds on a CUDA machine.

Images per second of (a) the recipe, (b) `training.train`, (c) `stacked.train_stacked` with five
seeds, and the time of the whole study of nine models with five seeds. Writes gpu.json and the part
of README.md between the markers "gpu".
"""

from __future__ import annotations

import sys

import torch

from vae_helpers import TrainSettings, train
from vae_helpers.data import Data, load_fashion_mnist
from vae_helpers.engine.stacked import train_stacked
from vae_helpers.plotting.tables import number, pipe_table
from vae_helpers.study import ModelSpec

from . import reference
from .output import machine, write
from .race import SPEC
from .timing import seconds

SEEDS = [0, 1, 2, 3, 4]
STUDY = [
    SPEC, ModelSpec("VAE4Layer", (400, 100), 20),
    *(ModelSpec("VAE3Layer", (h,), z)
      for h, z in [(400, 50), (400, 10), (400, 30), (300, 35), (300, 5), (300, 40)]),
    ModelSpec("AutoEncoder", (400,), 50),
]  # fmt: skip
LONG = TrainSettings(epochs=12, warmup_epochs=0)


def measure(data: Data, device: str, settings=LONG, specs=STUDY, study=None) -> dict:
    """Seconds and images per second; those of an epoch are the median over the run's epochs.

    `study`: the settings of the whole study, by default the 40 epochs of `TrainSettings`.
    """
    images = len(data.train)
    found = {"reference": _reference_epoch(data, device)}
    model = SPEC.build(0)
    result = train(model, data.train.images, data.validation.images, settings, seed=0,
                   device=device)  # fmt: skip
    found["train"] = _median(result.history["seconds"])
    shares = train_stacked(SPEC, data, settings, SEEDS, device)[0].history["seconds"]
    found["stacked"] = _median(shares)  # a seed's share of an epoch
    whole = seconds(
        lambda: [train_stacked(spec, data, study or TrainSettings(), SEEDS, device)
                 for spec in specs]
    )  # fmt: skip
    return {
        "machine": machine(), "images": images, "seeds": len(SEEDS), "seconds": found,
        "images per second": {name: images / value for name, value in found.items()},
        "study": {"models": len(specs), "seconds": whole},
    }  # fmt: skip


def _median(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).median())


def _reference_epoch(data: Data, device: str) -> float:
    """Seconds of the second epoch of the recipe; the first starts the device's libraries."""
    model = reference.ReferenceVAE().to(device)
    optimizer = reference.make_optimizer(model)
    loader = reference.make_loader(data.train.images)
    reference.train_epoch(model, optimizer, loader)
    return seconds(lambda: reference.train_epoch(model, optimizer, loader))


def report(result: dict) -> str:
    labels = {"reference": "(a) reference's recipe", "train": "(b) train, one seed",
              "stacked": f"(c) train_stacked, {result['seeds']} seeds"}  # fmt: skip
    speed = result["images per second"]
    rows = [[label, number(speed[name], 0), number(speed[name] / speed["reference"], 1)]
            for name, label in labels.items()]  # fmt: skip
    study = result["study"]
    return (
        f"Machine: {result['machine']}.\n\n"
        f"{pipe_table(['', 'Images per second', 'Times (a)'], rows)}\n\n"
        f"(b) and (c) pay for their validation. Target: (c) at least 100 times (a). The whole "
        f"study, {study['models']} models with {result['seeds']} seeds: "
        f"{number(study['seconds'], 1)} s; target: under 120 s."
    )


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu needs a CUDA device and torch sees none; "
                 "for the CPU run python -m benchmarks")  # fmt: skip
    result = measure(load_fashion_mnist("data"), "cuda")
    markdown = report(result)
    print(markdown)
    write("gpu", result, markdown)


if __name__ == "__main__":
    main()
