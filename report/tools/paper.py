"""How the notebook becomes a paper: what nbconvert's LaTeX exporter does with its cells.

`Paper` (a preprocessor) and `to_latex` (a template filter) are named in
`report/jupyter_nbconvert_config.py`; the layout is in `report/template/index.tex.j2`.

Text of the notebook never reaches LaTeX unescaped: pandoc reads it with raw TeX switched off, and
mathematics, which has to pass, may not hold commands that read, write or define.
"""

from __future__ import annotations

import ast
import re
from datetime import date

from nbconvert.filters.latex import escape_latex
from nbconvert.preprocessors import Preprocessor
from nbconvert.utils.pandoc import pandoc

MARKDOWN = (
    "markdown-raw_tex-raw_attribute-citations-fancy_lists-implicit_figures-auto_identifiers"
)
PANDOC_OPTIONS = [
    "--shift-heading-level-by=-1",
    "--wrap=none",
    "--columns=1000",  # columns as wide as their content, unless `_fit_table` says otherwise
]
TABLE_WIDTH = 115  # characters of table type across the page

_FORBIDDEN = re.compile(
    r"\\(input|InputIfFileExists|include|includegraphics|openin|read|readline|openout|newread"
    r"|newwrite|write|immediate|special|catcode|csname|scantokens|def|edef|gdef|xdef|let|futurelet"
    r"|newcommand|renewcommand|providecommand|DeclareMathOperator|usepackage|loop|directlua)"
    r"(?![A-Za-z])|\^\^"
)
_FIGURE_CAPTION = re.compile(r"\*\*Figure (\d+)\.\*\*\s+(.+)", re.DOTALL)
_TABLE = re.compile(r"^\*\*Table (\d+)\.\*\*\s+((?:\S.*\n)+)\n+((?:\|.*(?:\n|\Z))+)", re.MULTILINE)
_PIPE_TABLE = re.compile(r"(?:^\|.*\|[ ]*(?:\n|\Z)){2,}", re.MULTILINE)
_REFERENCE = re.compile(r"\b(Figure|Table)(s?)[ ~](\d+)\b(?! of the (?:sheet|assignment))")
_HEADING = re.compile(r"^(##+)[ ]+(?:(\d+\.(?:\d+\.?)*)[ ]+)?(\S.*)$", re.MULTILINE)
_IMAGES = ("image/png", "application/pdf")
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
    """Title, abstract, captions and section numbers of the notebook, as the template wants them."""

    def preprocess(self, nb, resources):
        """Return the notebook with `metadata.abstract` set and captions moved to their figures."""
        _take_title(nb)
        _take_author(nb)
        nb.metadata["abstract"] = _take_abstract(nb)
        numbering = _SectionNumbers()
        shown = {"Figure": [], "Table": []}
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = numbering.strip(cell.source)
                texts = [cell.source]
            else:
                outputs = cell.get("outputs", [])
                cell.outputs, numbers = _attach_captions(outputs)
                shown["Figure"] += numbers
                texts = [o.get("data", {}).get("text/markdown", "") for o in outputs]
            shown["Table"] += [int(n) for text in texts for n, *_ in _TABLE.findall(text)]
        for kind, numbers in shown.items():
            if numbers != list(range(1, len(numbers) + 1)):
                raise ValueError(f"{kind}s must be numbered 1, 2, 3, ... in order, got {numbers}")
        return nb, resources


def to_latex(markdown: str) -> str:
    """LaTeX of Markdown text: headings one level up, numbered tables, links to figures and tables.

    Raises ValueError for mathematics with a command that reads, writes or defines.
    """
    markdown = re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", markdown)  # screen-only links
    markdown = _PIPE_TABLE.sub(lambda m: _fit_table(m[0]), markdown)
    markdown = _TABLE.sub(r"\3\n: @@table:\1@@ \2\n", markdown)
    markdown = re.sub(r"^## References[ ]*$", "## References {.unnumbered}", markdown, flags=re.M)
    latex = pandoc(markdown, MARKDOWN, "latex", PANDOC_OPTIONS)
    # only formulas bring commands: pandoc writes a backslash of the text as \\textbackslash
    found = _FORBIDDEN.search(re.sub(r"\\def\\labelenum", "", latex))
    if found:
        raise ValueError(f"not allowed in a formula: {latex[found.start() :][:80]}")
    latex = _LONGTABLE.sub(_floating_table, latex)
    if markdown.startswith("## References"):
        latex = _bracketed_list(latex)
    return _REFERENCE.sub(
        lambda m: rf"\hyperref[{m[1].lower()}:{m[3]}]{{{m[1]}{m[2]}~{m[3]}}}", latex
    )


def _fit_table(table: str) -> str:
    """The pipe table without padding; one too wide for the page gets columns that wrap.

    pandoc wraps the cells of a table whose source is wider than `--columns`, in columns as wide as
    the dashes under the header say. A formula counts as its letters and digits.
    """
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
            for line in table.strip().splitlines()]  # fmt: skip
    widths = [0] * len(rows[0])
    for row in rows[:1] + rows[2:]:
        shown = [len(re.sub(r"\\(\w)\w*|[${}_^*`]", r"\1", cell)) for cell in row]
        widths = [max(pair) for pair in zip(widths, shown, strict=False)]
    if sum(widths) + 2 * len(widths) > TABLE_WIDTH:
        widest = max(widths)
        while sum(min(width + 2, widest) for width in widths) > TABLE_WIDTH:
            widest -= 1
        rows[1] = [re.sub("-+", "-" * (10 * min(width + 2, widest)), rule)
                   for width, rule in zip(widths, rows[1], strict=False)]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _floating_table(match) -> str:
    """The table as a float, which stays in one piece and leaves no gap before it."""
    return (
        "\\begin{table}[htbp]\n\\centering\\tabletype\n"
        f"\\setcounter{{table}}{{{int(match['number']) - 1}}}"
        f"\\caption{{{match['caption']}}}\\label{{table:{match['number']}}}\n"
        f"\\begin{{tabular}}{{{match['columns']}}}\n{match['header']}{match['rows']}"
        "\\bottomrule\n\\end{tabular}\n\\end{table}"
    )


def _bracketed_list(latex: str) -> str:
    """A numbered list counted [1], [2], ... as the text cites it."""
    latex = latex.replace(r"\begin{enumerate}", r"\begin{enumerate}[label={[\arabic*]}]")
    return re.sub(r"\\def\\labelenumi\{.*\}\n", "", latex)


def to_plain(text: str) -> str:
    """Text of a metadata field with every LaTeX special character escaped."""
    return escape_latex(str(text))


def to_date(text: str) -> str:
    """An ISO date as "5 March 2025"; any other text as it is, escaped."""
    try:
        day = date.fromisoformat(str(text))
    except ValueError:
        return to_plain(text)
    return f"{day.day} {day:%B %Y}"


def _take_title(nb) -> None:
    """Drop the opening H1; it is the title unless the metadata give one."""
    for cell in nb.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            heading, _, cell.source = cell.source.partition("\n")
            nb.metadata.setdefault("title", heading[2:].strip())
            return


def _take_author(nb) -> None:
    """The notebook's parameter AUTHOR as the author line, unless it is empty."""
    for cell in nb.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            found = re.findall(r"^AUTHOR = (['\"].*['\"])", cell.source, re.MULTILINE)
            name = ast.literal_eval(found[-1]) if found else ""
            if name:
                nb.metadata["authors"] = [{"name": name}]


def _take_abstract(nb) -> str:
    """Cut out the cells tagged `abstract`; their text without a heading."""
    tagged = [c for c in nb.cells if "abstract" in c.metadata.get("tags", [])]
    nb.cells = [cell for cell in nb.cells if cell not in tagged]
    text = "\n\n".join(cell.source for cell in tagged)
    return re.sub(r"\A\s*(#+ .*\n+|\*\*(Abstract|Summary)\.?\*\*\.?\s*)", "", text)


def _attach_captions(outputs) -> tuple[list, list[int]]:
    """Outputs with each "**Figure n.** ..." moved into the picture before it; the numbers n."""
    kept, numbers = list(outputs), []
    for picture, text in zip(outputs[:-1], outputs[1:], strict=True):
        match = _FIGURE_CAPTION.fullmatch(text.get("data", {}).get("text/markdown", "").strip())
        if match and any(kind in picture.get("data", {}) for kind in _IMAGES):
            picture.metadata["figure"] = {"number": int(match[1]), "caption": match[2]}
            kept.remove(text)
            numbers.append(int(match[1]))
    return kept, numbers


class _SectionNumbers:
    """Takes hand-written numbers off headings, after checking them against LaTeX's own."""

    def __init__(self):
        self.counts: list[int] = []

    def strip(self, source: str) -> str:
        return _HEADING.sub(self._strip_one, source)

    def _strip_one(self, match) -> str:
        hashes, written, title = match.groups()
        depth = len(hashes) - 1
        self.counts = (self.counts + [0] * depth)[:depth]
        self.counts[-1] += 1
        number = ".".join(map(str, self.counts))
        if written and written.rstrip(".") != number:
            raise ValueError(f"heading {title!r} is numbered {written} but comes as {number}")
        return f"{hashes} {title}"
