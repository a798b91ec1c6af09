"""Checked prose: what holds passes; one changed number, word, ordering or table does not."""

import copy

import nbformat
import pytest
from conftest import python
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from report.tools import ReportError, claims
from vae_helpers.plotting.tables import pipe_table

TABLE = pipe_table(["Model", "Loss"], [["vae3", "239.47"], ["vae4", "237.53"]])
RESULTS = {
    "models": {
        "vae4": {"test_loss": {"mean": 237.534}, "active": {"mean": 7.4}},
        "vae3": {"test_loss": {"mean": 239.471, "sd": 0.2}},
    },
    "comparisons": {"a": {"test_loss": {"mean": -1.937, "verdict": "lower"}}},
    "rankings": {"b": {"best": "vae4"}},
    "judge": {"accuracy": 0.9145},
    "data": {"size": 60000},
    "tables": {"1": TABLE},
}
TEXT = """# Title

## 1. Loss

Yes: four layers have the lower loss, 237.5 nats against 239.5. The difference
is \u22121.9 nats (Figure 1, Table 1); two nats in all. The judge is right on 91.5 % of
60,000 images. Of the larger of two sizes nothing is said: (400, 20), 784-400-20, $x^2$.

They use seven latents.
"""
LIST = """# a comment
## 1. Loss
Yes: four layers have the lower loss, {{vae4.test_loss}} nats against {{vae3.test_loss}}.
    a.test_loss.verdict == lower
    vae3.test_loss - 1 > vae4.test_loss
    b.best == vae4
The difference is {{a.test_loss}} nats (Figure 1, Table 1); {{|a.test_loss|}} nats in all.
The judge is right on {{judge.accuracy * 100}} % of {{data.size}} images.
Of the larger of two sizes nothing is said: (400, 20), 784-400-20, $x^2$.
    orders no result
They use {{vae4.active}} latents.
## Captions
Figure 1: Losses of {{vae4.active - 2}} runs.
Lower is better.
    orders no result
## README
| a | lowest {{vae4.test_loss}} |
    orders no result
"""
README = "# Project\n\n12 things\n\n## What comes out\n\n| a | lowest 237.5 |\n\n## Other\n\n13\n"


def notebook(text=TEXT, table=TABLE, runs=5):
    figure = f"**Figure 1.** Losses of {runs} runs. Lower is better."
    outputs = [
        new_output("display_data", {"text/markdown": text})
        for text in (figure, f"**Table 1.** Both models.\n\n{table}")
    ]
    first, _, last = text.rpartition("\n\n")
    cells = [new_markdown_cell(first), new_code_cell("", outputs=outputs), new_markdown_cell(last)]
    return new_notebook(cells=cells)


def found(text=TEXT, results=RESULTS, listed=LIST, readme=README, **more):
    return claims.check(notebook(text, **more), results, listed, readme).findings


def test_text_that_holds_has_no_findings_and_is_counted():
    report = claims.check(notebook(), RESULTS, LIST, README)
    assert report.findings == []
    assert str(report) == "9 numbers, 3 orderings and 1 tables compared with the results; all hold"
    assert claims.summary_markdown(report) == f"**Text against results.** {report}."
    assert not claims.check(notebook(runs=6), RESULTS, LIST, outputs=False).findings


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("237.5 nats", "237.6 nats", "says 237.6, but 237.5"),  # a number
        ("\u22121.9", "1.9", "says 1.9, but \u22121.9"),  # a lost sign
        ("91.5", "91.4", "but 91.5 by judge"),
        ("seven latents", "eight latents", "says eight, but seven"),  # in words
        ("60,000 images", "6,000 images", "says 6,000"),
        ("They use", "All 12 use", "in these words, but says: 12"),
        ("They use", "With three nats they use", "but says: three, seven"),
        ("The judge", "On 12 of them the judge", "line 8: not in the text"),
        ("Yes: four", "No: four", "but says: 237.5, 239.5, No, lower"),  # an answer
        ("the lower loss", "the higher loss", "line 3: not in the text"),
        ("They use", "Four is superior. They use", "but says: superior"),
        ("loss, 237.5", "loss and higher KL, 237.5", "Yes, lower, higher"),
        ("They use", "It is not so. They use", None),  # a negation that orders nothing
        ("The judge", "It is not better. The judge", "but says: better"),
        ("Yes: four", "We do not say yes: four", "not in the text"),
        ("four layers have", "three layers have", "not in the text"),
        ("two nats in all", "hardly two nats in all", "not in the text"),
        ("Figure 1,", "Figure 99,", "there is no Figure 99"),
        ("(Figure 1, Table 1)", "(Figure 1, Tables 1 and 2)", "there is no Table 2"),
        ("They use", "By Section 4.2 they use", "there is no Section 4.2"),
        ("They use", "Figure 17 of the sheet has 28 \u00d7 28 pixels. They use", None),
        ("## 1. Loss", "## 1. Losses", "the text has no such heading"),
        ("against 239.5. The", "against\n239.5. The", None),  # other line breaks
    ],
)
def test_one_change_of_the_text_is_found_and_named(old, new, why):
    assert old in TEXT
    findings = found(TEXT.replace(old, new, 1))
    assert findings == [] if why is None else any(why in f.why for f in findings), findings


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("    orders no result\nThey", "They", "no condition for: larger"),
        ("{{judge.accuracy * 100}}", "91.5", "the number 91.5 has no source"),
        ("{{judge.accuracy * 100}}", "{{judge.accuracy ^ 2}}", "has no value"),
        ("{{judge.accuracy * 100}}", "{{}}", "has no value"),
        ("{{judge.accuracy * 100}}", "{{judge}}", "has no value"),
        ("## 1. Loss\n", "## 1. Loss\nThey use {{vae4.active}} latents.\n", "or only earlier"),
    ],
)
def test_one_change_of_the_list_is_found_and_named(old, new, why):
    assert old in LIST and any(why in f.why for f in found(listed=LIST.replace(old, new)))


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("comparisons.a.test_loss.verdict", "tie", "== lower is false: tie == lower"),
        ("rankings.b.best", "vae3", "b.best == vae4 is false"),
        ("models.vae3.test_loss.mean", 238.0, "is false: 237.0 > 237.534"),
        ("models.vae3.test_loss.mean", float("nan"), "is false"),
        ("models.vae4.active.mean", 12.2, "says seven, but twelve"),
        ("judge", {}, "91.5 = judge.accuracy * 100 has no value"),
        ("comparisons.a", {}, "a.test_loss.verdict == lower can not be decided"),
        ("tables", {"1": TABLE.replace("237.53", "237.54")}, "not as in the results"),
        ("tables", {"1": TABLE, "2": TABLE}, "not as in the results"),
        ("tables", {}, "not as in the results"),
        ("trials", {"current": False}, "report.tools.recipes makes it anew"),
    ],
)
def test_other_results_are_found(path, value, why):
    results = copy.deepcopy(RESULTS)
    *parents, last = path.split(".")
    place = results
    for part in parents:
        place = place[part]
    place[last] = value
    assert any(why in f.why for f in found(results=results))


def test_tables_are_compared_but_for_their_padding():
    assert found(table="| Model | Loss |\n|---|--:|\n| vae3 | 239.47 |\n| vae4 | 237.53 |") == []
    for change in ("\n| vae9 | 1.00 |", "-:", "vae3"):
        other = TABLE.replace(change, "x") if change in TABLE else TABLE + change
        assert [f.where for f in found(table=other)] == ["Table 1"]


def test_numbers_of_captions_and_readme_are_claims():
    assert "says 6" in found(runs=6)[0].why
    assert "says 237.6" in found(readme=README.replace("237.5", "237.6"))[0].why


def test_a_bad_line_of_the_list_is_named():
    for line in ("## 1. Loss", "##", "    lower a.test_loss", "    a.b < c.d < e.f", "    name"):
        with pytest.raises(ReportError, match=r"claims.txt, line 20, is not understood"):
            claims.parse(LIST + "\n" + line)
    with pytest.raises(ReportError, match="line 1, "):
        claims.parse("A sentence under no heading.")


def test_paths_lead_to_values_of_the_results():
    look_up = claims.look_up
    assert (
        look_up(RESULTS, "vae3.test_loss") == look_up(RESULTS, "models.vae3.test_loss") == 239.471
    )
    assert (look_up(RESULTS, "vae3.test_loss.sd"), look_up(RESULTS, "data.size")) == (0.2, 60000)
    with pytest.raises(KeyError, match="no 'vae3.loss.sd' .stopped at 'loss'"):
        look_up(RESULTS, "vae3.loss.sd")


def test_numbers_are_written_as_they_were():
    for value, written, expected in [
        (240.119, "240.12", "240.12"),
        (1234.5, "1,200", "1,234"),
        (-0.04, "0.1", "0.0"),
        (-3.21, "1.0", "\u22123.2"),
        (3.21, "+1.0", "+3.2"),
        (0.996, "0.99", "1.00"),
        (7.4, "Five", "Seven"),
        (23.0, "five", "23"),
    ]:
        assert claims.format_like(value, written) == expected


def test_update_rewrites_text_and_readme_and_goes_on_where_a_path_is_missing():
    results = copy.deepcopy(RESULTS)
    results["models"]["vae4"]["test_loss"]["mean"] = 99.96
    results["comparisons"]["a"]["test_loss"] = {"mean": -2.5, "verdict": "higher"}
    del results["judge"]
    nb, readme = claims.update(notebook(), results, LIST, README)
    text = nb.cells[0].source
    assert "lower loss, 100.0 nats against 239.5." in text and "is \u22122.5 nats" in text
    assert "91.5 %" in text, "what has no value stays"
    assert "lowest 100.0" in readme and "12 things" in readme and readme.endswith("13\n")
    assert [f.why for f in claims.check(nb, results, LIST, readme).findings] == [
        "a.test_loss.verdict == lower is false: higher == lower",
        "91.5 = judge.accuracy * 100 has no value: "
        "results have no 'judge.accuracy' (stopped at 'judge')",
    ]
    same = claims.update(before := notebook(), RESULTS, LIST, README)
    assert same == (before, README)


def test_findings_come_out_on_a_console_without_the_minus_sign(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "results.json").write_text("{}")
    nb = new_notebook(cells=[new_markdown_cell("It is \u22121.9.")])
    nbformat.write(nb, tmp_path / "n.ipynb")
    command = ["-m", "report.tools", tmp_path / "n.ipynb", "--check"]
    done = python(*command, PYTHONIOENCODING="cp1252")
    assert done.returncode == 1 and "but says: ?1.9" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_last_cell_can_ask_for_the_summary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "a quick run" in claims.summary_of_run(RESULTS, "quick")
    assert "Not compared" in claims.summary_of_run(RESULTS)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "claims.txt").write_text(LIST, encoding="utf-8")
    nbformat.write(notebook(TEXT.replace("91.5", "91.4")), "Task4_Autoencoders.ipynb")
    summary = claims.summary_of_run(RESULTS)
    assert "1 do not hold" in summary and "(says 91.4, but 91.5 by judge" in summary
