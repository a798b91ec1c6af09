"""What is kept on disk: whole or not at all, never trusted unread, found again by equal values."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vae_helpers.engine import files
from vae_helpers.engine.cache import Cache, pack

VALUE = {"weights": torch.arange(3.0), "epochs": 7, "history": {"loss": [1.5, 0.5]}}
MEMORY = Cache(None)


def same(a, b):
    return str(a) == str(b)


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
    plain = [0, 1, 1.0, True, None, "1", b"1", "", 2**70, float("nan"), -1, 0.1 + 0.2, 0.3]
    arrays = [np.zeros(shape) for shape in [2, (1, 2), (0, 3), (3, 0)]]
    arrays += [np.zeros(2, np.float32), torch.zeros(3)]
    values = [*plain, *arrays, [1], [[1]], [1, 1], {"a": 1}, {"b": 1}, [], {}]
    assert len({MEMORY.key("x", value=value) for value in values}) == len(values)
    assert MEMORY.key("x", value=1) != MEMORY.key("y", value=1) != MEMORY.key("y", other=1)


@pytest.mark.parametrize("value", [object(), {1, 2}, torch.float32, Path("a"), len, [[object()]]])
def test_what_has_no_stable_hash_is_refused(value):
    with pytest.raises(TypeError, match="a key can not depend on"):
        MEMORY.key("x", value=value)


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


def test_an_archive_is_read_after_the_folder_and_never_written(tmp_path):
    """As `pack` writes it: a file per model, for `Cache(archive=...)`."""
    archive, other = tmp_path / "archive", {**VALUE, "weights": torch.zeros(3)}
    files.save_tensors(archive / "of an earlier study.pt", VALUE)
    values = {"a-seed0-12": VALUE, "a-seed1-34": other, "losses-a-56": VALUE}
    pack(values, archive)
    names = sorted(path.name for path in archive.iterdir())
    assert names == ["a.pt", "losses-a-56.pt"]
    Cache(tmp_path / "runs").save("a-seed0-12", other)
    for folder in (tmp_path / "runs", None):
        cache = Cache(folder, archive=archive)
        assert same(cache.load("a-seed0-12"), other if folder else VALUE)
        assert same(cache.load("a-seed1-34"), other) and cache.load("b") is None
        cache.save("b", VALUE)
        assert list(cache.used) == ["a-seed0-12", "a-seed1-34", "b"]  # what this study needed
    assert sorted(path.name for path in archive.iterdir()) == names
    assert Cache(None, fresh=True, archive=archive).load("a-seed0-12") is None
    pack(cache.used, tmp_path / "packed again")
    again = Cache(None, archive=tmp_path / "packed again")
    assert all(same(again.load(key), value) for key, value in cache.used.items())
