"""The committed notebook against the committed results."""

import copy
import json
import re
from pathlib import Path

import pytest

from report.tools import claims

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def notebook():
    return json.loads((ROOT / "Task4_Autoencoders.ipynb").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results():
    return json.loads((ROOT / "report" / "results.json").read_text(encoding="utf-8"))


def test_every_number_ordering_and_table_holds(notebook, results):
    assert [str(f) for f in claims.check_notebook(notebook, results)] == []


def test_it_is_about_the_real_data(notebook, results):
    assert results["data"]["name"] == "Fashion-MNIST"
    assert results["data"]["sizes"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert all(len(model["seeds"]) >= 3 for model in results["models"].values())


def claim_cells(notebook):
    return [c for c in notebook["cells"] if claims.CLAIM.search("".join(c["source"]))]


def test_changing_any_claimed_number_fails(notebook, results):
    assert len(claim_cells(notebook)) > 10
    for index, cell in enumerate(claim_cells(notebook)):
        changed = copy.deepcopy(notebook)
        target = claim_cells(changed)[index]
        text = "".join(cell["source"])
        match = claims.CLAIM.search(text)
        digit = match.end("number") - 1
        wrong = str((int(text[digit]) + 1) % 10)
        target["source"] = text[:digit] + wrong + text[digit + 1 :]
        assert claims.check_notebook(changed, results), text[:80]


def test_reversing_an_ordering_in_the_results_fails(notebook, results):
    verdict = results["comparisons"]["a"]["test_total"]
    opposite = {"lower": "higher", "higher": "lower", "tie": "lower"}[verdict["verdict"]]
    changed = copy.deepcopy(results)
    changed["comparisons"]["a"]["test_total"]["verdict"] = opposite
    assert claims.check_notebook(notebook, changed)


def test_each_subtask_has_its_comparisons_under_their_own_headings(notebook):
    cells = [c for c in notebook["cells"] if c["cell_type"] == "markdown"]
    text = "\n".join("".join(c["source"]) for c in cells)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    for number in "345":
        section = [h for h in headings if h.startswith(number)]
        for wanted in ("Loss comparison", "Visual comparison", "Which model is better, and why"):
            assert sum(wanted in h for h in section) == 1, (number, wanted)


def test_a_description_stands_before_every_code_section(notebook):
    cells = notebook["cells"]
    described = True
    for before, cell in zip(cells[:-1], cells[1:], strict=True):
        if cell["cell_type"] == "code" and before["cell_type"] == "code":
            described = len("".join(before["source"]).splitlines()) > 0
    assert described and cells[0]["cell_type"] == "markdown"
