"""The targets, each with its measured ratio."""

from __future__ import annotations

from vae_helpers.tables import number, pipe_table


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
