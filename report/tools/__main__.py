"""Run the notebook from top to bottom and build its PDF.

python -m report.tools            the notebook, its results and report/*.pdf, all or nothing
python -m report.tools --short    a reward within 20 minutes: two seeds, fewer epochs
python -m report.tools --check    only compare the text with the stored results

Nothing is written before the notebook has run, its PDF is built and both have passed their checks.
The numbers in the text are rewritten from the new results; what no longer holds is named.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat

from vae_helpers.engine.files import writable_folder, write_atomic

from . import ReportError, claims, pdf, system
from . import execute as nb

RESULTS_DIR = "VAE_RESULTS_DIR"  # environment: where the notebook puts the files it writes
# parameters that change no result of a full run, or bring names of their own
SAME_RESULTS = {"DATA", "FRESH", "RUNS_DIR", "PACK", "QUICK", "AUTHOR", "COURSE", "DATE"}


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status: 0 when everything was written (or holds), else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if {name for name, _ in options.parameter} - SAME_RESULTS and options.output_dir is None:
        parser.error("-p changes the results: say with --output-dir where they go")
    for stream in (sys.stdout, sys.stderr):  # a console may lack the minus sign
        stream.reconfigure(errors="replace")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the kernel, too
    try:
        return (compare if options.check or options.update else build)(options)
    except (ReportError, OSError) as error:
        print(f"\nStopped: {error}\n\nNo file was changed.", file=sys.stderr)
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # it would report the cell that was cut off
        print("\nInterrupted. No file was changed.", file=sys.stderr)
    return 1


def build(options: argparse.Namespace) -> int:
    """Run the notebook unless told not to, build its PDF, and write everything."""
    started, notebook = time.monotonic(), nb.read(options.notebook)
    system.require()
    for name in (options.notebook.name, "results.json"):  # now, and not after hours
        writable_folder(_place(options, name).parent, "name another with --output-dir")
    mode, made, readme = nb.mode(notebook), {}, {}
    if not options.pdf_only:
        with tempfile.TemporaryDirectory(prefix="results-") as folder:
            _run(notebook, options, folder)
            made = {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}
        mode = nb.mode(notebook)
        if not mode:
            results = json.loads(made["results.json"])
            notebook, readme, _ = reconcile(notebook, results, options.notebook.parent)
        made[options.notebook.name] = nb.to_bytes(notebook)
    document = pdf.build_pdf(notebook, options.notebook.stem)
    if document.warnings and (options.strict or os.environ.get("CI") == "true"):
        raise ReportError("the PDF is not well set:\n  " + "\n  ".join(document.warnings))
    made[f"{options.notebook.stem}.pdf"] = document.content
    files = {_place(options, _name(name, mode)): content for name, content in made.items()}
    write_all(files | {_place(options, name): content for name, content in readme.items()})
    for path, content in files.items():
        print(f"{path}: {len(content) / 1e6:.2f} MB")
    if document.warnings:
        print(f"Not well set, {len(document.warnings)} places, the first: {document.warnings[0]}")
    print(f"{document.pages} pages, {(time.monotonic() - started) / 60:.1f} minutes.")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Compare the stored notebook with the stored results, or rewrite its numbers from them."""
    folder = options.notebook.parent
    results = json.loads((folder / "report" / "results.json").read_text(encoding="utf-8"))
    notebook = nb.read(options.notebook)
    notebook, files, report = reconcile(notebook, results, folder, rewrite=options.update)
    if options.update:
        files[options.notebook.name] = nb.to_bytes(notebook)
        write_all({_place(options, name): content for name, content in files.items()})
    return 1 if report.findings else 0


def reconcile(notebook, results: dict, folder: Path, rewrite: bool = True) -> tuple:
    """Compare text and results, and say in the notebook, and print, what does not hold.

    With `rewrite` the numbers are rewritten first. Returns the notebook, the README by its name if
    there is one, and the Report.
    """
    paths = [folder / "report" / "claims.txt", folder / "README.md"]
    listed, readme = (p.read_text(encoding="utf-8") if p.is_file() else "" for p in paths)
    if rewrite:
        notebook, readme = claims.update(notebook, results, listed, readme)
    report = claims.check(notebook, results, listed, readme)
    summary = claims.summary_markdown(report)
    for cell in nb.with_tag(notebook, "claims-check"):
        data = {"text/markdown": summary, "text/plain": summary}
        cell.outputs = [nbformat.v4.new_output("display_data", data)]
    stale = nb.with_tag(notebook, claims.GENERATED)
    notebook.cells = [cell for cell in notebook.cells if cell not in stale]
    if report.findings:
        cell = nbformat.v4.new_markdown_cell(summary, id=claims.GENERATED)
        cell.metadata["tags"] = [claims.GENERATED]
        notebook.cells.insert(1, cell)
    print(*report.findings, report, sep="\n", file=sys.stderr)
    return notebook, {paths[1].name: readme.encode()} if readme else {}, report


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


def _run(notebook, options: argparse.Namespace, results: str) -> None:
    """Execute and clean the notebook in place."""
    asked = {"SHORT": options.short, "FRESH": options.fresh, "DATA": options.data}
    values = {name: value for name, value in asked.items() if value} | dict(options.parameter)
    before = [cell.source for cell in notebook.cells]
    nb.set_parameters(notebook, values)
    nb.execute(notebook, options.notebook.resolve().parent, {RESULTS_DIR: results})
    for text in nb.clean(notebook):
        print(text.rstrip(), file=sys.stderr)
    for cell, source in zip(notebook.cells, before, strict=True):
        cell.source = source
    saved = {name: value for name, value in values.items() if name not in nb.UNSAVED}
    nb.set_parameters(notebook, saved)


def _name(name: str, mode: str) -> str:
    """The file name; results of any but a full run never take the name of the real ones."""
    stem, suffix = os.path.splitext(name)
    return f"{stem}.{mode}{suffix}" if mode and not stem.endswith(f".{mode}") else name


def _place(options: argparse.Namespace, name: str) -> Path:
    """Where a file goes: notebook and README to the top, all else to report/."""
    top = options.output_dir or options.notebook.parent
    at_top = options.output_dir or name.endswith((".ipynb", ".md"))
    return top / name if at_top else top / "report" / name


def _parser() -> argparse.ArgumentParser:
    title = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m report.tools", description=title)
    add = parser.add_argument
    add("notebook", nargs="?", type=Path, default=Path("Task4_Autoencoders.ipynb"))
    add("--fresh", action="store_true", help="train every model anew")
    add("--short", action="store_true", help="two seeds, fewer epochs: a report within 20 minutes")
    add("--data", choices=["auto", "real", "stand-in"], help="as DATA in the notebook")
    add("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    add("--output-dir", type=Path, help="write everything there; needed for most parameters")
    add("--pdf-only", action="store_true", help="build the PDF from the notebook as it is")
    add("--check", action="store_true", help="compare the text with the stored results, no more")
    add("--update", action="store_true", help="rewrite its numbers from the stored results")
    add("--strict", action="store_true", help="fail if the PDF is not well set (as CI does)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
