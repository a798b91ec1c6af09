"""The targets, each with its measured ratio."""

from __future__ import annotations

import math

from vae_helpers.plotting.tables import number, pipe_table

from .setup import BATCH
from .step_profile import REST


def targets(results: dict) -> list[dict]:
    """What is to hold, its measured ratio and spread, and whether the median holds it."""
    found = []
    for threads, speed in results["speed"]["threads"].items():
        at = f"per epoch, {threads} thread(s)"
        found += [
            _target(f"(a) / (b) {at}", ">=", 4, speed["reference / ours"]),
            _target(f"(b) / (c) {at}", "<=", 1.6, speed["ours / floor"]),
            _target(f"(b) / the same products by torch.mm {at}", "<=", 1.6,
                    speed["ours / torch floor"]),
        ]
    race = results["race"]
    found.append(_target("time to the reference's 15-epoch test loss, (a) / ours", ">=", 10,
                         race["reference / ours"], race["reached"]))  # fmt: skip
    for threads, seconds in results["small costs"]["evaluation"].items():
        name = f"seconds to evaluate 10,000 images, {threads} thread(s)"
        found.append(_target(name, "<=", 1, seconds))
    return found


def _target(name: str, relation: str, bound: float, measured: dict, condition=True) -> dict:
    median = measured["median"]
    holds = condition and (median >= bound if relation == ">=" else median <= bound)
    return {"name": name, "target": f"{relation} {bound:g}", "measured": measured,
            "holds": bool(holds)}  # fmt: skip


def report(found: list[dict]) -> str:
    rows = []
    for target in found:
        m = target["measured"]
        rows.append([target["name"], target["target"], number(m["median"]),
                     f"{number(m['low'])} to {number(m['high'])}",
                     "yes" if target["holds"] else "no"])  # fmt: skip
    return pipe_table(["Ratio", "Target", "Median", "Range", "Holds"], rows)


def bounds(results: dict) -> str:
    """What stands between (b) and its targets: the parts of a step, on one thread.

    Empty if all targets hold.
    """
    if all(target["holds"] for target in results["targets"]):
        return ""
    seconds = results["speed"]["threads"]["1"]["seconds"]
    over_torch = results["speed"]["threads"]["1"]["ours / torch floor"]
    steps = math.ceil(results["speed"]["images"] / BATCH)
    usual, products = (1000 * seconds[name]["median"] / steps for name in ("reference", "floor"))
    parts = {name: share * results["profile"]["milliseconds"]
             for name, share in results["profile"]["shares"].items()}  # fmt: skip
    passes = sum(ms for name, ms in parts.items() if name not in ("matrix products", REST))
    return (
        f"What bounds it: on one thread a step of (a) takes {number(usual)} ms, so a factor of 4 "
        f"leaves (b) {number(usual / 4)} ms, and 1.6 times (c) is {number(1.6 * products)} ms. The "
        f"products take {number(products)} ms, and by the profile below the passes over single "
        f"elements, Adam and the images {number(passes)} ms: {number(products + passes)} ms, "
        f"before autograd's and Python's own {number(parts[REST])} ms. Both targets need fewer "
        "operations than eager PyTorch has for this step, as a compiled one would; that needs a "
        "C++ compiler on the user's machine and is not done. Over the products by torch.mm, which "
        f"is what a user of nn.Linear gets, (b) takes {number(over_torch['median'])} times as long."
    )
