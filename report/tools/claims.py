"""The notebook's prose against the results of the run, by the list `report/claims.txt`.

The list is keyed by heading and follows the text. A line is one of

    237.5   vae4-400-100-20.test_loss               a number of the text, and its source
    lower   a.test_loss "the lower loss"            (or higher, tie) a verdict, and the words for it
    true    b.best == vae3-400-50 "(400, 50) wins"  a comparison of sources, and the words for it
    name    "the larger of two numbers"             words that state nothing measured

Sources are paths of the results and numbers, with + - * / between spaces, from left to right;
`|path|` is the absolute value. Two headings are not of the notebook: `Captions`, and `README` for
its section "What comes out". A line that begins with one # is a comment.
"""

from __future__ import annotations

import copy
import json
import operator
import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from pathlib import Path

from vae_helpers.plotting import tables

GENERATED = "claims-banner"  # tag of the cell that says at the top what does not hold
README_SECTION = re.compile(r"^## What comes out$.*?(?=^#+ |\Z)", re.MULTILINE | re.DOTALL)
MINUS, CELL_END = "\u2212", "\n\x1f\n"
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
NEGATION = re.compile(r"\b(?i:not|no|never|neither|nor|none|cannot|hardly|without)\b|n['\u2019]t\b")
# The end of a sentence, of an item of a list, of a table's row
END = re.compile(r"(?<=[.!?])[*_)\"]*\s+(?=[A-Z*(\[$\"])|\n\s*\n|\n(?=[-*|#]|\d+\. )")
REFERENCE = re.compile(
    r"\b(Figure|Table|Section)s?\s+(\d[\d.]*(?:(?:,| and| to)\s+\d[\d.]*)*)"
    r"(?!\d| of the (?:sheet|assignment))"
)
CAPTION = re.compile(r"\*\*(Figure|Table) (\d+)\.\*\* ([^\n]*)\n*(.*)", re.DOTALL)
OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
VERDICTS = ("lower", "higher", "tie")
_SOURCE = r"(?:\|[\w.-]+\||-?\w[\w.-]*)(?:\s+[-+*/]\s+(?:\|[\w.-]+\||-?\w[\w.-]*))*"
_QUOTED = r'\s+"(?P<words>.*\S.*)"\s*'
_LINES = [
    re.compile(rf"(?P<words>{DIGITS}|{WORD})\s+(?P<source>{_SOURCE})\s*"),
    re.compile(rf"(?P<kind>{'|'.join(VERDICTS)})\s+(?P<source>\w[\w.-]*){_QUOTED}"),
    re.compile(rf"(?P<kind>true)\s+(?P<source>{_SOURCE}\s+(?:[<>]=?|[!=]=)\s+{_SOURCE}){_QUOTED}"),
    re.compile(rf"(?P<kind>name){_QUOTED}"),
]
_NO_VALUE = (KeyError, ValueError, TypeError, ZeroDivisionError)


class ClaimsError(ValueError):
    """A line of the list that can not be understood."""


@dataclass(frozen=True)
class Entry:
    """One line of the list: its index, kind ("number", a verdict, "true", "name") and fields."""

    line: int
    words: str
    kind: str = "number"
    source: str = ""


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
    """What was found, and how many "number", "ordering", "name" and "table" were looked at."""

    findings: list[Finding]
    counts: Counter

    def __str__(self) -> str:
        n = self.counts
        return (
            f"{n['number']} numbers, {n['ordering']} orderings and {n['table']} tables "
            f"compared with the results, {n['name']} expressions listed as names; "
            f"{f'{len(self.findings)} do not' if self.findings else 'all'} hold"
        )


def parse(claims_text: str) -> dict[str, list[Entry]]:
    """The entries under each heading. Raises ClaimsError naming a line that is none."""
    claims, entries = {}, None
    for index, line in enumerate(claims_text.split("\n")):
        found = next(filter(None, (pattern.fullmatch(line) for pattern in _LINES)), None)
        if line.startswith("## ") and line[3:].strip() not in claims:
            entries = claims[line[3:].strip()] = []
        elif found and entries is not None:
            entries.append(Entry(index, **found.groupdict()))
        elif line.strip() and not re.match(r"#(\s|$)", line):
            raise ClaimsError(f"claims.txt, line {index + 1}, is not understood: {line.strip()!r}")
    return claims


def check(
    notebook: dict, results: dict, claims_text: str, readme: str = "", *, outputs: bool = True
) -> Report:
    """Compare a notebook (as JSON) and the README's text with the results of a run.

    Without `outputs` the captions and tables, which a running notebook can not see, are left out.
    Raises ClaimsError for a line of the list that can not be understood.
    """
    claims, shown = parse(claims_text), _shown(notebook) if outputs else []
    sections = _sections(CELL_END.join(_texts(notebook, shown, readme)))
    names = {name for name, _ in sections}
    left_out = {name for name, there in (("Captions", outputs), ("README", readme)) if not there}
    findings = [
        Finding("claims.txt", name, "the text has no such heading")
        for name in claims
        if name not in names and name not in left_out
    ]
    there = {(kind, number) for kind, number, *_ in shown}
    there |= {("Section", name.split()[0].rstrip(".")) for name in names}
    for name, text in sections:
        faults = _faults(text, claims.get(name, []), results)
        for found in REFERENCE.finditer(text) if outputs else []:
            faults += [
                (found[0], f"there is no {found[1]} {number}")
                for number in re.findall(r"\d+(?:\.\d+)*", found[2])
                if (found[1], number) not in there
            ]
        findings += [Finding(name, " ".join(words.split()), why) for words, why in faults]
    counts = Counter(
        "ordering" if entry.kind in (*VERDICTS, "true") else entry.kind
        for entries in claims.values()
        for entry in entries
    )
    if not results.get("trials", {}).get("current", True):
        findings.append(
            Finding(
                "report/recipes.json",
                "of other training code or other recipes",
                "python -m report.tools.recipes makes it anew",
            )
        )
    if outputs:
        findings += _table_findings(shown, results)
        counts["table"] = len(results.get("tables", {}))
    return Report(findings, counts)


def update(notebook: dict, results: dict, claims_text: str, readme: str = "") -> tuple:
    """(notebook, list, README) with every number rewritten from the results.

    What has no place in the text or no value stays as it is, and so do captions, which are made by
    code: `check` names them.
    """
    lines, claims, new_text = claims_text.split("\n"), parse(claims_text), ""
    for name, text in _sections(CELL_END.join(_texts(notebook, [], readme))):
        pairs, new = _match(text, claims.get(name, []))[0], {}
        for entry, (start, end) in pairs:
            number, fault = _expected(results, entry, text[start:end])
            if entry.kind == "number" and not fault:
                new[start, end] = number
                old = re.match(r"\S+\s+", lines[entry.line])[0]
                lines[entry.line] = (
                    f"{number.replace(MINUS, '-'):<{len(old) - 1}} " + lines[entry.line][len(old) :]
                )
        for entry, (start, end) in pairs:
            if entry.kind != "number":  # the words may hold numbers
                inside = {span: n for span, n in new.items() if start <= span[0] < end}
                words = " ".join(_replaced(text[:end], inside)[start:].split())
                lines[entry.line] = lines[entry.line].split('"')[0] + f'"{words}"'
        new_text += _replaced(text, new)
    notebook, (*texts, section) = copy.deepcopy(notebook), new_text.split(CELL_END)
    for cell, text in zip(_text_cells(notebook), texts, strict=True):
        cell["source"] = text
    return notebook, "\n".join(lines), README_SECTION.sub(lambda _: section, readme)


def summary_markdown(report: Report) -> str:
    """The report as Markdown: one sentence if everything holds, else also what does not."""
    lines = [f"- *{f.where}*: {f.sentence} ({f.why})" for f in report.findings]
    return "\n".join([f"**Text against results.** {report}.", *([""] if lines else []), *lines])


def summary_of_run(results: dict, mode: str = "", path: str = "Task4_Autoencoders.ipynb") -> str:
    """For the notebook's last cell: its text as saved against the results in memory, as Markdown.

    `mode` is the study's: the text speaks of full runs ("") only.
    """
    claims = Path(path).parent / "report" / "claims.txt"
    if mode or not (Path(path).is_file() and claims.is_file()):
        why = f"the text is about a full run, this is a {mode} run" if mode else f"no {claims}"
        return f"**Text against results.** Not compared: {why}."
    saved = json.loads(Path(path).read_text(encoding="utf-8"))
    return summary_markdown(check(saved, results, claims.read_text("utf-8"), outputs=False))


def _text_cells(notebook: dict) -> list[dict]:
    return [
        cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown" and GENERATED not in cell["metadata"].get("tags", [])
    ]


def _shown(notebook: dict) -> list[tuple[str, str, str, str]]:
    """Kind, number and caption of every figure and table shown, and what follows the caption."""
    texts = [
        "".join(output.get("data", {}).get("text/markdown", ""))
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
    ]
    return [found.groups() for found in map(CAPTION.fullmatch, texts) if found]


def _texts(notebook: dict, shown: list, readme: str) -> list[str]:
    """The cells' texts, the captions under a heading if there are any, the README's section."""
    captions = [f"{kind} {number}: {caption}" for kind, number, caption, _ in shown]
    section = README_SECTION.search(readme)
    return [
        *("".join(cell["source"]) for cell in _text_cells(notebook)),
        *(["\n\n".join(["# Captions", *captions])] if captions else []),
        section[0] if section else "",
    ]


def _sections(document: str) -> list[tuple[str, str]]:
    """Headings and texts, which joined give the document."""
    parts = re.split(r"(?m)^(?=#+ )", document)
    names = [re.match(r"(?:#+ +(.*))?", part)[1] or "top" for part in parts]
    return [
        ("README" if README_SECTION.match(part) else name.strip(), part)
        for name, part in zip(names, parts, strict=True)
    ]


def _match(text: str, entries: list[Entry]) -> tuple[list, list]:
    """Pairs (entry, its span in the text), and pairs (words, fault) of what has no partner."""
    pairs, faults, at = [], [], 0
    for entry in [entry for entry in entries if entry.kind != "number"]:
        words = re.compile(r"\s+".join(map(re.escape, entry.words.split())))
        found = words.search(text, at)
        if found:
            at = found.start()
            pairs.append((entry, found.span()))
        else:
            where = "only earlier" if words.search(text) else "not"
            faults.append((entry.words, f"claims.txt, line {entry.line + 1}: {where} in the text"))
    masked = _masked(text, [span for entry, span in pairs if entry.kind == "name"])
    spans = [found.span() for found in NUMBER.finditer(masked)]
    wanted = [entry for entry in entries if entry.kind == "number"]
    steps = SequenceMatcher(
        None,
        [_plain(text[s:e]) for s, e in spans],
        [_plain(entry.words) for entry in wanted],
        autojunk=False,
    )
    for _, i, i_end, j, j_end in steps.get_opcodes():
        if i_end - i == j_end - j:
            pairs += zip(wanted[j:j_end], spans[i:i_end], strict=True)
        else:
            faults += [
                (_sentence(text, s), f"the number {text[s:e]} is not listed")
                for s, e in spans[i:i_end]
            ]
            faults += [
                (e.words, f"claims.txt, line {e.line + 1}: this number is not there")
                for e in wanted[j:j_end]
            ]
    return pairs, faults


def _faults(text: str, entries: list[Entry], results: dict) -> list[tuple[str, str]]:
    """Pairs (sentence, what is wrong) of one section."""
    pairs, faults = _match(text, entries)
    for entry, (start, end) in pairs:
        fault, written = "", text[start:end]
        if entry.kind == "number":
            expected, fault = _expected(results, entry, written)
            listed = f"claims.txt, line {entry.line + 1}"
            for said, by in () if fault else ((expected, entry.source), (entry.words, listed)):
                if _plain(written) != _plain(said):
                    fault = fault or f"says {written}, but {said} by {by}"
        elif entry.kind != "name":
            fault = _ordering_fault(results, entry)
        faults += [(_sentence(text, start), fault)] if fault else []
    quoted = [(span, entry.kind != "name") for entry, span in pairs if entry.kind != "number"]
    masked = _masked(text, [])
    for start, end in _sentences(text):
        words = list(ORDERING.finditer(masked, start, end))
        if words or any(states and s < end and start < e for (s, e), states in quoted):
            words += NEGATION.finditer(masked, start, end)
        loose = [
            w[0] for w in words if not any(s <= w.start() and w.end() <= e for (s, e), _ in quoted)
        ]
        if loose:
            faults.append((text[start:end], f"outside every quotation: {', '.join(loose)}"))
    return faults


def _ordering_fault(results: dict, entry: Entry) -> str:
    """Empty if the verdict or comparison holds."""
    try:
        if entry.kind in VERDICTS:
            verdict = tables.look_up(results, f"{entry.source}.verdict")
            return "" if verdict == entry.kind else f"the verdict of {entry.source} is {verdict}"
        left, sign, right = re.split(r"\s+([<>]=?|[!=]=)\s+", entry.source)
        a, b = _evaluate(results, left), _evaluate(results, right)
        return "" if OPERATORS[sign](a, b) else f"{entry.source} is false: {a} {sign} {b}"
    except _NO_VALUE as error:
        return f"{entry.kind} {entry.source} can not be decided: {error.args[0]}"


def _expected(results: dict, entry: Entry, written: str) -> tuple[str, str]:
    """What should stand in the place of the number `written`, and a fault if that has no value."""
    try:
        return format_like(float(_evaluate(results, entry.source)), written), ""
    except _NO_VALUE as error:
        return "", f"{written} = {entry.source} has no value: {error.args[0]}"


def _evaluate(results: dict, source: str):
    """The value of a source; a word without a dot is itself, such as a model's id."""
    first, *rest = [
        _operand(results, word) if word not in OPERATORS else word for word in source.split()
    ]
    for sign, operand in zip(rest[::2], rest[1::2], strict=True):
        first = OPERATORS[sign](first, operand)
    return first


def _operand(results: dict, word: str):
    if word.startswith("|"):
        return abs(_operand(results, word.strip("|")))
    if re.fullmatch(r"-?\d+(\.\d+)?", word):
        return float(word)
    return tables.look_up(results, word) if "." in word else word


def format_like(value: float, written: str) -> str:
    """`value` with the decimals, sign style and thousands separators of `written`, or in words."""
    if written[0].isalpha():
        word = SPELT.get(round(value), str(round(value)))
        return word.capitalize() if written[0].isupper() else word
    decimals = len(written.partition(".")[2])
    text = f"{abs(round(value, decimals)):{',' if ',' in written else ''}.{decimals}f}"
    sign = MINUS if round(value, decimals) < 0 else "+" if written.startswith("+") else ""
    return sign + text


def _table_findings(shown: list, results: dict) -> list[Finding]:
    """Stored tables that are not, line by line, what the results give, and missing ones."""
    stored = {number: table for kind, number, _, table in shown if kind == "Table"}
    recipes, findings = results.get("tables", {}), []
    for number in {**stored, **recipes}:
        try:
            expected = tables.Table(**recipes[number]).markdown(results).strip().splitlines()
            have = stored.get(number, "").strip().splitlines()
            differ = [line for line in unified_diff(expected, have, lineterm="", n=0)][2:5]
        except _NO_VALUE as error:
            differ = [f"the results do not have it: {error.args[0]}"]
        if differ:
            findings.append(Finding(f"Table {number}", " ".join(differ), "not as in the results"))
    return findings


def _plain(number: str) -> str:
    return number.replace(MINUS, "-").lower()


def _masked(text: str, spans: list) -> str:
    """The text with names and `spans` blanked, everything else in its place."""
    text = NAMES.sub(lambda found: " " * len(found[0]), text)
    return _replaced(text, {(start, end): " " * (end - start) for start, end in spans})


def _replaced(text: str, new: dict) -> str:
    for (start, end), words in sorted(new.items(), reverse=True):
        text = text[:start] + words + text[end:]
    return text


def _sentences(text: str) -> list[tuple[int, int]]:
    ends = [0, *(found.end() for found in END.finditer(text)), len(text)]
    return list(zip(ends[:-1], ends[1:], strict=True))


def _sentence(text: str, at: int) -> str:
    return next(text[start:end] for start, end in _sentences(text) if start <= at < end)
