"""Which training is best: trials of recipes on three kinds of model, in report/recipes.json.

python -m report.tools.recipes    do what is missing there

Trials already in the file are kept as long as the training code is the same. Validation losses
decide (one draw of z, the kept weights).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from vae_helpers import STUDY_RECIPE, AutoEncoder, Study, Trained, VAE3Layer, VAE4Layer, load_data
from vae_helpers.engine.files import source_digest, write_atomic
from vae_helpers.measures.statistics import Difference, summary
from vae_helpers.plotting.tables import DASH, PLUS_MINUS, Table, number, pipe_table
from vae_helpers.runs import TRAINING_CODE, Runs
from vae_helpers.training import Recipe

FILE = Path(__file__).parents[1] / "recipes.json"
KINDS = (VAE3Layer(), VAE4Layer(), AutoEncoder(z_dim=50))
NEIGHBOURS = (
    {"learning_rate": 8e-3},
    {"learning_rate": 4e-3},
    {"betas": (0.9, 0.9999)},
    {"betas": (0.9, 0.98)},
    {"batch_size": 128},
    {"batch_size": 512},
    {"warmup_epochs": 1},
    {"warmup_epochs": 20},
    {"schedule": "cosine"},
)
FEW = replace(STUDY_RECIPE, epochs=40, betas=(0.9, 0.98))
TRIALS = [  # (recipe, seeds), the study's first
    (STUDY_RECIPE, (0, 1, 2)),
    *((replace(STUDY_RECIPE, **change), (0,)) for change in NEIGHBOURS),
    (Recipe(), (0,)),  # the given notebook's
    *((replace(FEW, products=products), (0, 1, 2)) for products in ("float32", "bfloat16")),
]


def run_trials(runs: Runs, path: Path = FILE, trials=TRIALS, kinds=KINDS) -> None:
    """Do what of `trials` is not in the file at `path` yet, and write the file as they end."""
    code = source_digest(*TRAINING_CODE)
    known = json.loads(path.read_text(encoding="utf-8"))["trials"] if path.exists() else []
    done = [trial for trial in known if trial["code"] == code]
    for recipe, seeds in trials:
        settings = json.loads(json.dumps(asdict(recipe)))
        if any(t["recipe"] == settings and {*seeds} <= {*t["seeds"]} for t in done):
            continue
        trial = {"recipe": settings, "seeds": list(seeds), "code": code, "validation": {}}
        for trained in runs.train(kinds, recipe, seeds):
            results = trained["runs"]
            trial["validation"][trained["id"]] = [
                min(result.history["validation_total"]) for result in results
            ]
            trial |= {"machine": results[0].machine, "products": results[0].products}
        done.append(trial)
        write_atomic(path, (json.dumps({"trials": done}, indent=1) + "\n").encode())


def read_trials(path: Path = FILE) -> dict:
    """The stored trials for the results: "study" (the recipe's own), "others", "products".

    Each has "recipe" and model id -> `summary` of the validation loss; "products" maps float32 and
    bfloat16 to such, "given" is that of the given notebook's recipe. "excess": of the study's and
    every other, of as many epochs, the largest of its excesses over the lowest loss of each kind;
    "next" is the other with the smallest; "reversed" the one in which four layers do worst against
    three. "current": whether all are of the training code as it is.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))["trials"]
    found: dict = {"study": {}, "given": {}, "others": [], "products": {}}
    for trial in stored:
        recipe = Recipe(**{**trial["recipe"], "betas": tuple(trial["recipe"]["betas"])})
        entry = {"recipe": trial["recipe"]}
        entry |= {model: summary(values) for model, values in trial["validation"].items()}
        if recipe == STUDY_RECIPE:
            found["study"] = entry
        elif recipe == Recipe():
            found["given"] = entry
        elif replace(recipe, products=FEW.products) == FEW:
            found["products"][recipe.products] = entry
        else:
            found["others"].append(entry)
    equal = [
        trial
        for trial in filter(None, [found["study"], *found["others"]])
        if trial["recipe"]["epochs"] == STUDY_RECIPE.epochs
    ]
    for trial in equal:
        means = {kind.id: [other[kind.id]["mean"] for other in equal] for kind in KINDS}
        trial["excess"] = max(trial[kind]["mean"] - min(each) for kind, each in means.items())
    others = [trial for trial in equal if trial is not found["study"]]
    found["next"] = min(others, key=lambda trial: trial["excess"], default={})
    three, four, _ = (kind.id for kind in KINDS)
    found["reversed"] = max(others, key=lambda t: t[four]["mean"] - t[three]["mean"], default={})
    code = source_digest(*TRAINING_CODE)
    return found | {"current": all(trial["code"] == code for trial in stored)}


def search_table(trials: dict) -> Table:
    """One row per recipe that was tried: validation losses of three kinds of model."""
    rows = []
    for trial in filter(None, [trials["study"], *trials["others"], trials["given"]]):
        r = trial["recipe"]
        notes = [r["schedule"]] if r["schedule"] != STUDY_RECIPE.schedule else []
        cells = [str(r["epochs"]), str(r["batch_size"]), f"{r['learning_rate']:g}"]
        cells += [f"{r['betas'][1]:g}", str(r["warmup_epochs"]), ", ".join(notes) or DASH]
        rows.append(cells + [_spread(trial[model.id]) for model in KINDS])
    header = ["Epochs", "Batch", "Rate", r"$\beta_2$", "Warm-up", "Schedule"]
    return pipe_table([*header, *(model.kind for model in KINDS)], rows)


def plateau_table(study: Study, models: Sequence[Trained], longer: Sequence[Trained]) -> Table:
    """One row per model: its validation loss after the study's epochs, and after twice as many."""
    rows = []
    study.measure(["validation_loss"], *models, *longer)
    for model, twice in zip(models, longer, strict=True):
        found = study.compare(twice, baseline=model, name=f"twice-{model.id}")["validation_loss"]
        values = [study.measured(each)["validation_loss"]["seeds"] for each in (model, twice)]
        means = [summary(value[: len(twice.seeds)])["mean"] for value in values]
        rows.append([model.label, *map(number, means), *_interval(found)])
    epochs = [f"{models[0].recipe.epochs} epochs", f"{longer[0].recipe.epochs} epochs"]
    return pipe_table(["Model", *epochs, "Change", "95 % interval"], rows)


def verdict_table(study: Study, models: Sequence[Trained], longer: Sequence[Trained]) -> Table:
    """The differences that the text rests on at both lengths, seed by seed, and longer's interval.

    models: three layers, four layers, the six sizes, the autoencoder; the six are compared with
    the one that is best by validation loss after the study's epochs.
    """
    three, four, *six, plain = range(len(models))
    losses = study.measure(["validation_loss"], *models)["validation_loss"]
    best = min(six, key=lambda i: summary(losses[i])["mean"])
    pairs = [(four, three, "test_loss"), (four, three, "test_reconstruction")]
    pairs += [(i, best, "test_loss") for i in six if i != best]
    pairs += [(plain, best, "test_reconstruction")]
    rows, count = [], len(longer[0].seeds)
    for a, b, column in pairs:
        term = "" if column == "test_loss" else "rec."
        row = [f"{models[a].label} minus {models[b].label}{term and f', {term}'}"]
        for group in (models, longer):
            first, second = study.measure([column], group[a], group[b])[column]
            pairs_of_seeds = zip(first[:count], second[:count], strict=True)
            seeds = [float((x - y).double().mean()) for x, y in pairs_of_seeds]
            row.append(", ".join(map(number, seeds)))
        name = f"longer-{models[a].id}" + (term and "-reconstruction")
        found = study.compare(longer[a], baseline=longer[b], name=name)[column]
        rows.append([*row, _interval(found)[1]])
    epochs = [f"{group[0].recipe.epochs} epochs" for group in (models, longer)]
    return pipe_table(["Difference", *epochs, "95 % interval"], rows)


def _spread(found: dict) -> str:
    sd = f" {PLUS_MINUS} {number(found['sd'])}" if found["sd"] is not None else ""
    return number(found["mean"]) + sd


def _interval(found: Difference) -> tuple[str, str]:
    return number(found.mean), f"{number(found.low)} to {number(found.high)}"


if __name__ == "__main__":
    run_trials(Study(load_data("real")).runs)
