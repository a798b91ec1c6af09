"""The progress bar of a study: workers append lines to a file, one thread here follows it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

PROGRESS_FILE = "VAE_PROGRESS_FILE"  # environment: where the progress bar goes instead of stderr


@contextmanager
def progress_bar(total: int, runs_dir: Path | None):
    """A bar over all epochs of all workers, who append a line per epoch to the yielded file."""
    if total == 0 or runs_dir is None:
        yield None
        return
    handle, log = tempfile.mkstemp(dir=runs_dir, prefix="progress-", suffix=".tmp")
    os.close(handle)
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(log, total, done), daemon=True)
    follower.start()
    try:
        yield log
    finally:
        done.set()
        follower.join()
        Path(log).unlink(missing_ok=True)
        _clear_notebook_output()


def log_epoch(log: str | None, line: str) -> None:
    """Called by a worker after every epoch; `log` is what `progress_bar` yielded."""
    if log:
        # a full disk stops the bar, not the training
        with contextlib.suppress(OSError), open(log, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def _follow(log: str, total: int, done: threading.Event) -> None:
    target = os.environ.get(PROGRESS_FILE)
    out = open(target, "a", encoding="utf-8") if target else sys.stderr
    with open(log, encoding="utf-8") as lines, tqdm(
        total=total, unit="epoch", file=out, leave=False, dynamic_ncols=True
    ) as bar:
        while True:
            finished = done.wait(0.5)
            for line in lines:
                bar.set_postfix_str(line.strip(), refresh=False)
                bar.update()
            if finished:
                bar.refresh()
                break
    if target:
        out.close()


def _clear_notebook_output() -> None:
    """Leave nothing of the bar in a notebook's saved outputs."""
    if "ipykernel" in sys.modules and not os.environ.get(PROGRESS_FILE):
        from IPython.display import clear_output

        clear_output()
