"""The notebook's prose against the results of the run, by the list `report/claims.txt`.

Every sentence with a number, or with a word that orders such as "lower" or "best", stands in the
list, word for word, below its heading and in the order of the text. Each number is replaced by its
source, and below the sentence, indented, stands what must hold for its words:

    ## 3.3 Loss comparison
    Four layers have the lower test loss, {{vae4-400-100-20.test_loss}} nats.
        a.test_loss.verdict == lower
    Low values are good, and most are.
        orders no result

A source is a path of the results (`look_up`) or a number, or several with + - * / between them,
computed from left to right; `|path|` is the absolute value. A condition compares two sources; a
word without a dot is itself, such as `lower` or a model's id. Two headings are not of the notebook:
`Captions`, and `README` for its section "What comes out". A line that begins with # is a comment.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import nbformat

from vae_helpers.plotting.tables import MINUS

from . import ReportError

GENERATED = "claims-banner"  # tag of the cell that says at the top what does not hold
NO_RESULT = "orders no result"  # the line below a sentence whose words rest on nothing measured
README_SECTION = re.compile(r"^## What comes out$.*?(?=^#+ |\Z)", re.MULTILINE | re.DOTALL)
WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
).split()
SPELT = dict(enumerate(WORDS)) | {30: "thirty", 40: "forty", 50: "fifty", 100: "hundred"}
DIGITS = rf"[+{MINUS}-]?\d+(?:,\d{{3}})*(?:\.\d+)?"
WORD = rf"(?i:{'|'.join(SPELT.values())})\b"
UNIT = r"(?:\s+[a-z]+)?\s+(?:nats?|%|percent|times|latents?)(?![a-z])"
NUMBER = re.compile(rf"(?<![\w.])(?:{DIGITS}|{WORD}(?={UNIT}))")
# Names, not measurements: formulas, code and links; architectures, years, confidence levels; and
# the numbers of headings, lists and references.
NAMES = re.compile(
    r"\$\$.*?\$\$|\$[^$]+\$|```.*?```|`[^`]+`|\]\([^)]*\)|<https?://[^>]*>"
    r"|\(\d+(?:,\s+\d+)+\)|\((?:19|20)\d\d\)|\d+(?:-\d+){2,}|\d+-layer|\d+\s?[x\u00d7]\s?\d+|\b(?:9[059]|98)\s%"
    r"|(?:Figures?|Tables?|Sections?|eq\.|Task)\s+\d+(?:\.\d+)*(?:(?:,| and| to)\s+\d+(?:\.\d+)*)*"
    r"|arXiv:\d+\.\d+|^#+ [\d.]+|^\s*\d+\.(?=\s)|\[\d+\]",
    re.MULTILINE | re.DOTALL,
)
ORDERING = re.compile(
    r"\b(?:(?i:lower|lowest|higher|highest|better|best|worse|worst|more|most|fewer|fewest|less|least"
    r"|closer|closest|nearer|ties?|tied|superior|inferior|larger|largest|smaller|smallest|greater"
    r"|sharper|blurrier|darker|lighter|brighter|dimmer|fainter|faster|slower|stronger|weaker|wins?"
    r"|beats?|loses?|exceeds?|outperforms?|twice|half|equal|equally)|Yes|No(?=[,:.;!]))\b"
)
# The end of a sentence (not the dot of a heading's or list's number), list item, row or heading
END = re.compile(
    r"(?<=[.!?])(?<!^\d\.)(?<!# \d\.)[*_)\"]*\s+(?=[A-Z*(\[$\"`])"
    r"|\n\s*\n|\n(?=(?:[-*|]|#+|\d+\.) )",
    re.MULTILINE,
)
REFERENCE = re.compile(
    r"\b(Figure|Table|Section)s?\s+(\d[\d.]*(?:(?:,| and| to)\s+\d[\d.]*)*)"
    r"(?!\d| of the (?:sheet|assignment))"
)
CAPTION = re.compile(r"\*\*(Figure|Table) (\d+)\.\*\* ([^\n]*)\n*(.*)", re.DOTALL)
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
COMPARISON = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
COMPARISON |= {"==": operator.eq, "!=": operator.ne}
_OPERAND = r"(?:\|[\w.-]+\||-?\w[\w.-]*)"
_SOURCE = rf"{_OPERAND}(?: [-+*/] {_OPERAND})*"
_CONDITION = re.compile(rf"({_SOURCE}) ([<>]=?|[!=]=) ({_SOURCE})")
_PLACE = re.compile(r"\{\{(.*?)\}\}")
NO_VALUE = (KeyError, ValueError, TypeError, ZeroDivisionError)


class Entry:
    """A sentence of the list: its words, the sources of its numbers, and what must hold for it."""

    def __init__(self, line: int, words: str):
        self.line, self.words, self.conditions = line, words, []
        self.sources = _PLACE.findall(words)
        texts = [r"\s+".join(map(re.escape, t.split(" "))) for t in _PLACE.split(words)[::2]]
        self.pattern = re.compile(f"({DIGITS}|{WORD})".join(texts))  # a group for each number


@dataclass(frozen=True)
class Sentence:
    """A sentence of the text: the heading above it, and which of the texts has it where."""

    where: str
    text: int
    start: int
    words: str
    masked: str  # the words with `NAMES` blanked


@dataclass(frozen=True)
class Finding:
    """A sentence that does not hold, where it stands, and why."""

    where: str
    sentence: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}\n    {self.sentence}"


@dataclass(frozen=True)
class Report:
    """What was found, and how many numbers, conditions and tables were compared."""

    findings: list[Finding]
    numbers: int
    conditions: int
    tables: int

    def __str__(self) -> str:
        hold = f"{len(self.findings)} do not hold" if self.findings else "all hold"
        compared = f"{self.numbers} numbers, {self.conditions} orderings and {self.tables} tables"
        return f"{compared} compared with the results; {hold}"


def parse(claims_text: str) -> dict[str, list[Entry]]:
    """The entries under each heading. Raises ReportError naming a line that is none."""
    claims, entries = {}, None
    for number, line in enumerate(claims_text.split("\n"), start=1):
        words = " ".join(line.split())
        if line.startswith("## ") and words[3:] not in claims:
            entries = claims[words[3:]] = []
        elif not words or re.match(r"#(\s|$)", line):
            continue
        elif entries and line[0] == " " and (words == NO_RESULT or _CONDITION.fullmatch(words)):
            entries[-1].conditions.append(words)
        elif entries is not None and line[0] not in " #":
            entries.append(Entry(number, words))
        else:
            raise ReportError(f"claims.txt, line {number}, is not understood: {words!r}")
    return claims


def check(
    notebook: dict, results: dict, claims_text: str, readme: str = "", *, outputs: bool = True
) -> Report:
    """Compare a notebook and the README's text with the results of a run.

    Without `outputs` the captions and tables, which a running notebook can not see, are left out.
    Raises ReportError for a line of the list that can not be understood.
    """
    shown = _shown(notebook) if outputs else []
    left_out = {name for name, there in (("Captions", outputs), ("README", readme)) if not there}
    claims = {name: c for name, c in parse(claims_text).items() if name not in left_out}
    sentences = _sentences(_texts(notebook, shown, readme))
    listed, findings = _match(sentences, claims)
    there = {(kind, number) for kind, number, *_ in shown}
    there |= {("Section", sentence.where.partition(" ")[0].rstrip(".")) for sentence in sentences}
    for sentence in sentences:
        faults = [*_faults(sentence, listed.get(sentence), results)]
        faults += _dead_references(sentence, there) if outputs else []
        words = " ".join(sentence.words.split())
        findings += [Finding(sentence.where, words, fault) for fault in faults]
    if not results.get("trials", {}).get("current", True):
        why = "python -m report.tools.recipes makes it anew"
        findings.append(Finding("report/recipes.json", "of other training code or recipes", why))
    findings += _table_findings(shown, results) if outputs else []
    entries = [entry for entries in claims.values() for entry in entries]
    numbers = sum(len(entry.sources) for entry in entries)
    conditions = sum(condition != NO_RESULT for entry in entries for condition in entry.conditions)
    return Report(findings, numbers, conditions, len(results.get("tables", {})) if outputs else 0)


def update(notebook: dict, results: dict, claims_text: str, readme: str = "") -> tuple[dict, str]:
    """Notebook and README with every number rewritten from the results.

    What is not in the list or has no value stays as it is, and so do captions, which are made by
    code: `check` names them.
    """
    texts = _texts(notebook, [], readme)
    sentences = _sentences(texts)
    listed, _ = _match(sentences, parse(claims_text))
    for sentence in reversed([s for s in sentences if s in listed]):  # so that no place moves
        entry = listed[sentence]
        match = entry.pattern.fullmatch(sentence.words)
        for group, source in reversed([*enumerate(entry.sources, start=1)]):
            number, fault = _expected(results, source, match[group])
            start, end = (sentence.start + place for place in match.span(group))
            text = texts[sentence.text]
            texts[sentence.text] = text if fault else text[:start] + number + text[end:]
    notebook, (*cells, section) = copy.deepcopy(notebook), texts
    for cell, text in zip(_text_cells(notebook), cells, strict=True):
        cell["source"] = text
    return notebook, README_SECTION.sub(lambda _: section, readme)


def summary_markdown(report: Report) -> str:
    """The report as Markdown: one sentence if everything holds, else also what does not."""
    lines = [f"- *{f.where}*: {f.sentence} ({f.why})" for f in report.findings]
    return "\n".join([f"**Text against results.** {report}.", *([""] if lines else []), *lines])


def summary_of_run(results: dict, mode: str = "") -> str:
    """For the notebook's last cell: its text as saved against the results in memory, as Markdown.

    `mode` is the study's: the text speaks of full runs ("") only.
    """
    notebook, listed = Path("Task4_Autoencoders.ipynb"), Path("report/claims.txt")
    if mode or not (notebook.is_file() and listed.is_file()):
        why = f"the text is about a full run, this is a {mode} run" if mode else f"no {listed}"
        return f"**Text against results.** Not compared: {why}."
    saved = nbformat.read(notebook, as_version=4)
    return summary_markdown(check(saved, results, listed.read_text("utf-8"), outputs=False))


def look_up(results: dict, path: str):
    """The value at a dotted path of the results; of measured values their mean.

    A path may begin with a model's id ("vae3-400-20.test_loss.sd"), a comparison's or ranking's
    name ("a.test_loss.verdict"), or at the top ("settings.epochs"). Raises KeyError naming the
    missing part.
    """
    parts = path.split(".")
    sections = [results.get(name, {}) for name in ("models", "comparisons", "rankings")]
    value = next((section for section in sections if parts[0] in section), results)
    for part in parts:
        if not isinstance(value, dict) or part not in value:
            raise KeyError(f"results have no '{path}' (stopped at '{part}')")
        value = value[part]
    return value["mean"] if isinstance(value, dict) and "mean" in value else value


def format_like(value: float, written: str) -> str:
    """`value` with the decimals, sign style and thousands separators of `written`, or in words."""
    if written[0].isalpha():
        word = SPELT.get(round(value), str(round(value)))
        return word.capitalize() if written[0].isupper() else word
    decimals = len(written.partition(".")[2])
    text = f"{abs(round(value, decimals)):{',' if ',' in written else ''}.{decimals}f}"
    sign = MINUS if round(value, decimals) < 0 else "+" if written.startswith("+") else ""
    return sign + text


def _text_cells(notebook: dict) -> list[dict]:
    return [
        cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown" and GENERATED not in cell["metadata"].get("tags", [])
    ]


def _shown(notebook: dict) -> list[tuple[str, str, str, str]]:
    """Kind, number and caption of every figure and table shown, and what follows the caption."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    texts = [output.get("data", {}).get("text/markdown", "") for output in outputs]
    return [found.groups() for found in map(CAPTION.fullmatch, texts) if found]


def _texts(notebook: dict, shown: list, readme: str) -> list[str]:
    """The cells' texts, the captions under a heading if there are any, the README's section."""
    captions = [f"{kind} {number}: {caption}" for kind, number, caption, _ in shown]
    section = README_SECTION.search(readme)
    return [
        *(cell["source"] for cell in _text_cells(notebook)),
        *(["\n\n".join(["# Captions", *captions])] if captions else []),
        section[0] if section else "",
    ]


def _sentences(texts: list[str]) -> list[Sentence]:
    """The sentences of all texts. A heading is one, without its marks, and stands below itself."""
    sentences, where = [], "top"
    for index, text in enumerate(texts):
        masked = NAMES.sub(lambda name: " " * len(name[0]), text)
        ends = [0, *(found.end() for found in END.finditer(text)), len(text)]
        for start, end in zip(ends[:-1], ends[1:], strict=True):
            words = text[start:end].rstrip()
            marks = re.match(r"\s*(#*)\s*", words)
            if marks[1]:
                is_readme = README_SECTION.match(text, start)
                where = "README" if is_readme else words[marks.end() :].split("\n")[0]
            start, end = start + marks.end(), start + len(words)
            sentences.append(Sentence(where, index, start, text[start:end], masked[start:end]))
    return sentences


def _match(sentences: list[Sentence], claims: dict[str, list[Entry]]) -> tuple[dict, list[Finding]]:
    """Sentence -> its entry, the first one after the entry before; and entries without one."""
    listed, findings = {}, []
    for where, entries in claims.items():
        left = [sentence for sentence in sentences if sentence.where == where]
        if not left:
            findings.append(Finding("claims.txt", where, "the text has no such heading"))
            continue
        for entry in entries:
            found = [i for i, s in enumerate(left) if entry.pattern.fullmatch(s.words)]
            if found:
                listed[left[found[0]]] = entry
                left = left[found[0] + 1 :]
            else:
                why = f"claims.txt, line {entry.line}: not in the text, or only earlier"
                findings.append(Finding(where, entry.words, why))
    return listed, findings


def _faults(sentence: Sentence, entry: Entry | None, results: dict) -> Iterator[str]:
    """What is wrong with a sentence, given its entry of the list."""
    numbers = list(NUMBER.finditer(sentence.masked))
    orderings = ORDERING.findall(sentence.masked)
    if not entry:
        if numbers or orderings:
            said = ", ".join([*(number[0] for number in numbers), *orderings])
            yield f"not in claims.txt in these words, but says: {said}"
        return
    match = entry.pattern.fullmatch(sentence.words)
    for number in numbers:
        if not any(start <= number.start() < end for start, end in match.regs[1:]):
            yield f"the number {number[0]} has no source"
    for written, source in zip(match.groups(), entry.sources, strict=True):
        expected, fault = _expected(results, source, written)
        if fault or written.replace("-", MINUS) != expected:
            yield fault or f"says {written}, but {expected} by {source}"
    if orderings and not entry.conditions:
        yield f"no condition for: {', '.join(orderings)}"
    for condition in entry.conditions:
        if condition != NO_RESULT and (fault := _unmet(results, condition)):
            yield fault


def _unmet(results: dict, condition: str) -> str:
    """Why a condition does not hold, or nothing."""
    left, sign, right = _CONDITION.fullmatch(condition).groups()
    try:
        a, b = _evaluate(results, left), _evaluate(results, right)
        return "" if COMPARISON[sign](a, b) else f"{condition} is false: {a} {sign} {b}"
    except NO_VALUE as error:
        return f"{condition} can not be decided: {error.args[0]}"


def _expected(results: dict, source: str, written: str) -> tuple[str, str]:
    """What should stand in the place of the number `written`, and a fault if that has no value."""
    try:
        return format_like(float(_evaluate(results, source)), written), ""
    except NO_VALUE as error:
        return "", f"{written} = {source} has no value: {error.args[0]}"


def _evaluate(results: dict, source: str):
    """The value of a number, a path, a word without a dot, or of several from left to right."""
    if " " in source:
        left, sign, right = source.rsplit(" ", 2)
        return ARITHMETIC[sign](_evaluate(results, left), _evaluate(results, right))
    if source.startswith("|"):
        return abs(_evaluate(results, source.strip("|")))
    if re.fullmatch(r"-?\d+(\.\d+)?", source):
        return float(source)
    return look_up(results, source) if "." in source else source


def _dead_references(sentence: Sentence, there: set) -> list[str]:
    """References to figures, tables and sections that are not `there`."""
    return [
        f"there is no {kind} {number}"
        for kind, numbers in REFERENCE.findall(sentence.words)
        for number in re.findall(r"\d+(?:\.\d+)*", numbers)
        if (kind, number) not in there
    ]


def _table_findings(shown: list, results: dict) -> list[Finding]:
    """Tables that are not shown as the results have them, padding aside."""
    want = {number: _rows(table) for number, table in results.get("tables", {}).items()}
    have = {number: _rows(table) for kind, number, _, table in shown if kind == "Table"}
    findings = []
    for number in {**want, **have}:
        rows = zip_longest(have.get(number, []), want.get(number, []), fillvalue="nothing")
        differ = [f"{a} stands here, {b} in the results" for a, b in rows if a != b]
        if differ:
            findings.append(Finding(f"Table {number}", differ[0], "not as in the results"))
    return findings


def _rows(table: str) -> list[str]:
    """The lines of a pipe table without what only pads its columns."""
    padding = r"(?<=\|) +| +(?=\|)|-+(?=-)"
    return [re.sub(padding, "", line.strip()) for line in str(table).strip().splitlines()]
