"""The whole study from nothing: how its time divides, and the memory of all its processes."""

import contextlib
import subprocess
import sys
import tempfile
import time

import psutil

from report.tools.recipes import KINDS, OTHERS
from vae_helpers import AutoEncoder, Study, load_data
from vae_helpers.measures.columns import MEASUREMENTS
from vae_helpers.study import RECIPE, SEEDS

from . import spread

TORCH_ALONE = """
import torch
layer = torch.nn.Linear(1, 1)
optimizer = torch.optim.Adam(layer.parameters(), fused=True)
layer(torch.ones(1, 1)).sum().backward()
optimizer.step()
print(flush=True), input()
"""


def study(quick: bool) -> dict:
    """Seconds of the full study, from those of a short one; gigabytes at the peak of a quick one.

    "torch alone": as many processes, of which each takes one step of Adam and no more.
    """
    modes, memory = ["quick"] if quick else ["quick", "short"], {}
    for mode in modes:
        command = [sys.executable, "-m", "benchmarks.whole", mode, "stand-in" if quick else "real"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        memory[mode] = peak_memory([run], until=run)
        training, measuring, runs, seeds = map(float, run.stdout.read().split())
    bare = [
        subprocess.Popen(
            [sys.executable, "-c", TORCH_ALONE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in bare:
        process.stdout.readline()
    memory["torch alone"] = peak_memory(bare)
    for process in bare:
        process.communicate("\n")
    seconds = {
        "training": training * SEEDS * RECIPE.epochs / runs,
        "measuring": measuring * SEEDS / seeds,
    }
    share = seconds["measuring"] / sum(seconds.values())
    note = (
        f"From nothing, {runs:.0f} epochs of every model (the full study has "
        f"{SEEDS * RECIPE.epochs}) took {training:.0f} s; measuring {seeds:.0f} seeds of every "
        f"model (it has {SEEDS}) took {measuring:.0f} s. The seconds above follow from these."
    )
    found = {"seconds": seconds, "gigabytes": memory, "ratios": {"measuring / whole": share}}
    found = {
        kind: {name: spread([value]) for name, value in values.items()}
        for kind, values in found.items()
    }
    return found | {"note": note}


def peak_memory(processes: list, until=None) -> float:
    """Gigabytes of processes and their children, now or their peak; what they share counts once."""
    peak = 0
    while True:
        with contextlib.suppress(psutil.Error):  # a process that has just ended
            roots = [psutil.Process(process.pid) for process in processes]
            family = [p for root in roots for p in (root, *root.children(recursive=True))]
            peak = max(peak, sum(p.memory_full_info().pss for p in family))
        if until is None or until.poll() is not None:
            return peak / 1e9
        time.sleep(0.2)


def main(mode: str, data: str) -> None:
    """Train and measure all models of the study; print the seconds of both, epochs and seeds."""
    models = [*KINDS, *OTHERS]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(load_data(data), folder=folder, **{mode: True})
        started = time.perf_counter()
        study.train(*models)
        trained = time.perf_counter()
        for measurement in MEASUREMENTS:
            bounded = [m for m in models if not isinstance(m, AutoEncoder)]
            study.values(measurement, *(bounded if measurement == "bound" else models))
        ended = time.perf_counter()
    print(
        trained - started, ended - trained, len(study.seeds) * study.recipe.epochs, len(study.seeds)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
