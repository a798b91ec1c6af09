"""How time per epoch and peak memory grow with the model, the images and the number of models.

Every point is measured in a fresh process, on one thread: `python -m benchmarks.growth JSON`.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from vae_helpers.models import VAE
from vae_helpers.plotting.tables import number, pipe_table
from vae_helpers.training import _train_epoch

from .setup import BATCH, HIDDEN, Z_DIM, Setup
from .speed import CONSTANT, fused_adam
from .timing import in_fresh_process, peak_mib, seconds

BASE = {"width": HIDDEN, "z_dim": Z_DIM, "depth": 1, "images": 12_800, "models": 1}
AXES = {  # values, then why the exponents are what they are
    "width": ((100, 200, 400, 800, 1600),
              "both big layers are 784 x width, so the products grow in proportion, beside a share "
              "that does not grow: loss, images and noise; weights, gradients and Adam's two "
              "moments grow alike, beside images that stay"),
    "z_dim": ((5, 10, 20, 40, 80, 160),
              "only the two small layers (width x 2 z and z x width) know it, a few percent of "
              "the weights"),
    "depth": ((1, 2, 3, 4),
              "each further layer adds a 400 x 400 product in encoder and in decoder to a base of "
              "784 x 400, which counts as the first"),
    "images": ((6_400, 12_800, 25_600, 51_200),
               "an epoch is one step per 128 images, all alike; in memory each is 784 bytes, "
               "beside the model and its optimizer, which stay"),
    "models": ((1, 2, 4, 8),
               "one after the other they take their time one after the other; only weights "
               "and optimizer are kept per model, the images are shared"),
}  # fmt: skip


def measure(setup: Setup) -> dict:
    """For every axis: its points, and the exponents p of seconds and MiB ~ value^p."""
    axes = {name: values for name, (values, _) in AXES.items()}
    if setup.quick:
        axes = {"images": (setup.growth_images, 4 * setup.growth_images)}
    found = {}
    for name, values in axes.items():
        base = BASE | {"images": setup.growth_images, "repetitions": setup.repetitions}
        points = [in_fresh_process("benchmarks.growth", base | {name: value}) for value in values]
        found[name] = {
            "values": list(values), "points": points,
            "time exponent": exponent(values, [p["seconds"] for p in points]),
            "memory exponent": exponent(values, [p["mib"] for p in points]),
        }  # fmt: skip
    return found


def exponent(values, costs) -> float:
    """p of the least-squares fit log cost = p log value + c."""
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def measure_point(width, z_dim, depth, images, models, repetitions) -> dict:
    """Seconds per epoch (median) and peak MiB above what the imports take, for `models` models."""
    torch.set_num_threads(1)
    at_rest = peak_mib()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 784), generator=generator, dtype=torch.uint8)
    torch.manual_seed(0)
    group = [VAE(784, (width,) * depth, z_dim) for _ in range(models)]
    pairs = [(model, fused_adam(model)) for model in group]
    for pair in pairs:
        _train_epoch(*pair, pixels[: 2 * BATCH], CONSTANT, 0, 1)

    def epoch():
        for pair in pairs:
            _train_epoch(*pair, pixels, CONSTANT, 0, 1)

    times = [seconds(epoch) for _ in range(repetitions)]
    return {"seconds": float(np.median(times)), "mib": peak_mib() - at_rest}


def report(result: dict) -> str:
    rows, reasons = [], []
    for name, found in result.items():
        first, last = found["points"][0], found["points"][-1]
        values = found["values"]
        rows.append([name, f"{values[0]:,} to {values[-1]:,}",
                     *(f"{number(first[k], d)} to {number(last[k], d)}"
                       for k, d in (("seconds", 2), ("mib", 0))),
                     number(found["time exponent"]), number(found["memory exponent"])])  # fmt: skip
        reasons.append(f"- {name}: {AXES[name][1]}.")
    header = ["Grows", "Values", "Seconds per epoch", "Peak MiB", "Time exponent",
              "Memory exponent"]  # fmt: skip
    return (
        f"{pipe_table(header, rows)}\n\n"
        f"Base: width {HIDDEN}, latent size {Z_DIM}, one hidden layer, {BASE['images']:,} images, "
        "one model, one thread; memory above that of the imports. The exponent p is fitted, cost "
        f"~ value^p. Why:\n\n" + "\n".join(reasons)
    )


if __name__ == "__main__":
    print(json.dumps(measure_point(**json.loads(sys.argv[1]))))
