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
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool

import joblib
import torch

_WAITING: set[int] = set()  # the threads that are in `in_own_thread`
_SETTING_THREADS = threading.Lock()


def run_tasks(
    function: Callable, tasks: Sequence[tuple], *, jobs: int, forked: bool = True
) -> list:
    """`function(*task)` for every task, in `jobs` processes of one torch thread each.

    Large NumPy arrays among the arguments are shared between the processes, not copied. Not
    `forked`: in threads of this process, for work that a GPU does. Raises what the function raises,
    and RuntimeError if a worker process was killed.
    """
    options: dict = {"n_jobs": max(1, min(jobs, len(tasks))), "mmap_mode": "c"}
    if not forked:
        options |= {"backend": "threading"}
    elif type(joblib.parallel.get_active_backend()[0]).__name__ == "LokyBackend":
        options |= {
            "backend": "loky",
            "temp_folder": _temporary_folder(),
            "initializer": _end_with,
            "initargs": (os.getpid(),),
        }
    try:
        return joblib.Parallel(**options)(joblib.delayed(_run_one)(function, t) for t in tasks)
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process was killed (out of memory?); what it had finished is kept: run this "
            "again to go on from there, with fewer jobs if memory is short"
        ) from error
    except KeyboardInterrupt:
        for thread in _WAITING.copy():  # joblib would leave its threads at work
            _interrupt(thread)
        raise


def _run_one(function: Callable, task: tuple):
    result = on_one_thread(function, *task)
    return_memory()
    return result


def on_one_thread(function: Callable, *arguments):
    """`function(*arguments)` with one torch thread, in a thread of its own."""
    return in_own_thread(lambda: function(*arguments), torch_threads=1)


def in_own_thread(function: Callable, torch_threads: int | None = None):
    """`function()` in a new thread, for settings of the processor and of torch that a thread has.

    torch_threads: its number of torch threads, by default the caller's. An interruption of the
    caller (Ctrl-C) ends it, too.
    """
    done: Future = Future()
    with _SETTING_THREADS:
        number = torch.get_num_threads()

    def work():
        try:
            _set_torch_threads(torch_threads or number)
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    thread, caller = threading.Thread(target=work, daemon=True), threading.get_ident()
    try:
        _WAITING.add(caller)
        thread.start()
        while not done.done():
            wait([done], timeout=0.2)  # not for good: what interrupts a thread waits until it runs
    except BaseException:
        _interrupt(thread.ident)
        while thread.is_alive():
            thread.join(0.2)
        raise
    finally:
        _WAITING.discard(caller)
    return done.result()


def _set_torch_threads(number: int) -> None:
    """torch's number of threads, for this new thread alone.

    torch keeps it for every thread, and once more for those that begin later: there, another
    thread puts it back.
    """
    with _SETTING_THREADS:
        before = torch.get_num_threads()
        torch.set_num_threads(number)
        other = threading.Thread(target=torch.set_num_threads, args=(before,))
        other.start()
        other.join()


def _interrupt(thread: int | None) -> None:
    """Raise SystemExit, of which a thread ends without a word, in the thread of this number."""
    if thread is not None:
        error = ctypes.py_object(SystemExit)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)


def return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, in every worker and in the caller."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _temporary_folder() -> str | None:
    """Where joblib shares arrays; None is its own choice, unless that may be no ASCII path.

    Its resource tracker takes no other.
    """
    if os.environ.get("JOBLIB_TEMP_FOLDER", tempfile.gettempdir()).isascii():
        return None
    folders = ("/var/tmp", os.environ.get("PUBLIC", ""), os.getcwd())
    return next((f for f in folders if f.isascii() and os.access(f, os.W_OK)), None)


def _end_with(caller: int) -> None:
    """In a worker, as soon as it starts: end it when its caller was killed, at work or idle.

    joblib's workers do not notice by themselves. Saves are atomic, so any moment will do.
    """

    def watch():
        while os.getppid() == caller:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-caller", daemon=True).start()
