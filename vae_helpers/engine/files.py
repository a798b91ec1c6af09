"""Files that are never half-written and never trusted unread."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import os
import tokenize
import warnings
from pathlib import Path
from uuid import uuid4


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises OSError naming the file and its size where that fails, e.g. on a full disk.
    """
    path = Path(path)
    new = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(new, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} ({len(content) / 1e6:.1f} MB) can not be written: {error.strerror}; "
            "what was stored before is unchanged, so put this right and start again",
        ) from error


def save_tensors(path: Path, content: dict) -> None:
    """Save a dict of tensors and plain values, led by a SHA-256 line that `load_tensors` checks."""
    import torch  # not above: the report's process, which trains nothing, writes files too

    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getvalue()
    write_atomic(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def load_tensors(path: Path, set_aside: bool = True) -> dict | None:
    """The content that `save_tensors` wrote, or None if there is no such file.

    A file whose checksum does not match is named in a warning, renamed to `*.corrupt` if it may be
    `set_aside`, and treated as absent. Loading runs no code from the file (`weights_only=True`).
    """
    path = Path(path)
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, _, body = stored.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() == digest:
        import torch

        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    aside = path.with_name(path.name + ".corrupt")
    if set_aside:
        os.replace(path, aside)
    said = f"; set aside as {aside.name}, and" if set_aside else ":"
    warnings.warn(
        f"{path} is corrupt (its checksum differs){said} what it held is made anew", stacklevel=2
    )
    return None


def writable_folder(
    folder: str | Path, remedy: str = "pass another folder, or None to keep nothing"
) -> Path:
    """`folder` as a Path if files can be written there, now or once it is made; it is not made.

    Call it before long work whose results go there. Raises OSError with the folder, the reason and
    the remedy in one sentence.
    """
    path = Path(folder).absolute()
    there = next(filter(os.path.lexists, [path, *path.parents]), path)  # the rest is made in it
    probe = there / f".{uuid4().hex}.tmp"  # a file tells more than access rights, which root passes
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        reason = f"{error.strerror}: {there}"
        raise OSError(f"{folder} can not be written ({reason}); {remedy}") from error
    return Path(folder)


@functools.cache
def source_digest(*modules) -> str:
    """SHA-256 of the modules' code without comments and docstrings: prose edits retrain nothing.

    The same under every version of Python, so that stored work can move between machines.
    """
    digest = hashlib.sha256()
    for module in modules:
        digest.update(without_prose(Path(module.__file__).read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def without_prose(source: str) -> str:
    """Python code without comments, docstrings and empty lines; as it is if it does not parse."""
    lines = source.splitlines()
    try:
        tree, tokens = ast.parse(source), [*tokenize.generate_tokens(io.StringIO(source).readline)]
    except (SyntaxError, tokenize.TokenError):  # a lambda's line, cut out of a statement
        return source
    for token in tokens:
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
    for node in ast.walk(tree):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            first, last = node.body[0].lineno, node.body[0].end_lineno
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
