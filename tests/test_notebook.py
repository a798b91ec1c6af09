"""The committed notebook against the committed results."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from report.tools import claims, execute
from vae_helpers.study import code_digest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def notebook():
    return execute.read(ROOT / "Task4_Autoencoders.ipynb")


@pytest.fixture(scope="module")
def texts():
    paths = ("report/results.json", "report/claims.txt", "README.md")
    results, listed, readme = ((ROOT / path).read_text(encoding="utf-8") for path in paths)
    return json.loads(results), listed, readme


@pytest.mark.usefixtures("committed_results_are_current")
def test_every_number_ordering_reference_and_table_holds(notebook, texts):
    report = claims.check(notebook, *texts)
    assert [str(f) for f in report.findings] == []
    assert {"Abstract", "Captions", "README"} <= set(claims.parse(texts[1]))
    assert report.numbers > 50 and report.conditions > 10
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@pytest.mark.usefixtures("committed_results_are_current")
def test_changing_any_number_or_verdict_of_the_results_fails(notebook, texts):
    """Each source of the list matters: with other values something is found."""
    results, listed, readme = texts
    other = json.loads(json.dumps(results), parse_float=lambda text: 1.1 * float(text) + 1)
    other = json.loads(json.dumps(other).replace('"lower"', '"LOWER"').replace('"tie"', '"TIE"'))
    whys = " ".join(f.why for f in claims.check(notebook, other, listed, readme).findings)
    entries = [entry for entries in claims.parse(listed).values() for entry in entries]
    paths = [s for e in entries for s in e.sources if re.fullmatch(r"\|?[a-z][^ ]+", s)]
    measured = [s for s in paths if isinstance(claims.look_up(results, s.strip("|")), float)]
    assert sum(source in whys for source in measured) > 0.9 * len(measured) > 50
    verdicts = {c for e in entries for c in e.conditions if c.endswith((" lower", " tie"))}
    assert verdicts and all(f"{condition} is false" in whys for condition in verdicts)


def test_it_is_clean_and_about_the_real_data(notebook, texts):
    nbformat.validate(notebook)
    assert execute.mode(notebook) == "" and len(nbformat.writes(notebook)) < 3_000_000
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    shown = [cell.source for cell in notebook.cells]
    for output in [o for cell in notebook.cells for o in cell.get("outputs", [])]:
        assert output.output_type != "error" and output.get("name") != "stderr"
        data = output.get("data", {"text": output.get("text")}).items()
        shown += [str(value) for kind, value in data if kind.startswith("text")]
    for text in shown:
        assert not re.search(r"(?<![\w.])(?:/(?:home|Users|root|tmp)/|[A-Z]:\\)", text)
    assert not any("transient" in cell.metadata for cell in notebook.cells)
    assert not execute.with_tag(notebook, claims.GENERATED)
    assert 'RUNS_DIR = "runs"' in execute.with_tag(notebook, "parameters")[0].source
    assert len(execute.with_tag(notebook, "claims-check")) == 1
    assert texts[0]["data"]["name"] == "Fashion-MNIST" and texts[0]["settings"]["seed_count"] >= 3
    assert len(claims.parse(texts[1])) > 10


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


@pytest.mark.parametrize("beside", [[], ["vae_helpers"], ["vae_helpers", "report"]])
def test_moved_alone_it_says_what_is_missing_before_anything_is_trained(notebook, tmp_path, beside):
    """Alone, beside an installed package, and where an earlier run of it left a folder report."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    (first,) = [source for source in code if "find_spec" in source]
    assert code.index(first) == 1  # after the parameters, before anything is imported
    if "vae_helpers" in beside:
        (tmp_path / "vae_helpers").symlink_to(ROOT / "vae_helpers")
    if "report" in beside:
        (tmp_path / "report").mkdir()
    command = [sys.executable, "-c", first]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "vae_helpers and report/tools beside it: get the whole repository" in done.stderr
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_stored_runs_are_of_this_code_and_small():
    folder = ROOT / "report" / "runs"
    if not folder.exists():
        pytest.skip("there are no stored runs yet: the next complete run writes them")
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    assert about["code"] == code_digest(), "report/runs is of other code: train and pack anew"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 40e6
