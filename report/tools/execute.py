"""Run the notebook, and keep what is saved of it clean."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

MAX_BYTES = 3_000_000
INJECTED = "injected-parameters"  # papermill's name for the cell that overrides the defaults
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class NotebookError(RuntimeError):
    """The notebook could not be run, or what it left should not be saved."""


class SameInterpreterKernel(AsyncKernelManager):
    """A kernel of the Python that runs this, whatever kernels are registered on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def read(path: Path) -> NotebookNode:
    """The notebook at `path`; NotebookError if there is none or it is not one."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise NotebookError(f"there is no notebook {path}; run this in its folder") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise NotebookError(f"{path} is not a notebook: {error}") from error


def set_parameters(notebook: NotebookNode, values: dict) -> None:
    """Insert a cell that sets `values` after the cell tagged `parameters` (papermill's way)."""
    cells = [c for c in notebook.cells if INJECTED not in c.metadata.get("tags", [])]
    tagged = [i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(f"one cell must be tagged `parameters`, found {len(tagged)}")
    names = _assigned_names(cells[tagged[0]].source)
    for name in values:
        if name not in names:
            raise NotebookError(f"there is no parameter {name}; there are {', '.join(names)}")
    if values:
        source = "# Parameters\n" + "\n".join(f"{name} = {v!r}" for name, v in values.items())
        cell = nbformat.v4.new_code_cell(source, id=INJECTED, metadata={"tags": [INJECTED]})
        cells.insert(tagged[0] + 1, cell)
    notebook.cells = cells


def execute(
    notebook: NotebookNode,
    folder: Path,
    *,
    question: str,
    environment: dict | None = None,
    on_cell: Callable[[str, int, int], None] | None = None,
) -> str:
    """Run every code cell in `folder`, in place; the value of the expression `question` at the end.

    `on_cell(section, number, count)` is called before each code cell. Raises NotebookError with
    the section, cell and traceback when a cell fails or the kernel dies.
    """
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", kernel_manager_class=SameInterpreterKernel,
        resources={"metadata": {"path": str(folder)}}, record_timing=False,
    )  # fmt: skip
    count, number, section = len(_code_cells(notebook)), 0, "start"
    last_words = tempfile.TemporaryFile()  # of the kernel process, not of the cells
    try:
        # Not client.execute(): its own signal handlers turn Ctrl-C into an unreadable error.
        with client.setup_kernel(env={**os.environ, **(environment or {})}, stderr=last_words):
            reply = client.wait_for_reply(client.kc.kernel_info())
            notebook.metadata["language_info"] = reply["content"]["language_info"]
            for index, cell in enumerate(notebook.cells):
                section = _last_heading(cell, section)
                if cell.cell_type == "code":
                    number += 1
                    if on_cell is not None:
                        on_cell(section, number, count)
                    client.execute_cell(cell, index, execution_count=number)
            asked = nbformat.v4.new_code_cell(f"print({question}, end='')")
            notebook.cells.append(asked)  # nbclient runs a notebook's own cells only
            client.execute_cell(asked, len(notebook.cells) - 1)
            notebook.cells.pop()
    except CellExecutionError as error:
        where = f"cell {number} of {count}, in section {section!r}"
        raise NotebookError(f"{where} failed:\n\n{_ANSI.sub('', str(error)).strip()}") from error
    except DeadKernelError as error:
        last_words.seek(0)
        raise NotebookError(
            f"the kernel died in cell {number} of {count}, in section {section!r} (killed, or out "
            f"of memory?)\n{last_words.read()[-2000:].decode(errors='replace')}"
        ) from error
    finally:
        last_words.close()
    return "".join(output.text for output in asked.outputs if output.get("name") == "stdout")


def clean(notebook: NotebookNode, *, drop_injected: bool) -> list[str]:
    """Make the executed notebook ready to be saved; what its cells wrote to stderr.

    Drops stderr, widget state, timing and (on request) the injected parameters, numbers the
    executed cells 1, 2, ... and hides the code from a bare `jupyter nbconvert --to pdf`.
    """
    if drop_injected:
        notebook.cells = [c for c in notebook.cells if INJECTED not in c.metadata.get("tags", [])]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.kernelspec = {
        "display_name": "Python 3", "language": "python", "name": "python3",
    }  # fmt: skip
    errors = []
    for count, cell in enumerate(_code_cells(notebook), start=1):
        errors += [o.text for o in cell.outputs if o.get("name") == "stderr"]
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        cell.metadata.pop("execution", None)
        cell.metadata["transient"] = {"remove_source": True}
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return errors


def problems(notebook: NotebookNode) -> list[str]:
    """What is wrong with a notebook that is about to be saved, one sentence per fault."""
    found = []
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        found.append(f"not valid: {error.message}")
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        found.append(f"format {notebook.nbformat}.{notebook.nbformat_minor}, not 4.5")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernelspec is not python3")
    if "widgets" in notebook.metadata:
        found.append("it holds widget state")
    counts = [cell.execution_count for cell in _code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"execution counts are {counts}, not 1..{len(counts)}")
    for number, cell in enumerate(notebook.cells, start=1):
        found += [f"cell {number}: {fault}" for fault in _cell_problems(cell)]
    size = len(nbformat.writes(notebook).encode())
    if size > MAX_BYTES:
        found.append(f"it has {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f}")
    return found


def stand_in_marks(notebook: NotebookNode) -> bool:
    """Whether an output carries the mark of a run on stand-in data (`display.show_markdown`)."""
    outputs = (o for cell in _code_cells(notebook) for o in cell.outputs)
    return any(o.get("metadata", {}).get("stand_in") for o in outputs)


def to_bytes(notebook: NotebookNode) -> bytes:
    """The notebook file's content."""
    return (nbformat.writes(notebook) + "\n").encode()


def _cell_problems(cell: NotebookNode) -> list[str]:
    found = []
    if cell.cell_type == "code":
        if "execution" in cell.metadata:
            found.append("it holds timing metadata")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"it failed with {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"it wrote to stderr: {output.text.strip()[:80]!r}")
            if any("widget" in kind for kind in output.get("data", {})):
                found.append("it shows a widget")
    texts = [cell.source] + [_output_text(output) for output in cell.get("outputs", [])]
    for text in texts:
        found += [f"it names the path {path}" for path in _machine_paths(text)]
    return found


def _machine_paths(text: str) -> list[str]:
    """Paths in `text` that hold on this machine or for one user only."""
    here = {str(Path.cwd()), str(Path.home()), sys.prefix, tempfile.gettempdir()} - {"/"}
    known = [re.escape(path) + r"[^\s'\"]*" for path in sorted(here, key=len, reverse=True)]
    pattern = "|".join([*known, r"/(?:home|Users|root|tmp)/[^\s'\"]+", r"\b[A-Z]:\\[^\s'\"]+"])
    return re.findall(rf"(?<![\w.])(?:{pattern})", text)


def _output_text(output: NotebookNode) -> str:
    data = output.get("data", {})
    texts = [json.dumps(v) if isinstance(v, dict) else v for k, v in data.items()
             if not k.startswith("image/") and k != "application/pdf"]  # fmt: skip
    return "\n".join([*texts, output.get("text", "")])


def _last_heading(cell: NotebookNode, before: str) -> str:
    """The last heading in a Markdown cell, or the one before."""
    found = re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE)
    return found[-1].strip() if cell.cell_type == "markdown" and found else before


def _assigned_names(source: str) -> list[str]:
    targets = []
    for node in ast.parse(source).body:
        targets += node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
