"""Workers: equal results in processes and threads, shared arrays, nothing left behind."""

import _thread
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from own_models import DENORMAL, Noisy, Witness

from vae_helpers import Recipe, VAE3Layer, train
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


# --- training in workers -------------------------------------------------------------------------

RECIPE = Recipe(epochs=2, batch_size=64, learning_rate=2e-3, products="bfloat16")
MODELS = [VAE3Layer(h_dim=16, z_dim=3), Noisy(), Noisy(), Witness()]


def trained(model, train_images, validation_images):
    images = torch.from_numpy(train_images), torch.from_numpy(validation_images)
    return train(model, *images, RECIPE, seed=0, device="cpu").weights, getattr(
        model, "seen", set()
    )


def trained_by(data, **options):
    images = data.train.images.numpy(), data.validation.images.numpy()
    found = run_tasks(trained, [(model.fresh(0), *images) for model in MODELS], **options)
    weights, seen = zip(*found, strict=True)
    assert weights[1] == weights[2]  # of equal models, at the same time
    assert {(denormals, threads) for _, denormals, _, threads in seen[-1]} == {(0, 1)}
    return weights


def test_every_backend_trains_to_the_same_bits_and_leaves_the_callers_settings(
    tiny_data, three_threads
):
    """Dropout in several threads at once included, which share one global generator."""
    before, alone = torch.get_rng_state(), trained_by(tiny_data, jobs=1)
    assert trained_by(tiny_data, jobs=2) == alone
    assert trained_by(tiny_data, jobs=3, forked=False) == alone
    for backend in ("sequential", "threading", "multiprocessing"):
        with joblib.parallel_config(backend=backend):
            assert trained_by(tiny_data, jobs=3) == alone, backend
    assert torch.get_num_threads() == 3 and torch.equal(torch.get_rng_state(), before)
    assert (DENORMAL * 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 4])
def test_dask_trains_to_the_same_bits(tiny_data, on_dask, threads):
    alone = trained_by(tiny_data, jobs=1)
    with on_dask(1, threads):
        assert trained_by(tiny_data, jobs=4) == alone


def work_and_settings(number):
    """What a task sees, after one that failed in the same thread and beside one that trains."""
    with contextlib.suppress(ValueError):
        parallel.on_one_thread(fail, number)
    parallel.on_one_thread(time.sleep, 0.01)
    counts = torch.get_num_threads(), parallel.on_one_thread(torch.get_num_threads)
    inherited = parallel.in_own_thread(torch.get_num_threads)
    return number, os.getpid(), threading.get_ident(), (*counts, inherited)


def test_threads_of_this_process_keep_their_settings(three_threads):
    """Stacks on a GPU: several threads, one process, results in the order of the tasks."""
    found = run_tasks(work_and_settings, [(n,) for n in range(8)], jobs=3, forked=False)
    assert [number for number, *_ in found] == list(range(8))
    assert {process for _, process, *_ in found} == {os.getpid()}
    assert threading.get_ident() not in {thread for *_, thread, _ in found}
    assert {threads for *_, threads in found} == {(1, 1, 1)}
    with ThreadPoolExecutor(3) as pool:  # the user's own
        found = list(pool.map(work_and_settings, range(8)))
    assert {threads for *_, threads in found} == {(3, 1, 3)} and torch.get_num_threads() == 3


def endless(started):
    def work():
        started.append(1)
        if len(started) == 2 or started[0] == "alone":
            _thread.interrupt_main()
        while True:
            time.sleep(0.01)

    parallel.in_own_thread(work)  # within the thread that a task has: as `train` does


@pytest.mark.parametrize("options", [{"jobs": 1}, {"jobs": 2, "forked": False}])
def test_an_interruption_ends_the_threads_of_all_tasks(options):
    before = threading.active_count()
    started = ["alone"] if options["jobs"] == 1 else []
    with pytest.raises(KeyboardInterrupt):
        run_tasks(endless, [(started,), (started,)], **options)
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() == before


# --- workers and their caller --------------------------------------------------------------------

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


@on_linux
def test_workers_and_trackers_end_with_a_caller_that_is_killed():
    """As soon as its workers have started."""
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
        while sum("popen_loky" in a for a in alive_in_session(process.pid).values()) < 2:
            assert time.monotonic() < deadline
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
    assert not left
