"""Results documents: what is recorded, how spread and ranks are computed, how tables are made."""

import json
from statistics import mean, stdev

import pytest
import torch

from vae_helpers import ModelSpec, TrainSettings, train_study
from vae_helpers.measures import results as record
from vae_helpers.plan import make_plan
from vae_helpers.plotting.images import tables

SPECS = [ModelSpec("VAE3Layer", (16,), 3), ModelSpec("AutoEncoder", (16,), 3)]
SETTINGS = TrainSettings(epochs=2, batch_size=64)


@pytest.fixture(scope="module")
def studied(tiny_data):
    results = record.start_results(tiny_data, SETTINGS, [0, 1])
    keep = {"runs_dir": None, "n_jobs": 1}
    runs = train_study(SPECS, tiny_data, SETTINGS, [0, 1], device="cpu", **keep)
    record.add_architectures(results, SPECS)
    losses = record.add_losses(results, runs, tiny_data, keep, draws=2)
    record.add_baselines(results, tiny_data, [3])
    return results, losses, runs


def test_means_and_spreads_are_those_of_the_seeds(studied):
    results, losses, _ = studied
    for spec in SPECS:
        model = results["models"][spec.id]
        values = [seed["test"]["total"] for seed in model["seeds"].values()]
        assert model["mean"]["test"]["total"] == pytest.approx(mean(values))
        assert model["sd"]["test"]["total"] == pytest.approx(stdev(values))
        expected = losses[spec.id]["test_total"].double().mean(dim=1).tolist()
        assert values == pytest.approx(expected)


def test_total_is_the_sum_of_its_parts_and_above_the_floor(studied):
    results, _, _ = studied
    for model in results["models"].values():
        for split in ("train", "validation", "test"):
            part = model["mean"][split]
            assert part["total"] == pytest.approx(part["reconstruction"] + part["kl"], rel=1e-6)
            assert part["excess"] == pytest.approx(part["total"] - results["floor"][split])
            assert part["excess"] > 0


def test_differences_follow_the_records(studied):
    results, losses, _ = studied
    record.add_differences(results, "t", *SPECS, losses)
    d = results["comparisons"]["t"]["test_total"]
    means = [results["models"][spec.id]["mean"]["test"]["total"] for spec in SPECS]
    assert d["mean"] == pytest.approx(means[0] - means[1], rel=1e-4)
    assert d["low"] <= d["mean"] <= d["high"]
    assert "frechet_distance" not in results["comparisons"]["t"]  # not measured, not compared


def test_selection_looks_at_validation_and_never_at_test(studied):
    results, losses, _ = studied
    faked = {name: {k: v.clone() for k, v in value.items()} for name, value in losses.items()}
    a, b = (spec.id for spec in SPECS)
    faked[a]["validation_total"] = faked[b]["validation_total"] - 1  # a best on validation
    faked[a]["test_total"] = faked[b]["test_total"] + 50  # and worst on test
    assert record.add_ranking(results, "r", SPECS, faked) == SPECS[0]
    entry = results["rankings"]["r"]["to_best"][b]
    assert entry["mean"] == pytest.approx(-50, abs=1e-3) and entry["rank"] == "better on test"


def test_ties_are_shown_as_ties(studied):
    results, losses, _ = studied
    a, b = (spec.id for spec in SPECS)
    noise = torch.randn(2, 200, generator=torch.Generator().manual_seed(0))
    faked = {a: dict(losses[a]), b: dict(losses[a])}
    faked[b]["test_total"] = faked[b]["test_total"] + noise
    faked[b]["validation_total"] = faked[b]["validation_total"] + 1e-3
    record.add_ranking(results, "r", SPECS, faked)
    assert results["rankings"]["r"]["to_best"][b]["rank"] == "tie with best"
    assert results["rankings"]["r"]["tied"] == [b]


def test_tables_are_functions_of_the_results_alone(studied):
    results, _, _ = studied
    ids = [spec.id for spec in SPECS]
    made = record.table(results, "losses", "loss_table", ids, [3])
    reread = json.loads(json.dumps(results))
    call = reread["tables"]["losses"]
    assert tables.render(reread, call["function"], call["arguments"]) == made
    rows = made.splitlines()
    assert len(rows) == 2 + 2 + 2 and len({row.count("|") for row in rows}) == 1
    total = results["models"][ids[0]]["mean"]["test"]["total"]
    assert f"{total:.2f}" in rows[2]
    with pytest.raises(ValueError, match="no table function"):
        tables.render(results, "eval", [])


def test_numbers_keep_their_decimals_and_sign():
    written = [tables.number(v) for v in (-0.001, -1.006, 1234.5)]
    assert written == ["0.00", "\u22121.01", "1,234.50"]


def test_written_results_are_complete_json_and_refuse_nan(studied, tmp_path):
    results, _, _ = studied
    path = record.write_results(results, tmp_path)
    assert path.name == "results.quick.json"  # not the real data: never under the real name
    assert json.loads(path.read_text())["models"].keys() == results["models"].keys()
    with pytest.raises(ValueError):
        record.write_results({**results, "floor": {"test": float("nan")}}, tmp_path)
    assert json.loads(path.read_text())["floor"] == results["floor"]


def test_plans():
    full, quick = make_plan(5, 40), make_plan(5, 40, quick=True)
    assert full.seeds == (0, 1, 2, 3, 4) and full.settings.epochs == 40 in full.ladder
    assert len(quick.seeds) == 2 and quick.settings.epochs < 5
    with pytest.raises(ValueError, match="at least 2"):
        make_plan(1, 40)
