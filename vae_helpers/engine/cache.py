"""One cache for everything that takes long: training runs, measurements, the judge.

A value is kept in a file whose name holds a hash of all that it depends on (weights, settings,
data, code). So a changed study computes what has changed, and nothing is ever out of date.
"""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import torch

from .files import load_tensors, save_tensors, usable_folder


class Cache:
    """Dicts of tensors and plain values, by key, in memory and, if there is one, in `folder`.

    `fresh`: what an earlier study left is not taken but replaced, each value once.
    """

    def __init__(self, folder: str | Path | None, fresh: bool = False):
        self.folder = usable_folder(folder)
        self.fresh = fresh
        self._replaced: set[str] = set()  # keys whose files of an earlier study are gone
        self._memory: dict[str, dict] = {}

    def key(self, name: str, **depends_on) -> str:
        """The key of the value called `name` that depends on these: arrays, tensors, plain values.

        Equal values give equal keys, in any process. Device, number of threads and version of
        torch, which change the rounding, are no part. Raises TypeError for any other value, whose
        hash could differ from process to process.
        """
        return f"{name}-{joblib.hash(_plain(depends_on))[:12]}"

    def path(self, key: str, ending: str = "pt") -> Path | None:
        """Where the value (or, with the ending "part", an unfinished run) of `key` is kept."""
        return self.folder / f"{key}.{ending}" if self.folder else None

    def load(self, key: str) -> dict | None:
        """The value of `key`, or None; a file that is corrupt is set aside."""
        if key in self._memory or not self.folder:
            return self._memory.get(key)
        part = self.path(key, "part")
        if self.fresh and key not in self._replaced:
            self._replaced.add(key)
            for path in (self.path(key), part):
                path.unlink(missing_ok=True)
        elif (value := load_tensors(self.path(key))) is not None:
            part.unlink(missing_ok=True)  # left if the process was killed just after the result
            self._memory[key] = value
        return self._memory.get(key)

    def save(self, key: str, value: dict) -> None:
        """Keep `value` under `key`, whole or not at all."""
        self._memory[key] = value
        if self.folder and not self.path(key).exists():  # a worker here has saved its own
            save_tensors(self.path(key), value)


def _plain(value):
    """`value` so that equal values are hashed equally: arrays for tensors, lists for tuples.

    New lists and dicts, because joblib hashes one object given twice unlike two equal ones.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return np.ascontiguousarray(value).copy() if value.ndim else value.item()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (str, bytes, int, float)):
        return value
    raise TypeError(f"a key can not depend on {value!r} ({type(value).__name__})")
