"""Many training runs: models x seeds, in parallel through joblib, kept on disk.

A run is stored under a key of its architecture, settings, seed, data and the code that trains it,
so that calling `train_study` again trains only what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import joblib
import torch

from . import losses, models, training
from .data import Data
from .engine import kernels as layers
from .engine import stacked
from .engine.files import (
    load_tensors,
    remove_debris,
    save_tensors,
    set_aside,
    source_digest,
    usable_runs_dir,
)
from .engine.guards import check_device, check_positive_int, check_seed, check_type
from .engine.progress import log_epoch, progress_bar
from .training import TrainResult, TrainSettings

RUN_KEYS = {"state", "history", "best_epoch"}  # of a stored run
PART_KEYS = {"model", "optimizer", "history", "best_state", "best_epoch"}  # of an unfinished one


@dataclass(frozen=True)
class ModelSpec:
    """What to build: a class of `models`, its hidden widths and its latent size."""

    model: str
    h_dims: tuple[int, ...]
    z_dim: int

    def __post_init__(self):
        if self.model not in ("VAE3Layer", "VAE4Layer", "AutoEncoder"):
            raise ValueError(
                f"model must be VAE3Layer, VAE4Layer or AutoEncoder, got {self.model!r}"
            )
        count = 2 if self.model == "VAE4Layer" else 1
        if not isinstance(self.h_dims, tuple) or len(self.h_dims) != count:
            raise ValueError(
                f"h_dims of {self.model} must be a tuple of {count} hidden width(s), "
                f"got {self.h_dims!r}"
            )
        for width in self.h_dims:
            check_positive_int(width, "every hidden width")
        check_positive_int(self.z_dim, "z_dim")

    @property
    def label(self) -> str:
        kind = {"VAE3Layer": "VAE", "VAE4Layer": "4-layer VAE", "AutoEncoder": "AE"}[self.model]
        return f"{kind} ({', '.join(map(str, (*self.h_dims, self.z_dim)))})"

    @property
    def id(self) -> str:
        """Short name for files and results, e.g. "vae3-400-20"."""
        kind = {"VAE3Layer": "vae3", "VAE4Layer": "vae4", "AutoEncoder": "ae"}[self.model]
        return "-".join(map(str, (kind, *self.h_dims, self.z_dim)))

    def build(self, seed: int, image_size: int = 784) -> models.FullyConnected:
        """The model with the initial weights of `seed`; the global random state stays as it is."""
        widths = {"h_dims": self.h_dims} if self.model == "VAE4Layer" else {"h_dim": self.h_dims[0]}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(check_seed(seed))
            return getattr(models, self.model)(image_size, z_dim=self.z_dim, **widths)


@dataclass(frozen=True)
class Run:
    """One trained model: what was asked for, what came out, and the key it is kept under."""

    spec: ModelSpec
    seed: int
    settings: TrainSettings
    result: TrainResult
    key: str

    def model(self) -> models.FullyConnected:
        """The model in evaluation mode, on the CPU, with the best validation epoch's weights."""
        model = self.spec.build(self.seed, self._image_size)
        model.load_state_dict(self.result.state)
        return model.eval()

    @property
    def _image_size(self) -> int:
        return self.result.state["encoder.0.weight"].shape[1]

    @property
    def seconds(self) -> float:
        return sum(self.result.history["seconds"])


def run_key(
    spec: ModelSpec, seed: int, settings: TrainSettings, data: Data, in_stack: bool = False
) -> str:
    """The name a run is kept under: changes with all that is asked for and the code that does it.

    Device, number of threads and version of torch, which change the rounding, are not part of it.
    in_stack: whether `stacked` trains it, whose code then counts too.
    """
    code = [layers, losses, models, training, *([stacked] if in_stack else [])]
    identity = {
        "spec": asdict(spec),
        "seed": seed,
        "settings": asdict(settings),
        "data": data.checksum,
        "code": source_digest(*code),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{spec.id}-seed{seed}-{digest[:12]}"


def train_study(
    specs: list[ModelSpec],
    data: Data,
    settings: TrainSettings,
    seeds: list[int],
    *,
    runs_dir: str | Path | None = "runs",
    n_jobs: int | None = None,
    threads: int = 1,
    device: str | None = None,
    fresh: bool = False,
) -> dict[ModelSpec, list[Run]]:
    """Train every spec with every seed; the runs of each spec, in the order of `seeds`.

    Finished runs found in `runs_dir` are loaded, unfinished ones continued; `fresh` ignores both.
    The rest are trained in `n_jobs` processes (default: one per `threads` CPU cores; one in all on
    an accelerator) with `threads` threads each. On CUDA the seeds of a spec are trained as one
    stack (`stacked.train_stacked`), where `n_jobs` and `threads` do not apply and an interruption
    costs what the spec at work had done. Inside `joblib.parallel_config(backend=...)` the same call
    runs on that backend, e.g. a Dask cluster. `runs_dir=None` keeps nothing.

    Raises TypeError or ValueError for a wrong argument, NonFiniteLossError when a loss diverges.
    """
    _check_arguments(specs, data, settings, seeds)
    _check_counts(n_jobs, threads)
    in_stacks = _trains_in_stacks(device)
    runs_dir = usable_runs_dir(runs_dir)
    if runs_dir:
        remove_debris(runs_dir)
    wanted = [(spec, seed) for spec in specs for seed in seeds]
    keys = {job: run_key(*job, settings, data, in_stacks) for job in wanted}
    results = _stored_results(keys, data, runs_dir, fresh)
    missing = {job: key for job, key in keys.items() if job not in results}
    with progress_bar(len(missing) * settings.epochs, runs_dir) as log:
        if in_stacks:
            results |= _train_in_stacks(missing, data, settings, runs_dir, device, log)
        else:
            results |= _train_in_processes(
                missing, data, settings, runs_dir, n_jobs, threads, device, log
            )
    return {
        spec: [Run(spec, s, settings, TrainResult(**results[spec, s]), keys[spec, s])
               for s in seeds]
        for spec in specs
    }  # fmt: skip


def _stored_results(keys: dict, data: Data, runs_dir: Path | None, fresh: bool) -> dict:
    """(spec, seed) -> what is stored of it; `fresh` removes it instead."""
    found = {}
    for job, key in keys.items() if runs_dir else ():
        path, part = _path(runs_dir, key, "run"), _path(runs_dir, key, "part")
        if fresh:
            path.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
        stored = _load(path, job[0], data.train.images.shape[1])
        if stored is not None:
            found[job] = stored
            part.unlink(missing_ok=True)  # killed between the two
    return found


def _train_in_processes(
    missing: dict, data: Data, settings, runs_dir, n_jobs, threads, device, log
) -> dict:
    images = data.train.images.numpy(), data.validation.images.numpy()
    call, caller = joblib.delayed(_train_one), _caller_of_workers()
    trained = _in_parallel(
        _job_count(n_jobs, threads, device, len(missing)),
        (call(*job, settings, key, *images, runs_dir, threads, device, log, caller)
         for job, key in missing.items()),
    )  # fmt: skip
    for key, result in zip(missing.values(), trained, strict=True):
        if runs_dir and not _path(runs_dir, key, "run").exists():  # a remote worker's run
            save_tensors(_path(runs_dir, key, "run"), result)
    return dict(zip(missing, trained, strict=True))


def _train_in_stacks(missing: dict, data: Data, settings, runs_dir, device, log) -> dict:
    """Spec by spec, all its missing seeds at once."""
    found = {}
    for spec in dict.fromkeys(spec for spec, _ in missing):
        seeds = [seed for other, seed in missing if other == spec]

        def on_epoch(seed, epoch, history, spec=spec):
            _check_validation(spec, seed, epoch, settings, history)
            log_epoch(log, _epoch_line(spec, seed, epoch, settings, history))

        results = stacked.train_stacked(spec, data, settings, seeds, device, on_epoch)
        for seed, result in zip(seeds, results, strict=True):
            found[spec, seed] = vars(result)
            if runs_dir:
                save_tensors(_path(runs_dir, missing[spec, seed], "run"), vars(result))
    return found


def _trains_in_stacks(device) -> bool:
    """Seeds share the steps of a local CUDA device; a cluster's workers use what they have."""
    if _caller_of_workers() is None:
        return False
    device = check_device(device) if device is not None else training.default_device()
    return device.type == "cuda"


def map_runs(
    function: Callable[..., dict],
    runs: list[Run],
    data: Data,
    *,
    runs_dir: str | Path | None = "runs",
    n_jobs: int | None = None,
    threads: int = 1,
    **arguments,
) -> list[dict]:
    """`function(run.model(), data, **arguments)` for every run, in parallel, kept like the runs.

    The function returns a dict of tensors and plain values. A stored result is taken again as long
    as the weights, the data, the arguments and the code of the function's module, and of what it
    uses of this package, are the same. Arguments must hash alike in every process: arrays, not
    tensors. Raises TypeError or ValueError for a wrong count, and what the function raises.
    """
    _check_counts(n_jobs, threads)
    runs_dir = usable_runs_dir(runs_dir)
    code = source_digest(*_package_modules(sys.modules[function.__module__]))
    salt = joblib.hash((function.__name__, code, data.checksum, arguments))

    def path_of(run):
        digest = joblib.hash((salt, {k: v.numpy() for k, v in run.result.state.items()}))
        name = f"{run.spec.id}-seed{run.seed}-{function.__name__}-{digest[:12]}"
        return _path(runs_dir, name, "value")

    paths = [path_of(run) for run in runs]
    found = [load_tensors(path) if path else None for path in paths]
    missing = [i for i, value in enumerate(found) if value is None]
    _return_memory()
    call, caller = joblib.delayed(_apply_one), _caller_of_workers()
    computed = _in_parallel(
        _job_count(n_jobs, threads, "cpu", len(missing)),  # where `Run.model` puts the model
        (call(function, runs[i], data, arguments, threads, paths[i], caller) for i in missing),
    )
    for i, value in zip(missing, computed, strict=True):
        found[i] = value
        if paths[i] and not paths[i].exists():  # a remote worker's
            save_tensors(paths[i], value)
    return found


def _package_modules(module: ModuleType) -> list[ModuleType]:
    """`module` and the modules of this package that it uses, directly or not."""
    package = __name__.partition(".")[0] + "."
    found, unread = {module.__name__: module}, [module]
    while unread:
        for value in list(vars(unread.pop()).values()):
            name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
            if isinstance(name, str) and name.startswith(package) and name not in found:
                found[name] = sys.modules[name]
                unread.append(sys.modules[name])
    return [found[name] for name in sorted(found)]


def _check_counts(n_jobs, threads) -> None:
    check_positive_int(threads, "threads")
    if n_jobs is not None:
        check_positive_int(n_jobs, "n_jobs")


def _check_arguments(specs, data, settings, seeds) -> None:
    check_type(data, Data, "data")
    check_type(settings, TrainSettings, "settings")
    for spec in specs:
        check_type(spec, ModelSpec, "every spec")
    for seed in seeds:
        check_seed(seed, "every seed")
    for name, values in [("specs", specs), ("seeds", seeds)]:
        if len(set(values)) != len(values):  # counted as independent, they would pass off a spread
            raise ValueError(f"{name} must differ from each other, got {list(values)}")


def _load(path: Path, spec: ModelSpec, image_size: int) -> dict | None:
    """What is stored at `path`; a file of another model is set aside like a corrupt one."""
    stored = load_tensors(path)
    if stored is None:
        return None
    weights, keys = ("state", RUN_KEYS) if path.suffix == ".run" else ("model", PART_KEYS)
    try:
        spec.build(0, image_size).load_state_dict(stored[weights])
        fits = set(stored) == keys
    except (TypeError, KeyError, AttributeError, RuntimeError):
        fits = False
    if fits:
        return stored
    set_aside(path, f"holds something else than a run of {spec.label}")
    return None


def _path(runs_dir: Path | None, key: str, ending: str) -> Path | None:
    return runs_dir / f"{key}.{ending}" if runs_dir else None


def _job_count(n_jobs, threads: int, device, tasks: int) -> int:
    if n_jobs is None:
        on_cpu = torch.device(device or training.default_device()).type == "cpu"
        n_jobs = joblib.cpu_count() // threads if on_cpu else 1
    return max(1, min(n_jobs, tasks))


def _in_parallel(n_jobs: int, calls) -> list:
    try:
        return joblib.Parallel(n_jobs=n_jobs)(calls)
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process was killed (out of memory?); what it had finished is kept in "
            "runs_dir: run this again to go on from there, with n_jobs=1 if memory is short"
        ) from error


@contextmanager
def torch_threads(threads: int):
    """Run the block with this many torch threads, then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train_one(
    spec, seed, settings, key, train_images, validation_images, runs_dir, threads, device, log,
    caller=None,
) -> dict:  # fmt: skip
    """One run in a worker process; finished and unfinished states are kept in `runs_dir`."""
    model = spec.build(seed, train_images.shape[1])
    part = _path(runs_dir, key, "part")
    _end_with(caller)
    if part is not None:
        _load(part, spec, train_images.shape[1])  # `train` takes what it finds there

    def on_epoch(epoch, history):
        try:
            _check_validation(spec, seed, epoch, settings, history)
        except training.NonFiniteLossError:
            if part is not None:
                part.unlink(missing_ok=True)  # else the next start would go on behind the fault
            raise
        log_epoch(log, _epoch_line(spec, seed, epoch, settings, history))

    with torch_threads(threads):
        result = training.train(
            model, torch.tensor(train_images), torch.tensor(validation_images), settings,
            seed=seed, device=device, checkpoint=part, on_epoch=on_epoch,
        )  # fmt: skip
    if part is not None:
        save_tensors(_path(runs_dir, key, "run"), vars(result))
        part.unlink(missing_ok=True)
    return vars(result)


def _check_validation(spec: ModelSpec, seed: int, epoch: int, settings, history: dict) -> None:
    """`train` stops at a training loss that is not finite; a study also at a validation loss."""
    loss = history["validation_total"][-1]
    if not math.isfinite(loss):
        raise training.NonFiniteLossError(
            f"{spec.label}, seed {seed}: validation loss is {loss} after epoch {epoch}, peak "
            f"learning rate {settings.learning_rate:.3g}; lower it or check the images"
        )


def _epoch_line(spec: ModelSpec, seed: int, epoch: int, settings, history: dict) -> str:
    loss = history["validation_total"][-1]
    return f"{spec.label} seed {seed} epoch {epoch}/{settings.epochs} validation {loss:.2f}"


def _caller_of_workers() -> int | None:
    """This process's id if the workers will be its children, else (a cluster's) None."""
    backend, _ = joblib.parallel.get_active_backend()
    return os.getpid() if type(backend).__name__ == "LokyBackend" else None


def _end_with(caller: int | None) -> None:
    """In a worker: end it when its caller was killed, be it at work or idle (with all its memory).

    joblib's workers do not notice by themselves. Saves are atomic, so any moment will do.
    """
    name = "end-with-caller"
    if caller in (None, os.getpid()) or name in [t.name for t in threading.enumerate()]:
        return

    def watch():
        while os.getppid() == caller:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name=name, daemon=True).start()


def _apply_one(
    function, run: Run, data: Data, arguments: dict, threads: int, path: Path | None, caller=None
) -> dict:
    _end_with(caller)
    with torch_threads(threads), torch.no_grad():
        found = function(run.model(), data, **arguments)
    if path is not None:  # at once: an interruption costs only what is under way
        save_tensors(path, found)
    _return_memory()
    return found


def _return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, in every worker and in the caller."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
