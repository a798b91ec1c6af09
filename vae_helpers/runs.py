"""From models, recipe and seeds to training runs: what is stored is taken, the rest is trained."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations
from typing import NamedTuple

import joblib
import torch

from . import losses, models, stacked, training
from .data import Data
from .engine import randomness
from .engine.cache import Cache
from .engine.files import save_tensors, source_digest
from .engine.guards import check_device, check_type
from .engine.parallel import run_tasks
from .engine.progress import log_epoch, progress_bar
from .identity import Identity, identify
from .models import Model
from .stacked import stack_fault, train_stacked
from .training import Recipe, TrainResult

TRAINING_CODE = (losses, models, randomness, stacked, training)
JOBS = {"cpu": joblib.cpu_count(), "cuda": 4}  # on a GPU, one small model alone leaves gaps


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A trained model, as a value: what it is, how it was trained, and what came out.

    label, id: how tables and files call it. key: what tells it from every other (`identity` of the
    model, recipe, data). runs: a `TrainResult` per seed. order: its place among a study's models,
    which fixes its colour and marker in every figure.
    """

    label: str
    id: str
    key: str
    identity: Identity = field(repr=False)
    data: str
    recipe: Recipe
    seeds: tuple[int, ...]
    runs: tuple[TrainResult, ...]
    order: int
    template: Model = field(repr=False)

    @property
    def model(self) -> Model:
        """The model with the weights of the first seed, on the CPU, for evaluation; a new copy.

        Its weights are rounded to half precision, as they are stored in an archive, so that
        pictures do not depend on where a run was taken from. Measurements are of the exact ones.
        """
        model = self.of_seed(0)
        model.load_state_dict(half(model.state_dict()))
        return model

    def of_seed(self, index: int) -> Model:
        """As `model`, of the seed with this index. ValueError where its weights were not stored."""
        state = self.runs[index].state
        if state is None:
            raise ValueError(
                f"the weights of {self.label}, seed {self.seeds[index]}, are not stored, only what "
                "was measured of them: train with fresh=True to have them"
            )
        model = self.template.fresh(self.seeds[index])
        model.load_state_dict(state)
        return model.eval()

    @property
    def histories(self) -> list[dict[str, list[float]]]:
        """The history of every seed's run (see `TrainResult`)."""
        return [copy.deepcopy(run.history) for run in self.runs]

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.template.hidden

    @property
    def h_dim(self) -> int | None:
        """The width of the first hidden layer, if there is one."""
        return self.hidden[0] if self.hidden else None

    @property
    def z_dim(self) -> int:
        return self.template.z_dim

    @property
    def parameter_count(self) -> int:
        return self.template.parameter_count

    def __repr__(self) -> str:
        return f"{self.template!r}, trained for {self.recipe.epochs} epochs with {self.seeds} seeds"


def half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in half precision; whole numbers as they are."""
    return {name: w.half() if w.is_floating_point() else w for name, w in state.items()}


class Run(NamedTuple):
    """A run that is wanted; identity: that of the model."""

    model: Model
    identity: Identity
    recipe: Recipe
    seed: int


class Runs:
    """The training runs on `data`, kept in `cache`.

    jobs: worker processes of one torch thread each (default: one per core); on a GPU, stacks are
    trained in so many threads (default: four). device: "cpu", "cuda" or None for the best there
    is. On a GPU the seeds of a model are trained as one stack (module `stacked`), if it can be
    stacked; results differ by rounding.
    """

    def __init__(self, data: Data, cache: Cache, jobs: int | None = None, device=None):
        self.data, self.cache, self.device = data, cache, device
        self.device_type = check_device(device or training.default_device()).type
        self.stacked = self.device_type == "cuda"
        self.jobs = JOBS.get(self.device_type, 1) if jobs is None else jobs

    def train(self, given: Sequence[Model], recipe: Recipe, seeds: Sequence[int]) -> list[dict]:
        """The fields of a `Trained` but its order, for every model: fresh copies are trained.

        Raises TypeError or ValueError for what is no model, was changed after it was built or does
        not fit the data, and for different models of one label or id, before anything is trained;
        NonFiniteLossError when a loss diverges.
        """
        pixels = self.data.train.images.shape[1]
        for model in given:
            if check_type(model, Model, "every model").image_size != pixels:
                raise ValueError(
                    f"{model.label} takes images of {model.image_size} pixels and the data's have "
                    f"{pixels}: build it with image_size={pixels}"
                )
        identities = [identify(model) for model in given]
        for (a, first), (b, second) in combinations(zip(given, identities, strict=True), 2):
            if first != second and (a.label == b.label or a.id == b.id):
                raise ValueError(
                    f"two different models are called {a.label!r} and {b.label!r}, with the ids "
                    f"{a.id} and {b.id}: set `kind`, which begins the label, and `short`, which "
                    "begins the id, in the class of one"
                )
        _send_by_value({name for identity in identities for name in identity.modules})
        results = self._results(
            [
                Run(model, identity, recipe, seed)
                for seed in seeds
                for model, identity in zip(given, identities, strict=True)
            ]
        )
        return [
            {
                "label": model.label,
                "id": model.id,
                "key": self._key(model.id, identity, recipe),
                "identity": identity,
                "data": self.data.checksum,
                "recipe": recipe,
                "seeds": tuple(seeds),
                "runs": tuple(results[i :: len(given)]),
                "template": model.fresh(seeds[0]),
            }
            for i, (model, identity) in enumerate(zip(given, identities, strict=True))
        ]

    def _results(self, wanted: Sequence[Run]) -> list[TrainResult]:
        """The result of every run, from the cache or trained in parallel."""
        keys = [
            self._key(f"{run.model.id}-seed{run.seed}", run.identity, run.recipe, seed=run.seed)
            for run in wanted
        ]
        missing = {
            key: run for key, run in zip(keys, wanted, strict=True) if self.cache.load(key) is None
        }
        if missing:
            total = sum(run.recipe.epochs for run in missing.values())
            with progress_bar(total, len(missing)) as log:
                trained = self._train(missing, log)
            for key, run in missing.items():
                self.cache.save(key, trained[key], in_file=run.identity.has_source)
        for label in sorted({r.model.label for r in missing.values() if not r.identity.has_source}):
            warnings.warn(
                f"the class of {label} has no source here, as it was typed into a terminal: its "
                "runs are kept in memory, not in a file",
                stacklevel=4,
            )
        return [TrainResult(**self.cache.load(key)) for key in keys]

    def _train(self, missing: Mapping[str, Run], log) -> dict[str, dict]:
        """Key -> fields of the result, trained in worker processes: a task is one run, or a stack.

        The initial weights are built here, one model at a time: they are drawn from the global
        generator, which threads would share.
        """
        tasks: dict[tuple, dict[str, Run]] = {}
        for key, run in missing.items():
            alone = not self.stacked or stack_fault(run.model)
            tasks.setdefault((run.model, run.recipe, key if alone else "stack"), {})[key] = run
        images = self.data.train.images.numpy(), self.data.validation.images.numpy()
        done = run_tasks(
            _train_task,
            [
                (
                    last == "stack",
                    [model.fresh(run.seed) for run in runs.values()],
                    recipe,
                    [run.seed for run in runs.values()],
                    [
                        (self.cache.path(key), self.cache.path(key, "part"))
                        if run.identity.has_source
                        else (None, None)
                        for key, run in runs.items()
                    ],
                    *images,
                    self.device,
                    log,
                )
                for (model, recipe, last), runs in tasks.items()
            ],
            jobs=self.jobs,
            forked=self.device_type == "cpu" or any(last != "stack" for *_, last in tasks),
        )
        keys = [key for runs in tasks.values() for key in runs]
        return dict(zip(keys, (result for results in done for result in results), strict=True))

    def _key(self, name: str, identity: Identity, recipe: Recipe, **seed) -> str:
        return self.cache.key(
            name,
            model=identity.content,
            recipe=asdict(recipe),
            data=self.data.checksum,
            code=source_digest(*TRAINING_CODE),
            **seed,
        )


def _send_by_value(modules: set[str]) -> None:
    """Let worker processes get the classes of the user's modules as they are here.

    A worker imports a module once, and from its file, which may have been edited before or since.
    """
    for pickler in ("cloudpickle", "joblib.externals.cloudpickle"):  # joblib 1.6, before
        for module in modules & sys.modules.keys():
            if pickler in sys.modules:
                sys.modules[pickler].register_pickle_by_value(sys.modules[module])


def _train_task(
    stack, fresh, recipe, seeds, files, train_images, validation_images, device, log
) -> list[dict]:
    """The fields of the results of `fresh`, a model per seed, in a worker: a stack or one alone.

    files: for every seed, where its finished run is kept and, if it is trained alone, its
    unfinished one.
    """
    images = torch.from_numpy(train_images), torch.from_numpy(validation_images)
    on_epoch = partial(_log_epoch, log, fresh[0].label, recipe.epochs)
    if stack:
        results = train_stacked(fresh, *images, recipe, seeds, device, on_epoch)
    else:
        (model,), (seed,), ((_, part),) = fresh, seeds, files
        options = {"device": device, "checkpoint": part, "on_epoch": partial(on_epoch, seed)}
        results = [training.train(model, *images, recipe, seed=seed, **options)]
    for (path, part), result in zip(files, results, strict=True):
        if path is not None:
            save_tensors(path, vars(result))
            part.unlink(missing_ok=True)
    return [vars(result) for result in results]


def _log_epoch(log, label: str, epochs: int, seed: int, epoch: int, history: dict) -> None:
    loss = history["validation_total"][-1]
    log_epoch(log, f"{label} seed {seed} epoch {epoch}/{epochs} validation {loss:.2f}")
