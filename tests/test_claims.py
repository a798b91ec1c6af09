"""Checked prose: what holds passes; one changed number, word, ordering or table does not."""

import copy
import os
import subprocess
import sys

import nbformat
import pytest

from report.tools import claims
from vae_helpers.plotting.tables import Table

RESULTS = {
    "models": {
        "vae4": {"test_loss": {"mean": 237.534}, "active": {"mean": 7.4}},
        "vae3": {"test_loss": {"mean": 239.471}},
    },
    "comparisons": {"a": {"test_loss": {"mean": -1.937, "verdict": "lower"}}},
    "judge": {"accuracy": 0.9145},
    "data": {"size": 60000},
    "tables": {
        "1": {
            "header": ["Model", "Loss"],
            "rows": [[name, f"{{{name}.test_loss:2}}"] for name in ("vae3", "vae4")],
        }
    },
}
TEXT = """# Title

## 1. Loss

Yes: four layers have the lower loss, 237.5 nats against 239.5. The difference
is \u22121.9 nats (Figure 1, Table 1); about two nats separate them. The judge is right on 91.5 % of
60,000 images. Of the larger of two numbers nothing is said: (400, 20), 784-400-20, $x^2$.

They use seven latents.
"""
LIST = """# a comment
## 1. Loss
lower  a.test_loss "Yes: four layers have the lower loss"
237.5  vae4.test_loss
239.5  vae3.test_loss
true   vae3.test_loss - 1 > vae4.test_loss "lower loss, 237.5 nats against 239.5."
-1.9   a.test_loss
two    |a.test_loss|
91.5   judge.accuracy * 100
60,000 data.size
name   "the larger of two numbers"
seven  vae4.active
## Captions
name   "Lower is better"
5 vae4.active - 2
## README
237.5 vae4.test_loss
name "lowest"
"""
README = "# Project\n\n12 things\n\n## What comes out\n\n| a | lowest 237.5 |\n\n## Other\n\n13\n"


def table(results):
    return Table(**RESULTS["tables"]["1"]).markdown(results)


def markdown(text):
    return {"cell_type": "markdown", "source": text.splitlines(True), "metadata": {}}


def notebook(text=TEXT, extra_row=""):
    rows = table(RESULTS) + extra_row
    outputs = [
        {"data": {"text/markdown": "**Figure 1.** Losses of 5 runs. Lower is better."}},
        {"data": {"text/markdown": f"**Table 1.** Both models.\n\n{rows}"}},
    ]
    code = {"cell_type": "code", "source": "", "metadata": {}, "outputs": outputs}
    first, _, last = text.rpartition("\n\n")
    return {"cells": [markdown(first), code, markdown(last)]}


def found(text=TEXT, results=RESULTS, listed=LIST, readme=README, **options):
    return claims.check(notebook(text, **options), results, listed, readme).findings


def test_text_that_holds_has_no_findings_and_is_counted():
    report = claims.check(notebook(), RESULTS, LIST, README)
    assert report.findings == []
    assert report.counts == {"number": 9, "ordering": 2, "name": 3, "table": 1}
    assert claims.summary_markdown(report).endswith("listed as names; all hold.")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("237.5 nats", "237.6 nats", "says 237.6, but 237.5"),  # a number
        ("\u22121.9", "1.9", "says 1.9, but \u22121.9"),  # a lost sign
        ("91.5", "91.4", "but 91.5 by judge"),
        ("They use", "All 12 use", "the number 12 is not listed"),
        (" (Figure 1, Table 1)", " (12, Figure 1, Table 1)", "the number 12 is not listed"),
        ("is \u22121.9 nats", "is large", "this number is not there"),
        ("seven latents", "eight latents", "says eight, but seven"),  # in words
        ("They use", "With three nats they use", "the number three is not listed"),
        ("60,000 images", "6,000 images", "says 6,000"),
        ("Yes: four", "No: four", "line 3: not in the text"),  # an answer
        ("the lower loss", "the higher loss", "line 3: not in the text"),
        ("They use", "Four is superior. They use", "outside every quotation: superior"),
        ("They use", "Three layers have more. They use", "outside every quotation: more"),
        ("loss, 237.5", "loss and higher KL, 237.5", "outside every quotation: higher"),
        ("Yes: four", "It is not so. Yes: four", None),  # a negation that orders nothing
        ("against 239.5.", "against 239.5. It is not better.", "quotation: better, not"),
        ("Yes: four", "We do not say yes: Yes: four", "outside every quotation: not"),
        ("Figure 1,", "Figure 99,", "there is no Figure 99"),
        ("Figure 1, Table 1", "Figure 1, Tables 1 and 2", "there is no Table 2"),
        ("Figure 1,", "Section 4.2,", "there is no Section 4.2"),
        ("Figure 1,", "Figure 17 of the sheet, 28 \u00d7 28 pixels,", None),
        ("## 1. Loss", "## 1. Losses", "the text has no such heading"),
    ],
)
def test_one_change_of_the_text_is_found_and_named(old, new, why):
    assert old in TEXT
    findings = found(TEXT.replace(old, new, 1))
    assert findings == [] if why is None else any(why in f.why for f in findings), findings


def test_quotations_follow_the_order_of_the_text():
    line = 'name   "the larger of two numbers"\n'
    moved = LIST.replace(line, "").replace("# a comment\n## 1. Loss\n", "## 1. Loss\n" + line)
    assert any("only earlier in the text" in f.why for f in found(listed=moved))


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("comparisons", "a", "test_loss", "verdict"), "tie", "the verdict of a.test_loss is tie"),
        (("models", "vae3", "test_loss", "mean"), 238.0, "is false: 237.0 > 237.534"),
        (("models", "vae3", "test_loss", "mean"), float("nan"), "is false"),
        (("models", "vae4", "active", "mean"), 12.2, "says seven, but twelve"),
        (("judge",), {}, "91.5 = judge.accuracy * 100 has no value"),
        (("comparisons", "a"), {}, "lower a.test_loss can not be decided"),
    ],
)
def test_other_results_are_found(path, value, why):
    results = copy.deepcopy(RESULTS)
    place = results
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert any(why in f.why for f in found(results=results))


def test_a_row_appended_to_a_stored_table_is_found():
    assert [f.where for f in found(extra_row="\n| vae9 | 1.00 |")] == ["Table 1"]
    more = {**RESULTS, "tables": {**RESULTS["tables"], "2": RESULTS["tables"]["1"]}}
    assert [f.where for f in found(results=more)] == ["Table 2"]
    assert [f.where for f in found(results={**RESULTS, "tables": {}})] == ["Table 1"]


def test_numbers_of_captions_and_readme_are_claims():
    wrong = notebook()
    caption = "**Figure 1.** Losses of 6 runs. Lower is better."
    wrong["cells"][1]["outputs"][0]["data"]["text/markdown"] = caption
    assert "says 6" in claims.check(wrong, RESULTS, LIST, README).findings[0].why
    assert "says 237.6" in found(readme=README.replace("237.5", "237.6"))[0].why
    assert not claims.check(notebook(), RESULTS, LIST, outputs=False).findings


@pytest.mark.parametrize(
    "line",
    [
        "237.5",
        "lower a.test_loss",
        'lower "words"',
        'true a.b "x"',
        'true a.b is c.d "x"',
        "name x",
        'lowest a.b "x"',
        "237.5 <!-- a.b -->",
        '7 a.b "x"',
        "## 1. Loss",
        "1 a.b -2",
        'name ""',
    ],
)
def test_a_bad_line_of_the_list_is_named(line):
    with pytest.raises(claims.ClaimsError, match=r"claims.txt, line 20, is not understood"):
        claims.parse(LIST + "\n" + line)


@pytest.mark.parametrize(
    ("value", "written", "expected"),
    [
        (240.119, "240.12", "240.12"),
        (1234.5, "1,200", "1,234"),
        (-0.04, "0.1", "0.0"),
        (-3.21, "1.0", "\u22123.2"),
        (3.21, "+1.0", "+3.2"),
        (0.996, "0.99", "1.00"),
        (7.4, "Five", "Seven"),
        (23.0, "five", "23"),
    ],
)
def test_numbers_are_written_as_they_were(value, written, expected):
    assert claims.format_like(value, written) == expected


def test_update_rewrites_text_list_and_readme_and_goes_on_where_a_path_is_missing():
    results = copy.deepcopy(RESULTS)
    results["models"]["vae4"]["test_loss"]["mean"] = 99.96
    results["comparisons"]["a"]["test_loss"] = {"mean": -2.5, "verdict": "higher"}
    del results["judge"]
    nb, listed, readme = claims.update(notebook(), results, LIST, README)
    text = "".join(nb["cells"][0]["source"])
    assert "lower loss, 100.0 nats against 239.5." in text and "is \u22122.5 nats" in text
    assert "91.5 %" in text, "what has no value stays"
    assert '"lower loss, 100.0 nats against 239.5."' in listed and "\n-2.5   a.test_loss" in listed
    assert "lowest 100.0" in readme and "12 things" in readme and readme.endswith("13\n")
    nb["cells"][1]["outputs"][1]["data"]["text/markdown"] = "**Table 1.** Both models.\n\n" + table(
        results
    )
    left = claims.check(nb, results, listed, readme).findings
    assert [f.why for f in left] == [
        "the verdict of a.test_loss is higher",
        "91.5 = judge.accuracy * 100 has no value: "
        "results have no 'judge.accuracy' (stopped at 'judge')",
    ]
    same = claims.update(notebook(), RESULTS, LIST, README)
    assert same[1:] == (LIST, README)
    assert "".join(same[0]["cells"][0]["source"]) == "".join(notebook()["cells"][0]["source"])


def test_findings_come_out_on_a_console_without_the_minus_sign(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "results.json").write_text("{}")
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("It is \u22121.9.")])
    nbformat.write(nb, tmp_path / "n.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "report.tools", str(tmp_path / "n.ipynb"), "--check"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 1 and "the number ?1.9 is not listed" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_last_cell_can_ask_for_the_summary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "a quick run" in claims.summary_of_run(RESULTS, "quick")
    assert "Not compared" in claims.summary_of_run(RESULTS)
