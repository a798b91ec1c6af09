"""Tasks in worker processes that end with their caller, through joblib.

Inside `joblib.parallel_config(backend=...)` the same tasks run on that backend, such as a Dask
cluster.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import joblib
import torch


def run_tasks(
    function: Callable, tasks: Iterable[tuple], *, jobs: int, threads: int = 1
) -> list:
    """`function(*task)` for every task, in `jobs` processes of `threads` torch threads each.

    Large NumPy arrays among the arguments are shared between the processes, not copied. Raises
    what the function raises, and RuntimeError if a worker process was killed.
    """
    tasks = list(tasks)
    options: dict = {"n_jobs": max(1, min(jobs, len(tasks))), "mmap_mode": "c"}
    if _uses_local_processes():
        folder = _ascii_temporary_folder()
        if folder is None:
            options["n_jobs"] = 1
        options |= {"backend": "loky", "temp_folder": folder,
                    "initializer": _end_with, "initargs": (os.getpid(),)}  # fmt: skip
        if options["n_jobs"] == 1:
            options = {"n_jobs": 1}
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


def _ascii_temporary_folder() -> str | None:
    """Where joblib shares arrays: its resource tracker fails on a path that is not ASCII."""
    wanted = os.environ.get("JOBLIB_TEMP_FOLDER")
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
    for folder in (wanted, shared, tempfile.gettempdir(), str(Path.cwd())):
        if folder and folder.isascii() and os.access(folder, os.W_OK):
            return folder
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
