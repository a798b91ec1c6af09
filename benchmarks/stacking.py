"""Three seeds as one stack of batched products, against the three one after the other."""

from __future__ import annotations

from vae_helpers import TrainSettings, train
from vae_helpers.engine.stacked import train_stacked
from vae_helpers.plotting.tables import number, pipe_table
from vae_helpers.study import torch_threads

from .race import SPEC
from .setup import Setup, take_training_images
from .timing import in_turns, ratio, spread

SEEDS = [0, 1, 2]
SETTINGS = TrainSettings(epochs=1, warmup_epochs=0)


def measure(setup: Setup) -> dict:
    data = take_training_images(setup.data, setup.growth_images)

    def one_by_one():
        for seed in SEEDS:
            train(SPEC.build(seed), data.train.images, data.validation.images, SETTINGS,
                  seed=seed, device="cpu")  # fmt: skip

    functions = {"one after the other": one_by_one,
                 "stacked": lambda: train_stacked(SPEC, data, SETTINGS, SEEDS, "cpu")}
    found = {}
    for threads in setup.threads:
        with torch_threads(threads):
            times = in_turns(functions, setup.repetitions)
        found[str(threads)] = {
            "seconds": {name: spread(values) for name, values in times.items()},
            "one after the other / stacked": ratio(*times.values()),
        }
    return {"images": len(data.train), "threads": found}


def report(result: dict) -> str:
    rows = []
    for threads, found in result["threads"].items():
        for name, s in found["seconds"].items():
            rows.append([name, threads, *(number(s[k]) for k in ("median", "low", "high"))])
    ratios = " and ".join(
        f"{number(found['one after the other / stacked']['median'])} on {threads} thread(s)"
        for threads, found in result["threads"].items()
    )
    return (
        f"{pipe_table(['Three seeds on a CPU', 'Threads', 'Seconds', 'Lowest', 'Highest'], rows)}"
        f"\n\nOne epoch over {result['images']:,} images and one validation. One after the other "
        f"takes {ratios} times as long as stacked. The stack is for accelerators: on a CPU the "
        "study trains seeds in processes side by side."
    )
