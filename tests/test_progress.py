"""The progress bar: on a terminal, in a file, in a notebook."""

import sys
import time
from pathlib import Path

import pytest

from vae_helpers.engine import progress

ROOT = Path(__file__).parent.parent
LAST = "runs 3/3, epochs 9/9, 0:00 left, VAE (3, 4) seed 1 epoch 3/3 validation 240.12"


def follow_three_runs():
    """Two runs from their start and one that goes on after its second epoch of three."""
    lines = [
        "VAE (3, 4) seed 0 epoch 1/3 validation 250.12",
        "AE (3, 4) seed 0 epoch 3/3 ...",
        *(
            f"VAE (3, 4) seed {seed} epoch {epoch}/3 validation 240.12"
            for seed, epoch in [(0, 2), (1, 1), (0, 3), (1, 2), (1, 3)]
        ),
    ]
    with progress.progress_bar(9, 3) as log:
        for line in lines:
            progress.log_epoch(log, line)
        time.sleep(0.6)


@pytest.mark.parametrize("columns", [60, 120])
def test_on_a_terminal_the_bar_stays_on_its_line_and_goes_away(capfd, monkeypatch, columns):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    follow_three_runs()
    out, err = capfd.readouterr()
    start, *shown, gone, end = err.split("\r")
    assert out == start == end == gone.strip() == ""
    assert {len(text) for text in [*shown, gone]} == {columns - 1}
    assert shown[-1].rstrip() == f"[{'#' * 20}] {LAST}"[: columns - 1]


@pytest.mark.parametrize("seconds", [0, 3600])
def test_in_a_file_it_is_a_line_now_and_then_and_at_the_end(capfd, monkeypatch, seconds):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    follow_three_runs()
    out, err = capfd.readouterr()
    assert out == "" and "\r" not in err
    *now_and_then, end = err.splitlines()
    assert end == f"[{'#' * 20}] {LAST}" and bool(now_and_then) == (seconds == 0)


def test_a_progress_bar_that_can_not_be_written_stops_nothing(tmp_path, monkeypatch):
    def full(text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.stderr, "write", full)
    follow_three_runs()
    with progress.progress_bar(3, 1):
        progress.log_epoch(tmp_path, "a folder in its place")


def test_a_notebooks_cell_keeps_what_it_printed_and_nothing_of_the_bar():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cell = (
        "print('before')\nimport sys; sys.path.insert(0, 'tests'); import test_progress\n"
        "test_progress.follow_three_runs()\nprint('after')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    shown = []

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, index):
            shown.append(message["content"].get("data", {}).get("text/plain", ""))
            return super().process_message(message, cell, index)

    Client(notebook, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    nbformat.validate(notebook)
    outputs = notebook.cells[0].outputs
    assert [output.get("text") for output in outputs if output.output_type == "stream"] == [
        "before\n",
        "after\n",
    ]
    assert [output.data for output in outputs if output.output_type != "stream"] == [{}]
    assert any("runs 3/3" in text for text in shown)
