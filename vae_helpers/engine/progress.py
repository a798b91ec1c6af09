"""The progress bar of a study: workers append lines to a file, one thread here follows it."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from IPython import get_ipython
from IPython.display import display

_EPOCH = re.compile(r"(?P<run>.*) epoch (?P<done>\d+)/(?P<of>\d+)")


@contextmanager
def progress_bar(total: int, runs: int):
    """A bar over `total` epochs of all workers, who append a line per epoch to the yielded file.

    It shows how many `runs` are done, the time left and the newest line, and is gone at the end:
    in a notebook an output without content stays, and what the cell has printed is not touched.
    """
    done = threading.Event()
    with tempfile.TemporaryDirectory(prefix="progress-") as folder, _bar_output() as show:
        log = Path(folder) / "log"
        log.touch()
        arguments = log, total, runs, done, show
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
    started, new, at, rest, stop = time.monotonic(), 0, {}, "", False
    with open(log, encoding="utf-8") as lines:
        while not stop:
            stop = done.wait(0.5)
            for line in lines:
                new, newest = new + 1, line.strip()
                if match := _EPOCH.match(line):
                    at[match["run"]] = int(match["done"]), int(match["of"])
            count, finished = sum(n for n, _ in at.values()), sum(n == of for n, of in at.values())
            if new:  # a run that goes on counts at once what was done, which took no time
                left = (time.monotonic() - started) * max(0, total - count) / new
                rest = f", {left // 60:.0f}:{int(left % 60):02} left, {newest}"
            bar = "#" * (20 * count // max(count, total))
            show(f"[{bar:20}] runs {finished}/{runs}, epochs {count}/{total}{rest}")


@contextmanager
def _bar_output():
    """A function that shows a text in the place of the one before; a full disk stops nothing.

    In an output of the notebook's cell or on stderr.
    """
    if hasattr(get_ipython(), "kernel"):
        output = display({}, raw=True, display_id=True)
        try:
            yield lambda text: output.update({"text/plain": text}, raw=True)
        finally:
            output.update({}, raw=True)
        return
    width = 0

    def show(text: str) -> None:
        nonlocal width
        with contextlib.suppress(OSError, ValueError):
            print("\r" + text.ljust(width), end="", file=sys.stderr, flush=True)
        width = len(text)

    try:
        yield show
    finally:
        show("")  # over the last text
        show("")  # and back to the line's start
