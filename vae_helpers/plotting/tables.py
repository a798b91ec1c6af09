"""Tables as Markdown: numbers with their uncertainty, differences with their intervals.

Differences get more decimals where their interval needs them to be told from zero, and fewer where
it is wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..measures.columns import Column
from ..measures.statistics import Difference

DASH = "\u2013"
MINUS = "\u2212"
PLUS_MINUS = "\u00b1"


class Table(str):
    """A Markdown pipe table, which a notebook shows as one; about: what it was made from."""

    about = None

    def _repr_markdown_(self) -> str:
        return str(self)


def comparison_table(
    labels: tuple[str, str], rows: Sequence[tuple[Column, dict, dict, Difference | None]]
) -> Table:
    """One row per column: two models' summaries, and the second's difference to the first.

    labels: of the two models, the first being the one that is compared with.
    """
    cells = [
        [
            column.heading,
            _mean(first, column.decimals),
            _mean(second, column.decimals),
            *_difference(difference, column.decimals),
        ]
        for column, first, second, difference in rows
    ]
    return pipe_table(["", *labels, "Difference", "95 % interval"], cells)


def ranking_table(
    labels: Sequence[str], columns: Sequence[tuple[Column, str, Sequence[dict | Difference | None]]]
) -> Table:
    """One row per model, one table column per (column, form, a value for every model).

    form: "" for mean ± standard deviation, "mean" for the mean alone, otherwise what the
    differences are to, "best" or "baseline".
    """
    header, cells = ["Model"], [[label] for label in labels]
    for column, form, values in columns:
        is_mean = form in ("", "mean")
        header.append(column.heading + ("" if is_mean else f" minus {form}"))
        for row, value in zip(cells, values, strict=True):
            if not is_mean:
                difference, interval = _difference(value, column.decimals)
                row.append(DASH if value is None else f"{difference} ({interval})")
            else:
                row.append(_mean(value, column.decimals, spread=form == ""))
    return pipe_table(header, cells)


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A Markdown pipe table: first column left-aligned, the others right-aligned."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
        for r in [header, *rows]
    ]
    rule = ["-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)]
    return Table("\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:]]))


def number(value: float, decimals: int = 2) -> str:
    """Fixed decimals with a true minus sign."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.lstrip("-")


def _mean(summary: Mapping | None, decimals: int, spread: bool = False) -> str:
    """The mean of a `statistics.summary`, with the standard deviation over seeds if `spread`."""
    if not summary:
        return DASH
    text = number(summary["mean"], decimals)
    return f"{text} {PLUS_MINUS} {number(summary['sd'], decimals)}" if spread else text


def _difference(difference: Difference | None, decimals: int) -> tuple[str, str]:
    """A difference and its interval, low to high; dashes where there is none."""
    if difference is None:
        return DASH, DASH
    mean, low, high = difference.mean, difference.low, difference.high
    decimals = _enough(decimals, low, high)
    if low == high:
        return number(mean, decimals), DASH  # all seeds agree: no interval can be told
    return number(mean, decimals), f"{number(low, decimals)} to {number(high, decimals)}"


def _enough(decimals: int, low: float, high: float) -> int:
    """So many decimals that the interval has a width and no limit but zero itself reads as zero;
    fewer than asked for where the interval is tens or hundreds wide."""
    sizes = (abs(low), abs(high), (high - low) / 4)  # a width of two units of the last decimal
    needed = [-math.log10(2 * size) - 1e-9 for size in sizes if size]
    told = decimals - sum(high - low >= 10 * limit for limit in (1, 10))
    return min(max(told, 0, math.ceil(max(needed, default=0))), 9)
