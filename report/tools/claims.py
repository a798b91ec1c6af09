"""Checked prose: every number and every ordering in the notebook's text against results.json.

A measured number carries its source in an HTML comment, which no renderer shows:

    The fourth layer saves 1.07<!--|comparisons.a.total.mean|--> nats per image.

`|path|` is the absolute value and `path*100` a percentage. A sentence that orders or decides
something carries a check that can fail:

    Four layers have the lower loss<!--check: comparisons.a.total.verdict == lower-->.

`python -m report.tools.claims` lists the sentences that no longer hold, e.g. after a run on another
machine; `--update` rewrites the numbers (never the checks) from the results.
"""

from __future__ import annotations

import argparse
import json
import operator
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from vae_helpers.engine.files import write_atomic
from vae_helpers.plotting import tables

NUMBER = r"[+\u2212-]?\d[\d,]*(?:\.\d+)?"
CLAIM = re.compile(rf"(?P<number>{NUMBER})<!--(?P<source>[^>:]+)-->")
CHECK = re.compile(r"<!--check:(?P<check>.+?)-->")
# Names, not measurements: what may stand in the text without a source.
NAMES = [
    r"\$\$.*?\$\$", r"\$[^$]+\$",  # formulas
    r"```.*?```", r"`[^`]+`",  # code
    r"\]\([^)]*\)", r"<https?://[^>]*>",  # link targets
    r"\(\d+(?:, \d+)*\)",  # architectures such as (400, 20), years
    r"\d+(?:-\d+)+", r"\d+-layer", r"\d+x\d+",  # 784-400-20, 4-layer, 28x28
    r"(?:Figures?|Tables?|Sections?|eq\.|Task)\s+\d+(?:\.\d+)*(?:(?:,| and| to) \d+(?:\.\d+)*)*",
    r"\b(?:9[059]|98) %",  # confidence levels
    r"arXiv:\d+\.\d+", r"^#+ [\d.]+", r"^\d+\.(?=\s|$)", r"\[\d+\]",  # references, headings, lists
]  # fmt: skip
ORDERING = re.compile(
    r"\b(lower|higher|better|worse|best|worst|larger|smaller|fewer|closer|sharper|ties?|tied)\b",
    re.IGNORECASE,
)
OPERATORS = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A sentence that does not hold, where it stands, and why."""

    where: str
    sentence: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}\n    {self.sentence}"


def look_up(results: dict, path: str):
    """The value at a dotted path of the results. Raises KeyError naming the missing part."""
    value = results
    for part in path.strip().split("."):
        if not isinstance(value, dict) or part not in value:
            raise KeyError(f"results have no '{path.strip()}' (stopped at '{part}')")
        value = value[part]
    return value


def _quantity(results: dict, source: str) -> float:
    """Value of a claim's source: a path, |path| for the absolute value, path*100 for percent."""
    source, _, factor = source.strip().partition("*")
    absolute = source.startswith("|") and source.endswith("|")
    value = float(look_up(results, source.strip("|"))) * float(factor or 1)
    return abs(value) if absolute else value


def format_like(value: float, written: str) -> str:
    """`value` with the decimals, sign style and thousands separators of the text `written`."""
    decimals = len(written.partition(".")[2])
    text = f"{abs(round(value, decimals)):{',' if ',' in written else ''}.{decimals}f}"
    if round(value, decimals) < 0:
        return "\u2212" + text
    return ("+" if written.startswith("+") else "") + text


def check_number(results: dict, written: str, source: str) -> str:
    """Empty if the number as written is the result at its precision, else what is wrong."""
    try:
        expected = format_like(_quantity(results, source), written)
    except (KeyError, ValueError, TypeError) as error:
        return str(error.args[0])
    if written.replace("-", "\u2212") == expected:
        return ""
    return f"says {written}, the results say {expected} ({source.strip()})"


def check_ordering(results: dict, check: str) -> str:
    """Empty if `left OP right` holds; each side is a path, a number or a word."""
    try:
        left, sign, right = check.split()
        holds = OPERATORS[sign](_operand(results, left), _operand(results, right))
    except (KeyError, ValueError, TypeError) as error:
        return f"cannot evaluate '{check.strip()}': {error}"
    if holds:
        return ""
    return f"'{check.strip()}' does not hold: {_operand(results, left)} {sign} " + str(
        _operand(results, right)
    )


def _operand(results: dict, text: str):
    if re.fullmatch(r"[+-]?\d+(?:\.\d+)?", text):
        return float(text)
    if "." in text:
        return _quantity(results, text) if text.startswith("|") else look_up(results, text)
    return text


def undeclared_numbers(text: str) -> list[str]:
    """Numbers of a Markdown text that are neither claims nor names."""
    text = CHECK.sub("", CLAIM.sub("", text))
    for pattern in NAMES:
        text = re.sub(pattern, " ", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(NUMBER, text)


def check_text(results: dict, text: str, where: str, comparison: bool) -> list[Finding]:
    """Findings in one Markdown cell; in a comparison, also orderings without a check."""
    findings = []
    for sentence in _sentences(text):
        shown = re.sub(r"<!--.*?-->", "", sentence)
        problems = [check_number(results, m["number"], m["source"])
                    for m in CLAIM.finditer(sentence)]  # fmt: skip
        problems += [check_ordering(results, m["check"]) for m in CHECK.finditer(sentence)]
        problems += [f"the number {n} has no source" for n in undeclared_numbers(sentence)]
        findings += [Finding(where, shown, p) for p in problems if p]
    if comparison:
        for paragraph in re.split(r"\n\s*\n", text):
            plain = re.sub(r"<!--.*?-->|^#.*$", "", paragraph, flags=re.MULTILINE)
            if ORDERING.search(plain) and not CHECK.search(paragraph):
                findings.append(Finding(where, plain.strip(), "orders something without a check"))
    return findings


def _sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?])\s+(?=[A-Z*(])|\n\s*\n", text) if s.strip()]


def check_notebook(notebook: dict, results: dict) -> list[Finding]:
    """All findings in a notebook (as JSON): its Markdown cells and its stored tables."""
    findings, outputs, heading = [], [], "top"
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"^#+ (.+)$", source, flags=re.MULTILINE)
            heading = headings[-1] if headings else heading
            comparison = "comparison" in cell["metadata"].get("tags", [])
            findings += check_text(results, source, heading, comparison)
        outputs += ["".join(o["data"]["text/markdown"]) for o in cell.get("outputs", [])
                    if "text/markdown" in o.get("data", {})]  # fmt: skip
    for name, call in results["tables"].items():
        table = tables.render(results, call["function"], call["arguments"])
        if not any(table in output for output in outputs):
            findings.append(Finding(f"table {name}", table.split("\n")[0],
                                    "the stored table does not equal the results"))  # fmt: skip
    return findings


def update_text(results: dict, text: str) -> str:
    """The text with every claimed number rewritten from the results, at the precision written."""
    def rewritten(match):
        number = format_like(_quantity(results, match["source"]), match["number"])
        return f"{number}<!--{match['source']}-->"

    return CLAIM.sub(rewritten, text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebook", nargs="?", default="Task4_Autoencoders.ipynb", type=Path)
    parser.add_argument("results", nargs="?", default="report/results.json", type=Path)
    parser.add_argument("--update", action="store_true", help="rewrite the numbers in the text")
    options = parser.parse_args(arguments)
    notebook = json.loads(options.notebook.read_text(encoding="utf-8"))
    results = json.loads(options.results.read_text(encoding="utf-8"))
    if options.update:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = update_text(results, "".join(cell["source"])).splitlines(True)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        write_atomic(options.notebook, text.encode())
    findings = check_notebook(notebook, results)
    for finding in findings:
        print(finding)
    claims = sum(len(CLAIM.findall("".join(c["source"]))) for c in notebook["cells"])
    checks = sum(len(CHECK.findall("".join(c["source"]))) for c in notebook["cells"])
    print(f"{claims} numbers, {checks} orderings and {len(results['tables'])} tables checked, "
          f"{len(findings)} do not hold")  # fmt: skip
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
