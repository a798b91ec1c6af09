"""Run the notebook, and keep what is saved of it clean."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from . import ReportError

SECONDS_BETWEEN_LOG_LINES = 30
UNSAVED = {"DATA", "FRESH", "RUNS_DIR", "PACK"}  # parameters that change nothing in what is saved


def read(path: Path) -> NotebookNode:
    """The notebook at `path`; ReportError if there is none or it is not one."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ReportError(f"there is no notebook {path}; run this in its folder") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise ReportError(f"{path} is not a notebook: {error}") from error


def to_bytes(notebook: NotebookNode) -> bytes:
    """The notebook file's content."""
    return (nbformat.writes(notebook) + "\n").encode()


def with_tag(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    """The cells that carry a tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def set_parameters(notebook: NotebookNode, values: dict) -> None:
    """Set `values` in the cell tagged `parameters`.

    A text is read as the type of the parameter's default, so that "false" is False. Raises
    ReportError for a name that is not there and a value of another type.
    """
    tagged = with_tag(notebook, "parameters")
    if len(tagged) != 1:
        raise ReportError(f"one cell must be tagged `parameters`, found {len(tagged)}")
    cell = tagged[0]
    for name, value in values.items():
        found = re.search(rf"(?m)^{re.escape(name)} = (.+?)(?=  #|$)", cell.source)
        if not found:
            names = ", ".join(re.findall(r"(?m)^(\w+) =", cell.source))
            raise ReportError(f"there is no parameter {name}; there are {names}")
        value = repr(_typed(name, value, type(ast.literal_eval(found[1]))))
        cell.source = cell.source[: found.start(1)] + value + cell.source[found.end(1) :]


class Client(NotebookClient):
    """Shows the running cell's progress bar, too: on a terminal, or a line of it now and then."""

    width, last = 0, 0.0

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "update_display_data":
            text = msg["content"]["data"].get("text/plain", "")
            if sys.stderr.isatty():
                end = "" if text else "\r"
                print("\r" + text.ljust(self.width), end=end, file=sys.stderr, flush=True)
                self.width = len(text)
            elif text and time.monotonic() - self.last > SECONDS_BETWEEN_LOG_LINES:
                print(text, file=sys.stderr, flush=True)
                self.last = time.monotonic()
        return super().process_message(msg, cell, cell_index)


def execute(notebook: NotebookNode, folder: Path, environment: dict) -> None:
    """Run every code cell in `folder`, in place, and tell the progress on stderr.

    Raises ReportError with the section, cell and traceback when a cell fails or the kernel dies.
    """
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # before a kernel of the user's folder
    place = {"metadata": {"path": str(folder)}}
    options = {"timeout": None, "kernel_name": "python3", "record_timing": False}
    client = Client(notebook, resources=place, **options)
    count, number, section = len(_code_cells(notebook)), 0, "start"
    last_words = tempfile.TemporaryFile()  # of the kernel process, not of the cells
    try:
        # Not client.execute(): its own signal handlers turn Ctrl-C into an unreadable error.
        with client.setup_kernel(env={**os.environ, **environment}, stderr=last_words):
            reply = client.wait_for_reply(client.kc.kernel_info())
            notebook.metadata["language_info"] = reply["content"]["language_info"]
            for index, cell in enumerate(notebook.cells):
                headings = re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE)
                section = headings[-1] if cell.cell_type == "markdown" and headings else section
                if cell.cell_type == "code":
                    number += 1
                    print(f"[{number}/{count}] {section}", file=sys.stderr, flush=True)
                    client.execute_cell(cell, index, execution_count=number)
    except CellExecutionError as error:
        text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error)).strip()
        where = f"cell {number} of {count}, in section {section!r},"
        raise ReportError(f"{where} failed:\n\n{text}") from error
    except DeadKernelError as error:
        last_words.seek(0)
        raise ReportError(
            f"the kernel died in cell {number} of {count}, in section {section!r} (killed, or out "
            f"of memory?)\n{last_words.read()[-2000:].decode(errors='replace')}"
        ) from error
    finally:
        last_words.close()


def clean(notebook: NotebookNode) -> list[str]:
    """Drop stderr, widget state and timing of an executed notebook; what stood in stderr."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.kernelspec = dict(display_name="Python 3", language="python", name="python3")
    errors = []
    for cell in _code_cells(notebook):
        errors += [o.text for o in cell.outputs if o.get("name") == "stderr"]
        kept = [o for o in cell.outputs if o.get("name") != "stderr"]
        cell.outputs = [o for o in kept if o.get("data") != {}]  # which a progress bar leaves
        for key in ("execution", "transient"):
            cell.metadata.pop(key, None)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return errors


def mode(notebook: NotebookNode) -> str:
    """The run mode that an output is marked with (`display.show_markdown`), "" for a full run."""
    outputs = [output for cell in _code_cells(notebook) for output in cell.outputs]
    marks = [output.get("metadata", {}).get("run_mode", "") for output in outputs]
    return next(filter(None, marks), "")


def _typed(name: str, value, kind: type):
    """The value as a parameter of type `kind`; a text is read as one."""
    if isinstance(value, str) and kind is not str:
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value.capitalize() if kind is bool else value)
    if type(value) is not kind:
        raise ReportError(f"the parameter {name} must be {kind.__name__}, got {value!r}")
    return value


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
