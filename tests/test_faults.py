"""Processes really killed and disks really full: nothing lost, nothing half-written, same bits."""

import ast
import json
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

from vae_helpers import AutoEncoder, Recipe, Study, VAE3Layer, training
from vae_helpers.engine import files, parallel

ROOT = Path(__file__).parent.parent
RECIPE = Recipe(epochs=6, batch_size=32)
KILLS = 25
PATIENCE = 300  # seconds, for a machine that is busy with something else

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


class KeptVAE(VAE3Layer):
    """Saved after every epoch, whichever process trains it."""

    def loss(self, x, generator=None):
        training.SAVE_SECONDS = 0
        return super().loss(x, generator)


class KeptAutoEncoder(AutoEncoder):
    def loss(self, x, generator=None):
        training.SAVE_SECONDS = 0
        return super().loss(x, generator)


MODELS = [KeptVAE(h_dim=16, z_dim=3), KeptAutoEncoder(h_dim=16, z_dim=3)]


@pytest.fixture(autouse=True)
def save_seconds(monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", training.SAVE_SECONDS)


# Imports once, then forks a child that trains for every line it reads. It says the child's process
# id, later its status (0 if it came to the end).
NURSERY = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
import conftest, test_faults
torch.set_num_threads(1)
data = conftest.make_tiny_data()
torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # torch imports much at the first one
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            test_faults.die_at(order.get("point"), order.get("nth", 1))
            test_faults.go(data, order["runs"], order["models"])
            status = 0
        finally:
            os._exit(status)
    print(pid, flush=True)
    sys.stdin.readline()  # until then its process id is nobody else's
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def go(data, folder, models=1, seeds=(0, 1), jobs=1):
    study = Study(data, folder=folder, jobs=jobs, device="cpu")
    return study.runs_of([(model, RECIPE, seed) for seed in seeds for model in MODELS[:models]])


def die_at(point, nth):
    """Let this process be killed at the nth passage through `point` of a save."""

    def kill_self():
        os.kill(os.getpid(), signal.SIGKILL)

    def deadly(original, before, when=lambda *args: True):
        passages = []

        def patched(*args, **kwargs):
            passages.extend([1] * when(*args))
            last = when(*args) and len(passages) == nth
            if last and before:
                before(*args)
                kill_self()
            result = original(*args, **kwargs)
            if last:
                kill_self()
            return result

        return patched

    def halve(descriptor):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)

    if point == "half written":
        os.fsync = deadly(os.fsync, halve)
    elif point == "before the old file is replaced":
        os.replace = deadly(os.replace, lambda *paths: None)
    elif point == "after the old file is replaced":
        os.replace = deadly(os.replace, None)
    elif point == "result saved, checkpoint not yet removed":
        is_part = lambda path, **_: path.suffix == ".part" and path.exists()  # noqa: E731
        Path.unlink = deadly(Path.unlink, lambda path: None, is_part)


class Nursery:
    def __init__(self, folder):
        self.errors = folder / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", NURSERY, str(Path(__file__).parent)],
                text=True,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def start(self, **order) -> int:
        """The process id of a new child."""
        return self._ask(json.dumps(order))

    def status(self) -> int:
        """How the child ended, once it has."""
        return self._ask("")

    def _ask(self, line) -> int:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        return int(line)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.process.communicate(timeout=60)


def stored(folder, ending="pt") -> dict:
    return {path.name: files.load_tensors(path) for path in sorted(folder.glob(f"*.{ending}"))}


def assert_same_runs(folder, reference):
    """The same files with, but for the seconds taken, the same bits in them."""
    ours, theirs = stored(folder), stored(reference)
    assert list(ours) == list(theirs) and ours
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


@pytest.fixture(scope="module")
def whole_vae(tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole-vae")
    go(tiny_data, folder)
    return folder


# --- killed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("half written", 2),
        ("before the old file is replaced", 3),
        ("after the old file is replaced", 3),
        ("result saved, checkpoint not yet removed", 1),
    ],
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_killed_inside_a_save(nursery, whole_vae, tiny_data, tmp_path, point, nth):
    runs = tmp_path / "runs"
    nursery.start(runs=str(runs), models=1, point=point, nth=nth)
    assert nursery.status() == signal.SIGKILL
    kept = epochs_stored(runs)
    expected = {"half": 1, "before": 2, "after": 3, "result": 6}[point.split()[0]]
    assert list(kept.values()) == [expected]
    go(tiny_data, runs)
    assert_same_runs(runs, whole_vae)
    assert not list(runs.glob("*.part"))


@pytest.mark.faults
@pytest.mark.filterwarnings("error::UserWarning")
def test_killed_at_random_moments(nursery, whole, tmp_path, capsys):
    """SIGKILL, SIGTERM and SIGINT until KILLS have struck; no stored epoch is ever lost."""
    seed = int(time.time())
    chance = random.Random(seed)
    runs = tmp_path / "0"
    started = time.monotonic()
    nursery.start(runs=str(runs), models=2)
    assert nursery.status() == 0
    undisturbed = time.monotonic() - started
    kills, finished, kept = {}, 0, {}
    while sum(kills.values()) < KILLS or kept:
        if not kept:
            runs = tmp_path / f"{finished + 1}"
        pid = nursery.start(runs=str(runs), models=2)
        number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        time.sleep(chance.uniform(0, 0.6 * undisturbed))
        if sum(kills.values()) < KILLS:
            os.kill(pid, number)  # one that has just ended is still there, as a zombie
        status = nursery.status()
        now = epochs_stored(runs) if runs.exists() else {}
        for name, epochs in kept.items():
            assert now[name] >= epochs, f"seed {seed}: {name} lost epochs after {number!r}"
        kept = now
        if status == 0:
            assert_same_runs(runs, whole)
            finished, kept = finished + 1, {}
        else:
            kills[number.name] = kills.get(number.name, 0) + 1
    leftovers = list(tmp_path.rglob("*.tmp"))
    with capsys.disabled():
        print(
            f"\n  killed {kills}, {finished} studies finished, all bit for bit the same; "
            f"{len(leftovers)} temporary files left (seed {seed})"
        )


PARENT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import conftest, test_faults
torch.set_num_threads(1)
test_faults.go(conftest.make_tiny_data(), sys.argv[2], 2, jobs=2)
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
    command = [sys.executable, "-c", PARENT, str(Path(__file__).parent), str(runs)]
    with said.open("w") as errors:
        parent = subprocess.Popen(command, stderr=errors, cwd=ROOT)
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
    assert len(go(tiny_data, tmp_path)) == 2


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


CELL = """
import sys
sys.path.insert(0, {tests!r})
import conftest, test_faults
test_faults.go(conftest.make_tiny_data(), {runs!r}, 2, jobs=2);
"""


@pytest.mark.faults
@pytest.mark.parametrize("attempt", range(2))
def test_an_interrupted_cell_is_run_again_in_the_same_kernel(whole, tmp_path, attempt):
    from jupyter_client.manager import start_new_kernel

    runs = tmp_path / "runs"
    cell = CELL.format(tests=str(Path(__file__).parent), runs=str(runs))
    manager, client = start_new_kernel(cwd=str(ROOT))
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
    assert not list(runs.glob("*.part"))


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


def test_a_limit_hit_while_saving(tiny_data, tmp_path, whole_vae, monkeypatch):
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
    assert_same_runs(tmp_path, whole_vae)


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
        assert not list(runs.glob("*.part"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


# --- nothing on disk is run --------------------------------------------------------------------


def calls_in(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


FORBIDDEN = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "joblib.load",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "yaml.load",
}


def unsafe_calls(path):
    for node, name, keywords in calls_in(path):
        if name in FORBIDDEN or keywords.get("shell", "False") != "False":
            yield f"{path.name}:{node.lineno} {name}"
        if name == "torch.load" and keywords.get("weights_only") != "True":
            yield f"{path.name}:{node.lineno} torch.load without weights_only=True"
        if name == "np.load" and keywords.get("allow_pickle", "False") != "False":
            yield f"{path.name}:{node.lineno} np.load with allow_pickle"
        if (
            name.startswith("subprocess.")
            and node.args
            and not isinstance(node.args[0], (ast.List, ast.Name))
        ):
            yield f"{path.name}:{node.lineno} {name} of one string"


def test_no_shell_no_pickle_no_eval():
    sources = [
        path
        for folder in ("vae_helpers", "report", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 20
    assert [fault for path in sources for fault in unsafe_calls(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "subprocess.run(f'ls {x}', shell=True)",
        "torch.load(p)",
        "eval(x)",
        "subprocess.run('ls ' + x)",
        "os.system(x)",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_an_unsafe_call_would_be_found(tmp_path, line):
    (tmp_path / "bad.py").write_text(line)
    assert len(list(unsafe_calls(tmp_path / "bad.py"))) >= 1
