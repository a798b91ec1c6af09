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
import numpy as np
import pytest
from nbconvert import HTMLExporter, PDFExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from report.tools import ReportError, paper, pdf, system
from report.tools import __main__ as report
from report.tools import execute as notebook

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


def shown(*outputs):
    return new_code_cell("", outputs=list(outputs))


def sample(*cells, parameters=PARAMETERS):
    """A small notebook in the form of the real one."""
    start = [
        new_markdown_cell("# A title with 100 % & more"),
        tagged(new_markdown_cell("**Abstract.** Three answers."), "abstract"),
        tagged(new_code_cell(parameters), "parameters"),
        new_code_cell(STUDY),
    ]
    return new_notebook(cells=[*start, *cells])


def lines(count):
    return new_markdown_cell("A line.\n\n" * count)


def saved(folder, nb, name="Sample.ipynb"):
    nbformat.write(nb, folder / name)
    return folder / name


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def markdown_output(text, **metadata):
    return new_output("display_data", {"text/markdown": text}, metadata=metadata)


def picture_output(width=3, height=1):
    buffer = io.BytesIO()
    plt.imsave(buffer, np.zeros((round(50 * height), round(50 * width))), dpi=50)
    return new_output("display_data", {"image/png": base64.b64encode(buffer.getvalue()).decode()})


def pages_of(content, tmp_path):
    (tmp_path / "a.pdf").write_bytes(content)
    command = ["pdftotext", "-layout", tmp_path / "a.pdf", "-"]
    pages = subprocess.run(command, capture_output=True, text=True).stdout.split("\f")
    return [" ".join(page.split()) for page in pages]


def text_of(content, tmp_path):
    return " ".join(pages_of(content, tmp_path))


# --- Markdown to LaTeX ------------------------------------------------------------------------


@needs_latex
def test_text_can_not_inject_latex():
    latex = paper.to_latex(r"\input{/etc/passwd} 50 % of x_1 & #2 `\write18{ls}` {=latex}")
    for command in (r"\input", r"\write"):
        assert command not in latex
    assert r"\textbackslash" in latex and r"50 \%" in latex and r"x\_1 \&" in latex


@needs_latex
@pytest.mark.parametrize(
    "text",
    [
        r"$\input{/etc/passwd}$",
        "$$\n\\def\\x{1}\n$$",
        r"$^^5cinput{a}$",
        r"$a\) \input{/etc/passwd} \(b$",
        r"[$\InputIfFileExists{a}{}{}$](#a)",
        "| a |\n|---|\n| $\\newwrite\\x$ |",
        "![a](/etc/x.png)\n\n**Figure 1.** A file.",
        "- [![](http://x/x.png)](#a)",
    ],
)
def test_formulas_can_not_read_write_or_define_and_pictures_come_from_cells(text):
    assert r"\frac" in paper.to_latex(r"$\frac{1}{2} \leq \inf$")
    assert r"\picturehere{p.png}" in paper.to_latex("![](p.png)", {"p.png"})
    with pytest.raises(ReportError, match="not allowed"):
        paper.to_latex(text)


@needs_latex
def test_tables_are_numbered_references_are_links_and_sizes_do_not_break():
    latex = paper.to_latex(
        "See Table 3, Figures 1 and 2, and Figure 2 of the sheet: (400, 10), 784-400-100-20.\n\n"
        "**Table 3.** Losses,\nin nats.\n\n| a       | b |\n|---------|--:|\n| 1 | $x$ |\n\nAfter"
    )
    assert latex.count("longtable") == 0 and r"\hyperref[table:3]{Table~3}" in latex
    assert r"\begin{tablehere}{3}{Losses, in nats.}" in latex and r"{@{}lr@{}}\toprule" in latex
    rows = r"a & b\tabularnewline \midrule 1 & \(x\)\tabularnewline \bottomrule \end{tabular}"
    assert rows in " ".join(latex.split())
    assert r"\hyperref[figure:1]{Figures~1}" in latex and r"\hyperref[figure:2]" not in latex
    assert r"\mbox{(400, 10)}" in latex and r"\mbox{784-400-100-20}" in latex


@needs_latex
def test_title_abstract_notice_and_the_lines_below_the_title():
    banner = shown(
        markdown_output("**Stand-in.**", run_mode="stand-in"),
        markdown_output("Only on the screen.", tags=["screen-only"]),
    )
    stale = tagged(new_markdown_cell("Two do not hold."), "claims-banner")
    lines = 'COURSE = ""\nAUTHOR = "Zoë O\'N & Co"  # name\nDATE = "5. May 2026"'
    latex, _ = paper.document(sample(stale, banner, parameters=lines), "x")
    start = latex[latex.index("\\begin{document}") :]
    for part in (
        r"A title with 100 \% \& more\par}",
        r"\smallskip{Zoë O'N \& Co\par}",
        r"\smallskip{5. May 2026\par}",
        "COURSE: set in the notebook's first cell of code.",
        r"\noticehere{Two do not hold.",
        r"\textbf{Stand-in.}}",
        r"\abstracthere{Three answers.}",
    ):
        assert start.count(part) == 1
        start = start[start.index(part) :]
    assert "Only on the screen" not in latex
    complete, _ = paper.document(sample(parameters="AUTHOR = 'A'\nCOURSE = 'B'\nDATE = 'C'"), "x")
    assert "first cell" not in complete and r"\noticehere{" not in complete


@needs_latex
def test_a_wrong_figure_or_table_number_is_refused():
    with pytest.raises(ReportError, match=r"Figures must be numbered .* got \[2\]"):
        paper.document(sample(shown(markdown_output("**Figure 2.** Something."))), "x")

    def tables(*numbers):
        cells = (f"**Table {n}.** x\n\n| a |\n|---|\n| 1 |\n" for n in numbers)
        return [new_markdown_cell(cell) for cell in cells]

    with pytest.raises(ReportError, match=r"Tables must be numbered .* got \[5\]"):
        paper.document(sample(*tables(5)), "x")
    banner = shown(markdown_output("**Short run.**", run_mode="short"))
    text = new_markdown_cell("Table 3 and Table 4 say so.")
    latex, _ = paper.document(sample(banner, *tables(1, 4), text), "x")  # others keep their numbers
    assert r"Table~3 and \hyperref[table:4]{Table~4} say so" in latex
    with pytest.raises(ReportError, match=r"Tables must be numbered .* got \[4, 1\]"):
        paper.document(sample(banner, *tables(4, 1)), "x")


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


def test_text_check_finds_code_prompts_and_raw_latex_but_no_prose_in_long_strings():
    nb = sample(new_code_cell(CODE + '\nshow("""\nA whole sentence of a caption\n""")'))
    assert not pdf.text_problems("Some text.\nA whole sentence of a caption\nMore text.", nb)
    for line in (
        CODE,
        "surprising_name  = sorted([3,\n   1, 2])",
        "import torch",
        "Out[3]:",
        "<Figure size 640x480 with 1 Axes>",
        r"\begin{align}",
    ):
        assert pdf.text_problems(f"Some text.\n{line}\nMore text.", nb)


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


FIGURE = shown(picture_output(6, 3.4), markdown_output("**Figure 1.** x"))
TABLE = shown(markdown_output("**Table 1.** x\n\n| a |\n|---|\n" + "| 1 |\n" * 40))


@needs_latex
def test_a_figure_shrinks_into_its_page_and_large_gaps_are_named():
    assert pdf.build_pdf(sample(lines(23), FIGURE, lines(9))).warnings == []
    assert "page 1 ends with" in " ".join(pdf.build_pdf(sample(lines(17), TABLE)).warnings)


@needs_latex
@pytest.mark.parametrize("float_", [FIGURE, TABLE], ids=["figure", "table"])
def test_headings_stay_with_the_figure_or_table_after_one_paragraph(tmp_path, float_):
    """All but the figure would fit on the first page."""
    heading = new_markdown_cell("## 1. Here\n\n### 1.1 There\n\nWords.")
    nb = sample(lines(26), heading, float_)
    first, second, *_ = pages_of(pdf.build_pdf(nb).content, tmp_path)
    assert "1. Here" not in first and second.startswith("1. Here")


@needs_latex
def test_faults_in_the_text_fail_the_pdf_and_blemishes_are_listed():
    wide = f"**Table 1.** Wide.\n\n| a | b |\n|---|---|\n| {'wide' * 14} | {'wide' * 14} |"
    warnings = pdf.build_pdf(sample(new_markdown_cell(f"See Figure 7.\n\n{wide}"))).warnings
    assert "figure:7" in warnings[0] and "Overfull \\hbox" in warnings[1]
    with pytest.raises(ReportError) as error:
        pdf.build_pdf(sample(new_markdown_cell("A Greek `\N{GREEK SMALL LETTER BETA}`.")))
    assert "Missing character: There is no β" in str(error.value) and "U+03B2" in str(error.value)


@needs_latex
def test_latex_can_not_read_files_outside_its_folder(tmp_path):
    folder = tmp_path / "tex"
    folder.mkdir()
    (tmp_path / "secret.tex").write_text("secret")
    source = "\\documentclass{article}\\begin{document}\\input{%s}\\end{document}"
    (folder / "report.tex").write_text(source % (tmp_path / "secret.tex"))
    with pytest.raises(ReportError, match="xelatex failed"):
        pdf.run_xelatex(folder)


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
    wrong = {"QUICK": ["0", 1], "EPOCHS": [True, "many", 1.5], "DATA": [None]}
    for name, value in [(name, value) for name, values in wrong.items() for value in values]:
        with pytest.raises(ReportError, match=f"the parameter {name} must be"):
            notebook.set_parameters(sample(), {name: value})
    with pytest.raises(ReportError, match="EPOCH; there are SEEDS, EPOCHS, DATA"):
        notebook.set_parameters(sample(), {"EPOCH": 1})
    with pytest.raises(ReportError, match="tagged `parameters`, found 0"):
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
    warns = "import sys; print('noise', file=sys.stderr)\n"
    mine = new_code_cell(warns + "EPOCHS, sys.executable == os.environ['MINE']")
    path = saved(tmp_path, sample(mine))
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
    [("--data stand-in", "stand-in"), ("-p QUICK true", "quick"), ("--short", "short")],
)
def test_a_run_of_another_kind_has_its_own_names_and_a_banner(tmp_path, options, mode):
    path = saved(tmp_path, sample())
    before = path.read_bytes()
    assert report.main([str(path), *options.split(), "-p", "RUNS_DIR", f"{tmp_path}/runs"]) == 0
    assert path.read_bytes() == before
    made = nbformat.read(tmp_path / f"Sample.{mode}.ipynb", as_version=4)
    (parameters,) = notebook.with_tag(made, "parameters")
    kept = {"quick": "QUICK", "short": "SHORT"}.get(mode, "none")  # no folder of this machine
    assert parameters.source == PARAMETERS.replace(f"{kept} = False", f"{kept} = True")
    made = [f"Sample.{mode}.ipynb", f"report/Sample.{mode}.pdf", f"report/results.{mode}.json"]
    assert names(tmp_path) == ["Sample.ipynb", *made]
    content = (tmp_path / "report" / f"Sample.{mode}.pdf").read_bytes()
    assert f"code. This is a {mode} run. Abstract." in text_of(content, tmp_path)
    assert report.main([str(tmp_path / f"Sample.{mode}.ipynb"), "--pdf-only"]) == 0
    assert not (tmp_path / "report" / "Sample.pdf").exists()


@needs_latex
def test_numbers_follow_the_run_and_a_lost_verdict_stands_at_the_top(tmp_path, capsys):
    text = new_markdown_cell("## 1. Loss\n\nIt is 1.9 nats and lower.")
    path = saved(tmp_path, sample(text, tagged(new_code_cell("1"), "claims-check")))
    (tmp_path / "report").mkdir()
    claims = tmp_path / "report" / "claims.txt"
    title = "A title with 100 % & more"
    claims.write_text(
        f"## {title}\n{title.replace('100', '{{100}}')}\n    orders no result\n"
        "## 1. Loss\nIt is {{a.x}} nats and lower.\n    a.x.verdict == lower\n"
    )
    assert report.main([str(path)]) == 0
    lost = "1. Loss: a.x.verdict == lower is false: tie == lower\n    It is 2.0 nats"
    assert lost in capsys.readouterr().err
    for _ in range(2):  # the second time from the notebook that says so already
        nb = nbformat.read(path, as_version=4)
        assert nb.cells[1].metadata.tags == ["claims-banner"] and len(nb.cells) == 7
        assert nb.cells[1].source == nb.cells[-1].outputs[0].data["text/markdown"]
        content = (tmp_path / "report" / "Sample.pdf").read_bytes()
        assert text_of(content, tmp_path).index("1 do not hold") < 250
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


@needs_latex
def test_what_must_fail_fails_before_the_run(tmp_path, monkeypatch, capsys):
    path = saved(tmp_path, sample(new_code_cell("open('ran', 'w')")))
    with pytest.raises(SystemExit):  # the committed files are not of other settings
        report.main([str(path), "-p", "EPOCHS", "1"])
    assert "--output-dir" in capsys.readouterr().err
    assert report.main([str(path), "--output-dir", f"{path}/below a file"]) == 1
    assert f"{path}/below a file can not be written" in capsys.readouterr().err
    (tmp_path / "report").write_text("not a folder")
    assert report.main([str(path)]) == 1
    assert f"{tmp_path}/report can not be written" in capsys.readouterr().err
    (tmp_path / "report").unlink()
    if os.geteuid():  # nothing is read-only for root
        tmp_path.chmod(0o555)
        assert report.main([str(path)]) == 1
        assert f"{tmp_path} can not be written" in capsys.readouterr().err
        tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert report.main([str(path)]) == 1
    assert "the PDF needs xelatex" in capsys.readouterr().err
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
def test_a_progress_bar_is_shown_on_a_terminal_and_now_and_then(tmp_path, monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", out := io.StringIO())
    monkeypatch.setattr(out, "isatty", lambda: terminal, raising=False)
    cell = (
        "import time\nbar = display({}, raw=True, display_id=True)\n"
        "for text in ('10 %', '20 %', ''):\n"
        "    bar.update({'text/plain': text} if text else {}, raw=True)"
    )
    nb = sample(new_code_cell(cell), new_code_cell("1"))
    notebook.execute(nb, tmp_path, {"VAE_RESULTS_DIR": str(tmp_path)})
    shown = out.getvalue().partition("[3/4]")[2]
    expected = "\r10 %\r20 %\r    \r" if terminal else "10 %\n"
    assert shown.partition("[4/4]")[0].split("\n", 1)[1] == expected
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
