"""The study from end to end: every number that it reports, against values computed by hand."""

import json
import math
import re
from dataclasses import asdict, replace

import numpy as np
import numpy_reference as reference
import pytest
import scipy.stats
import torch
from conftest import cells
from matplotlib.figure import Figure
from own_models import Beta, BetaVAE, ConvVAE, Fragile, small
from torch import nn

from vae_helpers import AutoEncoder, Recipe, Study, VAE3Layer, VAE4Layer, load_data, runs, training
from vae_helpers import study as study_module
from vae_helpers.engine.files import load_tensors, save_tensors
from vae_helpers.measures.columns import FULL as FULL_SIZES
from vae_helpers.measures.columns import QUICK as QUICK_SIZES
from vae_helpers.measures.columns import Sizes
from vae_helpers.measures.generated import generation_quality
from vae_helpers.plotting import display
from vae_helpers.study import FULL, QUICK, SHORT, STAND_IN, STUDY_SEEDS, choose_preset

RECIPE = Recipe(epochs=2, batch_size=50)
SIZES = Sizes(draws=2, bound_images=100, bound_draws=5, generated=50, judge_epochs=1)
SEEDS = [3, 0, 11]
MINUS, DASH = "\u2212", "\u2013"


@pytest.fixture(scope="module")
def data(tiny_data):
    return small(tiny_data)


def make(data, folder=None, recipe=RECIPE, seeds=SEEDS, **options):
    options = {"sizes": SIZES, "jobs": 1, **options}
    return Study(data, recipe, seeds=seeds, folder=folder, **options)


def models():
    return (
        VAE3Layer(16, 8, 2),
        VAE3Layer(16, 12, 3),
        AutoEncoder(16, 8, 2),
        VAE4Layer(16, (8, 4), 2),
    )


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """A study with everything in it: (study, trained models, comparison "a", ranking "b")."""
    study = make(data, tmp_path_factory.mktemp("runs"))
    three, wide, plain, four = study.train(*models())
    a = study.compare(four, baseline=three, name="a")
    b = study.rank([three, wide, four], beside=[plain], name="b")
    return study, (three, wide, plain, four), a, b


# --- by hand, in float64 NumPy from the weights --


def by_hand(model, split, draws):
    """{"total", "reconstruction", "kl", "at_mean"}: (N,) of one model with weights."""
    x = split.images.numpy() / 255
    noise = torch.Generator().manual_seed(0)
    eps = [torch.randn(len(x), model.z_dim, generator=noise).numpy() for _ in range(draws)]
    if isinstance(model, AutoEncoder):
        z = reference.mlp(x, reference.layers(model, "encoder"))
        kl, at_mean = np.zeros(len(x)), reference.bce(_decoded(model, z), x)
        bce = at_mean
    else:
        bce, kl = reference.negative_elbo(model, x, eps)
        at_mean = reference.bce(_decoded(model, reference.encode(model, x)[0]), x)
    return {"loss": bce + kl, "reconstruction": bce, "KL": kl, "reconstruction_at_mean": at_mean}


def _decoded(model, z):
    return reference.mlp(z, reference.layers(model, "decoder"))


def losses(data, trained, column):
    """(seeds, N): the values of a column of losses, by its name."""
    split, _, term = column.partition("_")
    draws = 1 if split == "train" else SIZES.draws
    term = "KL" if term == "kl" else term
    return np.stack(
        [
            by_hand(trained.of_seed(index), getattr(data, split), draws)[term]
            for index in range(len(trained.seeds))
        ]
    )


def paired(d, comparisons=1):
    """Mean and interval of paired differences (seeds, N): Student's t at seeds - 1."""
    seeds, images = d.shape
    error = math.sqrt(d.mean(1).var(ddof=1) / seeds + d.mean(0).var(ddof=1) / images)
    reach = scipy.stats.t.ppf(1 - 0.025 / comparisons, seeds - 1) * error
    return d.mean(), d.mean() - reach, d.mean() + reach


def welch(a, b, comparisons=1):
    interval = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(
        1 - 0.05 / comparisons
    )
    return np.mean(a) - np.mean(b), interval.low, interval.high


def same(found, expected):
    np.testing.assert_allclose([found.mean, found.low, found.high], expected, rtol=2e-4, atol=2e-4)
    low, high = expected[1:]
    assert found.verdict == ("lower" if high < 0 else "higher" if low > 0 else "tie")


def close(text, value, decimals=2):
    """Whether a cell prints the value, a hyphen being no minus."""
    assert "-" not in text and abs(float(text.replace(MINUS, "-")) - value) <= 0.6 * 10**-decimals
    return True


LOSSES = [
    f"{split}_{term}"
    for split in ("train", "validation", "test")
    for term in ("loss", "reconstruction", "kl")
] + ["test_reconstruction_at_mean"]


@pytest.mark.parametrize("column", LOSSES)
def test_a_column_of_losses_is_that_loss_of_every_seed(data, done, column):
    study, (three, _, plain, four), *_ = done
    found = study.measure([column], three, plain, four)[column]
    for model, values in zip((three, plain, four), found, strict=True):
        expected = losses(data, model, column)
        expected = expected.mean(1) if column.startswith("train") else expected  # a number per run
        np.testing.assert_allclose(np.stack(values), expected, rtol=1e-4)
        summary = study.measured(model)[column]
        seeds = losses(data, model, column).mean(1)
        np.testing.assert_allclose(summary["seeds"], seeds, rtol=1e-4)
        np.testing.assert_allclose(summary["mean"], seeds.mean(), rtol=1e-4)
        np.testing.assert_allclose(summary["sd"], seeds.std(ddof=1), rtol=1e-2, atol=1e-6)


def test_the_columns_of_bound_and_latents(data, done):
    study, (three, _, plain, _), *_ = done
    found = study.measure(["active_units", "bound"], three, plain)
    assert found["bound"][1] is None and "bound" not in study.measured(plain)
    x = data.test.images.numpy() / 255
    for index in range(3):
        model = three.of_seed(index)
        means = reference.encode(model, x)[0]
        assert found["active_units"][0][index] == (means.var(0, ddof=1) > 0.01).sum()
        noise = torch.Generator().manual_seed(0)
        eps = [torch.randn(100, 2, generator=noise).numpy() for _ in range(SIZES.bound_draws)]
        log_w = reference.log_weights(model, x, eps)
        bound = -np.log(np.exp(log_w).mean(1))
        np.testing.assert_allclose(found["bound"][0][index], bound, rtol=1e-4)


def test_the_columns_of_generated_images_and_of_their_judge(tiny_data, tmp_path):
    study = make(tiny_data, tmp_path, replace(RECIPE, epochs=1), seeds=[4, 2])
    three, four = study.train(VAE3Layer(h_dim=8, z_dim=2), VAE4Layer(h_dims=(8, 6), z_dim=2))
    judge = study._judge(0)
    for sampler, ending in [("prior", ""), ("mixture", "_mixture")]:
        names = [f"{quantity}{ending}" for quantity in ("frechet", "precision", "recall")]
        found = study.measure(names, three, four)
        for index in range(2):
            given = four.of_seed(index), tiny_data, judge, sampler
            expected = generation_quality(*given, n=study.sizes.generated)
            values = [found[name][1][index] for name in names]
            assert values == pytest.approx([*expected.values()])
    difference = study.compare(four, baseline=three, name="g")["frechet"]
    same(difference, welch(*(study.measured(m)["frechet"]["seeds"] for m in (four, three))))
    report = study.judge_report()
    assert report is study.judge_report() and report["features"] == 128
    assert report == study.results["judge"] and 0 <= report["accuracy"] <= 1
    assert {*report["floor"]} == {"frechet", "precision", "recall"}
    before = study.measured(four)["frechet"]["mean"]
    sizes = replace(SIZES, judge_epochs=2)
    other = make(tiny_data, tmp_path, study.recipe, [4, 2], sizes=sizes)
    other.measure(["frechet"], *other.train(VAE4Layer(h_dims=(8, 6), z_dim=2)))
    (model,) = other.results["models"].values()
    assert model["frechet"]["mean"] != before  # another judge's


# --- train --


def test_what_train_returns_is_the_model_with_the_weights_of_its_best_epoch(data, done):
    study, (three, wide, plain, four), *_ = done
    assert (three.label, wide.label, plain.label) == ("VAE (8, 2)", "VAE (12, 3)", "AE (8, 2)")
    assert (three.id, four.id) == ("vae3-8-2", "vae4-8-4-2")
    assert (four.h_dim, four.z_dim, four.hidden) == (8, 2, (8, 4))
    assert (four.parameter_count, four.seeds, four.recipe) == (388, (3, 0, 11), RECIPE)
    assert [model.order for model in (three, wide, plain, four)] == [0, 1, 2, 3]
    assert [model.order for model in study.train(four.model, VAE3Layer(16, 9, 2))] == [3, 4]
    for index, seed in enumerate(SEEDS):
        alone = VAE3Layer(16, 8, 2).fresh(seed)
        images = data.train.images, data.validation.images
        result = training.train(alone, *images, RECIPE, seed=seed, device="cpu")
        state, history = three.runs[index].state, three.histories[index]
        assert all(torch.equal(state[name], value) for name, value in alone.state_dict().items())
        assert history["validation_total"] == result.history["validation_total"]
        model = three.of_seed(index)
        assert not model.training and torch.equal(model.x_to_h.weight, state["x_to_h.weight"])
    rounded = three.of_seed(0).x_to_h.weight.half().float()  # as an archive keeps it
    assert torch.equal(three.model.x_to_h.weight, rounded)
    three.model.x_to_h.weight.data.zero_()  # a copy
    three.histories[0]["seconds"].clear()
    assert three.model.x_to_h.weight.any() and len(three.histories[0]["seconds"]) == 2
    with pytest.raises(AttributeError):
        three.label = "other"
    assert repr(four).endswith("388 parameters, trained for 2 epochs with (3, 0, 11) seeds")


def test_finished_runs_are_loaded_not_trained_again(data, tmp_path, trained):
    first = make(data, tmp_path).train(*models()[:2])
    assert trained == [3, 3, 0, 0, 11, 11]
    again = make(data, tmp_path).train(*models()[:2])
    assert equal(first, again) and len(trained) == 6
    make(data, tmp_path, seeds=[0, 11, 5, 6]).train(*models()[:2])
    assert trained[6:] == [5, 5, 6, 6]
    fresh = make(data, tmp_path, fresh=True)
    for _ in range(2):  # each once
        assert equal(fresh.train(*models()[:2]), first)
    assert len(trained) == 16
    assert {path.suffix for path in tmp_path.iterdir()} == {".pt"}


def equal(a, b):
    """Whether trained models have the same weights, seed by seed."""
    of_a, of_b = ([[run.weights for run in model.runs] for model in models] for models in (a, b))
    return of_a == of_b


def test_whatever_could_change_the_weights_changes_the_key(data, tmp_path, monkeypatch, trained):
    class VAE3Layer(BetaVAE):  # another class of the same name and sizes
        pass

    model, swapped = models()[0], replace(data, train=data.test)
    make(data, tmp_path, seeds=[0, 1]).train(model)
    changed = [replace(RECIPE, epochs=3), replace(RECIPE, products="bfloat16")]
    changed += [replace(RECIPE, **{n: v}) for n, v in [("batch_size", 9), ("betas", (0.8, 0.9))]]
    for number, (given, other, recipe) in enumerate(
        [
            (data, VAE3Layer(16, 8, 2), RECIPE),
            (data, BetaVAE(16, 8, 2), RECIPE),
            (swapped, model, RECIPE),
            *((data, model, recipe) for recipe in changed),
        ]
    ):
        make(given, tmp_path, recipe, seeds=[0, 1]).train(other)
        assert len(trained) == 2 * number + 4
    monkeypatch.setattr(runs, "source_digest", lambda *modules: "other code")
    make(data, tmp_path, seeds=[0, 1]).train(model)
    assert len(trained) == 2 * number + 6


@pytest.mark.parametrize("cls", [ConvVAE, BetaVAE])
def test_a_users_own_model_trains_in_workers_and_is_found_again(tiny_data, tmp_path, trained, cls):
    given = make(tiny_data, tmp_path, replace(RECIPE, epochs=1), [0, 1], jobs=2).train(cls())
    assert equal(given, make(tiny_data, tmp_path, given[0].recipe, [0, 1]).train(cls()))
    assert not trained
    (again,) = make(tiny_data, None, given[0].recipe, [0, 1]).train(cls())
    assert equal(given, [again]) and trained == [0, 1]  # bit for bit


def test_the_same_model_by_another_recipe_is_a_model_of_its_own(data, trained):
    study, longer = make(data), replace(RECIPE, epochs=3, learning_rate=0.002)
    (three,) = study.train(models()[0])
    (other,) = study.train(models()[0], recipe=longer)
    assert other.label == "VAE (8, 2), epochs=3, learning_rate=0.002"
    assert other.id == "vae3-8-2-epochs_3-learning_rate_0_002"
    assert len(other.histories[0]["seconds"]) == 3 and other.order != three.order
    difference = study.compare(other, baseline=three, name="longer")["test_loss"]
    expected = losses(data, other, "test_loss") - losses(data, three, "test_loss")
    same(difference, paired(expected))
    assert {*study.results["models"]} == {three.id, other.id}
    (more,) = study.train(models()[0], recipe=RECIPE)
    assert more.key == three.key and len(trained) == 6
    with pytest.raises(TypeError, match="recipe must be a Recipe, got dict"):
        study.train(models()[0], recipe={"epochs": 3})


def test_bad_models_are_refused_before_anything_is_trained(data, trained):
    class Kind(VAE3Layer):
        kind = "VAE"

    class Short(VAE3Layer):
        short = "vae3"

    study, three = make(data), models()[0]
    for other in (Kind(16, 8, 2), Short(16, 8, 2)):
        with pytest.raises(ValueError, match="two different models are called 'VAE .8, 2.' and"):
            study.train(three, other)
    with pytest.raises(TypeError, match="every model must be a Model, got Linear"):
        study.train(three, nn.Linear(16, 2))
    with pytest.raises(ValueError, match="of 784 pixels and the data's have 16: .*image_size=16"):
        study.train(three, VAE3Layer())
    assert not trained
    same, twice = study.train(three, models()[0])
    assert same.key == twice.key and same.order == twice.order


def test_a_validation_loss_that_is_not_finite_stops_at_every_start(data, tmp_path):
    for _ in range(2):
        with pytest.raises(training.NonFiniteLossError, match="nan after epoch 2"):
            make(data, tmp_path).train(Fragile(16, 8, 2))
        assert list(tmp_path.glob("*.pt")) == []
        for part in tmp_path.glob("*.part"):  # of a machine so slow that it saved the first epoch,
            part.unlink()  # from which this model, which counts validations, would go on well


@pytest.mark.filterwarnings("ignore:TF32")
def test_seeds_in_a_stack_equal_single_runs_to_rounding(data, tmp_path, trained):
    stacked = make(data, tmp_path)
    stacked.runs.stacked = True
    found = stacked.train(*models())
    assert not trained
    with torch.backends.mkldnn.flags(enabled=False):  # the same kernel: only the stack differs
        single = make(data).train(*models())
    for a, b in zip(found, single, strict=True):
        for index in range(3):
            for name, weights in a.runs[index].state.items():
                expected = b.runs[index].state[name]
                torch.testing.assert_close(weights, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["pt", "part"])
def test_a_corrupt_file_of_a_run_is_named_and_set_aside(data, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0)
    whole = make(data, None, seeds=[0, 1]).train(models()[0])
    if kind == "part":

        def stop(path, content):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(runs, "save_tensors", stop)  # of the result
            make(data, tmp_path, seeds=[0, 1]).train(models()[0])
    else:
        make(data, tmp_path, seeds=[0, 1]).train(models()[0])
    victim = sorted(tmp_path.glob(f"*.{kind}"))[0]
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=f"{victim.name} is corrupt"):
        assert equal(make(data, tmp_path, seeds=[0, 1]).train(models()[0]), whole)
    assert victim.with_name(f"{victim.name}.corrupt").exists()


def test_a_folder_that_can_not_be_written_stops_before_anything_is_trained(data, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="runs can not be written .*; pass another folder"):
        make(data, tmp_path / "runs")


@pytest.mark.slow
def test_dask_cluster_of_two_workers_gives_equal_results(data, tmp_path, on_dask):
    local = make(data, tmp_path / "local").train(*models())
    with on_dask(workers=2, threads=1):
        remote = make(data, tmp_path / "remote", jobs=2).train(*models())
    assert equal(local, remote)
    assert len(list((tmp_path / "remote").glob("*.pt"))) == 12


# --- measure, compare, rank --


def test_measure_refuses_what_is_not_there(data, done):
    study, (three, *_), *_ = done
    with pytest.raises(ValueError, match=r"no column \['test_los'\]; there are \["):
        study.measure(["test_los", "test_loss"], three)
    with pytest.raises(TypeError, match=r"take what train returned, got VAE3Layer: \(trained,\) ="):
        study.measure(["test_loss"], models()[0])
    for other in (make(data, seeds=[0, 3, 11]), make(replace(data, test=data.train))):
        (foreign,) = other.train(models()[0])
        for verb in (
            lambda m: study.measure(["test_loss"], m),
            lambda m: study.compare(m, baseline=three, name="x"),
            lambda m: study.rank([m, three], name="x"),
        ):
            with pytest.raises(ValueError, match="on other data or with other seeds"):
                verb(foreign)
    assert "x" not in study.results["comparisons"]


def test_a_measurement_is_taken_from_what_is_stored(data, tmp_path, monkeypatch):
    def values():
        study = make(data, tmp_path)
        return study.measure(["test_loss", "active_units"], *study.train(*models()[:2]))

    first = values()
    monkeypatch.setattr(study_module, "run_tasks", lambda *_, **options: [])
    again = values()
    assert torch.equal(first["test_loss"][1][2], again["test_loss"][1][2])
    monkeypatch.setattr(study_module, "source_digest", lambda *modules: "other code")
    with pytest.raises(ValueError):  # nothing stored is of that code
        values()


def test_a_comparison_is_the_first_minus_the_baseline(data, done):
    study, (three, _, plain, four), a, _ = done
    names = ["test_loss", "test_reconstruction", "validation_kl"]
    header, *rows = cells(a.table(*names, "active_units"))
    assert header == ["", "VAE (8, 2)", "4-layer VAE (8, 4, 2)", "Difference", "95 % interval"]
    kept = study.results["comparisons"]["a"]
    assert (kept["a"], kept["b"]) == (four.id, three.id)
    for name, row in zip(names, rows, strict=False):
        first, second = (losses(data, model, name) for model in (three, four))
        expected = paired(second - first)
        same(a[name], expected)
        assert kept[name] == {**asdict(a[name]), "verdict": a[name].verdict}
        assert a[name].confidence == 0.95
        low, _, high = row[4].partition(" to ")
        shown = [first.mean(), second.mean(), *expected]
        assert all(map(close, [*row[1:4], low, high], shown))
    titles = ["Test loss", "Test reconstruction", "Validation KL", "Active latents"]
    assert [row[0] for row in rows] == titles
    missing = study.compare(plain, baseline=three, name="missing")
    header, row = cells(missing.table("bound"))
    assert row[0] == "IWAE bound" and row[2:] == [DASH, DASH, DASH] and row[1] != DASH
    assert missing["bound"] is None and "bound" not in study.results["comparisons"]["missing"]


def test_a_ranking_is_by_the_validation_loss_and_its_differences_hold_jointly(data, done):
    study, (three, wide, plain, four), _, b = done
    means = {m: losses(data, m, "validation_loss").mean() for m in (three, wide, four)}
    order = tuple(sorted(means, key=means.get))
    assert b.order == order and b.best is order[0] and b.models == (*order, plain)
    upside_down = study.rank([three, wide, four], by="test_kl", name="by-kl")
    kl = [losses(data, m, "test_kl").mean() for m in upside_down.order]
    assert kl == sorted(kl) and upside_down.best is upside_down.order[0]
    table = b.table("validation_loss", "test_loss-mean", "test_loss-best", "bound", "bound-best")
    header, *rows = cells(table)
    measured = ["Validation loss", "Test loss", "Test loss minus best", "IWAE bound"]
    assert header == ["Model", *measured, "IWAE bound minus best"]
    assert [row[0] for row in rows] == [model.label for model in (*order, plain)]
    best, kept = losses(data, order[0], "test_loss"), study.results["rankings"]["b"]
    assert kept["best"] == order[0].id and kept["order"] == [model.id for model in order]
    assert order[0].id not in kept and plain.id not in kept
    for model, row in zip((*order, plain), rows, strict=True):
        mean, spread = row[1].split(" \u00b1 ")
        seeds = losses(data, model, "validation_loss").mean(1)
        assert close(mean, seeds.mean()) and close(spread, seeds.std(ddof=1))
        assert close(row[2], losses(data, model, "test_loss").mean())
        if model in order[1:]:
            expected = paired(losses(data, model, "test_loss") - best, comparisons=3)
            found = kept[model.id]["test_loss"]
            numbers = [found[name] for name in ("mean", "low", "high")]
            np.testing.assert_allclose(numbers, expected, rtol=2e-4, atol=2e-4)
            assert found["confidence"] == pytest.approx(1 - 0.05 / 3)
            texts = re.fullmatch(r"(\S+) \((\S+) to (\S+)\)", row[3]).groups()
            assert all(map(close, texts, expected))
        else:
            assert row[3] == DASH
    assert rows[-1][4:] == [DASH, DASH] and rows[0][4] != DASH and rows[1][5] != DASH


def test_differences_to_a_baseline_count_only_the_others(data, done):
    study, (three, wide, plain, four), *_ = done
    (again,) = study.train(models()[0])
    found = study.rank([three, wide, four], baseline=again, beside=[plain], name="based")
    header, *rows = cells(found.table("test_loss-baseline", "test_kl"))
    assert header[1] == "Test loss minus baseline"
    base, kept = losses(data, three, "test_loss"), study.results["rankings"]["based"]
    for model, row in zip((*found.order, plain), rows, strict=True):
        if model in (wide, four):
            expected = paired(losses(data, model, "test_loss") - base, comparisons=2)
            numbers = [kept[model.id]["test_loss"][name] for name in ("mean", "low", "high")]
            np.testing.assert_allclose(numbers, expected, rtol=2e-4, atol=2e-4)
            texts = re.fullmatch(r"(\S+) \((\S+) to (\S+)\)", row[1]).groups()
            assert all(map(close, texts, expected))
        else:
            assert row[1] == DASH and model.id not in kept
    with pytest.raises(ValueError, match='may end in "-baseline" or "-mean", got'):
        found.table("test_loss-best")
    with pytest.raises(ValueError, match=r"must be one of the models that are ranked, got VAE"):
        study.rank([wide, four], baseline=three, name="stranger")


def test_a_quantity_that_a_model_lacks_is_a_dash(data, done):
    study, (three, _, plain, _), *_ = done
    ranked = study.rank([three, plain], by="test_reconstruction", name="mixed")
    header, *rows = cells(ranked.table("bound", "bound-mean", "bound-best"))
    by_label = {row[0]: row[1:] for row in rows}
    assert by_label["AE (8, 2)"] == [DASH] * 3 and by_label["VAE (8, 2)"][2] == DASH
    assert by_label["VAE (8, 2)"][1] != DASH
    with pytest.raises(ValueError, match=r"AE \(8, 2\) has no IWAE bound to be ranked by"):
        study.rank([three, plain], by="bound", name="mixed")


def test_models_of_fewer_seeds_are_set_beside_others_on_the_seeds_that_both_have(data):
    study = make(data)
    three, _ = study.train(models()[0], models()[1])
    (wide, four) = study.train(models()[1], models()[3], seeds=2)
    assert wide.seeds == four.seeds == (3, 0) and len(four.histories) == 2
    a = study.compare(four, baseline=three, name="a")
    expected = losses(data, four, "test_loss") - losses(data, three, "test_loss")[:2]
    same(a["test_loss"], paired(expected))
    row = cells(a.table("test_loss"))[1]
    assert close(row[1], losses(data, three, "test_loss")[:2].mean())
    b = study.rank([three, wide, four], by="test_loss", name="b")
    means = {m: losses(data, m, "test_loss")[:2].mean() for m in (three, wide, four)}
    assert list(b.order) == sorted(means, key=means.get)
    b.table("test_loss-best", "test_kl")
    for model in b.order[1:]:
        found = study.results["rankings"]["b"][model.id]["test_loss"]["mean"]
        assert found == pytest.approx(means[model] - means[b.best], abs=1e-3)
    (all_seeds,) = study.train(models()[1])
    study.measure(["test_loss"], all_seeds)
    study.measure(["test_loss"], wide)  # the results keep the mean of all seeds
    kept = study.results["models"][wide.id]["test_loss"]["seeds"]
    np.testing.assert_allclose(kept, losses(data, all_seeds, "test_loss").mean(1), rtol=1e-4)
    for wrong, error in [(1, ValueError), (0, ValueError), (True, TypeError)]:
        with pytest.raises(error, match="seeds must be"):
            study.train(models()[0], seeds=wrong)


def test_further_values_are_kept_in_the_results_beside_their_own(data):
    study = make(data)
    study.keep("trials", {"x": [1]})
    assert study.results["trials"] == {"x": [1]}
    with pytest.raises(ValueError, match="a name must be letters"):
        study.keep("a.b", 1)
    study.keep("models", {})
    with pytest.raises(ValueError, match=r"the results have \['models'\] of their own"):
        _ = study.results


class SameLabel(VAE3Layer):
    kind = "VAE"

    def __init__(self):
        super().__init__(16, 8, 2)


class SameId(SameLabel):
    kind = "Other"
    short = "vae3"


def test_what_can_not_be_compared_or_ranked_is_refused(data, done):
    study, (three, wide, _, four), a, b = done
    (again,) = study.train(models()[0])
    with pytest.raises(ValueError, match="models must be different"):
        study.compare(three, baseline=again, name="self")
    own = make(data, recipe=replace(RECIPE, epochs=1))
    three_anew, label, name = (own.train(m)[0] for m in (models()[0], SameLabel(), SameId()))
    assert three_anew.label == label.label and three_anew.id == name.id
    for twin in (label, name):
        with pytest.raises(ValueError, match="models must be different"):
            own.compare(twin, baseline=three_anew, name="twin")
    with pytest.raises(ValueError, match="models must be different"):
        study.rank([three, wide], beside=[three], name="self")
    with pytest.raises(TypeError, match="take what train returned, got VAE3Layer"):
        study.compare(models()[0], baseline=three, name="untrained")
    with pytest.raises(ValueError, match="rank takes at least two models, got 1"):
        study.rank([three], name="one")

    twins = study.train(Beta(1), Beta(100))
    for refused in (
        lambda: study.compare(twins[0], baseline=twins[1], name="twins"),
        lambda: study.rank([three, *twins], name="twins"),
    ):
        with pytest.raises(ValueError, match="have equal weights for every seed, so there is noth"):
            refused()
    for name in ("a.b", "test_loss-bset.", "", "1a", "a b", None, "ä."):
        with pytest.raises(ValueError, match="a name must be letters, digits"):
            study.compare(four, baseline=three, name=name)
        with pytest.raises(ValueError, match="a name must be letters, digits"):
            study.rank([three, four], name=name)
    with pytest.raises(ValueError, match="'b' is already the name of a comparison or ranking"):
        study.compare(four, baseline=three, name="b")
    with pytest.raises(ValueError, match="'a' is already the name of a comparison or ranking"):
        study.rank([three, four], name="a")
    for wrong in ("test_loss-bset", "test_loss-best-mean"):
        with pytest.raises(ValueError, match='may end in "-best" or "-mean", got'):
            b.table(wrong)
    with pytest.raises(ValueError, match=r"no column \['test_los'\]"):
        b.table("test_los-best")
    with pytest.raises(ValueError, match=r"no column \['test_loss-best'\]"):
        a.table("test_loss-best")
    assert not {"self", "one", "twins"} & {*study.results["comparisons"]}


def edited(beta):
    """A class as a notebook's cell defines it, edited and run again: only its code is another."""

    class Celled(VAE3Layer):
        def loss(self, x, generator=None):
            loss = super().loss(x, generator)
            return loss._replace(total=loss.reconstruction + beta * loss.kl)

    return Celled(16, 8, 2)


def test_results_are_of_the_newest_models_and_comparisons(data):
    study = make(data, seeds=[0, 1])
    three, first = study.train(models()[0], edited(2))
    compared = study.compare(first, baseline=three, name="a")
    study.rank([three, first], name="b")
    shown(study.show, compared.table("test_loss"), table=1, caption="Compared.")
    old = study.results
    assert set(old["models"]) == {three.id, first.id} and set(old["tables"]) == {"1"}
    (second,) = study.train(edited(5))  # the cell run again after an edit
    assert (second.id, second.order) == (first.id, first.order) and second.key != first.key
    with pytest.raises(ValueError, match=r"'a' is about an earlier Celled \(8, 2\): run it again"):
        study.save("never written")
    study.compare(second, baseline=three, name="a")
    with pytest.raises(ValueError, match="'b' is about an earlier Celled"):
        _ = study.results
    study.rank([three, second], name="b")
    assert study.results["tables"] == {}  # it showed the earlier comparison
    study.measure(["test_loss"], second)
    new = study.results["models"][second.id]["test_loss"]["mean"]
    assert new == pytest.approx(losses(data, second, "test_loss").mean(), rel=1e-4)
    assert new != old["models"][first.id]["test_loss"]["mean"]
    study.train(edited(2))  # the edit taken back
    study.compare(first, baseline=three, name="a")
    study.rank([three, first], name="b")
    assert study.results["models"] == old["models"]
    study.compare(three, baseline=second, name="a")  # other models under an old name
    with pytest.raises(ValueError, match="'a' is about an earlier"):
        _ = study.results
    study.compare(three, baseline=first, name="a")
    assert study.results["comparisons"]["a"] == {"a": three.id, "b": first.id}


# --- show, save, banner --


def a_figure():
    figure = Figure()
    figure.subplots().plot([1, 2])
    return figure


def shown(function, *args, **options):
    """What a call displays: a list of {kind: content}, with metadata under "metadata"."""
    with pytest.MonkeyPatch.context() as patch:
        outputs = []
        patch.setattr(display, "display", lambda data, **options: outputs.append((data, options)))
        function(*args, **options)
    return [{**data, "metadata": options.get("metadata")} for data, options in outputs]


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("own", None),
        ("", None),
        ("short", "short run, models not fully trained"),
        ("quick", "quick run, models hardly trained"),
        ("stand-in", "stand-in data, not Fashion-MNIST"),
    ],
)
def test_a_figure_has_a_note_only_if_it_is_not_of_the_real_study(data, done, mode, note):
    study = make(data, mode=mode)
    figure = a_figure()
    picture, caption = shown(study.show, figure, figure=7, caption="Losses\nof three.")
    assert "image/png" in picture and picture["text/plain"] == "Figure 7"
    assert caption["text/markdown"] == "**Figure 7.** Losses of three."
    notes = [text.get_text() for text in figure.texts if text.get_gid() == "note"]
    assert notes == ([note] if note else [])


def test_a_table_is_shown_with_its_number_and_kept_as_shown(done):
    study, _, a, b = done
    table = a.table("test_loss")
    (output,) = shown(study.show, table, table=2, caption="Compared.")
    assert output["text/markdown"] == f"**Table 2.** Compared.\n\n{table}"
    shown(study.show, b.table("test_loss"), table=3, caption="Ranked.")
    shown(study.show, b.table("test_kl"), table=3, caption="Ranked.")  # the cell run again
    assert study.results["tables"] == {"2": str(table), "3": str(b.table("test_kl"))}
    assert type(study.results["tables"]["2"]) is str
    for wrong in ({"figure": 1}, {}, {"table": 0}, {"table": True}):
        with pytest.raises((TypeError, ValueError), match="^table must be"):
            study.show(table, caption="Compared.", **wrong)
    with pytest.raises(TypeError, match="^figure must be an int"):
        study.show(a_figure(), table=1, caption="Losses.")


def test_save_writes_the_results_beside_the_real_ones(data, done, tmp_path):
    study, (three, wide, plain, four), a, b = done
    a.table("test_loss")
    figure = a_figure()
    path = study.save(tmp_path, curves=figure)
    assert path == tmp_path / "results.own.json"
    assert {p.name for p in tmp_path.iterdir()} == {"results.own.json", "curves.own.png"}
    results = json.loads(path.read_text())
    assert results == json.loads(json.dumps(study.results)) and results["mode"] == "own"
    for mode, name in [("", "results.json"), ("quick", "results.quick.json")]:
        assert make(data, mode=mode).save(tmp_path).name == name
    assert {*results["models"]} >= {three.id, wide.id, plain.id, four.id}
    kept = results["models"][four.id]
    seeds = losses(data, four, "test_loss").mean(1)
    np.testing.assert_allclose(kept["test_loss"]["seeds"], seeds, rtol=1e-4)
    assert (kept["label"], kept["parameters"]) == ("4-layer VAE (8, 4, 2)", 388)
    assert (kept["h_dim"], kept["z_dim"]) == (8, 2)
    assert results["settings"] | {"betas": (0.9, 0.999)} == {
        **asdict(RECIPE),
        "seeds": SEEDS,
        "seed_count": 3,
        **asdict(SIZES),
    }
    assert results["data"] == {
        "name": "small",
        "sha256": data.checksum,
        "sizes": {"train": 100, "validation": 100, "test": 100},
        "full_size": 200,
    }
    for name, value in results["floor"].items():
        x = getattr(data, name).images.numpy() / 255
        assert value == pytest.approx(reference.entropy(x).mean(), rel=1e-5)
    environment = results["environment"]
    assert environment["torch"] == torch.__version__.split("+")[0]
    assert environment["products"] == ["float32"]
    assert environment["trained_on"] == [three.runs[0].machine]
    assert environment["code"] == study_module.code_digest()


def test_the_results_name_the_machines_that_measured_models_were_trained_on(data, tmp_path):
    study = make(data, tmp_path, seeds=[0, 1])
    (three,) = study.train(models()[0])
    assert study.results["environment"]["trained_on"] == []
    path = sorted(tmp_path.glob("*.pt"))[0]
    save_tensors(path, load_tensors(path) | {"machine": "A GPU, PyTorch 2"})
    again = make(data, tmp_path, seeds=[0, 1])
    again.measure(["test_loss"], *again.train(models()[0]))
    machines = ["A GPU, PyTorch 2", three.runs[0].machine]
    assert again.results["environment"]["trained_on"] == machines


def test_a_banner_stands_over_a_run_that_is_not_the_real_study(data):
    assert shown(make(data).banner) == shown(make(data, mode="").banner) == []
    for mode, start, inside in [
        ("short", "**Short run.**", "trained for 2 epochs with 3 seeds, which is less"),
        ("quick", "**Quick run.**", "trained for 2 epochs, to see"),
        ("stand-in", "**This is not Fashion-MNIST** (why).", "The run uses small, and"),
    ]:
        (output,) = shown(make(replace(data, note="why"), mode=mode).banner)
        text = output["text/markdown"]
        assert text.startswith(start) and inside in text and "{" not in text
        assert output["metadata"] == {"run_mode": mode}


# --- presets --


def test_presets_are_values_that_only_choose_preset_chooses(data):
    epochs = study_module.STUDY_RECIPE.epochs
    full = choose_preset(data)
    assert full == FULL and (full.mode, full.recipe) == ("", study_module.STUDY_RECIPE)
    assert (full.seeds, full.sizes) == (STUDY_SEEDS, FULL_SIZES)
    for seeds, length, mode in [
        (STUDY_SEEDS, epochs, ""),
        (STUDY_SEEDS + 1, epochs, ""),
        (STUDY_SEEDS, epochs + 1, ""),
        (STUDY_SEEDS - 1, epochs, "short"),
        (STUDY_SEEDS, epochs - 1, "short"),
        (STUDY_SEEDS + 1, epochs - 1, "short"),
        (STUDY_SEEDS - 1, epochs + 1, "short"),
    ]:
        found = choose_preset(data, seeds=seeds, epochs=length)
        assert (found.mode, found.seeds, found.recipe.epochs) == (mode, seeds, length)
        assert found.recipe == replace(FULL.recipe, epochs=length) and found.sizes == FULL_SIZES
    assert choose_preset(data, short=True) == SHORT and SHORT.mode == "short"
    assert choose_preset(data, quick=True) == choose_preset(data, quick=True, short=True) == QUICK
    assert QUICK.mode == "quick" and QUICK.sizes == QUICK_SIZES and QUICK.recipe.epochs <= 2
    assert 2 <= SHORT.seeds < STUDY_SEEDS and SHORT.recipe.epochs < epochs


def test_the_stand_in_has_a_preset_and_a_study_of_ones_own_takes_what_it_is_given():
    stand_in = load_data("stand-in")
    assert choose_preset(stand_in, seeds=5, epochs=5) == STAND_IN
    assert [preset.seeds for preset in (SHORT, QUICK, STAND_IN)] == [2, 2, 2]  # the fewest
    assert STAND_IN.mode == choose_preset(stand_in, quick=True).mode == "stand-in"
    assert choose_preset(stand_in, quick=True).recipe == QUICK.recipe
    study = Study(stand_in, Recipe(epochs=5), seeds=5, folder=None)
    assert (study.recipe.epochs, study.seeds, study.mode) == (5, [0, 1, 2, 3, 4], "own")
    assert study.sizes == FULL_SIZES.for_data(stand_in)


# --- archive --


class Judge(VAE3Layer):
    """A name that begins as the judge's files do, and a buffer of whole numbers."""

    def __init__(self):
        super().__init__(16, 8, 2)
        self.register_buffer("count", torch.tensor(70_001))


def test_an_archive_gives_the_same_tables_without_training(data, done, tmp_path, trained):
    made = make(data)
    a = made.compare(*made.train(Judge()), baseline=made.train(models()[0])[0], name="a")
    table, (judge, three) = a.table("test_loss", "bound"), a.models
    made.pack(tmp_path, [judge], "May 2026")
    trained.clear()

    def reader(**options):
        return make(data, archive=tmp_path, **options)

    study = reader()
    (new,), (base,) = study.train(Judge()), study.train(models()[0])
    again = study.compare(new, baseline=base, name="a")
    assert again.table("test_loss", "bound") == table and not trained
    assert base.histories == three.histories and new.order == judge.order == 0
    assert new.model.count == 70_001
    for name, value in new.model.state_dict().items():
        torch.testing.assert_close(value, judge.model.state_dict()[name], rtol=1e-3, atol=1e-6)
    for model, index in [(new, 1), (base, 0)]:
        with pytest.raises(ValueError, match=r"the weights of .*, seed \d+, are not stored"):
            model.of_seed(index)
    for model in (new, base):  # half precision is not what was trained
        with pytest.raises(ValueError, match="was not measured .* run the study with fresh=True"):
            study.measure(["active_units"], model)
    (output,) = shown(study.banner)
    assert "**Stored runs.**" in output["text/markdown"] and "(May 2026)" in output["text/markdown"]
    seconds = sum(sum(h["seconds"]) for model in (judge, three) for h in model.histories)
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["hours"] == pytest.approx(seconds / 7200)
    assert about["machine"] == three.runs[0].machine
    assert shown(make(data).banner) == []


def test_what_is_not_in_an_archive_is_trained(data, tmp_path, trained, monkeypatch):
    made = make(data)
    made.pack(tmp_path, made.train(models()[0]), "May 2026")
    for given, options, expected in [
        (models()[0], {}, 0),
        (models()[0], {"fresh": True}, 3),
        (models()[0], {"recipe": replace(RECIPE, epochs=1)}, 3),
        (models()[0], {"seeds": [3, 1]}, 1),
        (models()[1], {}, 3),
        (models()[0], {"archive": tmp_path / "nowhere"}, 3),
        (models()[0], {"sizes": replace(made.sizes, draws=made.sizes.draws + 1)}, 3),
    ]:
        trained.clear()
        study = make(data, **{"archive": tmp_path, **options})
        found = study.train(given)
        assert len(trained) == expected, options
        if "sizes" in options:  # as a quick run does, of models that the full study stored
            assert study.measure(["test_loss"], *found)
    monkeypatch.setattr(study_module, "code_digest", lambda: "other code")
    trained.clear()
    other = make(data, archive=tmp_path)
    other.train(models()[0])
    assert len(trained) == 3 and shown(other.banner) == []
