"""`python -m benchmarks`: every measurement in one run, then results.json and README.md.

`--quick` only sees that everything runs: few small images, results printed and not kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from . import growth, loss, parallel, race, small_costs, speed, stacking, step_profile, targets
from .output import machine, write
from .setup import Setup, full_setup, quick_setup

SECTIONS = {
    "speed": ("Time per epoch", speed),
    "race": ("Time to the reference's loss", race),
    "loss": ("The loss alone", loss),
    "profile": ("Where a step's time goes", step_profile),
    "parallel": ("Threads or processes", parallel),
    "growth": ("How cost grows", growth),
    "small costs": ("Import, evaluation, memory of the bound", small_costs),
    "stacking": ("Seeds stacked, on a CPU", stacking),
}


def run(setup: Setup) -> dict:
    """The results of every section, the targets, and under what conditions they were measured."""
    load = os.getloadavg()[0]
    started = time.perf_counter()
    results = {"machine": machine(), "load before": load, "data": setup.data.name}
    for name, (title, section) in SECTIONS.items():
        print(f"{time.perf_counter() - started:5.0f} s  {title}", file=sys.stderr, flush=True)
        results[name] = section.measure(setup)
        # at once, so that a run which is cut short leaves what it measured
        print(f"### {title}\n\n{section.report(results[name])}\n", flush=True)
    results["targets"] = targets.targets(results)
    results["minutes"] = (time.perf_counter() - started) / 60
    return results


def report(results: dict) -> str:
    parts = [
        f"Machine: {results['machine']}; load average before the run "
        f"{results['load before']:.2f}; data: {results['data']}; "
        f"the run took {results['minutes']:.1f} minutes.",
        f"### Targets\n\n{targets.report(results['targets'])}\n\n{targets.bounds(results)}",
    ]
    for name, (title, section) in SECTIONS.items():
        parts.append(f"### {title}\n\n{section.report(results[name])}")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see that it runs; keep nothing")
    quick = parser.parse_args().quick
    results = run(quick_setup() if quick else full_setup())
    print(f"### Targets\n\n{targets.report(results['targets'])}")
    if not quick:
        write("results", results, report(results))


if __name__ == "__main__":
    main()
