"""The command that runs the notebook and builds its PDF: what it writes, and what it refuses."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbconvert import HTMLExporter, PDFExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from report.tools import __main__ as report
from report.tools import execute as notebook
from report.tools import paper, pdf, system

needs_latex = pytest.mark.skipif(bool(system.missing()), reason="LaTeX, pandoc or fonts missing")
CODE = "surprising_name = sorted([3, 1, 2])"
PARAMETERS = """\
SEEDS = 3
EPOCHS = 3
DATA = 'auto'
FRESH = False
QUICK = False
SHORT = False
RUNS_DIR = 'runs'
AUTHOR = ''
"""
STUDY = """\
import os, pathlib
from types import SimpleNamespace
from IPython.display import display
mode = 'stand-in' if DATA == 'stand-in' else 'quick' if QUICK else 'short' if SHORT else ''
study = SimpleNamespace(mode=mode)
results = '{"comparisons": {"a": {"x": {"mean": 2.04, "verdict": "tie"}}}, "tables": {}}'
pathlib.Path(os.environ['VAE_RESULTS_DIR'], 'results.json').write_text(results)
if mode:
    display({'text/markdown': f'**This is a {mode} run.**'}, raw=True, metadata={'run_mode': mode})
"""


def tagged(cell, tag):
    cell.metadata["tags"] = [tag]
    return cell


def sample(*cells, parameters=PARAMETERS):
    """A small notebook in the form of the real one."""
    start = [
        new_markdown_cell("# A title with 100 % & more"),
        tagged(new_markdown_cell("**Abstract.** Three answers."), "abstract"),
        tagged(new_code_cell(parameters), "parameters"),
        new_code_cell(STUDY),
    ]
    return new_notebook(cells=[*start, *cells])


def saved(folder, nb, name="Sample.ipynb"):
    nbformat.write(nb, folder / name)
    return folder / name


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def markdown_output(text, **metadata):
    return new_output("display_data", {"text/markdown": text}, metadata=metadata)


def picture_output(width=3, height=1):
    figure, ax = plt.subplots(figsize=(width, height))
    ax.plot([1, 2])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    plt.close(figure)
    return new_output("display_data", {"image/png": base64.b64encode(buffer.getvalue()).decode()})


def text_of(content, tmp_path):
    (tmp_path / "a.pdf").write_bytes(content)
    command = ["pdftotext", "-layout", tmp_path / "a.pdf", "-"]
    return " ".join(subprocess.run(command, capture_output=True, text=True).stdout.split())


# --- Markdown to LaTeX ------------------------------------------------------------------------


@needs_latex
def test_text_can_not_inject_latex():
    latex = paper.to_latex(r"\input{/etc/passwd} 50 % of x_1 & #2 `\write18{ls}` {=latex}")
    for command in (r"\input", r"\write"):
        assert command not in latex
    assert r"\textbackslash" in latex and r"50 \%" in latex and r"x\_1 \&" in latex


@needs_latex
@pytest.mark.parametrize(
    "formula",
    [
        r"$\input{/etc/passwd}$",
        "$$\n\\def\\x{1}\n$$",
        r"$^^5cinput{a}$",
        "![a](/etc/x.png)",
        r"$a\) \input{/etc/passwd} \(b$",
        r"$\InputIfFileExists{a}{}{}$",
        r"$\newwrite\x$",
    ],
)
def test_formulas_can_not_read_write_or_define(formula):
    assert r"\frac" in paper.to_latex(r"$\frac{1}{2} \leq \inf$")
    with pytest.raises(ValueError, match="not allowed in a formula"):
        paper.to_latex(formula)


@needs_latex
def test_tables_are_numbered_references_are_links_and_sizes_do_not_break():
    latex = paper.to_latex(
        "See Table 3, Figures 1 and 2, and Figure 2 of the sheet: (400, 10), 784-400-100-20.\n\n"
        "**Table 3.** Losses,\nin nats.\n\n| a       | b |\n|---------|--:|\n| 1 | 2 |\n\nAfter.\n"
    )
    assert r"\begin{tablehere}{3}{Losses, in nats.}" in latex
    table = latex[latex.index(r"\begin{tablehere}") : latex.index(r"\end{tablehere}")]
    assert "longtable" not in latex and table.count(r"\toprule") == table.count(r"\bottomrule") == 1
    assert table.count("a & b") == table.count("1 & 2") == 1
    assert r"\hyperref[table:3]{Table~3}" in latex and r"\hyperref[figure:1]{Figures~1}" in latex
    assert "Figure 2 of the sheet" in latex and "\\hyperref[figure:2]" not in latex
    assert r"\mbox{(400, 10)}" in latex and r"\mbox{784-400-100-20}" in latex


@needs_latex
def test_title_abstract_notice_and_the_lines_below_the_title():
    banner = new_code_cell("", outputs=[markdown_output("**Stand-in.**", run_mode="stand-in")])
    stale = tagged(new_markdown_cell("Two do not hold."), "claims-banner")
    lines = 'COURSE = ""\nAUTHOR = "Zoë O\'N & Co"  # name\nDATE = "5. May 2026"'
    latex, _ = paper.document(sample(stale, banner, parameters=lines), "x")
    start = latex[latex.index("\\begin{document}") :]
    for part in (
        r"A title with 100 \% \& more\par}",
        r"\smallskip Zoë O'N \& Co\par",
        r"\smallskip 5. May 2026\par",
        r"\noticehere{Two do not hold.",
        r"\textbf{Stand-in.}}",
        r"\abstracthere{Three answers.}",
    ):
        assert start.count(part) == 1
        start = start[start.index(part) :]
    empty, _ = paper.document(sample(), "x")
    assert "\\par}\n\n\\end{center}" in empty and r"\noticehere{" not in empty


def test_a_wrong_figure_or_table_number_is_refused():
    caption = new_code_cell("", outputs=[markdown_output("**Figure 2.** Something.")])
    with pytest.raises(ValueError, match=r"Figures must be numbered .* got \[2\]"):
        paper.document(sample(caption), "x")
    with pytest.raises(ValueError, match=r"Tables must be numbered .* got \[5\]"):
        paper.document(sample(new_markdown_cell("**Table 5.** x\n\n| a |\n|---|\n| 1 |\n")), "x")


# --- the PDF and its checks -------------------------------------------------------------------


def test_log_check_finds_each_fault_and_lets_small_ones_pass():
    log = """
Overfull \\hbox (1.9pt too wide) in paragraph at lines 1--2
Overfull \\hbox (2.1pt too wide) in alignment at lines 3--4
LaTeX Warning: Hyper reference `figure:9' on page 1 undefined on input line 7.
Underfull \\hbox (badness 10000) in paragraph at lines 8--9
"""
    found = pdf.log_warnings(log)
    assert len(found) == 2 and "figure:9" in found[0] and "2.1pt" in found[1]


@pytest.mark.parametrize(
    "line",
    [
        CODE,
        "surprising_name  = sorted([3,\n   1, 2])",
        "import torch",
        "Out[3]:",
        "<Figure size 640x480 with 1 Axes>",
        r"\begin{align}",
    ],
)
def test_text_check_finds_code_prompts_and_raw_latex(line):
    nb = sample(new_code_cell(CODE))
    assert pdf.text_problems(f"Some text.\n{line}\nMore text.", nb)
    assert not pdf.text_problems("Some text.", nb)


def test_text_check_allows_prose_that_stands_in_the_code_as_a_long_string():
    nb = sample(new_code_cell('show("""\nA whole sentence of a caption\n""")'))
    assert not pdf.text_problems("A whole sentence of a caption", nb)


@needs_latex
def test_pdf_has_title_lines_captions_and_references_but_no_code(tmp_path):
    table = "**Table 1.** 5 % of `a_b`.\n\n| a | b |\n|:--|--:|\n| 1 | $\\beta$ |"
    caption = r"**Figure 1.** Costs \input{/etc/passwd} of 5 % & $x_1$."
    outputs = [picture_output(), markdown_output(caption), markdown_output(table)]
    nb = sample(
        new_markdown_cell("## 1. Data\n\nSee Figure 1 and Table 1."),
        new_code_cell(CODE, outputs=outputs),
        tagged(new_markdown_cell("Only on the screen"), "screen-only"),
        new_code_cell("", outputs=[new_output("display_data", {"text/html": "<b>code</b>"})]),
        new_markdown_cell("## References\n\n1. One."),
        parameters='AUTHOR = "N. N."\nCOURSE = "Seminar"\nDATE = "5 May 2026"',
    )
    before = json.dumps(nb)
    built = pdf.build_pdf(nb)
    assert (built.pages, built.warnings, json.dumps(nb)) == (1, [], before)
    text = text_of(built.content, tmp_path)
    for expected in (
        "A title with 100 % & more N. N. Seminar 5 May 2026 Abstract. Three answers.",
        r"Figure 1. Costs \input{/etc/passwd} of 5 % &",
        "Table 1. 5 % of a_b.",
        "1. Data",
        "[1] One.",
    ):
        assert expected in text
    assert not re.search("sorted|screen", text)
    assert built == pdf.build_pdf(nb), "the same notebook must give the same bytes"


@needs_latex
def test_a_figure_shrinks_into_its_page_and_large_gaps_are_named():
    def figures(height):
        outputs = [picture_output(6, height), markdown_output("**Figure 1.** x")]
        lines = "\n\n".join(["A line."] * 23)
        return sample(
            new_markdown_cell(lines),
            new_code_cell("", outputs=outputs),
            new_markdown_cell("After.\n\n" * 9),
        )

    assert pdf.build_pdf(figures(3.4)).warnings == []
    assert "page 1 ends with" in " ".join(pdf.build_pdf(figures(6)).warnings)


@needs_latex
def test_faults_in_the_text_fail_the_pdf_and_blemishes_are_listed():
    wide = f"**Table 1.** Wide.\n\n| a | b |\n|---|---|\n| {'wide' * 14} | {'wide' * 14} |"
    warnings = pdf.build_pdf(sample(new_markdown_cell(f"See Figure 7.\n\n{wide}"))).warnings
    assert "figure:7" in warnings[0] and "Overfull \\hbox" in warnings[1]
    with pytest.raises(pdf.ReportError) as error:
        pdf.build_pdf(sample(new_markdown_cell("A Greek `\N{GREEK SMALL LETTER BETA}`.")))
    assert "Missing character: There is no β" in str(error.value) and "U+03B2" in str(error.value)


@needs_latex
def test_latex_can_not_read_files_outside_its_folder(tmp_path):
    folder = tmp_path / "tex"
    folder.mkdir()
    (tmp_path / "secret.tex").write_text("secret")
    source = "\\documentclass{article}\\begin{document}\\input{%s}\\end{document}"
    (folder / "report.tex").write_text(source % (tmp_path / "secret.tex"))
    with pytest.raises(pdf.ReportError, match="xelatex failed"):
        pdf._run_xelatex(folder)


@needs_latex
def test_bare_nbconvert_shows_no_code_in_the_pdf_but_in_html(tmp_path):
    source = r"""\renewenvironment{tcolorbox}[1][]{\setbox0\vbox\bgroup}{\egroup}
\setcounter{secnumdepth}{0}"""
    raw = new_raw_cell(source, metadata={"raw_mimetype": "application/pdf"})
    nb = sample(raw, new_markdown_cell("## 1. Data"), new_code_cell(CODE))
    content, _ = PDFExporter().from_notebook_node(nb)
    text = text_of(content, tmp_path)
    assert "surprising" not in text and "1. Data" in text and "1.1 1. Data" not in text
    nb.cells[-1].metadata["transient"] = {"remove_source": True}
    notebook.clean(nb)
    html, _ = HTMLExporter().from_notebook_node(nb)
    assert "surprising_name" in html and 'id="1.-Data"' in html and "tcolorbox" not in html
    assert "tcolorbox" not in text_of(pdf.build_pdf(nb).content, tmp_path)


# --- running the notebook ---------------------------------------------------------------------


def test_parameters_are_read_as_the_type_of_their_default():
    nb = sample()
    notebook.set_parameters(nb, {"QUICK": "false", "EPOCHS": "7", "DATA": "3", "RUNS_DIR": "ü x"})
    set_ = PARAMETERS.replace("= 3\nDATA = 'auto'", "= 7\nDATA = '3'").replace("'runs'", "'ü x'")
    assert nb.cells[2].source == set_
    for name, value in [
        ("QUICK", "0"),
        ("QUICK", 1),
        ("EPOCHS", True),
        ("EPOCHS", "many"),
        ("EPOCHS", 1.5),
        ("DATA", None),
    ]:
        with pytest.raises(notebook.NotebookError, match=f"the parameter {name} must be"):
            notebook.set_parameters(sample(), {name: value})
    with pytest.raises(notebook.NotebookError, match="EPOCH; there are SEEDS, EPOCHS, DATA"):
        notebook.set_parameters(sample(), {"EPOCH": 1})
    with pytest.raises(notebook.NotebookError, match="tagged `parameters`, found 0"):
        notebook.set_parameters(new_notebook(cells=[]), {"EPOCHS": 1})


def test_what_is_saved_is_clean():
    nb = sample(new_markdown_cell("[a](#1.-Data)\n\n## 1. Data"), new_code_cell("1"))
    cell = nb.cells[-1]
    cell.metadata.update(execution={"iopub": "2025"}, transient={"remove_source": True})
    cell.outputs.append(new_output("stream", name="stderr", text="a warning"))
    nb.metadata.update(widgets={}, kernelspec={"name": "x", "display_name": "x"})
    assert notebook.clean(nb) == ["a warning"]
    assert cell.metadata == {} and cell.outputs == []
    assert "widgets" not in nb.metadata and nb.metadata.kernelspec.name == "python3"


# --- the command ------------------------------------------------------------------------------


@needs_latex
def test_a_good_run_writes_notebook_results_and_pdf(tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", sys.executable)
    warns = new_code_cell(
        "import sys; print('noise', file=sys.stderr)\nEPOCHS, sys.executable == os.environ['MINE']"
    )
    path = saved(tmp_path, sample(warns))
    assert report.main([str(path), "--fresh", "-p", "RUNS_DIR", f"{tmp_path}/ü x"]) == 0
    nb = nbformat.read(path, as_version=4)
    assert [c.execution_count for c in nb.cells if c.cell_type == "code"] == [1, 2, 3]
    assert nb.cells[-1].outputs[0].data["text/plain"] == "(3, True)"
    nbformat.validate(nb)
    assert notebook.with_tag(nb, "parameters")[0].source == PARAMETERS
    assert names(tmp_path) == ["Sample.ipynb", "report/Sample.pdf", "report/results.json"]


@needs_latex
@pytest.mark.parametrize(
    ("options", "mode"),
    [
        (["--data", "stand-in"], "stand-in"),
        (["-p", "QUICK", "true"], "quick"),
        (["--short"], "short"),
    ],
)
def test_a_run_of_another_kind_has_its_own_names_and_a_banner(tmp_path, options, mode):
    path = saved(tmp_path, sample())
    before = path.read_bytes()
    assert report.main([str(path), *options, "-p", "RUNS_DIR", f"{tmp_path}/runs"]) == 0
    assert path.read_bytes() == before
    made = nbformat.read(tmp_path / f"Sample.{mode}.ipynb", as_version=4)
    (parameters,) = notebook.with_tag(made, "parameters")
    kept = {"quick": "QUICK", "short": "SHORT"}.get(mode, "none")  # no folder of this machine
    assert parameters.source == PARAMETERS.replace(f"{kept} = False", f"{kept} = True")
    assert names(tmp_path) == [
        "Sample.ipynb",
        f"Sample.{mode}.ipynb",
        f"report/Sample.{mode}.pdf",
        f"report/results.{mode}.json",
    ]
    content = (tmp_path / "report" / f"Sample.{mode}.pdf").read_bytes()
    assert f"more This is a {mode} run. Abstract." in text_of(content, tmp_path)
    assert report.main([str(tmp_path / f"Sample.{mode}.ipynb"), "--pdf-only"]) == 0
    assert not (tmp_path / "report" / "Sample.pdf").exists()


@needs_latex
def test_numbers_follow_the_run_and_a_lost_verdict_stands_at_the_top(tmp_path, capsys):
    text = new_markdown_cell("## 1. Loss\n\nIt is 1.9 nats and lower.")
    path = saved(tmp_path, sample(text, tagged(new_code_cell("1"), "claims-check")))
    (tmp_path / "report").mkdir()
    claims = tmp_path / "report" / "claims.txt"
    claims.write_text(
        '## A title with 100 % & more\nname "100 % & more"\n'
        '## 1. Loss\n1.9 a.x\nlower a.x "1.9 nats and lower"\n'
    )
    assert report.main([str(path)]) == 0
    assert claims.read_text().endswith('\n2.0 a.x\nlower a.x "2.0 nats and lower"\n')
    assert "1. Loss: the verdict of a.x is tie\n    It is 2.0 nats" in capsys.readouterr().err
    for _ in range(2):  # the second time from the notebook that says so already
        nb = nbformat.read(path, as_version=4)
        assert nb.cells[1].metadata.tags == ["claims-banner"] and len(nb.cells) == 7
        assert nb.cells[1].source == nb.cells[-1].outputs[0].data["text/markdown"]
        content = (tmp_path / "report" / "Sample.pdf").read_bytes()
        assert text_of(content, tmp_path).index("1 do not hold") < 200
        assert report.main([str(path)]) == 0
    results = tmp_path / "report" / "results.json"
    results.write_text(results.read_text().replace("tie", "lower"))
    assert report.main([str(path), "--update"]) == 0
    assert "claims-banner" not in path.read_text()
    assert "; all hold" in path.read_text() and "; all hold" in capsys.readouterr().err


@needs_latex
def test_blemishes_are_fatal_in_ci_and_with_strict_only(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CI", raising=False)
    wide = new_markdown_cell(f"| a |\n|---|\n| {'wide' * 40} |")
    path = saved(tmp_path, sample(wide, new_markdown_cell("See Figure 7.")))
    assert report.main([str(path), "--pdf-only"]) == 0
    assert capsys.readouterr().out.count("Not well set, ") == 1
    assert report.main([str(path), "--pdf-only", "--strict"]) == 1
    monkeypatch.setenv("CI", "true")
    assert report.main([str(path), "--pdf-only"]) == 1


@needs_latex
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (new_code_cell("study.nothing_there"), "nothing_there"),
        (new_code_cell("import os; os.write(2, b'bad_alloc'); os._exit(1)"), "bad_alloc"),
        (new_markdown_cell("Broken $\\frac{1}$."), "xelatex failed"),
    ],
    ids=["exception", "kernel death", "LaTeX error"],
)
def test_a_failed_run_says_why_and_changes_no_file(tmp_path, capsys, bad, message):
    path = saved(tmp_path, sample(new_markdown_cell("## 1. Here"), bad))
    (tmp_path / "report").mkdir()
    last_good = tmp_path / "report" / "Sample.pdf"
    last_good.write_bytes(b"last good")
    before = path.read_bytes()
    assert report.main([str(path)]) == 1
    assert message in capsys.readouterr().err
    assert path.read_bytes() == before and last_good.read_bytes() == b"last good"
    assert names(tmp_path) == ["Sample.ipynb", "report/Sample.pdf"]


def test_other_parameters_never_overwrite_the_committed_files(tmp_path, capsys):
    path = saved(tmp_path, sample())
    with pytest.raises(SystemExit):
        report.main([str(path), "-p", "EPOCHS", "1"])
    assert "--output-dir" in capsys.readouterr().err


def test_missing_tools_stop_the_run_before_it_starts(tmp_path, monkeypatch, capsys):
    path = saved(tmp_path, sample(new_code_cell("open('ran', 'w')")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert report.main([str(path)]) == 1
    assert "xelatex" in capsys.readouterr().err
    assert names(tmp_path) == ["Sample.ipynb"]


def test_install_goes_through_sudo_only_for_users(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert all(command[0] == "sudo" for command in system.apt_commands())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    update, install = system.apt_commands()
    assert update[0] == "env" and "texlive-xetex" in install


def test_all_files_are_written_or_none(tmp_path):
    good, blocked = tmp_path / "good", tmp_path / "file" / "bad"
    good.write_bytes(b"old")
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(OSError):
        report.write_all({good: b"new", blocked: b"new"})
    assert good.read_bytes() == b"old" and names(tmp_path) == ["file", "good"]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_of_a_cell_is_shown_on_a_terminal_and_now_and_then_in_a_log(
    tmp_path, monkeypatch, terminal
):
    monkeypatch.setattr(sys, "stderr", out := io.StringIO())
    monkeypatch.setattr(out, "isatty", lambda: terminal, raising=False)
    cell = (
        "import time\nbar = display({}, raw=True, display_id=True)\n"
        "for text in ('10 %', '20 %', ''):\n"
        "    bar.update({'text/plain': text} if text else {}, raw=True)"
    )
    notebook.execute(
        nb := sample(new_code_cell(cell), new_code_cell("1")),
        tmp_path,
        {"VAE_RESULTS_DIR": str(tmp_path)},
    )
    shown = out.getvalue().partition("[3/4]")[2]
    assert shown.partition("[4/4]")[0].split("\n", 1)[1] == (
        "\r10 %\r20 %\r    \r" if terminal else "10 %\n"
    )
    assert notebook.clean(nb) == [] and nb.cells[-2].outputs == []


@needs_latex
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_run_and_its_kernel_and_changes_no_file(tmp_path, number):
    waits = new_code_cell(
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    path = saved(tmp_path, sample(waits))
    before = path.read_bytes()
    command = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command += "; from report.tools import __main__ as report; sys.exit(report.main(sys.argv[1:]))"
    run = subprocess.Popen([sys.executable, "-c", command, path], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.2)
    run.send_signal(number)
    _, message = run.communicate(timeout=30)
    assert run.returncode == 1 and message.endswith("Interrupted. No file was changed.\n")
    assert "Traceback" not in message
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert path.read_bytes() == before and names(tmp_path) == ["Sample.ipynb", "pid"]
