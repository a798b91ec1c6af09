"""One cache for everything that takes long: training runs, measurements, the judge.

A value is kept in a file whose name holds a hash of all that it depends on (weights, settings,
data, code). So a changed study computes what has changed, and takes the rest.
"""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import torch

from .files import load_tensors, save_tensors, writable_folder


class Cache:
    """Dicts of tensors and plain values, by key, in memory and, if there is one, in `folder`.

    fresh: what an earlier study left is not taken but replaced, each value once.
    archive: a folder of `pack`, which is only read, after `folder` and unless `fresh`.
    """

    def __init__(
        self, folder: str | Path | None, fresh: bool = False, archive: str | Path | None = None
    ):
        self.folder = None if folder is None else writable_folder(folder)
        self.fresh = fresh
        self.used: dict[str, dict] = {}  # what was taken or made since, by key
        self._archived: dict[str, dict] = {}
        if archive is not None and not fresh:
            for path in sorted(Path(archive).glob("*.pt")):
                self._archived |= load_tensors(path, set_aside=False) or {}
        self._replaced: set[str] = set()  # keys whose files of an earlier study are gone

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
        if key not in self.used and self.folder:
            part = self.path(key, "part")
            if self.fresh and key not in self._replaced:
                self._replaced.add(key)
                for path in (self.path(key), part):
                    path.unlink(missing_ok=True)
            elif (value := load_tensors(self.path(key))) is not None:
                part.unlink(missing_ok=True)  # left if the process was killed after the result
                self.used[key] = value
        if key not in self.used and key in self._archived:
            self.used[key] = self._archived[key]
        return self.used.get(key)

    def save(self, key: str, value: dict, in_file: bool = True) -> None:
        """Keep `value` under `key`, whole or not at all; in memory alone unless `in_file`."""
        self.used[key] = value
        if in_file and self.folder and not self.path(key).exists():  # a worker has saved its own
            save_tensors(self.path(key), value)


def pack(values: dict[str, dict], folder: str | Path) -> None:
    """Write values by key into `folder`, for `Cache(archive=...)`: a file per model.

    That is, per name before "-seed" in the keys. Files of the folder that are not written go.
    """
    files: dict[str, dict] = {}
    for key, value in values.items():
        files.setdefault(key.partition("-seed")[0], {})[key] = value
    for name, content in files.items():
        save_tensors(Path(folder) / f"{name}.pt", content)
    for path in Path(folder).glob("*.pt"):
        if path.stem not in files:
            path.unlink()


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
