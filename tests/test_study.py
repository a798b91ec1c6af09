"""Runs on disk and in parallel: nothing trained twice, nothing corrupt loaded, equal results."""

import os
import signal
import subprocess
import sys
import time

import joblib
import pytest
import torch

from vae_helpers import (
    ModelSpec,
    TrainSettings,
    map_runs,
    progress,
    stacked,
    study,
    train_study,
    training,
)
from vae_helpers.measures.losses import latent_statistics

SETTINGS = TrainSettings(epochs=2, batch_size=64)
SPECS = [ModelSpec("VAE3Layer", (16,), 3), ModelSpec("AutoEncoder", (16,), 3)]


def states(runs):
    return [run.result.state for group in runs.values() for run in group]


def equal(a, b):
    return len(a) == len(b) and all(
        torch.equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x
    )


@pytest.fixture
def train_calls(monkeypatch):
    """Counts the runs trained in this process."""
    calls = []
    original = study.training.train

    def counting(*args, **kwargs):
        calls.append(kwargs["seed"])
        return original(*args, **kwargs)

    monkeypatch.setattr(study.training, "train", counting)
    return calls


def go(data, runs_dir, specs=SPECS, seeds=(0, 1), settings=SETTINGS, **options):
    options = {"n_jobs": 1, "device": "cpu", **options}
    return train_study(specs, data, settings, list(seeds), runs_dir=runs_dir, **options)


def test_finished_runs_are_loaded_not_trained_again(tiny_data, tmp_path, train_calls):
    first = go(tiny_data, tmp_path)
    assert len(train_calls) == 4
    again = go(tiny_data, tmp_path)
    assert len(train_calls) == 4 and equal(states(first), states(again))
    go(tiny_data, tmp_path, seeds=(0, 1, 2))
    assert len(train_calls) == 6
    go(tiny_data, tmp_path, fresh=True)
    assert len(train_calls) == 10
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.tmp"))


def test_key_changes_with_all_that_could_change_the_weights(tiny_data, monkeypatch):
    base = (SPECS[0], 0, SETTINGS, tiny_data)
    swapped = study.Data("tiny", tiny_data.train, tiny_data.test, tiny_data.validation)
    keys = {
        study.run_key(*base),
        study.run_key(SPECS[1], *base[1:]),
        study.run_key(SPECS[0], 1, *base[2:]),
        study.run_key(*base[:2], TrainSettings(epochs=3, batch_size=64), tiny_data),
        study.run_key(*base[:3], swapped),
    }
    monkeypatch.setattr(study, "source_digest", lambda *modules: "other code")
    keys.add(study.run_key(*base))
    assert len(keys) == 6


def test_code_digest_sees_code_and_not_prose(tmp_path):
    def digest(text):
        path = tmp_path / "module.py"
        path.write_text(text)
        return study.source_digest(type("Module", (), {"__file__": str(path)}))

    code = 'def f(x):\n    """Doc."""\n    return x + 1\n'
    assert digest(code) == digest('"""New."""\n# note\ndef f(x):\n\n    return x + 1\n')
    assert digest(code) != digest(code.replace("+ 1", "+ 2"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-100], lambda b: b"", lambda b: b[:500] + b"\0" + b[501:],
        lambda b: b"<html>not found</html>",
    ],
)  # fmt: skip
def test_corrupt_file_is_named_set_aside_and_retrained(tiny_data, tmp_path, train_calls, damage):
    first = go(tiny_data, tmp_path)
    victim = sorted(tmp_path.glob("*.run"))[0]
    victim.write_bytes(damage(victim.read_bytes()))
    with pytest.warns(UserWarning, match=victim.name):
        again = go(tiny_data, tmp_path)
    assert len(train_calls) == 5 and equal(states(first), states(again))
    assert (tmp_path / f"{victim.name}.corrupt").exists()


def test_stored_files_run_no_code(tmp_path):
    import hashlib
    import io
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    buffer = io.BytesIO()
    torch.save({"trap": Trap()}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    (tmp_path / "x.run").write_bytes(digest + b"\n" + buffer.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        study.load_tensors(tmp_path / "x.run")
    assert not (tmp_path / "sprung").exists()


def test_failed_save_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "a.run"
    study.save_tensors(path, {"x": torch.ones(3)})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        study.save_tensors(path, {"x": torch.zeros(3)})
    assert torch.equal(study.load_tensors(path)["x"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["a.run"]


def test_unusable_runs_dir_is_said_and_survived(tiny_data, tmp_path):
    blocked = tmp_path / "runs"
    blocked.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="can not be written"):
        runs = go(tiny_data, blocked, seeds=[0])
    assert equal(states(runs), states(go(tiny_data, None, seeds=[0])))


def test_parallel_and_sequential_runs_are_equal_bit_for_bit(tiny_data, tmp_path):
    sequential = go(tiny_data, tmp_path / "a", n_jobs=1)
    parallel = go(tiny_data, tmp_path / "b", n_jobs=2)
    assert equal(states(sequential), states(parallel))


def test_dask_cluster_of_two_workers_gives_equal_results(tiny_data, tmp_path):
    distributed = pytest.importorskip("distributed")
    local = go(tiny_data, tmp_path / "local")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        local_directory=str(tmp_path / "dask"),
    ) as cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        remote = go(tiny_data, tmp_path / "remote", n_jobs=2)
    assert equal(states(local), states(remote))
    assert len(list((tmp_path / "remote").glob("*.run"))) == 4


def test_map_runs_keeps_values_and_notices_new_arguments(tiny_data, tmp_path):
    runs = [run for group in go(tiny_data, tmp_path).values() for run in group]
    first = map_runs(latent_statistics, runs, tiny_data, runs_dir=tmp_path, n_jobs=1)
    before = sorted(p.name for p in tmp_path.glob("*.value"))
    again = map_runs(latent_statistics, runs, tiny_data, runs_dir=tmp_path, n_jobs=1)
    assert len(before) == 4 and before == sorted(p.name for p in tmp_path.glob("*.value"))
    for a, b, run in zip(first, again, runs, strict=True):
        assert torch.equal(a["kl"], b["kl"])
        assert torch.equal(a["kl"], latent_statistics(run.model(), tiny_data)["kl"])


def test_progress_bar_leaves_nothing_behind(tiny_data, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(progress.PROGRESS_FILE, str(tmp_path / "bar.txt"))
    go(tiny_data, tmp_path / "runs")
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""
    bar = (tmp_path / "bar.txt").read_text()
    assert "8/8" in bar and "seed 1 epoch 2/2" in bar
    assert not list((tmp_path / "runs").glob("progress*"))


@pytest.mark.parametrize("stacks", [False, True])
def test_a_validation_loss_that_is_not_finite_stops_the_study(
    tiny_data, tmp_path, monkeypatch, stacks
):
    finite, nan = training.Loss(1.0, 1.0, 0.0), training.Loss(float("nan"), float("nan"), 0.0)
    losses = iter([finite, nan] * 2)
    monkeypatch.setattr(training, "_validate", lambda *_: next(losses))
    monkeypatch.setattr(stacked, "_validate", lambda *_: [next(losses)])
    monkeypatch.setattr(study, "_trains_in_stacks", lambda device: stacks)
    for _ in range(2):  # the second start does not go on behind the fault
        with pytest.raises(training.NonFiniteLossError) as raised:
            train_study(SPECS[:1], tiny_data, TrainSettings(3, 64), [7], runs_dir=tmp_path,
                        n_jobs=1, device="cpu")  # fmt: skip
        for words in ("seed 7", "validation loss is nan after epoch 2", "rate 0.004"):
            assert words in str(raised.value)
        assert list(tmp_path.iterdir()) == []


VICTIM = """
import signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
sys.path.insert(0, {tests!r})
import conftest
data = conftest.make_tiny_data()
from vae_helpers import ModelSpec, TrainSettings, train_study
settings = TrainSettings(epochs=60, batch_size=16)
train_study([ModelSpec("VAE3Layer", (64,), 4)], data, settings, [0], runs_dir={runs!r}, n_jobs=1,
            device="cpu")
"""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_killed_run_continues_to_the_same_end(tiny_data, tmp_path, sign):
    settings = TrainSettings(epochs=60, batch_size=16)
    spec = ModelSpec("VAE3Layer", (64,), 4)
    script = VICTIM.format(tests=os.path.dirname(__file__), runs=str(tmp_path / "runs"))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "runs").glob("*.part")):  # the first epoch is on disk
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(sign)
    process.wait(30)
    assert process.returncode != 0 and not list((tmp_path / "runs").glob("*.run"))
    continued = go(tiny_data, tmp_path / "runs", [spec], [0], settings)
    whole = go(tiny_data, None, [spec], [0], settings)
    assert equal(states(continued), states(whole))
