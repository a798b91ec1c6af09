"""Files that are never half-written and never trusted unread."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path

import torch


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save_tensors(path: Path, content: dict) -> None:
    """Save a dict of tensors and plain values, led by a SHA-256 line that `load_tensors` checks."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getvalue()
    write_atomic(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def load_tensors(path: Path) -> dict | None:
    """The content that `save_tensors` wrote, or None if there is no such file.

    A file whose checksum does not match is named in a warning, renamed to `*.corrupt` and treated
    as absent. Loading runs no code from the file (`weights_only=True`).
    """
    path = Path(path)
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, _, body = stored.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() == digest:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    aside = path.with_name(path.name + ".corrupt")
    os.replace(path, aside)
    warnings.warn(f"{path} is corrupt (its checksum differs); set aside as {aside.name}, "
                  "the run starts anew", stacklevel=2)
    return None
