"""Tasks in worker processes that end with their caller, through joblib.

Inside `joblib.parallel_config(backend=...)` the same tasks run on that backend, such as a Dask
cluster.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import joblib
import torch


def run_tasks(
    function: Callable, tasks: Iterable[tuple], *, jobs: int, threads: int = 1, forked: bool = True
) -> list:
    """`function(*task)` for every task, in `jobs` processes of `threads` torch threads each.

    Large NumPy arrays among the arguments are shared between the processes, not copied. Not
    `forked`: in threads of this process, for work that a GPU does. Raises what the function raises,
    and RuntimeError if a worker process was killed.
    """
    tasks = list(tasks)
    options: dict = {"n_jobs": max(1, min(jobs, len(tasks))), "mmap_mode": "c"}
    if not forked:
        options |= {"backend": "threading"}
    elif _uses_local_processes():
        folder = _temporary_folder() if options["n_jobs"] > 1 else None
        if folder is None:
            options = {"n_jobs": 1}
        else:
            options |= {"backend": "loky", "temp_folder": folder,
                        "initializer": _end_with, "initargs": (os.getpid(),)}  # fmt: skip
    try:
        return joblib.Parallel(**options)(
            joblib.delayed(_run_one)(function, task, threads) for task in tasks
        )
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process was killed (out of memory?); what it had finished is kept: run this "
            "again to go on from there, with fewer jobs if memory is short"
        ) from error


def _run_one(function: Callable, task: tuple, threads: int):
    with torch_threads(threads):
        result = function(*task)
    return_memory()
    return result


@contextmanager
def torch_threads(threads: int):
    """Run the block with this many torch threads, then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, in every worker and in the caller."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _uses_local_processes() -> bool:
    backend, _ = joblib.parallel.get_active_backend()
    return type(backend).__name__ == "LokyBackend"


def _temporary_folder() -> str | None:
    """Where joblib shares arrays; None, with a warning, if there is no such place.

    Its resource tracker takes no path that is not ASCII. The order is joblib's own, as is the room
    that it asks of a memory file system (containers often have 64 MB).
    """
    wanted, memory = os.environ.get("JOBLIB_TEMP_FOLDER"), "/dev/shm"
    folders = [tempfile.gettempdir(), "/var/tmp", os.environ.get("PUBLIC"), os.getcwd()]
    if os.path.isdir(memory) and shutil.disk_usage(memory).free > 2e9:
        folders.insert(0, memory)
    if wanted and os.path.abspath(wanted).isascii():
        return wanted
    for folder in folders:
        if folder and folder.isascii() and os.access(folder, os.W_OK):
            return folder
    warnings.warn("no folder with an ASCII name for temporary files, so one process does all the "
                  "work; set JOBLIB_TEMP_FOLDER to one", stacklevel=3)  # fmt: skip
    return None


def _end_with(caller: int) -> None:
    """In a worker, as soon as it starts: end it when its caller was killed, at work or idle.

    joblib's workers do not notice by themselves. Saves are atomic, so any moment will do.
    """

    def watch():
        while os.getppid() == caller:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-caller", daemon=True).start()
