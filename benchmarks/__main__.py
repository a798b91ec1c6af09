"""`python -m benchmarks`: measure, keep in results.json, write the page README.md."""

import argparse
import json
import os
import statistics
from pathlib import Path

import torch

from vae_helpers import load_data
from vae_helpers.engine.files import write_atomic
from vae_helpers.plotting.tables import pipe_table
from vae_helpers.study import QUICK, SHORT

from . import speed

FOLDER = Path(__file__).parent
MARKER = "<!-- below: written by python -m benchmarks -->"
TARGETS = [  # part, name, at least (or at most, if negative)
    ("fresh", "usual / equal", 4.5),
    ("fresh", "usual / three layers", 7),
    ("late", "usual / ours", 8),
    ("study", "3 seeds (min)", -65),
    ("study", "short (min)", -8),
    ("study", "measuring / whole", -0.2),
]


def page(results: dict) -> str:
    rows = []
    for part, name, bound in TARGETS:
        values = results[part]["values"][name]
        met = statistics.median(values) >= bound if bound > 0 else max(values) <= -bound
        # others on the cores slow the usual loop's threads most, which would flatter ours
        told = "not quiet" if "**not**" in results[part]["told"] else ("no", "yes")[met]
        bound = f"{'>=' if bound > 0 else '<='} {abs(bound):g}"
        rows.append([f"{part}: {name}", bound, *_cells(values), told])
    parts = [MARKER, pipe_table(["Target", "Bound", "Median", "Range", "Met"], rows)]
    for title, found in results.items():
        rows = [[name, *_cells(values)] for name, values in found["values"].items()]
        parts += [f"## {title}", pipe_table(["", "Median", "Range"], rows)]
        parts += [pipe_table(table[0], table[1:]) for table in found.get("tables", [])]
        parts += [found["note"], found["told"]]
    return "\n\n".join(parts) + "\n"


def _cells(values: list[float]) -> list[str]:
    several = f"{min(values):,.2f} to {max(values):,.2f}" if len(values) > 1 else ""
    return [f"{statistics.median(values):,.2f}", several]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see that it runs; keep nothing")
    quick, before = parser.parse_args(arguments).quick, os.getloadavg()[0]
    data = load_data("stand-in" if quick else "real")
    turns, late_epochs, preset = (2, 2, QUICK) if quick else (5, 30, SHORT)
    cpu = ", ".join(Path("/proc/cpuinfo").read_text().replace("\t", "").splitlines()[2:5])
    machine = f"{speed.CORES} cores ({cpu}), PyTorch {torch.__version__}"
    results: dict[str, dict] = {}
    for name, function in {
        "fresh": lambda: speed.fresh(data, turns),
        "late": lambda: speed.late(data, turns, late_epochs),
        "study": lambda: speed.study(data, preset, results["fresh"]["values"]),
    }.items():
        seconds, results[name] = speed.timed(function)
        after = os.getloadavg()[0]  # by then our own processes count, at most one per core
        quiet = before <= 0.5 and after <= speed.CORES + 0.5
        results[name]["told"] = (
            f"{machine}; {len(data.train):,} images; {seconds / 60:.1f} minutes; load average at "
            f"the start {before:.2f}, after {after:.2f}: {'' if quiet else '**not** '}quiet."
        )
    if not quick:
        write_atomic(FOLDER / "results.json", (json.dumps(results, indent=1) + "\n").encode())
        head = (FOLDER / "README.md").read_text(encoding="utf-8").partition(MARKER)[0]
        write_atomic(FOLDER / "README.md", (head + page(results)).encode())
    print(page(results))


if __name__ == "__main__":
    main()
