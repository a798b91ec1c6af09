"""Run the notebook from top to bottom and build its PDF.

python -m report.tools            the notebook, its results and report/*.pdf, all or nothing
python -m report.tools --fresh    the same, with every model trained anew

Nothing is written before the notebook has run, its PDF is built and both have passed their checks.
"""

from __future__ import annotations

import argparse
import ast
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vae_helpers.engine.files import write_atomic
from vae_helpers.engine.progress import PROGRESS_FILE

from . import execute as nb
from . import pdf
from .system import ToolsMissingError, require

NOTEBOOK = Path("Task4_Autoencoders.ipynb")
RESULTS_DIR = "VAE_RESULTS_DIR"  # environment: where the notebook puts the files it writes
SAME_RESULTS = {"FRESH", "DATA"}  # parameters that do not change what the notebook finds
SECONDS_BETWEEN_LOG_LINES = 30


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status: 0 when everything was written, else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.parameter and options.output_dir is None:
        parser.error("-p changes the results: say with --output-dir where they go")
    started = time.monotonic()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the kernel, too
    try:
        written = build(options)
    except (nb.NotebookError, pdf.ReportError, ToolsMissingError, OSError) as error:
        print(f"\nStopped: {error}\n\nNo file was changed.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # it would report the cell that was cut off
        print("\nInterrupted. No file was changed.", file=sys.stderr)
        return 1
    for line in written:
        print(line)
    print(f"Done in {(time.monotonic() - started) / 60:.1f} minutes.")
    return 0


def build(options: argparse.Namespace) -> list[str]:
    """Do what the options ask for; one line for every file written."""
    require()
    notebook = nb.read(options.notebook)
    with tempfile.TemporaryDirectory(prefix="results-") as results:
        if options.pdf_only:
            stand_in = nb.stand_in_marks(notebook)
        else:
            stand_in = _run(notebook, options, Path(results))
        document = pdf.build_pdf(notebook, options.notebook.stem)
        folders = [options.notebook.parent, options.notebook.parent / "report"]
        notebook_dir, report_dir = [options.output_dir or folder for folder in folders]
        files = {}
        if not options.pdf_only:
            for file in sorted(Path(results).iterdir()):
                files[report_dir / _name(file.name, stand_in)] = file.read_bytes()
            name = _name(options.notebook.name, stand_in)
            files[notebook_dir / name] = nb.to_bytes(notebook)
        files[report_dir / _name(f"{options.notebook.stem}.pdf", stand_in)] = document.content
        write_all(files)
    return [
        f"{path}: {len(content) / 1e6:.2f} MB"
        + (f", {document.pages} pages" if path.suffix == ".pdf" else "")
        for path, content in files.items()
    ]


def write_all(files: dict[Path, bytes]) -> None:
    """Write every file, or none if one can not be written (no space, no permission)."""
    new = {path: path.with_name(f".{path.name}.new.tmp") for path in files}
    try:
        for path, content in files.items():
            write_atomic(new[path], content)
        for path, complete in new.items():
            os.replace(complete, path)
    finally:
        for complete in new.values():
            complete.unlink(missing_ok=True)


def _run(notebook, options: argparse.Namespace, results: Path) -> bool:
    """Execute and clean the notebook in place; whether it ran on the stand-in data."""
    values = {name: _value(text) for name, text in options.parameter}
    if options.fresh:
        values["FRESH"] = True
    if options.data:
        values["DATA"] = options.data
    nb.set_parameters(notebook, values)
    with _progress() as log:
        environment = {PROGRESS_FILE: log, RESULTS_DIR: str(results)}
        answer = nb.execute(
            notebook, options.notebook.resolve().parent, environment=environment,
            question="data.is_stand_in", on_cell=_announce,
        )  # fmt: skip
    stand_in = answer != "False" or nb.stand_in_marks(notebook)
    for text in nb.clean(notebook, drop_injected=not stand_in and set(values) <= SAME_RESULTS):
        print(text.rstrip(), file=sys.stderr)
    found = nb.problems(notebook)
    if found:
        raise nb.NotebookError("the notebook ran but must not be saved:\n  " + "\n  ".join(found))
    return stand_in


def _name(name: str, stand_in: bool) -> str:
    """The file name; results of stand-in data never take the name of the real ones."""
    stem, suffix = os.path.splitext(name)
    return f"{stem}.stand-in{suffix}" if stand_in and not stem.endswith(".stand-in") else name


def _value(text: str):
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _announce(section: str, number: int, count: int) -> None:
    print(f"[{number}/{count}] {section}", file=sys.stderr, flush=True)


@contextmanager
def _progress():
    """The name of a file whose growing content is copied to the terminal."""
    handle, name = tempfile.mkstemp(prefix="progress-", suffix=".log")
    os.close(handle)
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(name, sys.stderr, done), daemon=True)
    follower.start()
    try:
        yield name
    finally:
        done.set()
        follower.join()
        Path(name).unlink(missing_ok=True)


def _follow(name: str, out: TextIO, done: threading.Event) -> None:
    """Copy what is appended to the file; to a log instead of a terminal, a line now and then."""
    live, pending, last = out.isatty(), "", time.monotonic()
    with open(name, encoding="utf-8", newline="") as file:
        while not done.wait(0.3):
            new = file.read()
            if live and new:
                out.write(new)
                out.flush()
            states = [s.strip() for s in new.replace("\n", "\r").split("\r") if s.strip()]
            pending = states[-1] if states else pending
            if not live and pending and time.monotonic() - last > SECONDS_BETWEEN_LOG_LINES:
                print(pending, file=out, flush=True)
                pending, last = "", time.monotonic()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m report.tools", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("notebook", nargs="?", type=Path, default=NOTEBOOK, help=f"default: {NOTEBOOK}")
    add("--fresh", action="store_true", help="train every model anew")
    add("--data", choices=["auto", "real", "stand-in"],
        help="Fashion-MNIST, drawn stand-in images, or the stand-in if the download fails")
    add("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter of the notebook; needs --output-dir")
    add("--output-dir", type=Path, help="write everything there, the committed files stay")
    add("--pdf-only", action="store_true", help="build the PDF from the notebook as it is")
    return parser


if __name__ == "__main__":
    sys.exit(main())
