"""The committed notebook against the committed results."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from report.tools import claims, execute

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def notebook():
    return execute.read(ROOT / "Task4_Autoencoders.ipynb")


@pytest.fixture(scope="module")
def texts():
    paths = ("report/results.json", "report/claims.txt", "README.md")
    results, listed, readme = ((ROOT / path).read_text(encoding="utf-8") for path in paths)
    return json.loads(results), listed, readme


def test_every_number_ordering_reference_and_table_holds(notebook, texts):
    report = claims.check(notebook, *texts)
    assert [str(f) for f in report.findings] == []
    assert {"Abstract", "Captions", "README"} <= set(claims.parse(texts[1]))
    assert report.counts["number"] > 50 and report.counts["ordering"] > 10


def test_changing_any_number_or_verdict_of_the_results_fails(notebook, texts):
    """Each source of the list matters: without it, or with another value, something is found."""
    results, listed, readme = texts
    other = json.loads(json.dumps(results), parse_float=lambda text: 1.1 * float(text) + 1)
    whys = " ".join(f.why for f in claims.check(notebook, other, listed, readme).findings)
    entries = [e for entries in claims.parse(listed).values() for e in entries]
    measured = [e for e in entries if e.kind == "number" and "." in e.words]
    assert sum(e.source in whys for e in measured) > 0.9 * len(measured)
    turned = json.dumps(results).replace('"lower"', '"LOWER"').replace('"tie"', '"TIE"')
    whys = [f.why for f in claims.check(notebook, json.loads(turned), listed, readme).findings]
    verdicts = sum(e.kind in ("lower", "tie") for e in entries)
    assert sum(why.startswith("the verdict of") for why in whys) >= verdicts


def test_it_is_clean_and_about_the_real_data(notebook, texts):
    nbformat.validate(notebook)
    assert execute.mode(notebook) == "" and len(nbformat.writes(notebook)) < 3_000_000
    texts_shown = [
        str(value)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind, value in output.get("data", {"": output.get("text")}).items()
        if kind != "application/pdf" and not kind.startswith("image/")
    ]
    for text in [*texts_shown, *(cell.source for cell in notebook.cells)]:
        assert not re.search(r"(?<![\w.])(?:/(?:home|Users|root|tmp)/|[A-Z]:\\)", text)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(
        o.output_type == "error" or o.get("name") == "stderr" for cell in code for o in cell.outputs
    )
    assert not any("transient" in cell.metadata for cell in code)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert not execute.with_tag(notebook, claims.GENERATED)
    assert 'RUNS_DIR = "runs"' in execute.with_tag(notebook, "parameters")[0].source
    assert len(execute.with_tag(notebook, "claims-check")) == 1
    assert texts[0]["data"]["name"] == "Fashion-MNIST" and texts[0]["settings"]["seed_count"] >= 3


def test_a_bare_nbconvert_hides_the_code(notebook):
    raw = [cell for cell in notebook.cells if cell.cell_type == "raw"]
    assert [cell.metadata.raw_mimetype for cell in raw] == ["application/pdf"]
    assert r"\renewenvironment{tcolorbox}" in raw[0].source and "secnumdepth" in raw[0].source
    assert raw[0].metadata.jupyter.source_hidden


def test_headings_are_numbered_in_order_and_each_subtask_has_its_comparisons(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    count, numbered = [], re.findall(r"(?m)^##(#*) (\d[\d.]*) (.+)$", text)
    for hashes, written, title in numbered:
        count = (count + [0] * (len(hashes) + 1))[: len(hashes) + 1]
        count[-1] += 1
        assert written.rstrip(".") == ".".join(map(str, count)), title
    for number in "345":
        section = [title for _, written, title in numbered if written.startswith(number)]
        for wanted in ("Loss comparison", "Visual comparison", "Which model is better, and why"):
            assert sum(wanted in title for title in section) == 1, (number, wanted)


def test_a_description_stands_before_every_code_cell(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type != "raw"]
    for before, cell in zip(cells[:-1], cells[1:], strict=True):
        if cell.cell_type == "code":
            described = before.cell_type == "markdown" or cell.source.lstrip().startswith("#")
            assert described, cell.source[:80]


def test_moved_alone_it_says_what_is_missing(notebook, tmp_path):
    (first,) = [cell for cell in notebook.cells if "find_spec" in cell.source]
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert code.index(first.source) == 1  # after the parameters, before anything is imported
    done = subprocess.run(
        [sys.executable, "-c", first.source],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "needs the folder vae_helpers beside it: get the whole repository" in done.stderr
