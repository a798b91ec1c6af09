"""The stored trials of recipes: what is asked for, what is kept, what the tables say."""

import json
from dataclasses import replace

import pytest
from conftest import cells
from numpy.testing import assert_allclose

from report.tools import recipes
from vae_helpers import STUDY_RECIPE, AutoEncoder, Recipe, Study, VAE3Layer, VAE4Layer
from vae_helpers.measures import columns

KINDS = (VAE3Layer(h_dim=8, z_dim=2), VAE4Layer(h_dims=(8, 6), z_dim=2))


@pytest.fixture
def study(tiny_data):
    recipe = Recipe(epochs=2, batch_size=64)
    return Study(tiny_data, recipe, seeds=3, sizes=columns.QUICK, folder=None, jobs=1)


def test_the_recipe_is_bracketed_from_both_sides():
    tried = [recipe for recipe, _ in recipes.TRIALS]
    assert tried[0] == STUDY_RECIPE and len(set(tried)) == len(tried)
    for name in ("learning_rate", "batch_size", "warmup_epochs"):
        others = [
            getattr(recipe, name)
            for recipe in tried[1:]
            if replace(recipe, **{name: getattr(STUDY_RECIPE, name)}) == STUDY_RECIPE
        ]
        assert min(others) < getattr(STUDY_RECIPE, name) < max(others), name


def test_trials_are_run_once_kept_one_by_one_and_made_anew_for_other_code(
    tmp_path, study, monkeypatch
):
    path, fast = tmp_path / "recipes.json", Recipe(1, 64, 1e-2)
    trials = [(Recipe(1, 64), (0, 1)), (fast, (0,))]
    for _ in range(2):
        recipes.run_trials(study.runs, path, trials, KINDS)
        first, second = json.loads(path.read_text())["trials"]
    assert first["seeds"] == [0, 1] and second["recipe"]["learning_rate"] == 1e-2
    (found,) = study.runs.train([KINDS[1]], fast, [0])
    best = min(found["runs"][0].history["validation_total"])
    assert second["validation"][KINDS[1].id] == [best]
    monkeypatch.setattr(recipes, "source_digest", lambda *modules: "other")
    recipes.run_trials(study.runs, path, trials[1:], KINDS)
    assert [trial["code"] for trial in json.loads(path.read_text())["trials"]] == ["other"]


def test_trials_are_read_by_what_was_tried_and_shown_in_one_table(tmp_path):
    current = recipes.source_digest(*recipes.TRAINING_CODE)

    def trial(recipe, *losses, code=current):
        settings = json.loads(json.dumps(recipes.asdict(recipe)))
        validation = {model.id: list(losses) for model in recipes.KINDS}
        return {"recipe": settings, "seeds": [0, 1], "code": code, "validation": validation}

    path = tmp_path / "recipes.json"
    worse = trial(replace(STUDY_RECIPE, batch_size=512), 238.5)
    worse["validation"]["ae-400-50"] = [200.0]
    stored = [
        trial(replace(STUDY_RECIPE, schedule="cosine", warmup_epochs=20), 238.0),
        trial(Recipe(), 240.0),
        worse,
        trial(STUDY_RECIPE, 237.0, 239.0),
        trial(replace(recipes.FEW, products="float32"), 240.0, 241.0),
    ]
    path.write_text(json.dumps({"trials": stored}))
    trials = recipes.read_trials(path)
    assert trials["current"] and len(trials["others"]) == 2
    # the largest excess over the lowest loss of a kind, among recipes of as many epochs
    assert trials["study"]["excess"] == 38.0 and "excess" not in trials["given"]
    assert trials["others"][1]["excess"] == 0.5 and trials["next"] == trials["others"][1]
    assert trials["study"]["vae3-400-20"]["mean"] == 238.0
    assert trials["products"]["float32"]["ae-400-50"]["mean"] == 240.5
    _, first, second, _, given = cells(recipes.search_table(trials))
    assert given[:2] == ["15", "128"]
    assert first[-3:] == ["238.00 ± 1.41"] * 3 and second[-3:] == ["238.00"] * 3
    assert second[4:6] == ["20", "cosine"] and first[5] == "–"
    path.write_text(json.dumps({"trials": [trial(STUDY_RECIPE, 237.0, code="older")]}))
    assert not recipes.read_trials(path)["current"]


def test_both_lengths_are_compared_seed_by_seed(study):
    given = [*KINDS, VAE3Layer(h_dim=8, z_dim=3), VAE3Layer(h_dim=6, z_dim=2)]
    given.append(AutoEncoder(h_dim=8, z_dim=3))
    models = study.train(*given)
    longer = study.train(*given, recipe=replace(study.recipe, epochs=4), seeds=2)
    columns_used = ["validation_loss", "test_loss", "test_reconstruction"]
    found = study.measure(columns_used, *models, *longer)
    _, *plateau = cells(recipes.plateau_table(study, models, longer))
    assert [row[0] for row in plateau] == [model.label for model in models]
    for i, row in enumerate(plateau):
        pair = found["validation_loss"][i], found["validation_loss"][len(models) + i]
        a, b = ([float(values.mean()) for values in each[:2]] for each in pair)
        shown = [float(cell.replace("−", "-")) for cell in row[1:4]]
        assert_allclose(shown, [sum(a) / 2, sum(b) / 2, (sum(b) - sum(a)) / 2], atol=0.0051)
    _, *verdicts = cells(recipes.verdict_table(study, models, longer))
    four_minus_three = found["test_loss"][1][1].mean() - found["test_loss"][0][1].mean()
    second_seed = verdicts[0][1].rstrip(")").split(", ")[1].replace("−", "-")
    assert_allclose(float(second_seed), float(four_minus_three), atol=0.0051)
    assert verdicts[-1][0].startswith("AE (8, 3) minus VAE") and len(verdicts) == 4
    assert ", rec." in verdicts[1][0] and ", rec." in verdicts[-1][0]
