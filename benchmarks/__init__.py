"""How fast the study is: `python -m benchmarks` from the repository's root; README.md has it."""

import statistics


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}
