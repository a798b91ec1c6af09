"""Tables as plain values: a heading and rows of cells that name what they show of the results.

A cell is a text in which `{path}` stands for a value of the results (see `look_up`), so that a
stored table can be rendered again from results.json and compared with what the notebook shows:

    {a.test_loss.verdict}       the value as it is
    {baselines.pca-20.test:1}   a number of one decimal; of measured values, the mean
    {vae3-400-20.test_loss:1±}  mean ± standard deviation over seeds
    {a.test_loss:1[]}           the interval of a difference, low to high
    {ae-400-20.bound:1?}        a dash where the results have no such value

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
SECTIONS = ("models", "comparisons", "rankings", "recipes")  # whose names may begin a path
SAMPLERS = {"": "$N(0, I)$", "gaussian": "Gaussian", "mixture": "mixture"}
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
        rows = [[_VALUE.sub(lambda m: _shown(results, m), cell) for cell in r] for r in self.rows]
        return pipe_table(self.header, rows)


def model_table(
    ids: Sequence[str], columns: Sequence[str], *, ranking: str = "", extra: Sequence = ()
) -> Table:
    """One row per model (id): mean ± standard deviation of every column (name in `COLUMNS`).

    With the name of a `ranking`, also the difference of its first column to the best model, with
    the joint interval. `extra` rows are put below as they are.
    """
    ranked = columns[0] if ranking else None
    header = ["Model", *(_heading(name) for name in columns)]
    rows = []
    for model in ids:
        row = [f"{{{model}.label}}"]
        row += [f"{{{model}.{name}:{COLUMNS[name].decimals}{PLUS_MINUS}?}}" for name in columns]
        if ranked:
            difference = f"{ranking}.{model}.{ranked}:{COLUMNS[ranked].decimals}"
            row += [f"{{{difference}?}}", f"{{{difference}[]?}}"]
        rows.append(row)
    header += ["Minus best", "Interval"] if ranked else []
    return Table(header, [*rows, *map(list, extra)])


def difference_table(comparison: str, columns: Sequence[str]) -> Table:
    """One row per column (name in `COLUMNS`): difference, 95 % interval, verdict."""
    rows = []
    for name in columns:
        heading, path, decimals = _heading(name), f"{comparison}.{name}", COLUMNS[name].decimals
        rows.append([heading, f"{{{path}:{decimals}}}", f"{{{path}:{decimals}[]}}",
                     f"{{{path}.verdict}}"])  # fmt: skip
    return Table(["", "Difference", "95 % interval", "Verdict"], rows)


def sampler_table(
    ids: Sequence[str],
    columns: Sequence[str] = ("frechet", "precision", "recall"),
    samplers: Sequence[str] = tuple(SAMPLERS),
    extra: Sequence = (),
) -> Table:
    """One row per model (id) and sampler: mean ± sd of columns; "_gaussian" ... are appended."""
    rows = []
    for model in ids:
        for sampler in samplers:
            names = [f"{name}_{sampler}" if sampler else name for name in columns]
            rows.append([f"{{{model}.label}}", SAMPLERS[sampler]]
                        + [f"{{{model}.{name}:{COLUMNS[name].decimals}{PLUS_MINUS}?}}"
                           for name in names])  # fmt: skip
    header = ["Model", "Sampler", *(_heading(name) for name in columns)]
    return Table(header, [*rows, *map(list, extra)])


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown pipe table: first column left-aligned, the others right-aligned."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
             for r in [header, *rows]]  # fmt: skip
    rule = ["-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)]
    return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:]])


def number(value: float, decimals: int = 2) -> str:
    """Fixed decimals with a true minus sign."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.lstrip("-")


def look_up(results: dict, path: str):
    """The value at a dotted path of the results; of measured values their mean.

    A path may begin with a model's id ("vae3-400-20.test_loss.sd"), a comparison's, ranking's or
    recipe's name ("a.test_loss.verdict"), or at the top ("settings.epochs"). Raises KeyError
    naming the missing part.
    """
    value = _at(results, path)
    return value["mean"] if isinstance(value, dict) and "mean" in value else value


def _at(results: dict, path: str):
    """As `look_up`, with measured values as the dict that they are stored in."""
    roots = [results.get(section, {}) for section in SECTIONS]
    parts, missing = path.strip().split("."), ""
    for value in [*roots, results]:
        for i, part in enumerate(parts):
            if not isinstance(value, dict) or part not in value:
                missing = part if i or not missing else missing
                break
            value = value[part]
        else:
            return value
    raise KeyError(f"results have no '{path.strip()}' (stopped at '{missing or parts[0]}')")


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
        decimals = _enough(decimals, value["high"] - value["low"])
    if match["form"] == "[]":
        return f"{number(value['low'], decimals)} to {number(value['high'], decimals)}"
    sd = f" {PLUS_MINUS} {number(value['sd'], decimals)}" if match["form"] else ""
    return number(value["mean"], decimals) + sd


def _enough(decimals: int, width: float) -> int:
    """So many decimals that an interval of this width is at least two units of the last one."""
    needed = math.ceil(math.log10(2 / width) - 1e-9) if 0 < width < math.inf else decimals
    return min(max(decimals, needed), 9)


def _heading(name: str) -> str:
    if name not in COLUMNS:
        raise ValueError(f"no column {name!r}; there are {', '.join(COLUMNS)}")
    return COLUMNS[name].heading
