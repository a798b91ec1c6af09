"""The progress bar of a study: workers append lines to a file, one thread here follows it.

Not tqdm: its ticks come from one process, and here a tick is an epoch in a worker; in a notebook it
needs ipywidgets, or leaves its bars in the saved output.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from IPython import get_ipython
from IPython.display import display

SECONDS_BETWEEN_LINES = 30  # where no bar can be redrawn
_EPOCH = re.compile(r"(?P<run>.*) epoch (?P<done>\d+)/(?P<of>\d+)")


@contextmanager
def progress_bar(total: int, runs: int):
    """A bar over `total` epochs of all workers, who append a line per epoch to the yielded file.

    It shows how many `runs` are done, the time left and the newest line, and is gone at the end:
    in a notebook an output without content stays, and what the cell has printed is not touched.
    Where stderr is no terminal, a line now and then and one at the end tell the same.
    """
    done = threading.Event()
    with tempfile.TemporaryDirectory(prefix="progress-") as folder:
        log = Path(folder) / "log"
        log.touch()
        arguments = log, total, runs, done, _place()
        follower = threading.Thread(target=_follow, args=arguments, daemon=True)
        follower.start()
        try:
            yield log
        finally:
            done.set()
            follower.join()


def log_epoch(log: Path, line: str) -> None:
    """Called by a worker after every epoch; `log` is what `progress_bar` yielded.

    line: "RUN epoch 3/160 ...", where what stands before "epoch" tells the runs apart. A full disk
    stops the bar, not the training.
    """
    with contextlib.suppress(OSError), open(log, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def _follow(log: Path, total: int, runs: int, done: threading.Event, show) -> None:
    started, new, at, rest, last = time.monotonic(), 0, {}, "", False
    with open(log, encoding="utf-8") as lines:
        while not last:
            last = done.wait(0.5)
            for line in lines:
                new, newest = new + 1, line.strip()
                if match := _EPOCH.match(line):
                    at[match["run"]] = int(match["done"]), int(match["of"])
            count, finished = sum(n for n, _ in at.values()), sum(n == of for n, of in at.values())
            if new:  # a run that goes on counts at once what was done, which took no time
                left = (time.monotonic() - started) * max(0, total - count) / new
                rest = f", {left // 60:.0f}:{int(left % 60):02} left, {newest}"
            bar = "#" * (20 * count // max(count, total))
            with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stderr
                show(f"[{bar:20}] runs {finished}/{runs}, epochs {count}/{total}{rest}", last)


def _place() -> Callable[[str, bool], None]:
    """show(text, last): the text in the place of the one before; where possible, the last clears.

    In an output of the notebook's cell, else on stderr.
    """
    if hasattr(get_ipython(), "kernel"):
        output = display({}, raw=True, display_id=True)
        return lambda text, last: output.update({} if last else {"text/plain": text}, raw=True)
    return _redraw if sys.stderr.isatty() else _now_and_then()


def _redraw(text: str, last: bool) -> None:
    width = shutil.get_terminal_size().columns - 1  # a longer line would not be drawn over
    line = "" if last else text[:width]
    print(f"\r{line:{width}}", end="\r" if last else "", file=sys.stderr, flush=True)


def _now_and_then() -> Callable[[str, bool], None]:
    shown = time.monotonic()

    def show(text: str, last: bool) -> None:
        nonlocal shown
        if last or time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return show
