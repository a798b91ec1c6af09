"""The report: an executed notebook as a PDF without code, built and checked in one LaTeX run."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from . import ReportError, paper, system

MAX_PASSES = 5
MAX_OVERFULL_PT = 2.0
MAX_EMPTY = 1 / 3  # of a page that is not the last
_QUIET = {"capture_output": True, "stdin": subprocess.DEVNULL, "check": False}
_TEXT = {"text": True, "encoding": "utf-8", "errors": "replace"}
# A line of code that can be told from prose, such as that in long strings
_CODE_LINE = re.compile(
    r"(?=.{15})\s*(?:(?:import|from|def|class|for|with|return) .*"
    r"|[\w.\[\], *]+ [-+*/]?= .*|[\w.]*\w\(.*)$"
)
# What Latin Modern, the font of a bare `jupyter nbconvert --to pdf`, lacks
_UNSAFE = re.compile(r"[^\x00-\u017f\u2010-\u2026\u2192\u2212]")
_CODE = (
    r"^\s*(?:In|Out) ?\[\d*\]:.*|.*\\(?:begin|end)\{\w+\*?\}.*"
    r"|^\s*(?:import \w[\w.]*(?: as \w+)?|from [\w.]+ import .*|def \w+\(.*"
    r"|.*<(?:Figure size|IPython\.|\w+(?:\.\w+)* object at).*)$"
)


@dataclass(frozen=True)
class Pdf:
    """A checked PDF: its bytes, number of pages, and what is not well set in it."""

    content: bytes
    pages: int
    warnings: list[str]


def build_pdf(notebook: NotebookNode, name: str = "report") -> Pdf:
    """The notebook's PDF by the template; the notebook itself stays as it is.

    Raises ReportError without LaTeX, pandoc or the fonts, when LaTeX fails, and for characters
    missing in print, code and prompts.
    """
    system.require()
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        path = Path(folder)
        latex, pictures = paper.document(notebook, name)
        for file, content in {**pictures, "report.tex": latex.encode()}.items():
            (path / file).write_bytes(content)
        log = run_xelatex(path)
        command = ["pdftotext", "-layout", "report.pdf", "-"]
        text = subprocess.run(command, cwd=path, **_QUIET, **_TEXT).stdout
        found = [
            *re.findall(r"^Missing character:.*", log, re.MULTILINE),
            *text_problems(text, notebook),
            *character_problems(notebook),
        ]
        if found:
            raise ReportError("the PDF has faults:\n  " + "\n  ".join(dict.fromkeys(found)))
        pages = int(re.search(r"Output written on .*?\((\d+) page", log)[1])
        return Pdf((path / "report.pdf").read_bytes(), pages, log_warnings(log) + _gaps(path))


def log_warnings(log: str) -> list[str]:
    """Lines of a LaTeX log that mean a blemish: what is too wide, references to nothing."""
    found = re.findall(r"^(?:LaTeX|Package \w+) Warning: .* undefined on .*", log, re.MULTILINE)
    box = r"^Overfull \\[hv]box \(([\d.]+)pt too (?:wide|high)\).*(?:\n(?!Overfull).*)?"
    found += [
        " ".join(match[0].split())
        for match in re.finditer(box, log, re.MULTILINE)
        if float(match[1]) > MAX_OVERFULL_PT
    ]
    return list(dict.fromkeys(found))


def text_problems(text: str, notebook: NotebookNode) -> list[str]:
    """Lines of the PDF's text that belong to code, prompts, or LaTeX that was not understood."""
    found = [f"code: {match[0].strip()}" for match in re.finditer(_CODE, text, re.MULTILINE)]
    page = "".join(text.split())
    lines = [
        line.strip()
        for cell in notebook.cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if _CODE_LINE.match(line)
    ]
    return found + [f"code: {line}" for line in lines if "".join(line.split()) in page]


def character_problems(notebook: NotebookNode) -> list[str]:
    """Characters of the text that some PDF fonts lack, such as Greek letters outside formulas."""
    found = []
    for number, cell in enumerate(notebook.cells, start=1):
        text = cell.source if cell.cell_type == "markdown" else ""
        for output in cell.get("outputs", []):
            text += output.get("data", {}).get("text/markdown", "") + output.get("text", "")
        for character in sorted(set(_UNSAFE.findall(text))):
            named = f"cell {number}: character {character!r} (U+{ord(character):04X})"
            found.append(f"{named}; write it as a formula, $...$, or in words")
    return found


def _gaps(folder: Path) -> list[str]:
    """Pages before the last that end with more than a third of their height empty."""
    command = ["pdftoppm", "-r", "20", "-gray", "report.pdf", "page"]
    subprocess.run(command, cwd=folder, **_QUIET)
    found = []
    for page in sorted(folder.glob("page-*.pgm"))[:-1]:
        _, size, _, pixels = page.read_bytes().split(b"\n", 3)
        width, height = map(int, size.split())
        top, bottom = round(height * 24 / 297), round(height * 271 / 297)  # of the text, in mm
        rows = range(top, bottom)
        inked = [row for row in rows if min(pixels[row * width :][:width]) < 200]
        empty = (bottom - max(inked, default=top)) / (bottom - top)
        if empty > MAX_EMPTY:
            found.append(f"page {page.stem[5:]} ends with {empty:.0%} of its height empty")
    return found


def run_xelatex(folder: Path) -> str:
    """Run xelatex on `report.tex` until its references settle; the last log.

    The notebook's formulas reach LaTeX, so it may neither start programs nor touch files outside
    its folder (kpathsea's paranoid settings). Without a clock the same text gives the same bytes.
    Raises ReportError with the errors in the log.
    """
    settings = {"SOURCE_DATE_EPOCH": "0", **os.environ, "FORCE_SOURCE_DATE": "1"}
    settings |= {"openin_any": "p", "openout_any": "p", "max_print_line": "1000"}
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    command = ["xelatex", *options, "report.tex"]
    for _ in range(MAX_PASSES):
        done = subprocess.run(command, cwd=folder, env=settings, **_QUIET, **_TEXT)
        log = (folder / "report.log").read_text(encoding="utf-8", errors="replace")
        if done.returncode:
            errors = re.findall(r"^(?:! |.*:\d+: ).*(?:\n.*){0,4}", log, re.MULTILINE)
            raise ReportError("xelatex failed:\n" + "\n".join(errors or [done.stdout[-2000:]]))
        if not re.search(r"Rerun to get|may have changed|Rerun LaTeX", log):
            break
    return log
