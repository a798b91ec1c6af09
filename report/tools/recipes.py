"""Which training reaches the plateau, and what more of it would bring: report/recipes.json.

python -m report.tools.recipes search     trials of recipes, one seed, three kinds of model
python -m report.tools.recipes plateau    every model: the study's recipe, and twice its epochs

Trials already in the file are kept as long as the training code is the same; interrupted ones go
on from their last saved epoch. Validation losses decide; test losses are recorded beside them.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from vae_helpers import AutoEncoder, Study, VAE3Layer, VAE4Layer, load_data
from vae_helpers.engine.files import source_digest, write_atomic
from vae_helpers.measures.latents import latent_statistics
from vae_helpers.measures.losses import image_losses
from vae_helpers.models import Model
from vae_helpers.study import RECIPE, TRAINING_CODE
from vae_helpers.training import Recipe

FILE = Path("report/recipes.json")
KINDS = [VAE3Layer(), VAE4Layer(), AutoEncoder(z_dim=50)]
PAIRS = [(400, 50), (400, 10), (400, 30), (300, 35), (300, 5), (300, 40)]
FIRST = Recipe(epochs=160, batch_size=256, learning_rate=2e-3, warmup_epochs=2, schedule="cosine")
CANDIDATES = [
    FIRST,
    replace(FIRST, schedule="linear"),
    replace(FIRST, learning_rate=2.8e-3),
    replace(FIRST, learning_rate=1.4e-3),
    replace(FIRST, learning_rate=4e-3, epochs=80),
    replace(FIRST, betas=(0.9, 0.95)),
    replace(FIRST, batch_size=512, learning_rate=4e-3),
    replace(FIRST, schedule="constant", average=0.9995),
    replace(FIRST, batch_size=128),
]
TWICE = replace(RECIPE, epochs=2 * RECIPE.epochs)
LONGER = [RECIPE, TWICE, replace(TWICE, learning_rate=RECIPE.learning_rate / 2)]

Job = tuple[Model, Recipe, int]  # with its seed


def search_jobs() -> list[Job]:
    return [(model, recipe, 0) for model in KINDS for recipe in CANDIDATES]


def plateau_jobs() -> list[Job]:
    """All models with the first seed, the three kinds with the second too."""
    others = [VAE3Layer(h_dim=h, z_dim=z) for h, z in PAIRS] + [AutoEncoder()]
    first = [(model, recipe, 0) for model in (*KINDS, *others) for recipe in LONGER]
    return first + [(model, recipe, 1) for model in KINDS for recipe in LONGER]


def run_trials(jobs: list[Job], study: Study, path: Path) -> dict:
    """Do what of `jobs` is not in the file at `path` yet, and write the file after every trial."""
    code = source_digest(*TRAINING_CODE)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    trials = [t for t in known.get("trials", []) if t["code"] == code]
    done = {_name(t["model"], t["recipe"], t["seed"]) for t in trials}
    missing = [job for job in jobs
               if _name(job[0].id, asdict(job[1]), job[2]) not in done]  # fmt: skip
    for start in range(0, len(missing), study.jobs):
        part = missing[start : start + study.jobs]
        runs = study.runs_of(part)
        trials += [_trial(study, *job, run, code) for job, run in zip(part, runs, strict=True)]
        write_atomic(path, (json.dumps({"trials": trials}, indent=1) + "\n").encode())
        print(f"{start + len(part)} of {len(missing)}: {part[-1][0].label}", flush=True)
    return {"trials": trials}


def _trial(study: Study, model: Model, recipe: Recipe, seed: int, run: dict, code: str) -> dict:
    trained = copy.deepcopy(model).eval()
    trained.load_state_dict(run["state"])
    test = image_losses(trained, study.data.test, draws=5)
    return {
        "model": model.id, "label": model.label, "seed": seed, "recipe": asdict(recipe),
        "validation": min(run["history"]["validation_total"]),
        "validation_kl": run["history"]["validation_kl"][run["best_epoch"] - 1],
        "test": float(test["total"].double().mean()),
        "active_units": latent_statistics(trained, study.data)["active_units"],
        "best_epoch": run["best_epoch"], "seconds": sum(run["history"]["seconds"]), "code": code,
    }  # fmt: skip


def _name(model: str, recipe: dict, seed: int) -> str:
    return json.dumps([model, recipe, seed], sort_keys=True, default=list)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], prog="python -m report.tools.recipes"
    )
    parser.add_argument("what", choices=["search", "plateau"])
    parser.add_argument("--runs-dir", default="runs", help="where unfinished work is kept")
    options = parser.parse_args(arguments)
    study = Study(load_data("real"), seeds=2, folder=options.runs_dir)
    run_trials(search_jobs() if options.what == "search" else plateau_jobs(), study, FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
