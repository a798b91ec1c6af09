"""Seconds, ratios with their spread, peak memory, and measurements in a fresh process."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def in_turns(functions: dict[str, Callable], repetitions: int) -> dict[str, list[float]]:
    """Seconds of every function, `repetitions` times.

    They are called in turns, so that a machine that slows down meets all of them alike.
    """
    times = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return times


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest value."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Spread of the ratios above / below, repetition by repetition."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def peak_mib() -> float:
    """Peak resident memory of this process so far, in MiB (Linux).

    From /proc, because getrusage's value is inherited from the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def in_fresh_process(module: str, arguments: dict) -> dict:
    """What `python -m module` prints as JSON when it is given `arguments` as JSON."""
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)
