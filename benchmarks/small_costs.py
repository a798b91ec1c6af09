"""What is easily wasted: import time, evaluation time, memory of the importance-weighted bound.

`python -m benchmarks.small_costs JSON` measures the memory of one k in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from vae_helpers.measures.losses import image_losses, iwae_bounds
from vae_helpers.plotting.tables import number, pipe_table
from vae_helpers.study import torch_threads

from .race import SPEC
from .setup import Setup
from .timing import ROOT, in_fresh_process, peak_mib, seconds, spread

IMPORTS = """
import time
t0 = time.perf_counter(); import torch
t1 = time.perf_counter(); import vae_helpers
t2 = time.perf_counter()
from vae_helpers import TrainSettings, VAE3Layer, image_losses, load_data, train, train_study
t3 = time.perf_counter()
print(t1 - t0, t2 - t1, t3 - t1)
"""
IWAE_IMAGES = 100
KS = (10, 100, 1_000, 5_000)


def measure(setup: Setup) -> dict:
    images = setup.data.test.floats()
    model = SPEC.build(0)
    repetitions = 1 if setup.quick else 3
    evaluation = {}
    for threads in setup.threads:
        with torch_threads(threads):
            image_losses(model, images[:1000])
            times = [seconds(lambda: image_losses(model, images)) for _ in range(repetitions)]
        evaluation[str(threads)] = spread(times)
    ks = KS[:2] if setup.quick else KS
    bounds = {str(k): in_fresh_process("benchmarks.small_costs", {"k": k}) for k in ks}
    return {"imports": _imports(repetitions), "evaluation": evaluation, "images": len(images),
            "iwae": bounds}  # fmt: skip


def _imports(repetitions: int) -> dict:
    """Seconds of `import torch` and, after it, of the package and of its training interface."""
    runs = []
    for _ in range(repetitions + 1):
        done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True,
                              stdout=subprocess.PIPE)  # fmt: skip
        runs.append([float(value) for value in done.stdout.split()])
    names = ("torch", "vae_helpers", "with training, data and study")
    # the first run reads the files from disk and is left out
    return {name: spread([run[i] for run in runs[1:]]) for i, name in enumerate(names)}


def measure_iwae(k: int) -> dict:
    """Seconds and peak MiB above that before the call, for `k` draws of IWAE_IMAGES images."""
    torch.set_num_threads(1)
    model = SPEC.build(0)
    images = torch.rand(IWAE_IMAGES, 784, generator=torch.Generator().manual_seed(0))
    image_losses(model, images)
    before = peak_mib()
    taken = seconds(lambda: iwae_bounds(model, images, (k,)))
    return {"seconds": taken, "mib": peak_mib() - before}


def report(result: dict) -> str:
    imports = [[f"import {name}", number(s["median"]), number(s["low"]), number(s["high"])]
               for name, s in result["imports"].items()]  # fmt: skip
    for threads, s in result["evaluation"].items():
        imports.append([f"ELBO of {result['images']:,} images, one draw, {threads} thread(s)",
                        number(s["median"]), number(s["low"]), number(s["high"])])  # fmt: skip
    iwae = [[f"{int(k):,}", number(p["seconds"]), number(p["mib"], 0)]
            for k, p in result["iwae"].items()]  # fmt: skip
    return (
        f"{pipe_table(['', 'Seconds', 'Lowest', 'Highest'], imports)}\n\n"
        "The imports of vae_helpers are counted after torch's own.\n\n"
        f"Importance-weighted bound of {IWAE_IMAGES} images, one thread:\n\n"
        f"{pipe_table(['Draws k', 'Seconds', 'Peak MiB added'], iwae)}\n\n"
        "Latents are decoded at most 4,000 at a time, so beyond that only the k log-weights per "
        "image grow."
    )


if __name__ == "__main__":
    print(json.dumps(measure_iwae(**json.loads(sys.argv[1]))))
