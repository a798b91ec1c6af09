"""The command that runs the notebook and builds its PDF: what it writes, and what it refuses."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbconvert import LatexExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from report.tools import __main__ as report
from report.tools import execute as notebook
from report.tools import paper, pdf
from report.tools import system as tools
from vae_helpers.plotting.images import display

needs_latex = pytest.mark.skipif(bool(tools.missing()), reason="LaTeX, pandoc or fonts missing")
needs_pandoc = pytest.mark.skipif(shutil.which("pandoc") is None, reason="pandoc missing")
CODE = "surprising_name = sorted([3, 1, 2])"


def tagged(cell, tag):
    cell.metadata["tags"] = [tag]
    return cell


def sample(*cells, parameters="EPOCHS = 3\nDATA = 'auto'\nFRESH = False"):
    """A small notebook in the form of the real one."""
    setup = "from types import SimpleNamespace\ndata = SimpleNamespace(is_stand_in=DATA != 'auto')"
    start = [
        new_markdown_cell("# A title with 100 % & more"),
        tagged(new_markdown_cell("**Abstract.** Three answers."), "abstract"),
        tagged(new_code_cell(parameters), "parameters"),
        new_code_cell(setup),
    ]
    return new_notebook(cells=[*start, *cells], metadata={"date": "2025-11-22"})


def saved(folder, nb, name="Sample.ipynb"):
    nbformat.write(nb, folder / name)
    return folder / name


def markdown_output(text):
    return new_output("display_data", {"text/markdown": text})


# --- figures and tables on the screen ---------------------------------------------------------


@pytest.fixture
def displayed(monkeypatch):
    outputs = []
    monkeypatch.setattr(display, "display", lambda data, **_: outputs.append(data))
    return outputs


def line_figure():
    figure, ax = plt.subplots(figsize=(3, 1))
    ax.plot([1, 2])
    return figure


def test_figure_comes_as_png_and_pdf_with_its_caption_and_is_closed(displayed):
    figure = line_figure()
    display.show_figure(figure, 4, "What\n  it shows.")
    picture, caption = displayed
    assert picture["image/png"][:4] == b"\x89PNG" and picture["application/pdf"][:4] == b"%PDF"
    assert caption["text/markdown"] == "**Figure 4.** What it shows."
    assert not plt.fignum_exists(figure.number)


def test_the_same_figure_gives_the_same_bytes_and_grids_come_without_pdf(displayed):
    for _ in range(2):
        display.show_figure(line_figure(), 1, "A line.")
    display.show_figure(line_figure(), 1, "A grid.", vector=False)
    first, _, second, _, grid, _ = displayed
    assert first == second
    assert "application/pdf" not in grid


@pytest.mark.parametrize(("number", "caption"), [(0, "x"), (True, "x"), (1, " "), (1, None)])
def test_figure_number_and_caption_are_checked(number, caption):
    figure = line_figure()
    with pytest.raises((TypeError, ValueError), match="number|caption"):
        display.show_figure(figure, number, caption)
    plt.close(figure)


def test_table_must_be_a_pipe_table():
    with pytest.raises(ValueError, match="pipe table"):
        display.show_table("<table>", 1, "x")


# --- Markdown to LaTeX ------------------------------------------------------------------------


@needs_pandoc
def test_text_can_not_inject_latex():
    latex = paper.to_latex(r"\input{/etc/passwd} 50 % of x_1 & #2 `\write18{ls}` {=latex}")
    for command in (r"\input", r"\write"):
        assert command not in latex
    assert r"\textbackslash" in latex and r"50 \%" in latex and r"x\_1 \&" in latex


@needs_pandoc
@pytest.mark.parametrize(
    "formula",
    [r"$\input{/etc/passwd}$", "$$\n\\def\\x{1}\n$$", r"$^^5cinput{a}$", "![a](/etc/x.png)",
     r"$a\) \input{/etc/passwd} \(b$", r"$\InputIfFileExists{a}{}{}$", r"$\newwrite\x$"],
)  # fmt: skip
def test_formulas_can_not_read_write_or_define(formula):
    assert r"\frac" in paper.to_latex(r"$\frac{1}{2} \leq \inf$")
    with pytest.raises(ValueError, match="not allowed in a formula"):
        paper.to_latex(formula)


@needs_pandoc
def test_tables_are_numbered_and_references_are_links():
    latex = paper.to_latex(
        "See Table 3, Figures 1 and 2, and Figure 2 of the sheet.\n\n"
        "**Table 3.** Losses,\nin nats.\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\nAfter.\n"
    )
    assert r"\setcounter{table}{2}\caption{Losses, in nats.}\label{table:3}" in latex
    table = latex[latex.index(r"\begin{table}") : latex.index(r"\end{table}")]
    assert "longtable" not in latex and table.count(r"\toprule") == table.count(r"\bottomrule") == 1
    assert table.count("a & b") == table.count("1 & 2") == 1
    assert r"\hyperref[table:3]{Table~3}" in latex and r"\hyperref[figure:1]{Figures~1}" in latex
    assert "Figure 2 of the sheet" in latex and "\\hyperref[figure:2]" not in latex


@needs_pandoc
def test_only_a_table_too_wide_for_the_page_gets_columns_that_wrap():
    def table(text):
        padding = " " * 200
        return paper.to_latex(f"| a | b |\n|---|--:|\n| {text}{padding} | $\\mu$ |\n")

    assert r"\real{" not in table("x" * 60)
    assert r"\real{" in table("some words " * 20)


def preprocess(*cells):
    return paper.Paper().preprocess(sample(*cells), {})[0]


def test_title_abstract_and_hand_written_section_numbers_leave_the_body():
    nb = preprocess(new_markdown_cell("## 1. Data\n\n### 1.1 Split\n\n## 2. Models"))
    assert nb.metadata.title == "A title with 100 % & more"
    assert nb.metadata.abstract == "Three answers."
    body = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    assert "Abstract" not in body and "# A title" not in body
    assert "## Data\n\n### Split\n\n## Models" in body


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [("AUTHOR = ''", None), ("EPOCHS = 3", None), ('AUTHOR = "Zoë O\'N, 4"  # name', "Zoë O'N, 4")],
)
def test_the_author_line_is_a_parameter(parameters, expected):
    nb, _ = paper.Paper().preprocess(sample(parameters=parameters), {})
    assert nb.metadata.get("authors") == (expected and [{"name": expected}])
    notebook.set_parameters(nb, {"EPOCHS": 4} if "EPOCHS" in parameters else {"AUTHOR": "Ann"})
    nb, _ = paper.Paper().preprocess(nb, {})
    assert nb.metadata.get("authors") == (None if "EPOCHS" in parameters else [{"name": "Ann"}])


def test_a_wrong_section_number_is_refused():
    with pytest.raises(ValueError, match="'Models' is numbered 3"):
        preprocess(new_markdown_cell("## 1. Data\n\n## 3. Models"))


def test_a_wrong_figure_or_table_number_is_refused():
    picture = new_output("display_data", {"image/png": "aGVsbG8="})
    caption = markdown_output("**Figure 2.** Something.")
    with pytest.raises(ValueError, match=r"Figures must be numbered .* got \[2\]"):
        preprocess(new_code_cell("", outputs=[picture, caption]))
    with pytest.raises(ValueError, match=r"Tables must be numbered .* got \[5\]"):
        preprocess(new_markdown_cell("**Table 5.** x\n\n| a |\n|---|\n| 1 |\n"))


# --- the PDF and its checks -------------------------------------------------------------------


def test_log_check_finds_each_fault_and_lets_small_ones_pass():
    log = """
Missing character: There is no x (U+03B2) in font Pagella!
Overfull \\hbox (1.9pt too wide) in paragraph at lines 1--2
Overfull \\hbox (2.1pt too wide) in alignment at lines 3--4
LaTeX Warning: Hyper reference `figure:9' on page 1 undefined on input line 7.
Underfull \\hbox (badness 10000) in paragraph at lines 8--9
"""
    found = "\n".join(pdf.log_problems(log))
    assert len(pdf.log_problems(log)) == 3
    assert "U+03B2" in found and "2.1pt" in found and "figure:9" in found


@pytest.mark.parametrize(
    "line",
    [CODE, "surprising_name  = sorted([3,\n   1, 2])", "import torch", "Out[3]:",
     "<Figure size 640x480 with 1 Axes>", r"\begin{align}"],
)  # fmt: skip
def test_text_check_finds_code_prompts_and_raw_latex(line):
    nb = sample(new_code_cell(CODE))
    assert pdf.text_problems(f"Some text.\n{line}\nMore text.", nb)


def test_text_check_allows_prose_that_stands_in_the_code_as_a_long_string():
    nb = sample(new_code_cell('show("""\nA whole sentence of a caption\n""")'))
    assert not pdf.text_problems("A whole sentence of a caption", nb)


def report_cells():
    figure = line_figure()
    image = base64.b64encode(display._render(figure, "png", 100)).decode()
    plt.close(figure)
    table = "**Table 1.** 5 % of `a_b`.\n\n| a | b |\n|:--|--:|\n| 1 | $\\beta$ |"
    outputs = [
        new_output("display_data", {"image/png": image}),
        markdown_output(r"**Figure 1.** Costs \input{/etc/passwd} of 5 % & $x_1$."),
        markdown_output(table),
    ]
    return [
        new_markdown_cell("## 1. Data\n\nSee Figure 1 and Table 1."),
        new_code_cell(CODE, outputs=outputs),
        new_markdown_cell("## References\n\n1. One."),
    ]


@needs_latex
def test_pdf_has_title_captions_and_references_but_no_code(tmp_path):
    nb = sample(*report_cells())
    before = json.dumps(nb)
    built = pdf.build_pdf(nb)
    assert built.pages == 1 and json.dumps(nb) == before
    (tmp_path / "a.pdf").write_bytes(built.content)
    text = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "a.pdf", "-"], capture_output=True, text=True
    ).stdout
    for expected in ("A title with 100 % & more", "22 November 2025", "Abstract. Three answers.",
                     r"Figure 1. Costs \input{/etc/passwd} of 5 % &", "Table 1. 5 % of a_b.",
                     "1   Data", "[1] One."):  # fmt: skip
        assert " ".join(expected.split()) in " ".join(text.split())
    assert "sorted" not in text
    assert built == pdf.build_pdf(nb), "the same notebook must give the same bytes"


@needs_latex
def test_faults_in_the_text_fail_the_pdf():
    text = (
        "A Greek letter where the font has none: `\N{GREEK SMALL LETTER BETA}`. See Figure 7.\n\n"
        f"**Table 1.** Too wide.\n\n| a | b |\n|---|---|\n| {'wide' * 14} | {'wide' * 14} |"
    )
    with pytest.raises(pdf.ReportError) as error:
        pdf.build_pdf(sample(new_markdown_cell(text)))
    faults = str(error.value)
    for words in ("Missing character: There is no β", "figure:7", "Overfull \\hbox", "U+03B2"):
        assert words in faults


def test_a_greek_letter_outside_a_formula_is_refused_even_where_a_font_has_it():
    nb = sample(new_markdown_cell("$\\beta$, é, 3 ± 1, “a” – b → c: all fine"))
    assert pdf.character_problems(nb) == []
    nb.cells.append(new_code_cell("", outputs=[markdown_output("the value of β")]))
    assert "cell 6: character 'β' (U+03B2)" in pdf.character_problems(nb)[0]


@needs_latex
def test_latex_can_not_read_files_outside_its_folder(tmp_path):
    folder = tmp_path / "tex"
    folder.mkdir()
    (tmp_path / "secret.tex").write_text("secret")
    source = "\\documentclass{article}\\begin{document}\\input{%s}\\end{document}"
    (folder / "report.tex").write_text(source % (tmp_path / "secret.tex"))
    with pytest.raises(pdf.ReportError, match="xelatex failed"):
        pdf._run_xelatex(folder, 0)


def test_bare_nbconvert_shows_no_code_of_a_saved_notebook():
    nb = sample(new_code_cell(CODE))
    shown, _ = LatexExporter().from_notebook_node(nb)
    assert "surprising" in shown
    notebook.clean(nb, drop_injected=True)
    hidden, _ = LatexExporter().from_notebook_node(nb)
    assert "surprising" not in hidden and "SimpleNamespace" not in hidden


# --- running the notebook ---------------------------------------------------------------------


def test_kernel_is_this_interpreter_and_parameters_override():
    nb = sample(new_code_cell("import sys; print(sys.executable, EPOCHS)"))
    notebook.set_parameters(nb, {"EPOCHS": 7})
    cells = []
    answer = notebook.execute(
        nb, ".", question="data.is_stand_in", on_cell=lambda *cell: cells.append(cell)
    )
    assert answer == "False"
    assert nb.cells[-1].outputs[0].text.split() == [sys.executable, "7"]
    assert [number for _, number, _ in cells] == [1, 2, 3, 4]
    assert "injected-parameters" in nb.cells[3].metadata.tags


def test_unknown_parameter_and_missing_cell_are_named():
    with pytest.raises(notebook.NotebookError, match="EPOCH; there are EPOCHS, DATA, FRESH"):
        notebook.set_parameters(sample(), {"EPOCH": 1})
    with pytest.raises(notebook.NotebookError, match="tagged `parameters`, found 0"):
        notebook.set_parameters(new_notebook(cells=[]), {"EPOCHS": 1})


def plant(nb, fault):
    cell = nb.cells[-1]
    outputs = {
        "timing": lambda: cell.metadata.update(execution={"iopub": "2025"}),
        "stderr": lambda: cell.outputs.append(
            new_output("stream", name="stderr", text="a warning")
        ),
        "widget": lambda: nb.metadata.update(widgets={}),
        "counts": lambda: cell.update(execution_count=9),
        "path": lambda: cell.outputs.append(markdown_output(f"in {os.getcwd()}/runs")),
        "kernelspec": lambda: nb.metadata.update(kernelspec={"name": "x", "display_name": "x"}),
        "failed": lambda: cell.outputs.append(new_output("error", ename="KeyError", evalue="z")),
        "MB": lambda: cell.outputs.append(markdown_output("x" * 4_000_000)),
        "not valid": lambda: nb.cells[0].update(cell_type="nonsense"),
    }
    outputs[fault]()


@pytest.mark.parametrize(
    "fault",
    ["timing", "stderr", "widget", "counts", "path", "kernelspec", "failed", "MB", "not valid"],
)
def test_every_planted_fault_is_found(fault):
    nb = sample(new_code_cell("1"))
    notebook.clean(nb, drop_injected=True)
    assert notebook.problems(nb) == []
    plant(nb, fault)
    assert any(fault in found for found in notebook.problems(nb))


# --- the command ------------------------------------------------------------------------------

WRITES_RESULTS = (
    "import os, pathlib\n"
    "pathlib.Path(os.environ['VAE_RESULTS_DIR'], 'results.json').write_text('{}')"
)


@needs_latex
def test_a_good_run_writes_notebook_results_and_pdf(tmp_path):
    warns = new_code_cell("import sys; print('noise', file=sys.stderr); 1 + 1")
    path = saved(tmp_path, sample(new_code_cell(WRITES_RESULTS), warns))
    assert report.main([str(path), "--fresh"]) == 0
    nb = nbformat.read(path, as_version=4)
    assert [c.execution_count for c in nb.cells if c.cell_type == "code"] == [1, 2, 3, 4]
    assert nb.cells[-1].outputs[0].execution_count == 4
    assert not any("injected" in str(c.metadata) for c in nb.cells)
    assert notebook.problems(nb) == []
    written = sorted(p.name for p in (tmp_path / "report").iterdir())
    assert written == ["Sample.pdf", "results.json"]


@needs_latex
def test_a_stand_in_run_goes_to_other_names(tmp_path):
    path = saved(tmp_path, sample(new_code_cell(WRITES_RESULTS)))
    before = path.read_bytes()
    assert report.main([str(path), "--data", "stand-in"]) == 0
    assert path.read_bytes() == before
    assert (tmp_path / "Sample.stand-in.ipynb").is_file()
    written = sorted(p.name for p in (tmp_path / "report").iterdir())
    assert written == ["Sample.stand-in.pdf", "results.stand-in.json"]


@needs_latex
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (new_code_cell("data.nothing_there"), "nothing_there"),
        (new_code_cell("import os; os.write(2, b'bad_alloc'); os._exit(1)"), "bad_alloc"),
        (new_code_cell("print('/home/someone/secret')"), "names the path /home/someone/secret"),
        (new_markdown_cell("Broken $\\frac{1}$."), "xelatex failed"),
    ],
    ids=["exception", "kernel death", "path", "LaTeX error"],
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
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["Sample.ipynb", "Sample.pdf", "report"]


@needs_latex
def test_pdf_only_runs_nothing_and_writes_where_told(tmp_path):
    path = saved(tmp_path, sample(new_code_cell("1 / 0")))
    out = tmp_path / "out"
    assert report.main([str(path), "--pdf-only", "--output-dir", str(out)]) == 0
    assert [p.name for p in out.iterdir()] == ["Sample.pdf"]


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
    assert not (tmp_path / "ran").exists()


def test_install_goes_through_sudo_only_for_users(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert all(command[0] == "sudo" for command in tools.apt_commands())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    update, install = tools.apt_commands()
    assert update[0] == "env" and "texlive-xetex" in install


def test_all_files_are_written_or_none(tmp_path):
    good, blocked = tmp_path / "good", tmp_path / "file" / "bad"
    good.write_bytes(b"old")
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(OSError):
        report.write_all({good: b"new", blocked: b"new"})
    assert good.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "good"]


def test_progress_reaches_a_log_as_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SECONDS_BETWEEN_LOG_LINES", 0)
    log, out, done = tmp_path / "log", io.StringIO(), threading.Event()
    log.write_text("\r 10%|#  | 1/10\r 20%|## | 2/10")
    follower = threading.Thread(target=report._follow, args=(str(log), out, done))
    follower.start()
    for _ in range(50):
        if out.getvalue():
            break
        done.wait(0.1)
    done.set()
    follower.join()
    assert out.getvalue() == "20%|## | 2/10\n"


@needs_latex
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_run_and_its_kernel_and_changes_no_file(tmp_path, number):
    waits = new_code_cell(
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    path = saved(tmp_path, sample(waits))
    before = path.read_bytes()
    command = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command += "; from vae_helpers import report; sys.exit(report.main(sys.argv[1:]))"
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
    assert path.read_bytes() == before and not (tmp_path / "report").exists()
