"""The study: train models with several seeds, measure, compare and rank them, keep the results.

The one object the notebook talks to. Every verb may be called again, in any order: it takes what is
stored, computes what is missing and gives the same numbers, keyed by model, recipe and seed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import joblib
import torch

from . import losses, models, training
from .data import Data
from .engine import kernels
from .engine.cache import Cache
from .engine.files import load_tensors, save_tensors, set_aside, source_digest
from .engine.guards import check_bool, check_positive_int, check_seed, check_type
from .engine.parallel import run_tasks
from .engine.progress import log_epoch, progress_bar
from .models import Model
from .training import Recipe, TrainResult

RECIPE = Recipe(epochs=160, batch_size=256, learning_rate=2e-3, warmup_epochs=2, schedule="cosine")
TRAINING_CODE = (kernels, losses, models, training)


class Study:
    """Models trained on `data` with the same seeds and recipe, and all that is measured of them.

    seeds: how many (or which) training runs per model, at least 2. folder: where finished work is
    kept (None: nowhere). quick: small settings, to see that everything runs; the stand-in data get
    small settings, too. fresh: train and measure anew instead of taking what is stored.
    jobs: worker processes of one torch thread each (default: one per core; one on a GPU).
    """

    def __init__(
        self,
        data: Data,
        *,
        seeds: int | Sequence[int] = 5,
        epochs: int | None = None,
        folder: str | Path | None = "runs",
        quick: bool = False,
        fresh: bool = False,
        recipe: Recipe | None = None,
        jobs: int | None = None,
        device: str | None = None,
    ):
        self.data = check_type(data, Data, "data")
        self.seeds = _checked_seeds(seeds)
        self.recipe = RECIPE if recipe is None else check_type(recipe, Recipe, "recipe")
        if epochs is not None:
            self.recipe = replace(self.recipe, epochs=check_positive_int(epochs, "epochs"))
        self.quick = check_bool(quick, "quick")
        self.cache = Cache(folder, check_bool(fresh, "fresh"))
        self.device = device
        self.jobs = check_positive_int(jobs, "jobs") if jobs is not None else self._default_jobs()
        self._runs: dict[str, dict] = {}

    def _default_jobs(self) -> int:
        device = torch.device(self.device) if self.device else training.default_device()
        return joblib.cpu_count() if device.type == "cpu" else 1

    # --- training ------------------------------------------------------------------------------

    def train(self, *models: Model) -> None:
        """Train a fresh copy of every model with every seed, by the study's recipe.

        Finished runs are taken from the folder, unfinished ones continued. The objects given get
        the weights of the first seed, so that the plot functions take them as they are.
        Raises ValueError for two models of one label, NonFiniteLossError when a loss diverges.
        """
        self._train(models, self.recipe, self.seeds)
        for model in models:
            model.load_state_dict(self.run(model, self.seeds[0])["state"])
            model.cpu().eval()

    def histories(self, *models: Model, recipe: Recipe | None = None) -> dict[str, list[dict]]:
        """Label -> the history of every seed's run (`TrainResult.history`)."""
        recipe = recipe or self.recipe
        self._train(models, recipe, self.seeds)
        return {m.label: [self.run(m, s, recipe)["history"] for s in self.seeds] for m in models}

    def run(self, model: Model, seed: int, recipe: Recipe | None = None) -> dict:
        """What a run left: {"state", "history", "best_epoch"}; trained now if it is not there."""
        recipe = recipe or self.recipe
        self._train([model], recipe, [seed])
        return self._runs[self._run_key(model, seed, recipe)]

    def _run_key(self, model: Model, seed: int, recipe: Recipe) -> str:
        return self.cache.key(
            f"{model.id}-seed{seed}",
            model=_identity(model),
            recipe=asdict(recipe),
            seed=seed,
            data=self.data.checksum,
            code=source_digest(*TRAINING_CODE),
        )

    def _train(self, models: Sequence[Model], recipe: Recipe, seeds: Sequence[int]) -> None:
        models = list(dict.fromkeys(check_type(m, Model, "every model") for m in models))
        labels = [model.label for model in models]
        if len(set(labels)) < len(labels):
            raise ValueError(f"models must have different labels, got {labels}")
        wanted = {self._run_key(m, s, recipe): (m, s) for s in seeds for m in models}
        missing = {}
        for key, (model, seed) in wanted.items():
            if key not in self._runs:
                stored = self._stored_run(key, model)
                if stored is None:
                    missing[key] = (model, seed)
                else:
                    self._runs[key] = stored
        with progress_bar(len(missing) * recipe.epochs, self.cache.folder) as log:
            images = self.data.train.images.numpy(), self.data.validation.images.numpy()
            trained = run_tasks(
                _train_one,
                [(model.fresh(seed), seed, recipe, *images, self.cache.path(key),
                  self.cache.path(key, "part"), self.device, log)
                 for key, (model, seed) in missing.items()],
                jobs=self.jobs,
            )  # fmt: skip
        for key, run in zip(missing, trained, strict=True):
            self.cache.save(key, run)
            self._runs[key] = run

    def _stored_run(self, key: str, model: Model) -> dict | None:
        """The stored run; a whole file of something else is set aside like a corrupt one."""
        run = self.cache.load(key)
        if run is None or _fits(run, "state", model):
            return run
        set_aside(self.cache.path(key), f"holds something else than a run of {model.label}")
        return None


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


def _fits(stored: dict, name: str, model: Model) -> bool:
    shapes = {n: v.shape for n, v in model.state_dict().items()}
    state = stored.get(name) if isinstance(stored, dict) else None
    return isinstance(state, dict) and shapes == {n: v.shape for n, v in state.items()}


def _train_one(
    model, seed, recipe, train_images, validation_images, path, part, device, log
) -> dict:
    """One run in a worker process; finished and unfinished states are kept on disk."""
    if part is not None and part.exists():
        stored = load_tensors(part)
        if stored is not None and not _fits(stored, "model", model):
            set_aside(part, f"holds something else than a run of {model.label}")

    def on_epoch(epoch, history):
        loss = history["validation_total"][-1]
        log_epoch(log, f"{model.label} seed {seed} epoch {epoch}/{recipe.epochs} "
                       f"validation {loss:.2f}")  # fmt: skip

    result: TrainResult = training.train(
        model, torch.from_numpy(train_images), torch.from_numpy(validation_images), recipe,
        seed=seed, device=device, checkpoint=part, on_epoch=on_epoch,
    )  # fmt: skip
    if path is not None:
        save_tensors(path, vars(result))
        part.unlink(missing_ok=True)
    return vars(result)
