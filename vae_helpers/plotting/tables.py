"""Tables as plain values: a heading and rows of cells that name what they show of the results.

A cell is a text in which `{path}` stands for a value of the results (see `look_up`), so that a
stored table can be rendered again from results.json and compared with what the notebook shows:

    {a.test_loss.verdict}       the value as it is
    {ae-400-50.test_loss:1}     a number of one decimal; of measured values, the mean
    {vae3-400-20.test_loss:1±}  mean ± standard deviation over seeds
    {a.test_loss:1[]}           the interval of a difference, low to high
    {ae-400-50.bound:1?}        a dash where the results have no such value

Differences get more decimals where their interval needs them to be told from zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..measures.columns import COLUMNS

DASH = "\u2013"
MINUS = "\u2212"
PLUS_MINUS = "\u00b1"
SECTIONS = ("models", "comparisons", "rankings")  # whose names may begin a path
_VALUE = re.compile(
    r"\{(?P<path>[^{}:]+)(?::(?P<decimals>\d)(?P<form>\u00b1|\[\])?(?P<may_lack>\?)?)?\}"
)


@dataclass(frozen=True)
class Table:
    """header: column headings; rows: cells as the module describes them. JSON-able by `asdict`."""

    header: list[str]
    rows: list[list[str]]

    def markdown(self, results: dict) -> str:
        """The pipe table of these results. Raises KeyError for a path that they do not have."""
        header, *rows = [
            [
                _VALUE.sub(lambda m: _shown(results, m), cell).replace(f"{DASH} ({DASH})", DASH)
                for cell in row
            ]
            for row in (self.header, *self.rows)
        ]
        return pipe_table(header, rows)


def model_table(ids: Sequence[str], columns: Sequence[str], ranking: str) -> Table:
    """One row per model (id): mean ± standard deviation of every column (name in `COLUMNS`).

    A column followed by "-mean" shows the mean alone; one followed by "-best" is the difference to
    the best model of the ranking of this name, with its joint interval.
    """
    header, cells = ["Model"], ["{%s.label}"]
    for column, _, kind in (column.partition("-") for column in columns):
        heading, decimals = COLUMNS[column].heading, COLUMNS[column].decimals
        header.append(f"{heading} minus best" if kind == "best" else heading)
        if kind == "best":
            path = f"{ranking}.%s.{column}:{decimals}"
            cells.append(f"{{{path}?}} ({{{path}[]?}})")
        else:  # a dash where a model has no such column, as an autoencoder has no bound
            cells.append(f"{{%s.{column}:{decimals}{'' if kind else PLUS_MINUS}?}}")
    return Table(header, [[cell.replace("%s", model) for cell in cells] for model in ids])


def comparison_table(name: str, first: str, second: str, columns: Sequence[str]) -> Table:
    """One row per column (name in `COLUMNS`): both models, second minus first, its interval.

    name: of the comparison; first, second: model ids.
    """
    rows = []
    for column in columns:
        decimals = COLUMNS[column].decimals
        paths = (f"{first}.{column}", f"{second}.{column}", f"{name}.{column}")
        rows.append(
            [
                COLUMNS[column].heading,
                *(f"{{{path}:{decimals}}}" for path in paths),
                f"{{{paths[-1]}:{decimals}[]}}",
            ]
        )
    header = ["", f"{{{first}.label}}", f"{{{second}.label}}", "Difference", "95 % interval"]
    return Table(header, rows)


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown pipe table: first column left-aligned, the others right-aligned."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
        for r in [header, *rows]
    ]
    rule = ["-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)]
    return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:]])


def number(value: float, decimals: int = 2) -> str:
    """Fixed decimals with a true minus sign."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.lstrip("-")


def look_up(results: dict, path: str):
    """The value at a dotted path of the results; of measured values their mean.

    A path may begin with a model's id ("vae3-400-20.test_loss.sd"), a comparison's or ranking's
    name ("a.test_loss.verdict"), or at the top ("settings.epochs"). Raises KeyError naming the
    missing part.
    """
    value = _at(results, path)
    return value["mean"] if isinstance(value, dict) and "mean" in value else value


def _at(results: dict, path: str):
    """As `look_up`, with measured values as the dict that they are stored in."""
    first, *rest = path.strip().split(".")
    sections = [results.get(name, {}) for name in SECTIONS]
    value = next((section for section in sections if first in section), results)
    for part in (first, *rest):
        if not isinstance(value, dict) or part not in value:
            raise KeyError(f"results have no '{path.strip()}' (stopped at '{part}')")
        value = value[part]
    return value


def _shown(results: dict, match: re.Match) -> str:
    """What stands in a cell for one `{path...}`."""
    try:
        value = _at(results, match["path"])
    except KeyError:
        if match["may_lack"]:
            return DASH
        raise
    if match["decimals"] is None:
        return str(value)
    decimals = int(match["decimals"])
    if not isinstance(value, dict):
        return number(value, decimals)
    if "low" in value:
        decimals = _enough(decimals, value["low"], value["high"])
    if match["form"] == "[]" and value["low"] == value["high"]:
        return DASH  # all seeds agree: no interval can be told
    if match["form"] == "[]":
        return f"{number(value['low'], decimals)} to {number(value['high'], decimals)}"
    sd = f" {PLUS_MINUS} {number(value['sd'], decimals)}" if match["form"] else ""
    return number(value["mean"], decimals) + sd


def _enough(decimals: int, low: float, high: float) -> int:
    """So many decimals that the interval has a width and no limit but zero itself reads as zero."""
    sizes = (abs(low), abs(high), (high - low) / 4)  # a width of two units of the last decimal
    needed = [-math.log10(2 * size) - 1e-9 for size in sizes if size]
    return min(max(decimals, math.ceil(max(needed, default=0))), 9)
