"""The notebook as a LaTeX document: an exporter of nbconvert, with pandoc and `paper.tex`.

jupyter nbconvert --to report.tools.paper.PaperPDF --output-dir report Task4_Autoencoders.ipynb

Text of the notebook never reaches LaTeX unescaped: pandoc reads it with raw TeX switched off, and
mathematics, which has to pass, may not hold commands that read, write or define.
"""

from __future__ import annotations

import ast
import re
from base64 import b64decode
from pathlib import Path
from textwrap import wrap

from nbconvert.exporters import LatexExporter, PDFExporter
from nbconvert.filters.latex import escape_latex
from nbconvert.utils.pandoc import pandoc
from nbformat import NotebookNode

from .claims import GENERATED

TEMPLATE = Path(__file__).with_name("paper.tex")
MARKDOWN = "markdown-raw_tex-raw_attribute-citations-fancy_lists-implicit_figures-auto_identifiers"
OPTIONS = ["--shift-heading-level-by=-1", "--wrap=none", "--columns=1000"]  # no wrapping columns
_FORBIDDEN = re.compile(
    r"\\(input|InputIfFileExists|include|includegraphics|openin|read|readline|openout|newread"
    r"|newwrite|write|immediate|special|catcode|csname|scantokens|def|edef|gdef|xdef|let|futurelet"
    r"|newcommand|renewcommand|providecommand|DeclareMathOperator|usepackage|loop|directlua)"
    r"(?![A-Za-z])|\^\^"
)
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


class Paper(LatexExporter):
    """The notebook as the report's LaTeX, with its pictures among the resources' outputs."""

    export_from_notebook = None  # no entry of its own in Jupyter's menu

    def from_notebook_node(self, nb: NotebookNode, resources: dict | None = None, **options):
        """(LaTeX, resources), as every exporter of nbconvert."""
        resources = self._init_resources(resources)
        latex, pictures = document(nb, resources["metadata"].get("name") or "report")
        resources["outputs"] = pictures
        return latex, resources


class PaperPDF(PDFExporter, Paper):
    """The same as a PDF. `make report` does this and checks what came out."""

    export_from_notebook = None


def document(notebook: NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """The notebook as LaTeX, and its pictures by file name; code and raw cells stay out.

    Raises ValueError for figures or tables that are not numbered 1, 2, 3, ... and as `to_latex`.
    """
    fields = {"title": escape_latex(name), "author": "", "course": "", "date": ""}
    texts, pictures = {"notice": [], "abstract": [], "body": []}, {}
    for cell in notebook.cells:
        tags, text = set(cell.metadata.get("tags", [])), cell.source
        if "parameters" in tags:
            for key, value in re.findall(r"(?m)^(AUTHOR|COURSE|DATE) = (['\"].*['\"])", text):
                fields[key.lower()] = escape_latex(ast.literal_eval(value))
        if cell.cell_type == "markdown" and text.startswith("# "):
            heading, _, text = text.partition("\n")
            fields["title"] = escape_latex(heading[2:].strip())
        if "screen-only" not in tags and cell.cell_type == "markdown":
            place = "notice" if GENERATED in tags else "abstract" if "abstract" in tags else "body"
            texts[place].append(text)
        for output in cell.get("outputs", []) if "screen-only" not in tags else []:
            place = "notice" if output.get("metadata", {}).get("run_mode") else "body"
            texts[place].append(_shown(output, pictures))
    texts = {place: "\n\n".join(parts).strip() for place, parts in texts.items()}
    heading = re.compile(r"\A(#+ .*\n+|\*\*(Abstract|Summary)\.?\*\*\.?\s*)")
    texts["abstract"] = heading.sub("", texts["abstract"])
    for kind in ("Figure", "Table"):
        numbers = [int(n) for n in re.findall(rf"(?m)^\*\*{kind} (\d+)\.\*\* ", texts["body"])]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"{kind}s must be numbered 1, 2, 3, ... in order, got {numbers}")
    lines = [fields[key] for key in ("author", "course", "date") if fields[key]]
    fields["lines"] = "\n".join(rf"\smallskip {line}\par" for line in lines)
    for place, text in texts.items():
        latex = to_latex(text)
        fields[place] = latex if place == "body" or not text else f"\\{place}here{{{latex}}}"
    template = TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: fields[found[1]], template), pictures


def to_latex(markdown: str) -> str:
    """LaTeX of Markdown text: headings one level up, figures and tables in place, links to them.

    Raises ValueError for mathematics with a command that reads, writes or defines.
    """
    markdown = re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", markdown)  # screen-only links
    # without the padding of tables, whose width pandoc would take for the columns'
    markdown = re.sub(r"(?m)^\|.*\|$", lambda m: re.sub("(?<= ) +|(?<=-)-+", "", m[0]), markdown)
    latex = pandoc(_TABLE.sub(r"\3\n: @@table:\1@@ \2\n", markdown), MARKDOWN, "latex", OPTIONS)
    # only formulas bring commands: pandoc writes a backslash of the text as \textbackslash
    found = _FORBIDDEN.search(re.sub(r"\\def\\labelenum", "", latex))
    if found:
        raise ValueError(f"not allowed in a formula: {latex[found.start() :][:80]}")
    latex = _LONGTABLE.sub(
        r"\\begin{tablehere}{\g<number>}{\g<caption>}\n\\begin{tabular}{\g<columns>}\n"
        r"\g<header>\g<rows>\\bottomrule\n\\end{tabular}\n\\end{tablehere}",
        latex,
    )
    latex = re.sub(
        r"@@(picture\d+\.\w+)@@\n\n\\textbf\{Figure (\d+)\.\} (.*)",
        r"\\figurehere{\2}{\1}{\3}",
        latex,
    )
    latex = re.sub(r"@@(picture\d+\.\w+)@@", r"\\includegraphics[max width=\\linewidth]{\1}", latex)
    latex, heading, list_ = latex.partition(r"\section{References}")  # counted as the text cites
    list_ = list_.replace(r"\begin{enumerate}", r"\begin{enumerate}[label={[\arabic*]}]")
    latex += heading + r"\small" * bool(heading) + re.sub(r"\\def\\labelenumi\{.*\}\n", "", list_)
    latex = _TOGETHER.sub(lambda m: rf"\mbox{{{m[0]}}}", latex)
    return _REFERENCE.sub(
        lambda m: rf"\hyperref[{m[1].lower()}:{m[3]}]{{{m[1]}{m[2]}~{m[3]}}}", latex
    )


def _shown(output: NotebookNode, pictures: dict[str, bytes]) -> str:
    """An output as Markdown; a picture is added to `pictures`, by a name that stands between @."""
    data = output.get("data", {})
    for kind in ("application/pdf", "image/png"):
        if kind in data:
            name = f"picture{len(pictures)}.{kind[-3:]}"
            pictures[name] = b64decode(data[kind])
            return f"@@{name}@@"
    plain = output.get("text", data.get("text/plain", ""))
    lines = [part for line in plain.splitlines() for part in wrap(line, 90) or [""]]
    return data.get("text/markdown", "\n".join(f"    {line}" for line in lines))
