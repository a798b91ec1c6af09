"""How the notebook becomes a paper: what nbconvert's LaTeX exporter does with its cells.

`Paper` (a preprocessor) and the filters are named in `pdf.py`; `template/index.tex.j2` is the layout.

Text of the notebook never reaches LaTeX unescaped: pandoc reads it with raw TeX switched off, and
mathematics, which has to pass, may not hold commands that read, write or define.
"""

from __future__ import annotations

import ast
import re

from nbconvert.preprocessors import Preprocessor
from nbconvert.utils.pandoc import pandoc

from .claims import GENERATED

MARKDOWN = (
    "markdown-raw_tex-raw_attribute-citations-fancy_lists-implicit_figures-auto_identifiers"
)
OPTIONS = ["--shift-heading-level-by=-1", "--wrap=none", "--columns=1000"]  # columns fit the content
_FORBIDDEN = re.compile(
    r"\\(input|InputIfFileExists|include|includegraphics|openin|read|readline|openout|newread"
    r"|newwrite|write|immediate|special|catcode|csname|scantokens|def|edef|gdef|xdef|let|futurelet"
    r"|newcommand|renewcommand|providecommand|DeclareMathOperator|usepackage|loop|directlua)"
    r"(?![A-Za-z])|\^\^"
)
_FIGURE = re.compile(r"\*\*Figure (\d+)\.\*\*\s+(.+)", re.DOTALL)
_TABLE = re.compile(r"^\*\*Table (\d+)\.\*\*\s+((?:\S.*\n)+)\n+((?:\|.*(?:\n|\Z))+)", re.MULTILINE)
_REFERENCE = re.compile(r"\b(Figure|Table)(s?)[ ~](\d+)\b(?! of the (?:sheet|assignment))")
_TOGETHER = re.compile(r"(?<![\w/.-])(?:\(\d+(?:, \d+)+\)|\d+(?:-\d+){2,})(?![\w/-])")
# pandoc's form of a table with a caption; its header comes twice, for the first and further pages
_LONGTABLE = re.compile(
    r"\\begin\{longtable\}\[\]\{(?P<columns>(?:(?!\\begin\{longtable\}).)*?)\}\n"
    r"\\caption\{@@table:(?P<number>\d+)@@\s*(?P<caption>.*?)\}\\tabularnewline\n"
    r"(?P<header>.*?)\\endfirsthead\n.*?\\endhead\n"
    r"(?:\\bottomrule(?:\\noalign\{\})?\n\\endlastfoot\n)?"
    r"(?P<rows>.*?)(?:\\bottomrule(?:\\noalign\{\})?\n)?\\end\{longtable\}",
    re.DOTALL,
)


class Paper(Preprocessor):
    """Title, notice, abstract and captions of the notebook, as the template wants them."""

    def preprocess(self, nb, resources):
        """Return the notebook with `metadata.paper` set and captions moved to their figures."""
        paper = _parameters(nb)
        for cell in nb.cells:
            if cell.cell_type == "markdown" and cell.source.startswith("# "):
                heading, _, cell.source = cell.source.partition("\n")
                paper["title"] = heading[2:].strip()
                break
        paper["abstract"] = re.sub(
            r"\A\s*(#+ .*\n+|\*\*(Abstract|Summary)\.?\*\*\.?\s*)", "", _cut(nb, "abstract")
        )
        notices, shown = [_cut(nb, GENERATED)], {"Figure": [], "Table": []}
        for cell in nb.cells:
            outputs = cell.get("outputs", [])
            outputs = [o for o in outputs if {*o.get("data", {"text/plain"})} != {"text/html"}]
            marked = [o for o in outputs if o.get("metadata", {}).get("run_mode")]
            notices += [output.data["text/markdown"] for output in marked]
            cell.outputs, figures = _attach_captions([o for o in outputs if o not in marked])
            shown["Figure"] += figures
            texts = [cell.source, *(o.get("data", {}).get("text/markdown", "") for o in outputs)]
            shown["Table"] += [int(n) for text in texts for n, *_ in _TABLE.findall(text)]
        for kind, numbers in shown.items():
            if numbers != list(range(1, len(numbers) + 1)):
                raise ValueError(f"{kind}s must be numbered 1, 2, 3, ... in order, got {numbers}")
        nb.metadata["paper"] = {**paper, "notice": "\n\n".join(filter(None, notices))}
        return nb, resources


def to_latex(markdown: str) -> str:
    """LaTeX of Markdown text: headings one level up, numbered tables, links to figures and tables.

    Raises ValueError for mathematics with a command that reads, writes or defines.
    """
    markdown = re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", markdown)  # screen-only links
    # without the padding of tables, whose width pandoc would take for the columns'
    markdown = re.sub(r"(?m)^\|.*\|$", lambda m: re.sub("(?<= ) +|(?<=-)-+", "", m[0]), markdown)
    markdown = _TABLE.sub(r"\3\n: @@table:\1@@ \2\n", markdown)
    latex = pandoc(markdown, MARKDOWN, "latex", OPTIONS)
    # only formulas bring commands: pandoc writes a backslash of the text as \\textbackslash
    found = _FORBIDDEN.search(re.sub(r"\\def\\labelenum", "", latex))
    if found:
        raise ValueError(f"not allowed in a formula: {latex[found.start() :][:80]}")
    latex = _LONGTABLE.sub(
        r"\\begin{tablehere}{\g<number>}{\g<caption>}\n\\begin{tabular}{\g<columns>}\n"
        r"\g<header>\g<rows>\\bottomrule\n\\end{tabular}\n\\end{tablehere}", latex
    )  # fmt: skip
    if markdown.startswith("## References"):  # counted [1], [2], ... as the text cites them
        latex = latex.replace(r"\begin{enumerate}", r"\begin{enumerate}[label={[\arabic*]}]")
        latex = re.sub(r"\\def\\labelenumi\{.*\}\n", "", latex)
    latex = _TOGETHER.sub(lambda m: rf"\mbox{{{m[0]}}}", latex)
    return _REFERENCE.sub(
        lambda m: rf"\hyperref[{m[1].lower()}:{m[3]}]{{{m[1]}{m[2]}~{m[3]}}}", latex
    )


def _parameters(nb) -> dict:
    """The lines under the title: the notebook's parameters AUTHOR, COURSE and DATE."""
    found = {}
    for cell in nb.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            for name, text in re.findall(r"(?m)^(AUTHOR|COURSE|DATE) = (['\"].*['\"])", cell.source):
                found[name.lower()] = ast.literal_eval(text)
    return found


def _cut(nb, tag: str) -> str:
    """Take out the cells that carry a tag; their text."""
    tagged = [cell for cell in nb.cells if tag in cell.metadata.get("tags", [])]
    nb.cells = [cell for cell in nb.cells if cell not in tagged]
    return "\n\n".join(cell.source for cell in tagged)


def _attach_captions(outputs) -> tuple[list, list[int]]:
    """Outputs with each "**Figure n.** ..." moved into the picture before it; the numbers n."""
    kept, numbers = list(outputs), []
    for picture, text in zip(outputs[:-1], outputs[1:], strict=True):
        match = _FIGURE.fullmatch(text.get("data", {}).get("text/markdown", "").strip())
        if match and {"image/png", "application/pdf"} & set(picture.get("data", {})):
            picture.metadata["figure"] = {"number": int(match[1]), "caption": match[2]}
            kept.remove(text)
            numbers.append(int(match[1]))
    return kept, numbers
