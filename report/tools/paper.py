"""The notebook as a LaTeX document, by pandoc and the layout `paper.tex`.

Text of the notebook never reaches LaTeX unescaped: pandoc reads it with raw TeX switched off, and
mathematics, which has to pass, may not hold commands that read, write or define. Between reading
and writing, pandoc's tree of the text is changed here: pictures and tables get their captions.
"""

from __future__ import annotations

import ast
import json
import re
from base64 import b64decode
from collections.abc import Collection
from pathlib import Path
from textwrap import wrap

from nbconvert.filters.latex import escape_latex
from nbconvert.utils.pandoc import pandoc
from nbformat import NotebookNode
from pandocfilters import OrderedList, Plain, RawBlock, RawInline, Str, walk

from . import ReportError
from .claims import GENERATED

TEMPLATE = Path(__file__).with_name("paper.tex")
MARKDOWN = "markdown-raw_tex-raw_attribute-citations-fancy_lists-implicit_figures-auto_identifiers"
READING = ["--shift-heading-level-by=-1", "--columns=1000"]  # a long line sets no column widths
_FORBIDDEN = re.compile(
    r"\\(input|InputIfFileExists|include|includegraphics|openin|read|readline|openout|newread"
    r"|newwrite|write|immediate|special|catcode|csname|scantokens|def|edef|gdef|xdef|let|futurelet"
    r"|newcommand|renewcommand|providecommand|DeclareMathOperator|usepackage|loop|directlua)"
    r"(?![A-Za-z])|\^\^"
)
_REFERENCE = re.compile(r"\b(Figure|Table)(s?)[ ~](\d+)\b(?! of the (?:sheet|assignment))")
_LINK = re.compile(r"\\hyperref\[([^]]*)\]\{([^}]*)\}")
_SIZES = re.compile(r"(?<![\w/.-])(?:\(\d+(?:, \d+)+\)|\d+(?:-\d+){2,})(?![\w/-])")


def document(notebook: NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """The notebook as LaTeX, and its pictures by file name; code and raw cells stay out.

    Raises ReportError for figures or tables that are not numbered 1, 2, 3, ..., and as `to_latex`.
    A run that is not the full one may leave some out, which keep their numbers and get no links.
    """
    title, given, pictures, partial = name, {}, {}, False
    texts = {"notice": [], "abstract": [], "body": []}
    for cell in notebook.cells:
        tags, text = set(cell.metadata.get("tags", [])), cell.source
        if "parameters" in tags:
            found = re.findall(r"(?m)^(AUTHOR|COURSE|DATE) = (['\"].*['\"])", text)
            given = {key: escape_latex(ast.literal_eval(value)) for key, value in found}
        if cell.cell_type == "markdown" and text.startswith("# "):
            heading, _, text = text.partition("\n")
            title = heading[2:].strip()
        if "screen-only" not in tags and cell.cell_type == "markdown":
            place = "notice" if GENERATED in tags else "abstract" if "abstract" in tags else "body"
            texts[place].append(text)
        for output in cell.get("outputs", []) if "screen-only" not in tags else []:
            metadata = output.get("metadata", {})
            if "screen-only" not in metadata.get("tags", []):
                place = "notice" if metadata.get("run_mode") else "body"
                partial |= place == "notice"
                texts[place].append(_shown(output, pictures))
    body, there = "\n\n".join(texts["body"]), set()
    for kind in ("Figure", "Table"):
        numbers = [int(n) for n in re.findall(rf"(?m)^\*\*{kind} (\d+)\.\*\* ", body)]
        there |= {f"{kind.lower()}:{n}" for n in numbers}
        some = sorted(set(numbers)) if partial else range(1, len(numbers) + 1)
        if numbers != list(some):
            raise ReportError(f"{kind}s must be numbered 1, 2, 3, ... in order, got {numbers}")
    abstract = "\n\n".join(texts["abstract"]).strip()
    abstract = re.sub(r"\A(#+ .*\n+|\*\*(Abstract|Summary)\.?\*\*\.?\s*)", "", abstract)
    notice = to_latex("\n\n".join(texts["notice"]))
    fields = {
        "title": escape_latex(title),
        "author": given.get("AUTHOR", ""),
        "lines": _lines_below_the_title(given),
        "notice": rf"\noticehere{{{notice}}}" if notice else "",
        "abstract": rf"\abstracthere{{{to_latex(abstract)}}}" if abstract else "",
        "body": to_latex(body, pictures),
    }
    if partial:
        for part, latex in fields.items():
            fields[part] = _LINK.sub(lambda m: m[0] if m[1] in there else m[2], latex)
    template = TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: fields[found[1]], template), pictures


def to_latex(markdown: str, pictures: Collection[str] = ()) -> str:
    """LaTeX of Markdown text: headings one level up, figures and tables in place, links to them.

    Raises ReportError for mathematics with a command that reads, writes or defines, and for a
    picture that is not one of `pictures`.
    """
    tree = json.loads(pandoc(markdown, MARKDOWN, "json", READING))
    walk(tree["blocks"], _check, "latex", pictures)
    tree["blocks"] = walk(_with_captions(tree["blocks"]), _as_printed, "latex", {})
    latex = pandoc(json.dumps(tree), "json", "latex", ["--wrap=none"])
    latex = _SIZES.sub(r"\\mbox{\g<0>}", latex)  # such as (400, 20): no line breaks there
    return _REFERENCE.sub(
        lambda m: rf"\hyperref[{m[1].lower()}:{m[3]}]{{{m[1]}{m[2]}~{m[3]}}}", latex
    )


def _with_captions(blocks: list[dict]) -> list[dict]:
    """Pandoc's blocks with every picture and table set with its caption, and near its heading."""
    done = [{"t": "Null"}]
    for block in blocks:
        before, figure, table = done[-1], _caption(block, "Figure"), _caption(done[-1], "Table")
        if figure and before["t"] == "Para" and before["c"][0]["t"] == "Image":
            start = _latex(rf"\figurehere{{{figure[0]}}}{{")
            done[-1] = Plain([start, *before["c"], _latex("}{"), *figure[1], _latex("}")])
        elif table and block["t"] == "Table":
            start = _latex(rf"\begin{{tablehere}}{{{table[0]}}}{{")
            done[-1] = Plain([start, *table[1], _latex("}\n"), *_tabular(block)])
        else:
            done.append(block)
            if block["t"] == "Header" and block["c"][-1] == [Str("References")]:
                done.append(RawBlock("latex", r"\referencelist"))
            continue
        if [b["t"] for b in done[-3:-1]] == ["Header", "Para"]:
            done.insert(-2, RawBlock("latex", r"\keepnext"))
    return done[1:]


def _caption(block: dict, kind: str) -> tuple[str, list[dict]] | None:
    """The number and the words of a paragraph that begins with **Figure 3.** (or another kind)."""
    match block:
        case {
            "t": "Para",
            "c": [{"t": "Strong", "c": [{"c": str(a)}, _, {"c": str(b)}]}, _, *words],
        }:
            return (b[:-1], words) if a == kind and re.fullmatch(r"\d+\.", b) else None


def _tabular(table: dict) -> list[dict]:
    """A table of pandoc's tree as inlines, with LaTeX between its cells."""
    _, _, columns, (_, head), ((*_, body),), _ = table["c"]
    letters = {"AlignRight": "r", "AlignCenter": "c"}
    columns = "".join(letters.get(alignment["t"], "l") for alignment, _ in columns)
    found = [_latex(rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}\toprule" + "\n")]
    for rows, rule in (head, "\\midrule\n"), (body, "\\bottomrule\n"):
        for _, cells in rows:
            for number, (*_, blocks) in enumerate(cells):
                found += [_latex(" & ")] if number else []
                found += blocks[0]["c"] if blocks else []
            found.append(_latex("\\tabularnewline\n"))
        found.append(_latex(rule))
    return [*found, _latex("\\end{tabular}\n\\end{tablehere}")]


def _check(kind: str, value, _, pictures: Collection[str]) -> None:
    """Raise ReportError for what may not pass to LaTeX."""
    if kind == "Math" and (found := _FORBIDDEN.search(value[1])):
        raise ReportError(f"not allowed in a formula: {value[1][found.start() :][:80]}")
    if kind == "Image" and value[-1][0] not in pictures:
        raise ReportError(f"not allowed: {value[-1][0]}, a picture that no cell shows")


def _as_printed(kind: str, value, *_):
    """What stands for an element of pandoc's tree (None: itself)."""
    if kind == "Image":
        return _latex(rf"\picturehere{{{value[-1][0]}}}")
    if kind == "Link" and value[-1][0].startswith("#"):
        return value[1]  # a link for the screen
    if kind == "OrderedList":  # numbered as LaTeX does
        (start, *_), items = value
        return OrderedList([start, {"t": "DefaultStyle"}, {"t": "DefaultDelim"}], items)


def _latex(text: str) -> dict:
    return RawInline("latex", text)


def _lines_below_the_title(given: dict[str, str]) -> str:
    """Author, course and date, and how to give those that are empty."""
    lines = [text for text in given.values() if text]
    if missing := ", ".join(name for name, text in given.items() if not text):
        lines.append(rf"\small\itshape {missing}: set in the notebook's first cell of code.")
    return "\n".join(rf"\smallskip{{{line}\par}}" for line in lines)


def _shown(output: NotebookNode, pictures: dict[str, bytes]) -> str:
    """An output as Markdown; a picture is added to `pictures`."""
    data = output.get("data", {})
    for kind in ("application/pdf", "image/png"):
        if kind in data:
            name = f"picture{len(pictures)}.{kind[-3:]}"
            pictures[name] = b64decode(data[kind])
            return f"![]({name})"
    plain = output.get("text", data.get("text/plain", ""))
    lines = [part for line in plain.splitlines() for part in wrap(line, 90) or [""]]
    return data.get("text/markdown", "\n".join(f"    {line}" for line in lines))
