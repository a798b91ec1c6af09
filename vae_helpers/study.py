"""The study: train models with several seeds, measure, compare and rank them, keep the results.

The one object the notebook talks to. It turns models into values, `Trained`, and everything else is
said of such values. Every verb may be called again: it takes what is stored, computes what is
missing and gives the same numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import torch

from .data import Data, Split
from .engine import randomness
from .engine.cache import Cache, pack
from .engine.files import save_tensors, source_digest, write_atomic
from .engine.guards import check_bool, check_choice, check_positive_int, check_seed, check_type
from .engine.parallel import on_one_thread, run_tasks
from .identity import identify
from .measures import columns, generated, judge, latents, statistics
from .measures import losses as loss_measures
from .measures.columns import COLUMNS, MEASUREMENTS, Sizes
from .measures.statistics import Difference, Values
from .models import Model
from .plotting import display
from .plotting.tables import Table, comparison_table, ranking_table
from .runs import TRAINING_CODE, Runs, Trained, half
from .training import Recipe, draws_globally

STUDY_RECIPE = Recipe(
    epochs=100,
    batch_size=256,
    learning_rate=6e-3,
    warmup_epochs=5,
    schedule="linear",
    products="bfloat16",
)
STUDY_SEEDS = 5
MEASURING_CODE = (loss_measures, latents, judge, generated)
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")
OWN = "own"  # the mode of a study that is not the notebook's
NOTES = {  # at the foot of every figure
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
ABOUT = "about.json"  # of an archive: where its runs come from, and of what code they are


@dataclass(frozen=True)
class Preset:
    """Settings of the notebook's study. mode: what keeps it from being the full one, or ""."""

    mode: str
    recipe: Recipe
    seeds: int
    sizes: Sizes


FULL = Preset("", STUDY_RECIPE, STUDY_SEEDS, columns.FULL)
SHORT = Preset(  # for so few epochs better than the study's
    "short", Recipe(10, 128, 2e-3, 2, "cosine", products="bfloat16"), 2, columns.SHORT
)
QUICK = Preset("quick", replace(STUDY_RECIPE, epochs=2, warmup_epochs=1), 2, columns.QUICK)
STAND_IN = Preset("stand-in", replace(STUDY_RECIPE, epochs=50, batch_size=64), 2, columns.QUICK)


def choose_preset(
    data: Data,
    *,
    seeds: int = STUDY_SEEDS,
    epochs: int = STUDY_RECIPE.epochs,
    short: bool = False,
    quick: bool = False,
) -> Preset:
    """The settings of a run of the notebook: the full study, unless data or arguments say other.

    Stand-in data, `quick` and `short`, in this order, bring settings of their own. Otherwise fewer
    seeds or epochs than the study's make the run a short one, and more of them a full one.
    Raises TypeError or ValueError for a wrong argument.
    """
    check_positive_int(seeds, "seeds", at_least=2)
    check_positive_int(epochs, "epochs")
    if check_bool(quick, "quick"):
        return replace(QUICK, mode="stand-in") if data.is_stand_in else QUICK
    if data.is_stand_in:
        return STAND_IN
    if check_bool(short, "short"):
        return SHORT
    less = seeds < STUDY_SEEDS or epochs < STUDY_RECIPE.epochs
    recipe = replace(STUDY_RECIPE, epochs=epochs)
    return replace(FULL, mode="short" if less else "", recipe=recipe, seeds=seeds)


class Study:
    """Models trained on `data` by one recipe with the same seeds, and all that is measured of them.

    seeds: how many training runs per model (or which seeds), at least 2. sizes: how much is
    measured, at most as many images as there are. mode: "own", or that of a `Preset`.
    folder: where finished work is kept (None: nowhere). fresh: train and measure anew instead of
    taking what is stored. archive: a folder written by `pack`, from which finished work is taken,
    too, if it is of the same code and sizes. jobs, device: as `Runs` takes them.

    Raises TypeError or ValueError for a wrong argument, OSError if `folder` can not be written.
    """

    def __init__(
        self,
        data: Data,
        recipe: Recipe = STUDY_RECIPE,
        *,
        seeds: int | Sequence[int] = STUDY_SEEDS,
        sizes: Sizes = columns.FULL,
        mode: str = OWN,
        folder: str | Path | None = "runs",
        fresh: bool = False,
        archive: str | Path | None = None,
        jobs: int | None = None,
        device: str | None = None,
    ):
        self.data = check_type(data, Data, "data")
        self.recipe = check_type(recipe, Recipe, "recipe")
        self.seeds = _checked_seeds(seeds)
        self.sizes = check_type(sizes, Sizes, "sizes").for_data(data)
        self.mode = check_choice(mode, (OWN, "", *NOTES), "mode")
        if jobs is not None:
            check_positive_int(jobs, "jobs")
        self.about = _about(archive, self.sizes)
        self.cache = Cache(folder, check_bool(fresh, "fresh"), archive if self.about else None)
        self.runs = Runs(data, self.cache, jobs, device)
        self._orders: dict[str, int] = {}  # of models, by id
        self._newest: dict[str, Trained] = {}  # of every id
        self._measured: dict[str, dict[str, dict]] = {}  # column -> summary, by key
        self._found: dict[str, Comparison | Ranking] = {}  # by name
        self._tables: dict[str, Table] = {}  # by number
        self._judged: dict = {}
        self._further: dict = {}

    # --- training ------------------------------------------------------------------------------

    def train(
        self, *models: Model, recipe: Recipe | None = None, seeds: int | None = None
    ) -> tuple[Trained, ...]:
        """Fresh copies of every model, trained with every seed: a `Trained` for each.

        The objects given stay as they are. Finished runs are taken from what is stored, unfinished
        ones continued. recipe: another than the study's, which label and id then say; seeds: so
        many of the study's, at least two; both for models that are set beside the study's own.
        Raises what `Runs.train` raises.
        """
        recipe = check_type(recipe or self.recipe, Recipe, "recipe")
        other = [f"{n}={v}" for n, v in asdict(recipe).items() if v != getattr(self.recipe, n)]
        chosen = self.seeds[: None if seeds is None else check_positive_int(seeds, "seeds", 2)]
        trained = []
        for fields in self.runs.train(models, recipe, chosen):
            fields["label"] = ", ".join([fields["label"], *other])
            fields["id"] = re.sub(r"[^\w-]+", "_", "-".join([fields["id"], *other]))
            order = self._orders.setdefault(fields["id"], len(self._orders))
            trained.append(Trained(**fields, order=order))
        for model in models:
            model.given_to_train = True
        self._newest |= {model.id: model for model in trained}
        return tuple(trained)

    # --- measuring -----------------------------------------------------------------------------

    def measure(self, names: Sequence[str], *models: Trained) -> dict[str, list[Values | None]]:
        """Column -> for every model its values, one per seed; None where it has no such quantity.

        What is missing is measured. Raises ValueError for a column that does not exist, a model of
        other data or other seeds than the study's, or one whose code was changed since training.
        """
        self._check_trained(models)
        if unknown := [name for name in names if name not in COLUMNS]:
            raise ValueError(f"no column {unknown}; there are {list(COLUMNS)}")
        kinds = dict.fromkeys(COLUMNS[name].measurement for name in names)
        keys = {(kind, model): self._keys(kind, model) for kind in kinds for model in models}
        self._measure(
            {
                key: (*wanted, index)
                for wanted, each in keys.items()
                for index, key in enumerate(each)
                if self.cache.load(key) is None
            }
        )
        found: dict[str, list[Values | None]] = {name: [] for name in names}
        for name, each in found.items():
            column = COLUMNS[name]
            for model in models:
                measured = map(self.cache.load, keys[column.measurement, model])
                values = [column.read(value) for value in measured]
                each.append(None if any(value is None for value in values) else values)
                self._newest.setdefault(model.id, model)
                kept = self._measured.setdefault(model.key, {})
                if each[-1] and len(values) > len(kept.get(name, {"seeds": ()})["seeds"]):
                    kept[name] = statistics.summary(values)  # of all seeds, not of some
        return found

    def measured(self, model: Trained) -> dict[str, dict]:
        """Column -> `statistics.summary` of it, of all that was measured of a model."""
        return self._measured.get(model.key, {})

    def _keys(self, kind: str, model: Trained) -> list[str]:
        """The keys of a measurement of a model, one per seed."""
        arguments = columns.arguments(kind, self.sizes)
        if "judge" in arguments:
            arguments["judge"] = self._judge_key(arguments["judge"], "judge")
        return [
            self.cache.key(
                f"{model.id}-seed{seed}-{kind}",
                weights=run.weights,
                model=model.key,
                arguments=arguments,
                data=self.data.checksum,
                code=source_digest(*MEASURING_CODE),
            )
            for seed, run in zip(model.seeds, model.runs, strict=True)
        ]

    def _measure(self, missing: Mapping[str, tuple[str, Trained, int]]) -> None:
        """Measure in worker processes what (measurement, model, index of its seed) names."""
        for model in {model.key: model for _, model, _ in missing.values()}.values():
            if identify(model.template).content != model.identity.content:
                raise ValueError(
                    f"the code of {model.label}, or a constant that it reads, was changed since it "
                    "was trained: train it again"
                )
        splits = (self.data.train, self.data.validation, self.data.test)
        arrays = [(split.images.numpy(), split.labels.numpy()) for split in splits]
        tasks = []
        for key, (kind, model, index) in missing.items():
            exact, arguments = _exact(model, index), columns.arguments(kind, self.sizes)
            if "judge" in arguments:
                arguments["judge"] = self._judge(arguments["judge"])
            path = self.cache.path(key) if model.identity.has_source else None
            tasks.append((kind, exact, arrays, self.data.class_names, arguments, path))
        measured = run_tasks(_measure_one, tasks, jobs=self.runs.jobs)
        for (key, (_, model, _)), value in zip(missing.items(), measured, strict=True):
            self.cache.save(key, value, in_file=model.identity.has_source)

    def _judge(self, seed: int) -> dict:
        """The judge of generated images of this seed, trained once."""
        found = self.cache.load(key := self._judge_key(seed, "judge"))
        if found is None:
            # one thread: the same sums on every machine, as in the workers
            epochs = self.sizes.judge_epochs
            found = on_one_thread(generated.make_judge, self.data, epochs, seed)
            self.cache.save(key, found)
        return found

    def judge_report(self, seed: int = 0) -> dict:
        """What the judge of this seed is worth: "accuracy" on the test images, "features", and
        "floor", its view of real training images (see `generated.quality_floor`)."""
        found = self.cache.load(key := self._judge_key(seed, "judge-report"))
        if found is None:
            made = self._judge(seed)
            floor = on_one_thread(generated.quality_floor, self.data, made, self.sizes.generated)
            found = {
                "accuracy": made["accuracy"],
                "features": made["features"].shape[1],
                "floor": floor,
            }
            self.cache.save(key, found)
        self._judged[f"judge{seed or ''}"] = found
        return found

    def _judge_key(self, seed: int, name: str) -> str:
        return self.cache.key(
            name,
            data=self.data.checksum,
            epochs=self.sizes.judge_epochs,
            images=self.sizes.generated,
            classes=len(self.data.class_names),
            seed=seed,
            code=source_digest(judge, generated),
        )

    # --- comparing -----------------------------------------------------------------------------

    def compare(self, a: Trained, *, baseline: Trained, name: str) -> Comparison:
        """The differences a - baseline, kept in the results under `name`.

        Raises ValueError for a model compared with itself or with one of equal weights, and for the
        name of a ranking.
        """
        self._check_trained([a, baseline])
        _check_different([a, baseline])
        self._name(name, Comparison)
        found = self._found[name] = Comparison(self, a, baseline)
        return found

    def rank(
        self,
        models: Sequence[Trained],
        *,
        by: str = "validation_loss",
        baseline: Trained | None = None,
        beside: Sequence[Trained] = (),
        name: str,
    ) -> Ranking:
        """The models in the order of the mean of column `by`, the lowest first, kept under `name`.

        baseline: one of `models`, to which the others are compared in the place of the best.
        Models `beside` are shown and do not compete. Raises ValueError for two models of one label
        or of equal weights, a baseline that is none of them, and for the name of a comparison.
        """
        self._check_trained([*models, *beside])
        _check_different([*models, *beside])
        if baseline is not None:
            same = [model for model in models if model.key == baseline.key]
            if not same:
                raise ValueError(
                    f"the baseline must be one of the models that are ranked, got {baseline.label}"
                )
            (baseline,) = same
        if len(models) < 2:
            raise ValueError(f"rank takes at least two models, got {len(models)}")
        self._name(name, Ranking)
        means = {}
        for model, values in zip(models, _of_common_seeds(self, by, models), strict=True):
            if values is None:
                raise ValueError(f"{model.label} has no {COLUMNS[by].heading} to be ranked by")
            means[model] = statistics.summary(values)["mean"]
        order = tuple(sorted(means, key=means.__getitem__))
        ranking = self._found[name] = Ranking(self, order, tuple(beside), baseline)
        return ranking

    def _check_trained(self, models: Sequence[Trained]) -> None:
        for model in models:
            if not isinstance(model, Trained):
                raise TypeError(
                    "measure, compare and rank take what train returned, got "
                    f"{type(model).__name__}: (trained,) = study.train(model)"
                )
            seeds = tuple(self.seeds[: len(model.seeds)])
            if (model.data, model.seeds) != (self.data.checksum, seeds):
                raise ValueError(
                    f"{model.label} was trained on other data or with other seeds than this "
                    "study's: train it by this study"
                )

    def _name(self, name: str, kind: type) -> str:
        """The name, if it can be one in the results and is not that of another kind."""
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w-]*", name):
            raise ValueError(f"a name must be letters, digits, '-' and '_', got {name!r}")
        if not isinstance(self._found.get(name, None), (kind, type(None))):
            raise ValueError(f"{name!r} is already the name of a comparison or ranking")
        return name

    # --- showing and keeping -------------------------------------------------------------------

    def show(self, shown, *, caption: str, figure: int | None = None, table: int | None = None):
        """Display a figure or a `Table` with its number and caption, marked if not the real run."""
        if isinstance(shown, Table):
            display.show_table(shown, check_positive_int(table, "table"), caption)
            self._tables[str(table)] = shown
        else:
            note = NOTES.get("stand-in" if self.data.is_stand_in else self.mode, "")
            display.show_figure(shown, check_positive_int(figure, "figure"), caption, note)

    def banner(self) -> None:
        """Say at the top of a notebook that this is not the real study, or whence its runs come."""
        if self.mode in BANNERS:
            text = BANNERS[self.mode].format(
                note=self.data.note,
                data=self.data.name,
                epochs=self.recipe.epochs,
                seeds=len(self.seeds),
            )
            display.show_markdown(text, run_mode=self.mode)
        elif (self.about.get("epochs"), self.about.get("seeds")) == (
            self.recipe.epochs,
            len(self.seeds),
        ) and not self.cache.fresh:
            display.show_markdown(
                "**Stored runs.** What was trained and measured on {machine} ({date}) is taken "
                "from the repository. To train all of it anew takes about {hours:.1f} hours on two "
                "such cores.".format(**self.about),
                tags=["screen-only"],
            )

    def keep(self, name: str, values) -> None:
        """Put further plain values into the results, under `name`."""
        self._further[self._name(name, dict)] = values

    def save(self, folder: str | Path, **figures) -> Path:
        """Write the results as JSON, and figures by their names as PNG, into `folder`.

        Any mode but the full study's becomes part of the names, as in results.quick.json. Returns
        the path of the JSON file. Raises what `results` raises.
        """
        results, ending = self.results, f".{self.mode}" if self.mode else ""
        for name, figure in figures.items():
            write_atomic(Path(folder) / f"{name}{ending}.png", display.render(figure, "png"))
        path = Path(folder) / f"results{ending}.json"
        write_atomic(path, (json.dumps(results, indent=1) + "\n").encode())
        return path

    def pack(self, folder: str | Path, drawn: Sequence[Trained], date: str) -> None:
        """Write what this study took or made into `folder`, to be read as `archive`.

        All histories and measurements; weights only of the first seed of models that are `drawn`,
        in half precision. date: of the runs, for the reader.
        """
        keep = {model.runs[0].weights for model in drawn}
        values = {}
        for key, value in self.cache.used.items():
            if "history" in value:  # a run
                state = value["state"] if value["weights"] in keep else None
                value = {**value, "state": state and half(state)}
            if "radii" not in value:  # the judge, which measured what is packed
                values[key] = value
        pack(values, folder)
        runs = [value for value in values.values() if "history" in value]
        about = {
            "machine": " and ".join(sorted({run["machine"] for run in runs})),
            "date": date,
            "hours": sum(sum(run["history"]["seconds"]) for run in runs) / 3600 / 2,
            "epochs": self.recipe.epochs,
            "seeds": len(self.seeds),
            "sizes": asdict(self.sizes),
            "code": code_digest(),
        }
        write_atomic(Path(folder) / ABOUT, (json.dumps(about, indent=1) + "\n").encode())

    @property
    def results(self) -> dict:
        """All that was measured and found, as plain values: what `save` writes.

        Raises ValueError if a comparison or ranking is of a model that has since been replaced by
        another of its id, as by running a notebook's cell again after an edit. A table of a
        comparison or ranking that has since been replaced is left out.
        """
        data, kinds = self.data, {Comparison: {}, Ranking: {}}
        for name, each in self._found.items():
            kinds[type(each)][name] = each.kept
            for model in each.models:
                if self._newest[model.id].key != model.key:
                    raise ValueError(
                        f"{name!r} is about an earlier {model.label}: run it again with the new one"
                    )
        models = [model for model in self._newest.values() if model.key in self._measured]
        runs = [run for model in models for run in model.runs]
        found = {
            "mode": self.mode,
            "settings": {
                **asdict(self.recipe),
                "seeds": list(self.seeds),
                "seed_count": len(self.seeds),
                **asdict(self.sizes),
            },
            "environment": {
                "python": platform.python_version(),
                **{package: version(package).split("+")[0] for package in PACKAGES},
                "trained_on": sorted({run.machine for run in runs}),
                "products": sorted({run.products for run in runs}),
                "code": code_digest(),
            },
            "data": {
                "name": data.name,
                "sha256": data.checksum,
                "sizes": {name: len(getattr(data, name)) for name in loss_measures.SPLITS},
                "full_size": len(data.train) + len(data.validation),
            },
            "floor": loss_measures.floors(data),
            **self._judged,
            "models": {
                model.id: {
                    "label": model.label,
                    "parameters": model.parameter_count,
                    "h_dim": model.h_dim,
                    "z_dim": model.z_dim,
                    **self._measured[model.key],
                }
                for model in models
            },
            "comparisons": kinds[Comparison],
            "rankings": kinds[Ranking],
            "tables": {
                number: str(table)
                for number, table in self._tables.items()
                if table.about is None or table.about in self._found.values()
            },
        }
        if taken := found.keys() & self._further.keys():
            raise ValueError(
                f"the results have {sorted(taken)} of their own: keep it by another name"
            )
        return found | self._further


class Comparison:
    """Differences a - baseline over the same seeds and test images, with 95 % intervals.

    Where one has fewer seeds, only those that both have are compared, and shown.
    """

    def __init__(self, study: Study, a: Trained, baseline: Trained):
        self.study, self.models = study, (a, baseline)
        self.kept = {"a": a.id, "b": baseline.id}

    def __getitem__(self, column: str) -> Difference | None:
        """The difference of a column, measured if need be; None if a model has no such quantity."""
        a, baseline = _of_common_seeds(self.study, column, self.models)
        if a is None or baseline is None:
            return None
        found = statistics.difference(a, baseline)
        self.kept[column] = _plain(found)
        return found

    def table(self, *names: str) -> Table:
        """Rows of both models' means and of their difference with its interval, per column."""
        self.study.measure(names, *self.models)  # at once: in parallel
        rows = []
        for name in names:
            found = _of_common_seeds(self.study, name, self.models)
            a, baseline = (values and statistics.summary(values) for values in found)
            rows.append((COLUMNS[name], baseline, a, self[name]))
        table = comparison_table((self.models[1].label, self.models[0].label), rows)
        table.about = self
        return table


class Ranking:
    """Models in the order of a column, and their differences to the best, or to a baseline."""

    def __init__(self, study: Study, order: tuple[Trained, ...], beside, baseline=None):
        self.study, self.order, self.beside = study, order, beside
        self.best, self.baseline, self.models = order[0], baseline, (*order, *beside)
        self.kept = {"best": self.best.id, "order": [model.id for model in order]}

    def table(self, *names: str) -> Table:
        """One row per model in the ranking's order, `beside` last.

        A column followed by "-mean" is the mean without the standard deviation; one followed by
        "-best", or "-baseline" where there is one, the difference to that model with its joint
        interval. ValueError for other endings.
        """
        wanted = [name.partition("-")[::2] for name in names]
        difference = "baseline" if self.baseline else "best"
        if wrong := [form for _, form in wanted if form not in ("", "mean", difference)]:
            raise ValueError(f'a column may end in "-{difference}" or "-mean", got {wrong}')
        found = self.study.measure([column for column, _ in wanted], *self.models)
        shown = []
        for column, form in wanted:
            measured = [values and statistics.summary(values) for values in found[column]]
            values = self._differences(column) if form == difference else measured
            shown.append((COLUMNS[column], form, values))
        table = ranking_table([model.label for model in self.models], shown)
        table.about = self
        return table

    def _differences(self, column: str) -> list[Difference | None]:
        """The joint differences to best or baseline; None for itself and for models `beside`."""
        reference = self.baseline or self.best
        values = dict(
            zip(self.order, _of_common_seeds(self.study, column, self.order), strict=True)
        )
        if any(value is None for value in values.values()):
            return [None] * len(self.models)
        of_reference = values.pop(reference)
        chosen = self.baseline is None
        found = statistics.joint_differences(of_reference, list(values.values()), chosen=chosen)
        differences = dict(zip(values, found, strict=True))
        for model, difference in differences.items():
            self.kept.setdefault(model.id, {})[column] = _plain(difference)
        return [differences.get(model) for model in self.models]


def code_digest() -> str:
    """SHA-256 of the code that trains and measures: results of other code are not this code's."""
    return source_digest(*TRAINING_CODE, *MEASURING_CODE)


def results_folder() -> Path:
    """Where a notebook's files go: `report`, or what VAE_RESULTS_DIR of the environment names.

    `make report` names a temporary folder there, to write all of its files or none.
    """
    return Path(os.environ.get("VAE_RESULTS_DIR", "report"))


def _about(archive: str | Path | None, sizes: Sizes) -> dict:
    """Where the runs of an archive come from; empty if there is none that serves this study.

    One of other code does not, nor one measured at other sizes: most of its runs are without their
    weights, so that nothing further can be measured of them.
    """
    if archive is None:
        return {}
    with contextlib.suppress(FileNotFoundError):
        about = json.loads((Path(archive) / ABOUT).read_text(encoding="utf-8"))
        serves = (about["code"], about.get("sizes")) == (code_digest(), asdict(sizes))
        return about if serves else {}
    return {}


def _of_common_seeds(study: Study, column: str, models: Sequence[Trained]) -> list[Values | None]:
    """What `Study.measure` says of a column, for the seeds that all of the models have."""
    count = min(len(model.seeds) for model in models)
    return [values and values[:count] for values in study.measure([column], *models)[column]]


def _plain(difference: Difference) -> dict:
    return {**asdict(difference), "verdict": difference.verdict}


def _check_different(models: Sequence[Trained]) -> None:
    """Raise ValueError for what can not be set side by side: one model twice, or the look of it."""
    for a, b in combinations(models, 2):
        if a.label == b.label or a.id == b.id:
            raise ValueError(
                f"models must be different and have different labels and ids, got {a.label!r} "
                f"({a.id}) and {b.label!r} ({b.id})"
            )
        if all(x.weights == y.weights for x, y in zip(a.runs, b.runs, strict=False)):
            raise ValueError(
                f"{a.label} and {b.label} have equal weights for every seed, so there is "
                "nothing to compare: what makes them differ does not reach the training"
            )


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


def _exact(model: Trained, index: int) -> Model:
    """The model to be measured: with the very weights that were trained."""
    state = model.runs[index].state
    if state is None or any(value.dtype == torch.float16 for value in state.values()):
        raise ValueError(
            f"this was not measured of {model.label} when its runs were stored, and their weights "
            "are not there: run the study with fresh=True (FRESH = True in the notebook), which "
            "trains everything anew"
        )
    return model.of_seed(index)


def _measure_one(kind, model, arrays, class_names, arguments, path) -> dict:
    """One measurement in a worker process, kept at once: an interruption costs only this one.

    arrays: images and labels of the three splits; joblib shares arrays between processes.
    """
    splits = [Split(*map(torch.from_numpy, pair)) for pair in arrays]
    own = randomness.global_seed(0) if draws_globally(model) else contextlib.nullcontext()
    value: dict = {}
    with torch.no_grad(), own, contextlib.suppress(loss_measures.NotApplicable):
        value = MEASUREMENTS[kind](model, Data("", *splits, class_names), **arguments)
    if path is not None:
        save_tensors(path, value)
    return value
