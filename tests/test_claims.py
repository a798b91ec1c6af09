"""Checked prose: what holds passes; one changed number, ordering or table does not."""

import copy
import json

import pytest

from report.tools import claims
from vae_helpers.plotting.images import tables

RESULTS = {
    "models": {
        name: {
            "label": label, "parameters": 1234, "encoder": "784-2-1", "decoder": "1-2-784",
            "latent_layer": "$z$, 1",
            "mean": {"test": {"total": total}}, "sd": {"test": {"total": 0.05}},
        }
        for name, label, total in [("a", "A", 240.12), ("b", "B", 239.26)]
    },
    "comparisons": {"a": {"total": {"mean": -0.874, "low": -1.0, "high": -0.7,
                                    "verdict": "lower"}}},
    "judge": {"accuracy": 0.9145},
    "data": {"size": 60000},
    "tables": {"t": {"function": "architecture_table", "arguments": [["a", "b"]]}},
}  # fmt: skip

GOOD = """
Model B reaches 239.3<!--models.b.mean.test.total--> nats,
0.87<!--|comparisons.a.total.mean|--> less; the difference is
\u22120.9<!--comparisons.a.total.mean-->. The lower loss is
B's<!--check: comparisons.a.total.verdict == lower-->
<!--check: models.b.mean.test.total < models.a.mean.test.total-->.
Of 60,000<!--data.size--> images, 91.5<!--judge.accuracy*100--> % are right (400, 20), 784-400-20,
$x^2$, see Table 3 and Section 6.1, 4-layer, 28x28, `k=1`, with 95 % intervals.
"""  # fmt: skip


def problems(text, results=RESULTS, comparison=True):
    return claims.check_text(results, text, "here", comparison)


def notebook(text=GOOD, table=None):
    table = table or tables.render(RESULTS, "architecture_table", [["a", "b"]])
    return {
        "cells": [
            {"cell_type": "markdown", "source": ["## Loss comparison\n", text],
             "metadata": {"tags": ["comparison"]}},
            {"cell_type": "code", "source": "", "metadata": {},
             "outputs": [{"data": {"text/markdown": f"**Table 1.** Models.\n\n{table}"}}]},
        ]
    }  # fmt: skip


def test_text_that_holds_has_no_findings():
    assert problems(GOOD) == []
    assert claims.check_notebook(notebook(), RESULTS) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("239.3<", "239.2<", "239.2"),  # a changed number
        ("239.3<", "239.25<!--x.y--> 239.3<", "x.y"),  # a source that is not there
        ("0.87<", "0.88<", "0.88"),
        ("\u22120.9<", "0.9<", "0.9"),  # a lost sign
        ("91.5<", "91.4<", "91.4"),
        ("60,000<", "61,000<", "61,000"),
        ("Model B", "Model B of 12", "no source"),  # an undeclared number
        ("== lower", "== higher", "does not hold"),
        ("total < models.a", "total > models.a", "does not hold"),
        ("== lower", "is lower", "cannot evaluate"),
    ],
)
def test_one_change_is_found_and_named(old, new, word):
    assert old in GOOD
    found = problems(GOOD.replace(old, new, 1))
    assert len(found) == 1 and word in found[0].why


def test_reversed_ordering_in_the_results_is_found():
    reversed_results = copy.deepcopy(RESULTS)
    a, b = (reversed_results["models"][n]["mean"]["test"] for n in "ab")
    a["total"], b["total"] = b["total"], a["total"]
    found = claims.check_notebook(notebook(), reversed_results)
    assert any("does not hold" in f.why for f in found)
    assert any("239.3" in f.why for f in found)


def test_ordering_words_without_a_check_are_found_in_comparisons_only():
    text = "B is better than A."
    assert [f.why for f in problems(text)] == ["orders something without a check"]
    assert problems(text, comparison=False) == []


def test_stored_table_that_differs_from_the_results_is_found():
    changed = tables.render(RESULTS, "architecture_table", [["a", "b"]]).replace("1,234", "1,235")
    found = claims.check_notebook(notebook(table=changed), RESULTS)
    assert [f.why for f in found] == ["the stored table does not equal the results"]


@pytest.mark.parametrize(
    ("value", "written", "expected"),
    [
        (240.119, "240.12", "240.12"), (1234.5, "1,200", "1,234"), (-0.04, "0.1", "0.0"),
        (-3.21, "1.0", "\u22123.2"), (3.21, "+1.0", "+3.2"), (0.996, "0.99", "1.00"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_they_were(value, written, expected):
    assert claims.format_like(value, written) == expected


def test_update_rewrites_numbers_and_leaves_checks(tmp_path, capsys):
    stale = GOOD.replace("239.3<", "111.1<").replace("== lower", "== higher")
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook(stale)))
    (tmp_path / "r.json").write_text(json.dumps(RESULTS))
    arguments = [str(tmp_path / "n.ipynb"), str(tmp_path / "r.json")]
    assert claims.main(arguments) == 1
    assert "111.1" in capsys.readouterr().out
    assert claims.main([*arguments, "--update"]) == 1  # the false check is still false
    shown = capsys.readouterr().out
    assert "does not hold" in shown and "1 do not hold" in shown
    text = "".join(json.loads((tmp_path / "n.ipynb").read_text())["cells"][0]["source"])
    assert "239.3<" in text and "== higher" in text
