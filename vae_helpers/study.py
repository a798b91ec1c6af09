"""The study: train models with several seeds, measure, compare and rank them, keep the results.

The one object the notebook talks to. Every verb may be called again, in any order: it takes what is
stored, computes what is missing and gives the same numbers, keyed by model, recipe and seed.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import joblib
import torch

from . import losses, models, training
from .data import Data, Split
from .engine import kernels
from .engine.cache import Cache
from .engine.files import save_tensors, source_digest, write_atomic
from .engine.guards import check_bool, check_positive_int, check_seed, check_type
from .engine.parallel import run_tasks, torch_threads
from .engine.progress import log_epoch, progress_bar
from .measures import columns, generated, judge, latents, statistics
from .measures import losses as loss_measures
from .measures.columns import COLUMNS, MEASUREMENTS
from .measures.statistics import Difference, Values
from .models import Model
from .plotting import display
from .plotting.tables import Table, comparison_table, model_table
from .stacked import stack_fault, train_stacked
from .training import Recipe

RECIPE = Recipe(epochs=160, batch_size=128, learning_rate=2e-3, warmup_epochs=2, schedule="cosine")
SEEDS = 3
SHORT_EPOCHS = 10
QUICK_RECIPE = replace(RECIPE, epochs=2, warmup_epochs=1)
STAND_IN_RECIPE = replace(RECIPE, epochs=100, batch_size=256)
TRAINING_CODE = (kernels, losses, models, training)
JOBS = {"cpu": joblib.cpu_count(), "cuda": 4}  # on a GPU, one small model alone leaves gaps
MEASURING_CODE = (loss_measures, latents, judge, generated, losses, models)
Job = tuple[Model, Recipe, int]  # a model, how to train it, and the seed
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")
NOTES = {  # at the foot of every figure
    "": "",
    "stand-in": "stand-in data, not Fashion-MNIST",
    "quick": "quick run, models hardly trained",
    "short": "short run, models not fully trained",
}
BANNERS = {
    "stand-in": "**This is not Fashion-MNIST** ({note}). The run uses {data}, and small "
    "settings. The text and its numbers speak of Fashion-MNIST and do not describe the figures and "
    "tables shown here. For the real data, put the four official files into "
    "`data/FashionMNIST/raw` (see `data/README.md`) and run all cells again.",
    "quick": "**Quick run.** The models were trained for {epochs} epochs, to see that everything "
    "runs. The text and its numbers speak of the full study and do not describe the figures and "
    "tables shown here.",
    "short": "**Short run.** The models were trained for {epochs} epochs with {seeds} seeds, which "
    "is less than the study. The text and its numbers speak of the full study; the figures and "
    "tables shown here differ from them.",
}


class Study:
    """Models trained on `data` with the same seeds and recipe, and all that is measured of them.

    seeds: how many training runs per model (or which seeds), at least 2. epochs: of the study's
    recipe. folder: where finished work is kept (None: nowhere). short: two seeds and SHORT_EPOCHS
    epochs, for a first impression. quick: smaller still, to see that everything runs; the stand-in
    data get small settings, too. fresh: train and measure anew instead of taking what is stored.
    jobs: worker processes of one torch thread each (default: one per core). On a GPU,
    stacks are trained in so many threads (default: four).
    device: "cpu", "cuda" or None for the best there is. On a GPU the seeds of a model are trained
    as one stack (module `stacked`), if it can be stacked; results differ by rounding.

    mode: what keeps it from being the full study of Fashion-MNIST: "stand-in", "quick", "short"
    (also any run with fewer seeds or epochs than the study's), or "" if nothing does.

    results: everything measured so far, as plain values: what `save` writes.
    Raises TypeError or ValueError for a wrong argument.
    """

    def __init__(
        self,
        data: Data,
        *,
        seeds: int | Sequence[int] = SEEDS,
        epochs: int = RECIPE.epochs,
        folder: str | Path | None = "runs",
        short: bool = False,
        quick: bool = False,
        fresh: bool = False,
        jobs: int | None = None,
        device: str | None = None,
    ):
        self.data = check_type(data, Data, "data")
        self.seeds = _checked_seeds(seeds)
        self.recipe = replace(RECIPE, epochs=check_positive_int(epochs, "epochs"))
        if check_bool(short, "short"):
            self.seeds = self.seeds[:2]
            self.recipe = replace(RECIPE, epochs=min(SHORT_EPOCHS, epochs))
        full = len(self.seeds) >= SEEDS and self.recipe.epochs >= RECIPE.epochs
        self.sizes, self.mode = columns.FULL, "" if full else "short"
        if check_bool(quick, "quick") or data.is_stand_in:
            self.mode = "stand-in" if data.is_stand_in else "quick"
            self.recipe = QUICK_RECIPE if quick else STAND_IN_RECIPE
            self.seeds, self.sizes = self.seeds[:2], columns.QUICK
        self.sizes = self.sizes.for_data(data)
        self.cache = Cache(folder, check_bool(fresh, "fresh"))
        self.device = device
        self.device_type = torch.device(device or training.default_device()).type
        self.stacked = self.device_type == "cuda"
        default_jobs = JOBS.get(self.device_type, 1)
        self.jobs = default_jobs if jobs is None else check_positive_int(jobs, "jobs")
        self.results = self._first_results()

    # --- training ------------------------------------------------------------------------------

    def train(self, *models: Model) -> None:
        """Train a fresh copy of every model with every seed, by the study's recipe.

        Finished runs are taken from the folder, unfinished ones continued. The objects given get
        the weights of the first seed, so that the plot functions take them as they are.
        Raises ValueError for two models of one label, NonFiniteLossError when a loss diverges.
        """
        runs = self.runs(models)
        for model in models:
            model.load_state_dict(runs[model][0]["state"])
            model.cpu().eval()
            self._describe(model)

    def histories(self, *models: Model) -> dict[str, list[dict]]:
        """Label -> the history of every seed's run (`TrainResult.history`)."""
        return {m.label: [run["history"] for run in runs] for m, runs in self.runs(models).items()}

    def runs(self, models: Sequence[Model]) -> dict[Model, list[dict]]:
        """Every model's runs, one per seed, as in `runs_of`. The objects given stay as they are."""
        models = list(dict.fromkeys(models))
        labels = [check_type(model, Model, "every model").label for model in models]
        if len(set(labels)) < len(labels):
            raise ValueError(f"models must have different labels, got {labels}")
        jobs = [(model, self.recipe, seed) for seed in self.seeds for model in models]
        found = self.runs_of(jobs)
        return {model: found[i :: len(models)] for i, model in enumerate(models)}

    def runs_of(self, jobs: Sequence[Job]) -> list[dict]:
        """The run of every (model, recipe, seed), with the fields of a `TrainResult`.

        Taken from the cache, or trained in parallel. The results record on which machines.
        """
        keys = [self._run_key(*job) for job in jobs]
        missing = {
            key: job for key, job in zip(keys, jobs, strict=True) if self.cache.load(key) is None
        }
        if missing:
            total = sum(recipe.epochs for _, recipe, _ in missing.values())
            with progress_bar(total, len(missing)) as log:
                trained = self._train(missing, log)
            for key, run in trained.items():
                self.cache.save(key, run)
        runs = [self.cache.load(key) for key in keys]
        environment = self.results["environment"]
        machines = {*environment["trained_on"], *(run["machine"] for run in runs)}
        environment["trained_on"] = sorted(machines)
        return runs

    def _train(self, missing: Mapping[str, Job], log) -> dict[str, dict]:
        """Key -> the run, trained in worker processes: a task is one run, or a stack of seeds."""
        tasks: dict[tuple, dict[int, str]] = {}  # seeds and their keys
        for key, (model, recipe, seed) in missing.items():
            alone = not self.stacked or stack_fault(model)
            tasks.setdefault((model, recipe, seed if alone else "stack"), {})[seed] = key
        images = self.data.train.images.numpy(), self.data.validation.images.numpy()
        path = self.cache.path
        trained = run_tasks(
            _train_task,
            [
                (
                    seed == "stack",
                    model,
                    recipe,
                    {seed: (path(key), path(key, "part")) for seed, key in keys.items()},
                    *images,
                    self.device,
                    log,
                )
                for (model, recipe, seed), keys in tasks.items()
            ],
            jobs=self.jobs,
            forked=self.device_type == "cpu" or {seed for _, _, seed in tasks} != {"stack"},
        )
        return {
            key: run
            for keys, runs in zip(tasks.values(), trained, strict=True)
            for key, run in zip(keys.values(), runs, strict=True)
        }

    def _run_key(self, model: Model, recipe: Recipe, seed: int) -> str:
        return self.cache.key(
            f"{model.id}-seed{seed}",
            model=_identity(model),
            recipe=asdict(recipe),
            seed=seed,
            data=self.data.checksum,
            code=source_digest(*TRAINING_CODE),
        )

    # --- measuring -----------------------------------------------------------------------------

    def measure(self, names: Sequence[str], *models: Model) -> dict[str, dict[str, Values]]:
        """Column -> model id -> its values, a seed each: what is missing is trained and measured.

        Raises ValueError for a column that does not exist.
        """
        unknown = [name for name in names if name not in COLUMNS]
        if unknown:
            raise ValueError(f"no column {unknown}; there are {list(COLUMNS)}")
        found = {}
        for name in names:
            column = COLUMNS[name]
            values = self.values(column.measurement, *models)
            found[name] = {
                model.id: [value[column.key] for value in values[model.id]] for model in models
            }
            for model in models:
                self._describe(model)[name] = statistics.summary(found[name][model.id])
        return found

    def values(self, measurement: str, *models: Model) -> dict[str, list[dict]]:
        """Model id -> the whole value of a measurement, one per seed; see `measures.columns`."""
        arguments = columns.arguments(measurement, self.sizes, self._judge)
        code = source_digest(*MEASURING_CODE)
        keys, missing = {}, {}
        for model, runs in self.runs(models).items():
            keys[model.id] = [
                self.cache.key(
                    f"{model.id}-seed{seed}-{measurement}",
                    state=run["state"],
                    model=_identity(model),
                    data=self.data.checksum,
                    arguments=arguments,
                    code=code,
                )
                for seed, run in zip(self.seeds, runs, strict=True)
            ]
            missing |= {
                key: (model, run["state"])
                for key, run in zip(keys[model.id], runs, strict=True)
                if self.cache.load(key) is None
            }
        splits = (self.data.train, self.data.validation, self.data.test)
        arrays = [(split.images.numpy(), split.labels.numpy()) for split in splits]
        measured = run_tasks(
            _measure_one,
            [
                (
                    MEASUREMENTS[measurement],
                    model,
                    state,
                    arrays,
                    self.data.class_names,
                    arguments,
                    self.cache.path(key),
                )
                for key, (model, state) in missing.items()
            ],
            jobs=self.jobs,
        )
        for key, value in zip(missing, measured, strict=True):
            self.cache.save(key, value)
        return {model: [self.cache.load(key) for key in keys[model]] for model in keys}

    def _judge(self) -> dict:
        """The judge of generated images, trained once; recorded in the results."""
        key = self.cache.key(
            "judge",
            data=self.data.checksum,
            epochs=self.sizes.judge_epochs,
            code=source_digest(judge, generated),
        )
        found = self.cache.load(key)
        if found is None:
            with torch_threads(1):  # the same sums on every machine, as in the workers
                found = generated.make_judge(self.data, self.sizes.judge_epochs)
                found["floor"] = generated.quality_floor(self.data, found, self.sizes.generated)
            self.cache.save(key, found)
        self.results["judge"] = {
            "accuracy": found["accuracy"],
            "features": found["features"].shape[1],
            "floor": found["floor"],
        }
        return {name: found[name] for name in ("weights", "features", "radii")}

    # --- comparing -----------------------------------------------------------------------------

    def compare(self, name: str, a: Model, b: Model) -> Comparison:
        """The paired differences a - b, kept in the results under `name`."""
        return Comparison(self, check_type(name, str, "name"), a, b)

    def rank(self, name: str, models: Sequence[Model], beside: Sequence[Model] = ()) -> Ranking:
        """The models by mean validation loss, kept in the results under `name`.

        Models `beside` are shown and do not compete.
        """
        return Ranking(self, check_type(name, str, "name"), list(models), list(beside))

    # --- showing and keeping -------------------------------------------------------------------

    def show(self, shown, number: int, caption: str) -> None:
        """Display a figure or a `Table` with its number and caption, marked if not the real run."""
        if isinstance(shown, Table):
            self.results["tables"][str(number)] = asdict(shown)
            display.show_table(shown.markdown(self.results), number, caption)
        else:
            display.show_figure(shown, number, caption, NOTES[self.mode])

    def banner(self) -> None:
        """Say at the top of a notebook, where that is so, that this is not the real study."""
        if self.mode:
            text = BANNERS[self.mode].format(
                note=self.data.note,
                data=self.data.name,
                epochs=self.recipe.epochs,
                seeds=len(self.seeds),
            )
            display.show_markdown(text, run_mode=self.mode)

    def save(self, **figures) -> Path:
        """Write results.json, and figures by their names as PNG, to `results_folder()`.

        Any mode but the full study's becomes part of the names, as in results.quick.json. Returns
        the path of the JSON file.
        """
        folder, ending = results_folder(), f".{self.mode}" if self.mode else ""
        for name, figure in figures.items():
            write_atomic(folder / f"{name}{ending}.png", display.render(figure, "png"))
        path = folder / f"results{ending}.json"
        write_atomic(path, (json.dumps(self.results, indent=1) + "\n").encode())
        return path

    def _first_results(self) -> dict:
        data = self.data
        return {
            "mode": self.mode,
            "settings": {
                **asdict(self.recipe),
                "seeds": self.seeds,
                "seed_count": len(self.seeds),
                **asdict(self.sizes),
            },
            "environment": {
                "python": platform.python_version(),
                **{package: version(package).split("+")[0] for package in PACKAGES},
                "trained_on": [],
            },
            "data": {
                "name": data.name,
                "sha256": data.checksum,
                "sizes": {name: len(getattr(data, name)) for name in loss_measures.SPLITS},
                "full_size": len(data.train) + len(data.validation),
            },
            "floor": loss_measures.floors(data),
            "models": {},
            "comparisons": {},
            "rankings": {},
            "tables": {},
        }

    def _describe(self, model: Model) -> dict:
        """The model's entry in the results, begun if need be."""
        return self.results["models"].setdefault(
            model.id,
            {
                "label": model.label,
                "parameters": model.parameter_count,
                "h_dim": model.hidden[0] if model.hidden else None,
                "z_dim": model.z_dim,
            },
        )


class Comparison:
    """Paired differences a - b over the same seeds and test images, with 95 % intervals."""

    def __init__(self, study: Study, name: str, a: Model, b: Model):
        self.study, self.name, self.a, self.b = study, name, a, b
        self.kept = study.results["comparisons"].setdefault(name, {})
        self.kept |= {"a": a.id, "b": b.id}

    def __getitem__(self, column: str) -> Difference:
        """The difference of a column; measured now if it is not there."""
        values = self.study.measure([column], self.a, self.b)[column]
        found = statistics.difference(values[self.a.id], values[self.b.id])
        self.kept[column] = _plain(found)
        return found

    def table(self, *names: str) -> Table:
        """Rows of both models' means and of their difference with its interval, per column."""
        for name in names:
            self[name]
        return comparison_table(self.name, self.b.id, self.a.id, names)


class Ranking:
    """Models in the order of their validation loss, and their differences to the best."""

    def __init__(self, study: Study, name: str, models: list[Model], beside: list[Model]):
        self.study, self.name, self.beside = study, name, beside
        found = study.measure(["validation_loss"], *models, *beside)["validation_loss"]
        mean = {m: statistics.summary(found[m.id])["mean"] for m in models}
        self.order = sorted(models, key=mean.__getitem__)
        self.best = self.order[0]
        self.kept = study.results["rankings"][name] = {
            "best": self.best.id,
            "order": [model.id for model in self.order],
        }

    def table(self, *names: str) -> Table:
        """One row per model in the ranking's order, `beside` last.

        A column followed by "-best" is the difference to the best with its joint interval, one
        followed by "-mean" the mean without the standard deviation.
        """
        shown = [*self.order, *self.beside]
        for name in names:
            column, _, kind = name.partition("-")
            values = self.study.measure([column], *shown)[column]
            if kind == "best":
                competing = {model.id: values[model.id] for model in self.order}
                found = statistics.joint_differences(self.best.id, competing)
                for model, difference in found.items():
                    self.kept.setdefault(model, {})[column] = _plain(difference)
        return model_table([model.id for model in shown], names, self.name)


def results_folder() -> Path:
    """Where a notebook's files go: `report`, or what VAE_RESULTS_DIR of the environment names.

    `make report` names a temporary folder there, to write all of its files or none.
    """
    return Path(os.environ.get("VAE_RESULTS_DIR", "report"))


def _plain(difference: Difference) -> dict:
    return {**asdict(difference), "verdict": difference.verdict}


def _checked_seeds(seeds) -> list[int]:
    """The seeds, counted from 0 if only their number is given; at least two, all different."""
    if isinstance(seeds, (list, tuple)):
        chosen = [check_seed(seed, "every seed") for seed in seeds]
    else:
        chosen = list(range(check_positive_int(seeds, "seeds")))
    if len(set(chosen)) != len(chosen):  # counted as independent, they would pass off a spread
        raise ValueError(f"seeds must differ from each other, got {chosen}")
    if len(chosen) < 2:
        raise ValueError(f"seeds must be at least 2 to measure a spread, got {seeds}")
    return chosen


def _identity(model: Model) -> dict:
    """What tells a model from others: its class (with its code, if a user's own) and its shapes."""
    kind = type(model)
    own = kind.__module__ != models.__name__
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "sizes": list(model.encoder_sizes),
        "shapes": {name: list(value.shape) for name, value in model.state_dict().items()},
        "code": inspect.getsource(kind) if own else "",
    }


def _train_task(
    stacked, model, recipe, files, train_images, validation_images, device, log
) -> list[dict]:
    """The runs of all seeds of `files` in a worker process: as one stack, or there is but one seed.

    files: seed -> where its finished run is kept and, if it is trained alone, its unfinished one.
    """
    images = torch.from_numpy(train_images), torch.from_numpy(validation_images)
    on_epoch = partial(_log_epoch, log, model, recipe)
    if stacked:
        results = train_stacked(model, *images, recipe, list(files), device, on_epoch)
    else:
        ((seed, (_, part)),) = files.items()
        results = [
            training.train(
                model.fresh(seed),
                *images,
                recipe,
                seed=seed,
                device=device,
                checkpoint=part,
                on_epoch=partial(on_epoch, seed),
            )
        ]
    for (path, part), result in zip(files.values(), results, strict=True):
        if path is not None:
            save_tensors(path, vars(result))
            part.unlink(missing_ok=True)
    return [vars(result) for result in results]


def _log_epoch(log, model: Model, recipe: Recipe, seed: int, epoch: int, history: dict) -> None:
    loss = history["validation_total"][-1]
    log_epoch(log, f"{model.label} seed {seed} epoch {epoch}/{recipe.epochs} validation {loss:.2f}")


def _measure_one(function, model, state, arrays, class_names, arguments, path) -> dict:
    """One measurement in a worker process, kept at once: an interruption costs only this one.

    arrays: images and labels of the three splits; joblib shares arrays between processes.
    """
    model = copy.deepcopy(model)
    model.load_state_dict(state)
    splits = [Split(*map(torch.from_numpy, pair)) for pair in arrays]
    with torch.no_grad():
        value = function(model.eval(), Data("", *splits, class_names), **arguments)
    if path is not None:
        save_tensors(path, value)
    return value
