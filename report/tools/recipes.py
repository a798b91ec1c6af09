"""Which training reaches the plateau, and what more of it would bring: report/recipes.json.

python -m report.tools.recipes    trials of recipes on three kinds of model, and for every model
                                  the study's recipe and twice its epochs

Trials already in the file are kept as long as the training code is the same. Validation losses
decide; test losses are recorded beside them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from vae_helpers import AutoEncoder, Study, VAE3Layer, VAE4Layer, load_data
from vae_helpers.engine.files import source_digest, write_atomic
from vae_helpers.measures.losses import image_losses
from vae_helpers.measures.statistics import summary
from vae_helpers.models import Model
from vae_helpers.plotting.tables import DASH, PLUS_MINUS, Table
from vae_helpers.study import RECIPE, TRAINING_CODE
from vae_helpers.training import Recipe

FILE = Path(__file__).parents[1] / "recipes.json"
KINDS = [VAE3Layer(), VAE4Layer(), AutoEncoder(z_dim=50)]
PAIRS = [(400, 50), (400, 10), (400, 30), (300, 35), (300, 5), (300, 40)]
OTHERS = [VAE3Layer(h_dim=h, z_dim=z) for h, z in PAIRS]
FEW = replace(RECIPE, epochs=40, batch_size=256, learning_rate=4e-3)
TWICE = replace(RECIPE, epochs=2 * RECIPE.epochs)
RECIPES = {
    "study": RECIPE,
    "twice": TWICE,
    "given": Recipe(),
    "larger_batches": replace(RECIPE, batch_size=256),
    "half_rate": replace(RECIPE, learning_rate=RECIPE.learning_rate / 2),
    "few": FEW,
    "few_beta": replace(FEW, betas=(0.9, 0.95)),
    "few_linear": replace(FEW, schedule="linear"),
    "few_averaged": replace(FEW, schedule="constant", average=0.9995),
    "few_fast": replace(FEW, learning_rate=8e-3),
    "few_slow": replace(FEW, learning_rate=2e-3),
}
SEARCHED = [name for name in RECIPES if name != "twice"]
ALL_SEEDS, FIRST = (0, 1, 2), (0,)

Job = tuple[Model, Recipe, tuple[int, ...]]  # with its seeds


def search_jobs() -> list[Job]:
    """Three kinds of model under every recipe; all models by FEW."""
    kinds = [
        (model, RECIPES[name], FIRST if name.startswith("few_") else ALL_SEEDS)
        for name in SEARCHED
        for model in KINDS
    ]
    return kinds + [(model, FEW, ALL_SEEDS) for model in OTHERS]


def plateau_jobs() -> list[Job]:
    """The study's recipe with three seeds; twice of it with as many for KINDS, else with one."""
    every = [*KINDS, *OTHERS]
    return [
        *((model, RECIPE, ALL_SEEDS) for model in every),
        *((model, TWICE, ALL_SEEDS if model in KINDS else FIRST) for model in every),
    ]


def run_trials(jobs: list[Job], study: Study, path: Path) -> dict:
    """Do what of `jobs` is not in the file at `path` yet, and write the file as trials end."""
    code = source_digest(*TRAINING_CODE)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    trials = [t for t in known.get("trials", []) if t["code"] == code]
    done = {_name(t["model"], t["recipe"], t["seeds"]) for t in trials}
    missing = [(m, r, s) for m, r, s in jobs if _name(m.id, asdict(r), s) not in done]
    for start in range(0, len(missing), study.jobs):
        part = missing[start : start + study.jobs]
        runs = iter(study.runs_of([(m, r, seed) for m, r, seeds in part for seed in seeds]))
        trials += [_trial(study, *job, [next(runs) for _ in job[2]], code) for job in part]
        write_atomic(path, (json.dumps({"trials": trials}, indent=1) + "\n").encode())
        print(f"{start + len(part)} of {len(missing)}: {part[-1][0].label}", flush=True)
    return {"trials": trials}


def _trial(study: Study, model, recipe: Recipe, seeds, runs: list[dict], code: str) -> dict:
    """What a recipe gives, a value a seed."""
    trial = {
        "model": model.id,
        "recipe": _plain(recipe),
        "code": code,
        "seeds": list(seeds),
        "machine": runs[0]["machine"],
    }
    for run in runs:
        trained = copy.deepcopy(model).eval()
        trained.load_state_dict(run["state"])
        history, best = run["history"], run["best_epoch"]
        test = image_losses(trained, study.data.test, draws=5)
        for name, value in {
            "validation": history["validation_total"][best - 1],
            "kl": history["validation_kl"][best - 1],
            "test": float(test["total"].double().mean()),
        }.items():
            trial.setdefault(name, []).append(value)
    return trial


def _plain(recipe: Recipe) -> dict:
    """As it is read from JSON."""
    return json.loads(json.dumps(asdict(recipe)))


def _name(model: str, recipe: dict, seeds: Sequence[int]) -> str:
    return json.dumps([model, recipe, seeds], sort_keys=True)


def read_trials(study: Study, path: Path = FILE) -> None:
    """Record the stored trials in the study's results, under "trials".

    recipe -> model -> "validation", "test", ... as `summary` gives them, and "change", of the
    validation loss from the study's recipe on the same seeds; "verdicts": row -> recipe -> the
    mean difference of two models on the seeds that all its recipes have; "current": whether all
    trials are of RECIPES and of the training code as they are now. The check of the text asks for
    that. Trials of other recipes, as after a change of the study's, are left out.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))["trials"]
    names = {_name("", asdict(recipe), ()): name for name, recipe in RECIPES.items()}
    found = {name: {"recipe": _plain(recipe)} for name, recipe in RECIPES.items()}
    known = [trial for trial in stored if _name("", trial["recipe"], ()) in names]
    for trial in known:
        entry = found[names[_name("", trial["recipe"], ())]].setdefault(trial["model"], {})
        entry |= {key: summary(trial[key]) for key in ("validation", "test", "kl")}
        entry["count"] = len(trial["seeds"])
    for models in found.values():
        for model, trial in models.items():
            if model != "recipe" and model in found["study"]:
                trial["change"] = _change(found["study"][model], trial)
    found["verdicts"] = {_row_name(*pair): _verdicts(found, *pair) for _, *pair in _verdict_pairs()}
    code = source_digest(*TRAINING_CODE)
    current = known == stored and all(trial["code"] == code for trial in stored)
    study.results["trials"] = found | {"current": current}


def _change(a: dict, b: dict) -> float:
    """Mean of the validation losses b - a over the first seeds that both have."""
    pairs = zip(a["validation"]["seeds"], b["validation"]["seeds"], strict=False)
    return fmean(y - x for x, y in pairs)


def _verdict_pairs() -> list[tuple[str, str, str, str]]:
    """What the text rests on: (row's label, model, compared with, term)."""
    best, *others = [VAE3Layer(h_dim=h, z_dim=z) for h, z in PAIRS]
    three, four, plain = KINDS
    return [
        (f"{four.label} minus {three.label}, test loss", four.id, three.id, "test"),
        *(
            (f"{model.label} minus {best.label}, test loss", model.id, best.id, "test")
            for model in others
        ),
        *(
            (f"{a.label} minus {b.label}, reconstruction", a.id, b.id, "reconstruction")
            for a, b in [(four, three), (plain, best)]
        ),
    ]


def _row_name(a: str, b: str, term: str) -> str:
    return f"{a}-{b}" if term == "test" else f"{a}-{b}-{term}"


def _verdicts(found: dict, a: str, b: str, term: str) -> dict[str, float]:
    recipes = [n for n in ("given", "few", "study", "twice") if {a, b} <= set(found[n])]
    counts = [found[name][model]["count"] for name in recipes for model in (a, b)]
    count = min(counts, default=0)

    def mean(trial: dict) -> float:  # reconstruction is validation less KL
        values = trial["validation" if term == "reconstruction" else term]["seeds"]
        less = trial["kl"]["seeds"] if term == "reconstruction" else [0.0] * len(values)
        return fmean(v - kl for v, kl in zip(values[:count], less, strict=False))

    return {name: mean(found[name][a]) - mean(found[name][b]) for name in recipes}


def search_table(study: Study) -> Table:
    """One row per recipe that was tried: validation losses of three kinds of model."""
    trials, rows = study.results["trials"], []
    for name in [name for name in SEARCHED if len(trials[name]) > 1]:
        r = RECIPES[name]
        notes = [r.schedule] if r.schedule != "cosine" else []
        notes += [f"$\\beta_2={r.betas[1]}$"] if r.betas[1] != 0.999 else []
        notes += ["weights averaged"] if r.average else []
        cells = [_cell(trials, name, model.id) for model in KINDS]
        rows.append(
            [
                str(r.epochs),
                str(r.batch_size),
                f"{r.learning_rate:g}",
                ", ".join(notes) or DASH,
                *cells,
            ]
        )
    labels = [model.label for model in KINDS]
    return Table(["Epochs", "Batch", "Rate", "Other", *labels], rows)


def plateau_table(study: Study) -> Table:
    """One row per model: its validation loss, and what twice the epochs change, where tried."""
    trials = study.results["trials"]
    rows = [
        [model.label, _cell(trials, "study", model.id), f"{{trials.twice.{model.id}.change:2?}}"]
        for model in (*KINDS, *OTHERS)
    ]
    return Table(["Model", "Validation loss", "Twice the epochs"], rows)


def verdict_table(study: Study) -> Table:
    """One row per difference that the text rests on, at several recipes."""
    names = ("given", "few", "study", "twice")
    rows = [
        [label, *(f"{{trials.verdicts.{_row_name(*pair)}.{name}:2?}}" for name in names)]
        for label, *pair in _verdict_pairs()
    ]
    return Table(["Difference", *(f"{RECIPES[name].epochs} epochs" for name in names)], rows)


def _cell(trials: dict, name: str, model: str) -> str:
    several = trials[name].get(model, {}).get("count", 0) > 1
    return f"{{trials.{name}.{model}.validation:2{PLUS_MINUS if several else ''}?}}"


if __name__ == "__main__":
    every_job = dict.fromkeys([*search_jobs(), *plateau_jobs()])
    run_trials([*every_job], Study(load_data("real")), FILE)
