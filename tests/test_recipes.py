"""The stored trials of recipes: what is asked for, what is kept, what the tables say."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from report.tools import claims, recipes
from vae_helpers import AutoEncoder, Recipe, Study, VAE3Layer
from vae_helpers.study import RECIPE

THREE, FOUR, PLAIN = (model.id for model in recipes.KINDS)
BEST = VAE3Layer(h_dim=400, z_dim=50).id


def trial(model, recipe, seeds, validation, **more):
    given = {"test": validation, "kl": [0.0] * len(seeds)}
    code = recipes.source_digest(*recipes.TRAINING_CODE)
    return (
        {
            "model": model,
            "recipe": json.loads(json.dumps(asdict(recipe))),
            "seeds": list(seeds),
            "validation": validation,
            "code": code,
        }
        | given
        | more
    )


def read(tmp_path, *trials):
    path = tmp_path / "recipes.json"
    path.write_text(json.dumps({"trials": trials}), encoding="utf-8")
    study = SimpleNamespace(results={})
    recipes.read_trials(study, path)
    return study


def test_every_model_of_the_notebook_is_asked_for_at_twice_the_training():
    jobs = recipes.plateau_jobs()
    every = {model.id for model, *_ in jobs}
    results = json.loads((recipes.FILE.parent / "results.json").read_text(encoding="utf-8"))
    assert every == set(results["models"])
    for recipe in (RECIPE, recipes.TWICE):
        assert {model.id for model, used, _ in jobs if used == recipe} == every
    assert recipes.TWICE.epochs == 2 * RECIPE.epochs
    assert len(set(recipes.RECIPES.values())) == len(recipes.RECIPES)


def test_a_change_is_taken_on_the_seeds_that_both_have(tmp_path):
    study = read(
        tmp_path,
        trial(BEST, RECIPE, (0, 1, 2), [237.0, 240.0, 250.0]),
        trial(BEST, recipes.TWICE, (0,), [236.5]),
        trial(PLAIN, RECIPE, (0,), [203.0]),
        trial(PLAIN, recipes.TWICE, (0,), [202.0]),
    )
    assert study.results["trials"]["twice"][BEST]["change"] == pytest.approx(-0.5)
    lines = recipes.plateau_table(study).markdown(study.results).splitlines()
    (best,) = [line for line in lines if "VAE (400, 50)" in line]
    assert "242.33 ± 6.81" in best and "−0.50" in best
    reconstruction = study.results["trials"]["verdicts"][f"{PLAIN}-{BEST}-reconstruction"]
    assert reconstruction == pytest.approx({"study": 203 - 237, "twice": 202 - 236.5})


def test_reconstruction_is_the_loss_without_kl(tmp_path):
    study = read(
        tmp_path,
        trial(BEST, RECIPE, (0,), [237.0], kl=[16.0]),
        trial(PLAIN, RECIPE, (0,), [203.0]),
    )
    found = study.results["trials"]["verdicts"][f"{PLAIN}-{BEST}-reconstruction"]
    assert found["study"] == 203 - 221


def test_trials_of_one_seed_show_no_spread(tmp_path):
    study = read(
        tmp_path,
        trial(THREE, RECIPE, (0, 1), [237.0, 239.0]),
        trial(THREE, recipes.RECIPES["few_linear"], (0,), [238.5]),
    )
    table = recipes.search_table(study).markdown(study.results)
    assert "238.00 ± 1.41" in table and "238.50 " in table and "238.50 ±" not in table


def test_trials_are_made_once(tiny_data, tmp_path):
    study = Study(tiny_data, seeds=2, folder=None, jobs=1)
    recipe = Recipe(epochs=1)
    small = VAE3Layer(h_dim=8, z_dim=2)
    path = tmp_path / "recipes.json"
    first = recipes.run_trials([(small, recipe, (0, 1))], study, path)
    assert [len(t["validation"]) for t in first["trials"]] == [2]
    more = [(small, recipe, (0, 1)), (AutoEncoder(h_dim=8, z_dim=2), recipe, (0,))]
    second = recipes.run_trials(more, study, path)
    assert second["trials"][0] == first["trials"][0] and len(second["trials"]) == 2
    assert json.loads(path.read_text(encoding="utf-8")) == second


@pytest.mark.parametrize(
    ("recipe", "change"), [(RECIPE, {"code": "other"}), (Recipe(epochs=7), {})]
)
def test_trials_of_other_code_or_recipes_are_a_finding(tmp_path, recipe, change):
    """The tables are shown nevertheless: a study of another recipe must not fail at its end."""
    study = read(tmp_path, trial(THREE, recipe, (0,), [237.0], **change))
    results = study.results
    for table in (recipes.search_table, recipes.plateau_table, recipes.verdict_table):
        assert table(study).markdown(results)
    (found,) = claims.check({"cells": []}, results, "").findings
    assert "other training code" in str(found)


def test_the_stored_trials_are_of_the_study_as_it_is():
    study = SimpleNamespace(results={})
    recipes.read_trials(study)
    assert study.results["trials"]["current"]
    assert {FOUR, THREE, PLAIN} < set(study.results["trials"]["twice"])
