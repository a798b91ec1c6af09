"""The progress bar of a study: workers append lines to a file, one thread here follows it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

PROGRESS_FILE = "VAE_PROGRESS_FILE"  # environment: where the progress bar goes instead of stderr
_EPOCH = re.compile(r"(?P<run>.*) epoch (?P<done>\d+)/(?P<of>\d+)")


@contextmanager
def progress_bar(total: int, folder: Path | None, runs: int | None = None):
    """A bar over `total` epochs of all workers, who append a line per epoch to the yielded file.

    It shows how many `runs` are done, the time left and the newest line, and is gone at the end:
    in a notebook an output without content stays, and what the cell has printed is not touched.
    """
    log = None
    with contextlib.suppress(OSError):  # a full disk stops the bar, not the training
        if total:
            handle, log = tempfile.mkstemp(dir=folder, prefix="progress-", suffix=".tmp")
            os.close(handle)
    if log is None:
        yield None
        return
    done = threading.Event()
    with _bar_output() as out:
        follower = threading.Thread(target=_follow, args=(log, total, runs, done, out),
                                    daemon=True)  # fmt: skip
        follower.start()
        try:
            yield log
        finally:
            done.set()
            follower.join()
            Path(log).unlink(missing_ok=True)


def log_epoch(log: str | None, line: str) -> None:
    """Called by a worker after every epoch; `log` is what `progress_bar` yielded.

    line: "RUN epoch 3/160 ...", where what stands before "epoch" tells the runs apart.
    """
    if log:
        with contextlib.suppress(OSError), open(log, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def _follow(log: str, total: int, runs: int | None, done: threading.Event, out) -> None:
    seen, finished, stop = set(), 0, False
    with open(log, encoding="utf-8") as lines, tqdm(
        total=total, unit="epoch", file=out, leave=False, dynamic_ncols=True
    ) as bar:
        while not stop:
            stop = done.wait(0.5)
            for line in lines:
                bar.n += 1
                if match := _EPOCH.match(line):
                    run, epoch, of = match["run"], int(match["done"]), int(match["of"])
                    if run not in seen:
                        bar.total -= epoch - 1  # a run that goes on: what was done counts nowhere
                    seen.add(run)
                    finished += epoch == of
                bar.set_postfix_str(line.strip(), refresh=False)
            bar.set_description(f"runs {finished}/{runs}" if runs else f"runs {finished}")


@contextmanager
def _bar_output():
    """Where the bar is written: the file of PROGRESS_FILE, the notebook's cell, or stderr."""
    target = os.environ.get(PROGRESS_FILE)
    if target:
        with open(target, "a", encoding="utf-8") as file:
            yield file
    elif "ipykernel" in sys.modules:
        output = _CellOutput()
        try:
            yield output
        finally:
            output.show({})
    else:
        yield sys.stderr


class _CellOutput:
    """One output of a notebook's cell, replaced by every `write`; tqdm's idea of a file."""

    encoding = "utf-8"

    def __init__(self):
        from IPython.display import display

        self.handle = display({}, raw=True, display_id=True)

    def show(self, content: dict) -> None:
        self.handle.update(content, raw=True)

    def write(self, text: str) -> None:
        if text.strip():
            self.show({"text/plain": text.strip()})

    def flush(self) -> None:
        pass
