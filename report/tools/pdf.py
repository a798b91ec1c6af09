"""The report: an executed notebook as a PDF without code, built and checked in one LaTeX run."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path

from nbconvert import LatexExporter
from nbformat import NotebookNode
from traitlets.config.loader import PyFileConfigLoader

from . import system as tools

CONFIG = Path(__file__).resolve().parent / "nbconvert_config.py"
MAX_PASSES = 5
MAX_OVERFULL_PT = 2.0
MIN_CODE_LINE = 15  # characters; shorter lines of code ("mu, log_var") may occur in prose
# What Latin Modern, the font of a bare `jupyter nbconvert --to pdf`, has as well.
_SAFE = re.compile(r"[\x00-\u017f\u2010-\u2026\u2192\u2212]*")


class ReportError(RuntimeError):
    """The PDF could not be built, or it shows something that a report must not show."""


@dataclass(frozen=True)
class Pdf:
    """A checked PDF: its bytes and number of pages."""

    content: bytes
    pages: int


def build_pdf(notebook: NotebookNode, name: str = "report") -> Pdf:
    """The notebook's PDF by `report/`'s settings; the notebook itself stays as it is.

    Raises ReportError when LaTeX fails or its log or the PDF's text show a fault: missing
    characters, boxes more than 2 pt too wide, undefined references, lines of code, prompts.
    Raises ToolsMissingError without LaTeX, pandoc or the fonts.
    """
    tools.require()
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        path = Path(folder)
        _export_latex(notebook, name, path)
        log = _run_xelatex(path, _source_date(notebook))
        text = _run(["pdftotext", "-layout", "report.pdf", "-"], path).stdout
        found = log_problems(log) + text_problems(text, notebook) + character_problems(notebook)
        if found:
            raise ReportError("the PDF has faults:\n  " + "\n  ".join(found))
        pages = re.search(r"Output written on .*?\((\d+) pages?", log)
        return Pdf((path / "report.pdf").read_bytes(), int(pages[1]) if pages else 0)


def log_problems(log: str) -> list[str]:
    """Lines of a LaTeX log that mean a visible fault."""
    found = re.findall(r"^Missing character:.*", log, re.MULTILINE)
    found += re.findall(r"^(?:LaTeX|Package \w+) Warning: .* undefined on .*", log, re.MULTILINE)
    box = r"^Overfull \\[hv]box \(([\d.]+)pt too (?:wide|high)\).*(?:\n(?!Overfull).*)?"
    for match in re.finditer(box, log, re.MULTILINE):
        if float(match[1]) > MAX_OVERFULL_PT:
            found.append(" ".join(match[0].split()))
    return list(dict.fromkeys(found))


def text_problems(text: str, notebook: NotebookNode) -> list[str]:
    """Lines of the PDF's text that belong to code, prompts, or LaTeX that was not understood."""
    patterns = {
        "prompt": r"^\s*(In|Out) ?\[\d*\]:.*",
        "code": r"^\s*(?:import \w[\w.]*(?: as \w+)?|from [\w.]+ import .*|def \w+\(.*"
        r"|class \w+.*:)$",
        "object instead of a picture": r".*<(?:Figure size|IPython\.|\w+(?:\.\w+)* object at).*",
        "LaTeX source": r".*\\(?:begin|end)\{\w+\*?\}.*",
    }
    found = [
        f"{what}: {match.group().strip()}"
        for what, pattern in patterns.items()
        for match in re.finditer(pattern, text, re.MULTILINE)
    ]
    page = "".join(text.split())
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found += [f"code: {line}" for line in _code_lines(cell.source)
                      if "".join(line.split()) in page]  # fmt: skip
    return found


def character_problems(notebook: NotebookNode) -> list[str]:
    """Characters of the text that some PDF fonts lack, such as Greek letters outside formulas."""
    found = []
    for number, cell in enumerate(notebook.cells, start=1):
        texts = [cell.source] if cell.cell_type == "markdown" else []
        for output in cell.get("outputs", []):
            texts += [output.get("data", {}).get("text/markdown", ""), output.get("text", "")]
        for character in sorted({c for text in texts for c in text if not _SAFE.fullmatch(c)}):
            found.append(f"cell {number}: character {character!r} (U+{ord(character):04X}); "
                         "write it as a formula, $...$, or in words")  # fmt: skip
    return found


def _code_lines(source: str) -> list[str]:
    """Lines of code long enough to be told from prose, without the insides of long strings."""
    lines = source.splitlines()
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # a magic such as %matplotlib
        nodes = []
    inside = {
        number
        for node in nodes
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and node.end_lineno > node.lineno
        for number in range(node.lineno, node.end_lineno + 1)
        if not re.match(r"\s*[rfb]{0,2}['\"]", lines[number - 1])
    }
    return [
        line.strip()
        for number, line in enumerate(lines, start=1)
        if number not in inside and len(line.strip()) >= MIN_CODE_LINE
    ]


def _export_latex(notebook: NotebookNode, name: str, folder: Path) -> None:
    loader = PyFileConfigLoader(CONFIG.name, path=str(CONFIG.parent))
    exporter = LatexExporter(config=loader.load_config())
    copy = NotebookNode(notebook)
    try:
        body, resources = exporter.from_notebook_node(copy, {"metadata": {"name": name}})
    except ValueError as error:
        raise ReportError(str(error)) from error
    (folder / "report.tex").write_text(body, encoding="utf-8")
    for file, content in resources.get("outputs", {}).items():
        (folder / file).write_bytes(content)


def _run_xelatex(folder: Path, source_date: int) -> str:
    """Run xelatex until its references settle; the last log.

    The notebook's formulas reach LaTeX, so it may neither start programs nor touch files outside
    its folder (kpathsea's paranoid settings).
    """
    settings = {
        "SOURCE_DATE_EPOCH": str(source_date),
        "FORCE_SOURCE_DATE": "1",
        "openin_any": "p",
        "openout_any": "p",
        "max_print_line": "1000",
    }
    command = ["xelatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    for _ in range(MAX_PASSES):
        done = _run([*command, "report.tex"], folder, settings)
        log = (folder / "report.log").read_text(encoding="utf-8", errors="replace")
        if done.returncode:
            errors = re.findall(r"^(?:! |.*:\d+: ).*(?:\n.*){0,4}", log, re.MULTILINE)
            raise ReportError("xelatex failed:\n" + "\n".join(errors or [done.stdout[-2000:]]))
        if not re.search(r"Rerun to get|may have changed|Rerun LaTeX", log):
            break
    return log


def _run(command: list[str], folder: Path, settings: dict | None = None):
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **(settings or {})}, check=False,
        capture_output=True, text=True, encoding="utf-8", errors="replace",
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _source_date(notebook: NotebookNode) -> int:
    """The PDF's time stamp: SOURCE_DATE_EPOCH, or the notebook's ISO date, or 0."""
    if os.environ.get("SOURCE_DATE_EPOCH", "").isdigit():
        return int(os.environ["SOURCE_DATE_EPOCH"])
    try:
        day = date.fromisoformat(str(notebook.metadata.get("date", "")))
    except ValueError:
        return 0
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())
