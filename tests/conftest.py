import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import joblib
import pytest
import torch

from vae_helpers import training
from vae_helpers.data import CLASS_NAMES, Data, Split
from vae_helpers.study import code_digest

ROOT = Path(__file__).parents[1]


def make_tiny_data():
    """Structured 784-pixel images, small enough to train on in a fraction of a second."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.rand(10, 784, generator=generator) * (
        torch.rand(10, 784, generator=generator) > 0.6
    )

    def split(n):
        labels = torch.arange(n) % 10
        noise = 0.1 * torch.rand(n, 784, generator=generator)
        images = ((basis[labels] * 0.9 + noise).clamp(0, 1) * 255).to(torch.uint8)
        return Split(images, labels)

    return Data("tiny", split(600), split(100), split(200), CLASS_NAMES)


def python(*arguments, cwd=None, said=None, **environment):
    """Python run to its end, which finds the project and its tests and is told `said`."""
    folders = [str(ROOT), str(ROOT / "tests")]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        input=said,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def tiny_data():
    return make_tiny_data()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(1234)


@pytest.fixture(scope="session")
def committed_results_are_current():
    """Skips what compares the committed notebook, report and results with today's code.

    They are made anew by one run at the end of a change; until then they are of older code. A test
    that asks for this fixture is strict again as soon as `make report` has been run and committed.
    """
    results = json.loads((ROOT / "report" / "results.json").read_text(encoding="utf-8"))
    code = results["environment"].get("code")
    if code != code_digest():
        pytest.skip("report/results.json is of older code: make report makes it anew")


@pytest.fixture
def trained(monkeypatch):
    """The seeds of the runs that this process, not a worker, has trained."""
    seeds, train = [], training.train

    def counting(*args, **options):
        seeds.append(options["seed"])
        return train(*args, **options)

    monkeypatch.setattr(training, "train", counting)
    return seeds


@pytest.fixture
def on_dask(tmp_path):
    """A context in which joblib works on a Dask cluster of so many workers and threads."""
    distributed = pytest.importorskip("distributed")

    @contextmanager
    def cluster(workers, threads):
        options = {"dashboard_address": None, "local_directory": str(tmp_path / "dask")}
        with (
            distributed.LocalCluster(workers, threads_per_worker=threads, **options) as cluster,
            distributed.Client(cluster),
            joblib.parallel_config(backend="dask"),
        ):
            yield

    return cluster


@pytest.fixture
def three_threads():
    """Three torch threads in the test's own thread, as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def cells(table):
    """The rows of a pipe table, its head first, as lists of texts."""
    head, _, *rows = str(table).splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in [head, *rows]]
