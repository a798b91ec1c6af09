"""`python -m benchmarks [name ...]`: measure, keep in results.json, write the page README.md."""

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from vae_helpers.data import load_data
from vae_helpers.engine.files import write_atomic
from vae_helpers.plotting.tables import pipe_table

from . import speed, whole
from .speed import Setup

FOLDER = Path(__file__).parent
MARKER = "<!-- below: written by python -m benchmarks -->"
TARGETS = [  # measurement, kind, name, at least (or at most, if negative)
    ("throughput", "ratios", "usual / equal", 4.5),
    ("throughput", "ratios", "usual / equal", 6),
    ("race", "ratios", "usual / alone", 10),
    ("plateau", "ratios", "usual / alone", 20),
    ("study", "ratios", "measuring / whole", -0.2),
    ("study", "gigabytes", "quick", -2),
]
MEASUREMENTS = {
    "epoch": speed.epoch,
    "throughput": speed.throughput,
    "race": partial(speed.race, usual_epochs=15),
    "growth": speed.growth,
    "study": lambda setup: whole.study(setup.quick),
    "plateau": partial(speed.race, usual_epochs=200),
}


def measured(name: str, setup: Setup, load_at_start: float) -> dict:
    """The result, with where and how long it ran and whether the cores were free for it."""
    cpu = Path("/proc/cpuinfo").read_text().split("\n\n")[0].replace("\t", "").splitlines()
    cpu = ", ".join(line for line in cpu if line.startswith(("model", "cpu family")))
    machine = (
        f"{os.cpu_count()} cores ({cpu}), PyTorch {torch.__version__} of "
        f"{torch.get_num_threads()} threads"
    )
    started, found = time.time(), MEASUREMENTS[name](setup)
    load = os.getloadavg()[0]  # by then our own processes count, at most one per core
    quiet = load_at_start <= 0.5 and load <= os.cpu_count() + 0.5
    return found | {
        "machine": machine,
        "images": len(setup.arrays[0]),
        "quiet": quiet,
        "load": [load_at_start, load],
        "minutes": (time.time() - started) / 60,
    }


def page(results: dict) -> str:
    rows = [["Target", "Bound", "Median", "Range", "Met"]]
    for part, kind, name, bound in TARGETS:
        at, cells = results.get(part, {}).get(kind, {}).get(name), ["", "", "not measured"]
        if at is not None:
            met = at["median"] >= bound if bound > 0 else at["median"] <= -bound
            met = met and results[part].get("reached", True)
            # others on the cores slow the usual loop's threads most, which would flatter ours
            cells = [*_cells(at), ("no", "yes")[met] if results[part]["quiet"] else "not quiet"]
        rows.append([f"{part}: {name}", f"{'>=' if bound > 0 else '<='} {abs(bound):g}", *cells])
    parts = [MARKER, pipe_table(rows[0], rows[1:])]
    for title in [name for name in MEASUREMENTS if name in results]:
        found, rows = results[title], [["", "Median", "Range"]]
        for kind, unit in [("seconds", " (s)"), ("gigabytes", " (GB)"), ("ratios", "")]:
            rows += [[name + unit, *_cells(value)] for name, value in found.get(kind, {}).items()]
        tables = [
            pipe_table(shown[0], shown[1:])
            for shown in (rows, found.get("table"))
            if shown and len(shown) > 1
        ]
        load = " and ".join(f"{value:.2f}" for value in found["load"])
        told = (
            f"{found['machine']}; {found['images']:,} images; {found['minutes']:.1f} minutes; "
            f"load average at the start and after {load}"
            f"{'' if found['quiet'] else ': **not quiet**'}."
        )
        parts += [f"## {title}", *tables, *filter(None, [found.get("note")]), told]
    return "\n\n".join(parts) + "\n"


def _cells(value: dict) -> list[str]:
    low, median, high = (f"{value[key]:,.2f}" for key in ("low", "median", "high"))
    return [median, f"{low} to {high}" if value["low"] < value["high"] else ""]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEASUREMENTS)}")
    parser.add_argument("--quick", action="store_true", help="see that it runs; keep nothing")
    given, load_at_start = parser.parse_args(arguments), os.getloadavg()[0]
    if not set(given.names) <= set(MEASUREMENTS):
        parser.error(f"names are {', '.join(MEASUREMENTS)}")
    data = load_data("stand-in" if given.quick else "real")
    arrays = [
        split.images.numpy()[: 640 if given.quick else None]
        for split in (data.train, data.validation, data.test)
    ]
    stored, readme = FOLDER / "results.json", FOLDER / "README.md"
    results = json.loads(stored.read_text(encoding="utf-8")) if not given.quick else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary if given.quick else "runs/benchmarks")
        setup = Setup(arrays, 2 if given.quick else 5, folder, given.quick)
        for name in given.names or [n for n in MEASUREMENTS if n != "plateau" or given.quick]:
            print(f"{name} ...", flush=True)
            results[name] = measured(name, setup, load_at_start)
            if not given.quick:  # at once: what is cut short leaves what it measured
                write_atomic(stored, (json.dumps(results, indent=1) + "\n").encode())
                head = readme.read_text(encoding="utf-8").partition(MARKER)[0]
                write_atomic(readme, (head + page(results)).encode())
    print(page(results))


if __name__ == "__main__":
    main()
