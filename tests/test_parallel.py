"""Worker processes: equal results, shared arrays, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from joblib.externals.loky import get_reusable_executor

from vae_helpers.engine import parallel
from vae_helpers.engine.parallel import run_tasks

ROOT = Path(__file__).parent.parent
PATIENCE = 300  # seconds, for a machine that is busy with something else
on_linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")


def square(x):
    return x * x


def what_a_worker_sees(array):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.from_numpy(array)  # warns of an array that can not be written
    seen = float(array[0])
    array[0] = -1  # stays in the worker
    return seen, getattr(array, "filename", None), os.getpid(), torch.get_num_threads()


def fail(x):
    raise ValueError(f"task {x}")


def die(x):
    if x == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)


def nested(x):
    return run_tasks(square, [(x,), (x + 1,)], jobs=2)


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_tasks(jobs):
    assert run_tasks(square, [(x,) for x in range(7)], jobs=jobs) == [x * x for x in range(7)]
    assert run_tasks(square, [], jobs=jobs) == []
    assert run_tasks(nested, [(2,), (5,)], jobs=jobs) == [[4, 9], [25, 36]]
    with pytest.raises(ValueError, match="task 3"):
        run_tasks(fail, [(3,), (3,)], jobs=jobs)
    before = torch.get_num_threads()
    assert run_tasks(torch.get_num_threads, [(), ()], jobs=jobs) == [1, 1]
    assert torch.get_num_threads() == before


def test_large_arrays_are_shared_and_stay_as_they_are():
    array = np.arange(300_000.0)
    seen = run_tasks(what_a_worker_sees, [(array,)] * 4, jobs=2)
    assert seen[0][0] == 0 and {threads for *_, threads in seen} == {1}
    assert len({filename for _, filename, *_ in seen}) == 1 and seen[0][1]
    assert os.getpid() not in {pid for _, _, pid, _ in seen}
    assert array[0] == 0 and not os.path.exists(seen[0][1])


def test_a_killed_worker_is_one_sentence_and_the_next_call_works():
    with pytest.raises(RuntimeError, match="a worker process was killed .* run this again") as said:
        run_tasks(die, [(0,), (1,), (2,)], jobs=2)
    assert "\n" not in str(said.value)
    assert run_tasks(square, [(3,), (4,)], jobs=2) == [9, 16]


def test_a_temporary_folder_that_is_not_ascii_stops_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "ü"
    folder.mkdir()
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(folder))
    get_reusable_executor().shutdown()  # it keeps the folder that it was started with
    seen = run_tasks(what_a_worker_sees, [(np.arange(300_000.0),)] * 2, jobs=2)
    assert os.getpid() not in {pid for _, _, pid, _ in seen} and not list(folder.iterdir())
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path / "plain"))
    assert parallel._temporary_folder() is None  # joblib's own choice


def test_another_backend_of_joblib_takes_the_tasks():
    with joblib.parallel_config(backend="threading"):
        pids = run_tasks(os.getpid, [(), ()], jobs=2)
    assert set(pids) == {os.getpid()}


CALLER = """
import sys, time
from vae_helpers.engine.parallel import run_tasks
print("ready", flush=True)
run_tasks(time.sleep, [(300,)] * 2, jobs=2)
"""


def alive_in_session(session):
    found = subprocess.run(
        ["ps", "-s", str(session), "-o", "pid=,stat=,args=", "-ww"], capture_output=True, text=True
    ).stdout
    lines = [line.split(maxsplit=2) for line in found.splitlines()]
    return {int(pid): args for pid, state, args in lines if not state.startswith("Z")}


def kill_caller(workers, delay):
    """Kill a caller that long after so many of its workers have started; what it leaves, and
    what was there."""
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    left, deadline = {}, time.monotonic() + PATIENCE
    try:
        process.stdout.readline()
        while sum("popen_loky" in a for a in alive_in_session(process.pid).values()) < workers:
            assert time.monotonic() < deadline
        time.sleep(delay)
        there = alive_in_session(process.pid)
        process.kill()
        process.wait()
        deadline = time.monotonic() + PATIENCE
        while (left := alive_in_session(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        process.kill()
        process.stdout.close()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    return left, there


@on_linux
def test_workers_and_trackers_end_with_a_caller_that_is_killed_at_once():
    left, there = kill_caller(workers=2, delay=0)
    assert len(there) > 2 and not left


@pytest.mark.faults
@on_linux
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3, 1, 4])
def test_workers_and_trackers_end_whenever_their_caller_is_killed(workers, delay):
    assert not kill_caller(workers, delay)[0]


def where(number):
    return number, os.getpid(), threading.get_ident()


def test_work_that_is_not_forked_stays_in_this_process():
    """Stacks on a GPU: several threads, one process, results in the order of the tasks."""
    found = run_tasks(where, [(n,) for n in range(8)], jobs=3, forked=False)
    assert [number for number, *_ in found] == list(range(8))
    assert {process for _, process, _ in found} == {os.getpid()}
    assert threading.get_ident() not in {thread for *_, thread in found}
