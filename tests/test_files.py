"""Files: whole or not at all, never trusted unread, and a folder that fails fails at once."""

import hashlib
import io
import os
import pickle
from pathlib import Path

import pytest
import torch

from vae_helpers.engine import files
from vae_helpers.engine.files import load_tensors, save_tensors, writable_folder

VALUE = {"weights": torch.arange(3.0), "epochs": 7, "history": {"loss": [1.5, 0.5]}}


def full(*args, **kwargs):
    raise OSError(28, "No space left on device")


def refused(*args, **kwargs):  # as chmod would do it, which does not stop root
    raise PermissionError(13, "Permission denied")


def same(a, b):
    return str(a) == str(b)


def test_a_failed_save_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_tensors(path, VALUE)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a\.pt \(0\.0 MB\) can not be written: No space left"):
        save_tensors(path, {"weights": torch.zeros(3)})
    assert same(load_tensors(path), VALUE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-100], lambda b: b"", lambda b: b[:500] + b"\0" + b[501:]]
)
def test_a_corrupt_file_is_named_and_set_aside(tmp_path, damage):
    path = tmp_path / "a.pt"
    assert load_tensors(path) is None
    save_tensors(path, VALUE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"a\.pt is corrupt .* set aside as a\.pt\.corrupt"):
        assert load_tensors(path) is None
    save_tensors(path, VALUE)
    assert same(load_tensors(path), VALUE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "a.pt.corrupt"]


def test_stored_files_run_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    buffer = io.BytesIO()
    torch.save({"trap": Trap()}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    (tmp_path / "a.pt").write_bytes(digest + b"\n" + buffer.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        load_tensors(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["", "new", "new/deeper"])
def test_a_folder_that_can_be_written_is_returned_and_nothing_is_made(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert writable_folder(name) == Path(name)
    assert writable_folder(str(tmp_path / name)) == tmp_path / name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("folder", "reason", "where"),
    [
        ("file", "Not a directory", "file"),
        ("file/deeper/still", "Not a directory", "file"),
        ("link", "No such file or directory", "link"),
        ("read only/new", "Permission denied", "read only"),
    ],
)
def test_a_folder_that_can_not_be_written_is_one_sentence(
    tmp_path, monkeypatch, folder, reason, where
):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "read only").mkdir()
    if folder.startswith("read only"):
        monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(OSError) as caught:
        writable_folder(tmp_path / folder, "name another with --output-dir")
    assert str(caught.value) == (
        f"{tmp_path / folder} can not be written ({reason}: {tmp_path / where}); "
        "name another with --output-dir"
    )
    with pytest.raises(OSError, match="; pass another folder, or None to keep nothing$"):
        writable_folder(tmp_path / folder)


def test_code_digest_sees_code_and_not_prose(tmp_path):
    def digest(text):
        path = tmp_path / "module.py"
        path.write_text(text)
        return files.source_digest(type("Module", (), {"__file__": str(path)}))

    code = 'def f(x):\n    """Doc."""\n    return x + 1\n'
    assert digest(code) == digest('"""New."""\n# note\ndef f(x):\n\n    return x + 1\n')
    assert digest(code) != digest(code.replace("+ 1", "+ 2"))
    told = 'say = "# one"  # two\n'
    assert digest(told) == digest(told.replace("two", "three"))
    assert digest(told) != digest(told.replace("one", "three"))
