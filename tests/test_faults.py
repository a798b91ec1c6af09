"""Processes really killed and disks really full: nothing lost, nothing half-written, same bits."""

import itertools
import multiprocessing
import os
import queue
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from conftest import make_tiny_data

from vae_helpers import AutoEncoder, Recipe, Study, VAE3Layer, training
from vae_helpers.engine import files, parallel

ROOT = Path(__file__).parent.parent
RECIPE = Recipe(epochs=6, batch_size=32)
KILLS = 25
PATIENCE = 300  # seconds, for a machine that is busy with something else

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")
torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # torch imports much at the first one


class Kept:
    """Saved after every epoch, whichever process trains it."""

    def loss(self, x, generator=None):
        training.SAVE_SECONDS = 0
        return super().loss(x, generator)


class KeptVAE(Kept, VAE3Layer):
    pass


class KeptAutoEncoder(Kept, AutoEncoder):
    pass


MODELS = [KeptVAE(h_dim=16, z_dim=3), KeptAutoEncoder(h_dim=16, z_dim=3)]


@pytest.fixture(autouse=True)
def save_seconds(monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", training.SAVE_SECONDS)


def go(data, folder, models=1, jobs=1):
    study = Study(data, RECIPE, seeds=2, folder=folder, jobs=jobs, device="cpu")
    return study.train(*MODELS[:models])


def die_at(point, nth):
    """Let this process be killed at the nth passage through `point` of a save."""
    fsync, replace, unlink, passages = os.fsync, os.replace, Path.unlink, itertools.count(1)

    def die_half_written(descriptor):
        if next(passages) == nth:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def die_before(old, new):
        if next(passages) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(old, new)

    def die_after(old, new):
        replace(old, new)
        if next(passages) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    def die_with_both(path, missing_ok=False):
        if path.suffix == ".part" and path.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(path, missing_ok)

    module, name, deadly = {
        "half written": (os, "fsync", die_half_written),
        "before the old file is replaced": (os, "replace", die_before),
        "after the old file is replaced": (os, "replace", die_after),
        "result saved, checkpoint not yet removed": (Path, "unlink", die_with_both),
    }[point]
    setattr(module, name, deadly)


def in_a_child(folder, models, point=None, nth=1):
    torch.set_num_threads(1)
    if point:
        die_at(point, nth)
    go(make_tiny_data(), folder, models)


@pytest.fixture(scope="module")
def start():
    """Starts a training process, forked from one that has imported all that it takes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_faults"])

    def start(*arguments):
        process = context.Process(target=in_a_child, args=arguments)
        process.start()
        return process

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), os.pathsep)
        yield start


def stored(folder, ending="pt") -> dict:
    return {path.name: files.load_tensors(path) for path in sorted(folder.glob(f"*.{ending}"))}


def assert_same_runs(folder, reference, models=2):
    """A file per run with, but for the seconds taken, the same bits in it; none is unfinished."""
    ours, theirs = stored(folder), stored(reference)
    assert len(ours) == 2 * models and not stored(folder, "part")
    for name, run in ours.items():
        other = theirs[name]
        assert all(torch.equal(run["state"][k], other["state"][k]) for k in other["state"])
        for quantity in set(other["history"]) - {"seconds"}:
            assert run["history"][quantity] == other["history"][quantity], (name, quantity)
        assert run["best_epoch"] == other["best_epoch"]


def epochs_stored(folder) -> dict:
    """Epochs on disk by run; reading them all proves that each file is whole."""
    return {
        name.rpartition(".")[0]: len(run["history"]["seconds"])
        for ending in ("part", "pt")
        for name, run in stored(folder, ending).items()
    }


@pytest.fixture(scope="module")
def whole(tiny_data, tmp_path_factory):
    """A folder with the runs of a study that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    go(tiny_data, folder, 2)
    return folder


# --- killed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "nth", "kept"),
    [
        ("half written", 2, 1),
        ("before the old file is replaced", 3, 2),
        ("after the old file is replaced", 3, 3),
        ("result saved, checkpoint not yet removed", 1, 6),
    ],
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_killed_inside_a_save(start, whole, tiny_data, tmp_path, point, nth, kept):
    process = start(tmp_path, 1, point, nth)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(epochs_stored(tmp_path).values()) == [kept]
    go(tiny_data, tmp_path)
    assert_same_runs(tmp_path, whole, models=1)


@pytest.mark.faults
@pytest.mark.filterwarnings("error::UserWarning")
def test_killed_at_random_moments(start, whole, tmp_path, capsys):
    """SIGKILL, SIGTERM and SIGINT until KILLS have struck; no stored epoch is ever lost."""
    seed = int(time.time())
    chance = random.Random(seed)
    start(tmp_path / "imports", 1).join()
    started = time.monotonic()
    start(tmp_path / "0", 2).join()
    undisturbed = time.monotonic() - started
    kills, finished, kept = {}, 0, {}
    while sum(kills.values()) < KILLS or kept:
        runs = tmp_path / f"{finished + 1}"
        process = start(runs, 2)
        number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        process.join(chance.uniform(0, 0.6 * undisturbed))
        if sum(kills.values()) < KILLS and process.is_alive():
            os.kill(process.pid, number)
        process.join()
        now = epochs_stored(runs)
        for name, epochs in kept.items():
            assert now[name] >= epochs, f"seed {seed}: {name} lost epochs after {number!r}"
        kept = now
        if process.exitcode == 0:
            assert_same_runs(runs, whole)
            finished, kept = finished + 1, {}
        else:
            kills[number.name] = kills.get(number.name, 0) + 1
    with capsys.disabled():
        print(f"\n  killed {kills}, {finished} studies finished, all the same (seed {seed})")


def a_study_of_two_workers(folder) -> str:
    """The code of one, for another process."""
    return f"""
import sys
sys.path[:0] = {[str(ROOT), str(ROOT / "tests")]}
import conftest, test_faults
test_faults.go(conftest.make_tiny_data(), {str(folder)!r}, 2, jobs=2);
"""


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def training_workers(pid: int) -> list[int]:
    def command(child):
        return Path(f"/proc/{child}/cmdline").read_bytes()

    return [child for child in children_of(pid) if b"popen_loky" in command(child)]


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds workers through /proc")
@pytest.mark.parametrize("victim", ["worker", "parent"])
@pytest.mark.parametrize("attempt", range(2))
def test_a_process_of_a_parallel_study_is_killed(whole, tiny_data, tmp_path, victim, attempt):
    runs, said = tmp_path / "runs", tmp_path / "said"
    command = [sys.executable, "-c", a_study_of_two_workers(runs)]
    with said.open("w") as errors:
        parent = subprocess.Popen(command, stderr=errors)
    deadline = time.monotonic() + PATIENCE
    while not list(runs.glob("*.part")):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.01 * attempt)
    workers = training_workers(parent.pid)
    assert workers
    os.kill(workers[0] if victim == "worker" else parent.pid, signal.SIGKILL)
    assert parent.wait(PATIENCE) != 0
    if victim == "worker":
        assert "RuntimeError: a worker process was killed (out of memory?)" in said.read_text()
    while any(is_alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers outlive the process that wants their results"
        time.sleep(0.05)
    go(tiny_data, runs, 2)
    assert_same_runs(runs, whole)


def test_a_run_in_the_calling_process_outlives_its_terminal(tiny_data, tmp_path, monkeypatch):
    parents = iter(range(10, 1000))
    monkeypatch.setattr(parallel.os, "getppid", lambda: next(parents))
    (trained,) = go(tiny_data, tmp_path)
    assert len(trained.runs) == 2


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.faults
@pytest.mark.parametrize("attempt", range(2))
def test_an_interrupted_cell_is_run_again_in_the_same_kernel(whole, tmp_path, attempt):
    from jupyter_client.manager import start_new_kernel

    runs = tmp_path / "runs"
    cell = a_study_of_two_workers(runs)
    manager, client = start_new_kernel()
    try:
        first = client.execute(cell)
        deadline = time.monotonic() + PATIENCE
        while not list(runs.glob("*.part")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1 * attempt)
        manager.interrupt_kernel()
        assert reply(client, first)["ename"] == "KeyboardInterrupt"
        assert reply(client, client.execute(cell))["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert_same_runs(runs, whole)


def reply(client, request):
    while True:
        try:
            message = client.get_shell_msg(timeout=PATIENCE)
        except queue.Empty:
            pytest.fail("the kernel does not answer")
        if message["parent_header"].get("msg_id") == request:  # not an answer of its start
            return message["content"]


# --- full disks --------------------------------------------------------------------------------


@contextmanager
def files_up_to(size):
    """No file of this process can grow beyond `size` bytes, as under a quota."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_limit_hit_while_saving(tiny_data, tmp_path, whole, monkeypatch):
    save, calls = files.save_tensors, []

    def limited_from_the_third(*arguments):
        calls.append(arguments)
        with files_up_to(10_000) if len(calls) == 3 else nullcontext():
            save(*arguments)

    monkeypatch.setattr(training, "save_tensors", limited_from_the_third)
    with pytest.raises(OSError) as raised:
        go(tiny_data, tmp_path)
    assert ".part (0." in str(raised.value) and "can not be written" in str(raised.value)
    assert "start again" in str(raised.value) and "\n" not in str(raised.value)
    assert list(epochs_stored(tmp_path).values()) == [2] and not list(tmp_path.glob(".*"))
    go(tiny_data, tmp_path)
    assert_same_runs(tmp_path, whole, models=1)


@pytest.mark.faults
def test_a_full_disk(tiny_data, tmp_path, whole):
    """A file system of 3 MB, filled in the middle of a study of two processes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        runs, ballast = disk / "runs", disk / "ballast"
        for _ in range(2):
            room = os.statvfs(disk)
            ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - 450_000))
            with pytest.raises(OSError, match=r"can not be written: No space left .* start again"):
                go(tiny_data, runs, 2, jobs=2)
            ballast.unlink()
            before = epochs_stored(runs)
            assert before
        go(tiny_data, runs, 2)
        assert_same_runs(runs, whole)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
