"""What is kept on disk: whole or not at all, never trusted unread, found again by equal values."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vae_helpers.engine import files
from vae_helpers.engine.cache import Cache

VALUE = {"weights": torch.arange(3.0), "epochs": 7, "history": {"loss": [1.5, 0.5]}}
MEMORY = Cache(None)


def same(a, b):
    return (
        a.keys() == b.keys()
        and torch.equal(a["weights"], b["weights"])
        and (a["history"] == b["history"])
    )


# --- keys --------------------------------------------------------------------------------------

SETTINGS = {
    "recipe": {"betas": (0.9, 0.999), "epochs": 160, "schedule": "cosine"},
    "seed": 3,
    "array": np.arange(6.0).reshape(2, 3),
    "state": {"w": torch.ones(2, 2)},
    "code": None,
}
LIST, TEXT = [1, 2], "a text of some length " * 3


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([LIST, LIST], [[1, 2], [1, 2]]),  # one object twice, or two equal ones
        ([TEXT, TEXT], [TEXT, "".join(TEXT)]),
        ([SETTINGS, SETTINGS], [SETTINGS, {**SETTINGS}]),
        ((1, (2, 3)), [1, [2, 3]]),
        ({"x": 1, "y": 2}, {"y": 2, "x": 1}),
        (torch.arange(6.0).view(2, 3), torch.arange(6.0).view(2, 3).T.contiguous().T),
        (torch.zeros(3, 1).expand(3, 4), torch.zeros(3, 4)),
        (torch.nn.Parameter(torch.ones(2)), np.ones(2, dtype=np.float32)),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (torch.tensor(0.5), 0.5),
        (np.bool_(True), True),
    ],
)
def test_equal_values_have_equal_keys(a, b):
    assert MEMORY.key("x", value=a) == MEMORY.key("x", value=b)


def test_different_values_have_different_keys():
    values = [
        0,
        1,
        1.0,
        True,
        None,
        "1",
        b"1",
        [1],
        [[1]],
        [1, 1],
        {"a": 1},
        {"b": 1},
        [],
        {},
        "",
        np.zeros(2),
        np.zeros(2, np.float32),
        np.zeros((1, 2)),
        torch.zeros(3),
        2**70,
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        float("nan"),
        -1,
        0.1 + 0.2,
        0.3,
    ]
    assert len({MEMORY.key("x", value=value) for value in values}) == len(values)
    assert MEMORY.key("x", value=1) != MEMORY.key("y", value=1) != MEMORY.key("y", other=1)


@pytest.mark.parametrize("value", [object(), {1, 2}, torch.float32, Path("a"), len, [[object()]]])
def test_what_has_no_stable_hash_is_refused(value):
    with pytest.raises(TypeError, match="a key can not depend on"):
        MEMORY.key("x", value=value)


def test_keys_are_the_same_in_another_process():
    code = "import test_cache; print(test_cache.MEMORY.key('x', **test_cache.SETTINGS))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert found.stdout.strip() == MEMORY.key("x", **SETTINGS), found.stderr


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["runs", "my runs (2)", "Läufe/tief", None])
def test_values_are_found_again(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for folder in [name, tmp_path / name] if name else [None]:  # relative and absolute
        cache = Cache(folder)
        key = cache.key("vae3-400-20-seed0", seed=0, folder=str(folder))
        assert cache.load(key) is None
        cache.save(key, VALUE)
        assert same(cache.load(key), VALUE)
        if name:
            assert cache.path(key) == Path(folder) / f"{key}.pt" and cache.path(key).exists()
            assert same(Cache(folder).load(key), VALUE)
        else:
            assert cache.path(key) is None and Cache(None).load(key) is None


def test_fresh_replaces_every_value_once(tmp_path):
    old = Cache(tmp_path)
    for key in ("a", "b"):
        old.save(key, VALUE)
    old.path("a", "part").write_bytes(b"unfinished, of an earlier study")
    fresh = Cache(tmp_path, fresh=True)
    assert fresh.load("a") is None and not old.path("a", "part").exists()
    fresh.path("a", "part").write_bytes(b"unfinished, its own")
    assert fresh.load("a") is None and fresh.path("a", "part").exists()  # interrupted: goes on
    new = {**VALUE, "weights": torch.zeros(3)}
    fresh.save("a", new)
    for _ in range(2):
        assert same(fresh.load("a"), new)
    assert same(old.load("b"), VALUE)  # nobody asked for it yet
    assert Cache(tmp_path, fresh=True).load("a") is None  # a second study replaces it again


def test_a_value_that_a_worker_has_saved_is_not_written_again(tmp_path):
    cache = Cache(tmp_path)
    files.save_tensors(cache.path("a"), VALUE)
    before = cache.path("a").stat().st_ino
    cache.save("a", VALUE)
    assert cache.path("a").stat().st_ino == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-100],
        lambda b: b"",
        lambda b: b[:500] + b"\0" + b[501:],
        lambda b: b"<html>not found</html>",
    ],
)
def test_a_corrupt_file_is_named_and_set_aside(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.save("a", VALUE)
    cache.path("a").write_bytes(damage(cache.path("a").read_bytes()))
    cache = Cache(tmp_path)  # of a later study
    with pytest.warns(UserWarning, match=r"a\.pt is corrupt .* set aside as a\.pt\.corrupt"):
        assert cache.load("a") is None
    cache.save("a", VALUE)
    assert same(Cache(tmp_path).load("a"), VALUE)
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
        Cache(tmp_path).load("a")
    assert not (tmp_path / "sprung").exists()


def test_a_failed_save_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    files.save_tensors(path, VALUE)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a\.pt \(0\.0 MB\) can not be written: No space left"):
        files.save_tensors(path, {"weights": torch.zeros(3)})
    assert same(files.load_tensors(path), VALUE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("blocked", ["runs", "runs/deeper"])
def test_a_folder_that_can_not_be_written_is_said_and_memory_used(tmp_path, blocked):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match=f"{blocked} can not be written"):
        cache = Cache(tmp_path / blocked)
    assert cache.folder is None
    cache.save("a", VALUE)
    assert same(cache.load("a"), VALUE)


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
