"""Everything measured, as one JSON document: what the tables show and the prose is checked against.

results["models"][id] holds a record per seed and, over seeds, "mean" and "sd" of every number;
results["comparisons"][group][quantity] a paired difference; results["tables"] how each table of
the notebook is made from the rest.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev

import torch

from ..data import CLASS_NAMES, Data
from ..engine.files import write_atomic
from ..models import VAE, VAE4Layer
from ..plotting import tables
from ..study import ModelSpec, Run, map_runs
from ..training import TrainSettings, default_device
from .generated import (
    Reference,
    generation_quality,
    memorisation,
    quality_floor,
    sample_size_effect,
)
from .judge import Classifier, classifier_accuracy, to_arrays
from .losses import (
    ACTIVE_VARIANCE,
    active_units,
    bce_floor,
    latent_statistics,
    mean_image_bce,
    pca_bce,
    probe_accuracy,
    split_losses,
    tightness,
)
from .statistics import compare_with, paired_difference, paired_scalars

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")
RESULTS_DIR = "VAE_RESULTS_DIR"  # environment: where the results go instead of report/
SPLITS = ("train", "validation", "test")
LATENT_LAYER = {True: "$\\mu$ and $\\log\\sigma^2$, {} each", False: "$z$, {}"}


def start_results(data: Data, settings: TrainSettings, seeds: list[int]) -> dict:
    """A results document with settings, environment, data and the floor of each split."""
    device = default_device()
    given = VAE4Layer()  # the sheet's sizes; the first two are the given model's
    return {
        "settings": {**asdict(settings), "seeds": list(seeds), "seed_count": len(seeds)},
        "given": {"h_dim": given.hidden[0], "z_dim": given.z_dim, "second_h_dim": given.hidden[1],
                  "epochs": 15, "learning_rate": 1e-3,  # of the given code
                  "active_variance": ACTIVE_VARIANCE},
        "environment": {
            "python": platform.python_version(),
            **{package: version(package).split("+")[0] for package in PACKAGES},
            "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        },
        "data": {
            "name": data.name,
            "sha256": data.checksum,
            "sizes": {name: len(getattr(data, name)) for name in SPLITS},
            "full_size": len(data.train) + len(data.validation),
        },
        "floor": {name: float(bce_floor(getattr(data, name).floats()).mean()) for name in SPLITS},
        "models": {}, "baselines": {}, "comparisons": {}, "rankings": {}, "tables": {},
    }  # fmt: skip


def add_baselines(results: dict, data: Data, components: list[int]) -> None:
    """BCE of the training mean image and of PCA with each number of components."""
    train = data.train.floats()

    def record(key, label, bce):
        values = {}
        for name in SPLITS:  # in parts: the loss of 55,000 images at once takes a gigabyte
            parts = [bce(x) for x in getattr(data, name).float_batches(11_000)]
            values[name] = float(torch.cat(parts).mean())
        results["baselines"][key] = {"label": label, **values}

    record("mean-image", "Mean image", lambda x: mean_image_bce(train, x))
    for count in components:
        record(f"pca-{count}", f"PCA ({count})", lambda x, c=count: pca_bce(train, x, c))


def add_measurements(results: dict, spec: ModelSpec, per_seed: list[dict]) -> None:
    """Merge one nested dict of numbers per seed into the record of `spec`; refresh mean and sd."""
    model = results["models"].setdefault(spec.id, {"label": spec.label, "seeds": {}})
    for seed, values in zip(results["settings"]["seeds"], per_seed, strict=True):
        _merge(model["seeds"].setdefault(str(seed), {}), values)
    records = list(model["seeds"].values())
    model["mean"] = _over_seeds(records, mean)
    model["sd"] = _over_seeds(records, stdev)


def _merge(target: dict, values: dict) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


def _over_seeds(records: list[dict], statistic) -> dict:
    return {
        key: _over_seeds([r[key] for r in records], statistic)
        if isinstance(value, dict)
        else float(statistic([r[key] for r in records]))
        for key, value in records[0].items()
    }


def add_architectures(results: dict, specs: list[ModelSpec]) -> None:
    """Record layer sizes and parameter count of each spec, before anything is trained."""
    for spec in specs:
        model = spec.build(seed=0)
        entry = results["models"].setdefault(spec.id, {"label": spec.label, "seeds": {}})
        entry["latent_layer"] = LATENT_LAYER[isinstance(model, VAE)].format(spec.z_dim)
        entry["encoder"] = "-".join(map(str, model.encoder_sizes))
        entry["decoder"] = "-".join(map(str, reversed(model.encoder_sizes)))
        entry["parameters"] = model.parameter_count


def _measure(function, runs: dict[ModelSpec, list[Run]], data: Data, keep: dict, **arguments):
    """`study.map_runs` over all runs at once; the values of each spec, in the order of its runs."""
    flat = [run for group in runs.values() for run in group]
    found = iter(map_runs(function, flat, data, **keep, **arguments))
    return {spec: [next(found) for _ in group] for spec, group in runs.items()}


def add_losses(
    results: dict, runs: dict[ModelSpec, list[Run]], data: Data, keep: dict, draws: int = 10
) -> dict[str, dict[str, torch.Tensor]]:
    """Evaluate every run on the three splits and record the means over images.

    Returns, by model id, the per-image losses as (seeds, images) tensors under the names of
    `evaluation.split_losses`. `keep` goes to `study.map_runs`, here and below.
    """
    losses: dict[str, dict[str, torch.Tensor]] = {}
    for spec, values in _measure(split_losses, runs, data, keep, draws=draws).items():
        losses[spec.id] = {name: torch.stack([v[name] for v in values]) for name in values[0]}
        pairs = zip(runs[spec], values, strict=True)
        add_measurements(results, spec, [_loss_record(results, run, v) for run, v in pairs])
    return losses


def add_bounds(
    results: dict, runs: dict[ModelSpec, list[Run]], data: Data, keep: dict, images: int,
    ks: tuple[int, ...],
) -> None:  # fmt: skip
    """Record minus the importance-weighted bound, as "bound" -> k, and its gain from 1 to max k."""
    found = _measure(tightness, runs, data, keep, n_images=images, ks=ks)
    for spec, values in found.items():
        bounds = [{k: -float(v.mean()) for k, v in value.items()} for value in values]
        add_measurements(results, spec, [
            {"bound": {**b, "best": b[str(ks[-1])], "gain": b[str(ks[0])] - b[str(ks[-1])]}}
            for b in bounds
        ])  # fmt: skip
    steps = [results["models"][spec.id]["mean"]["bound"] for spec in found]
    step = max(b[str(ks[-2])] - b[str(ks[-1])] for b in steps)
    results["bound"] = {
        "images": images, "draws": ks[-1], "previous_draws": ks[-2],
        "largest_last_step": max(step, results.get("bound", {}).get("largest_last_step", step)),
    }  # fmt: skip


def add_latents(
    results: dict, runs: dict[ModelSpec, list[Run]], data: Data, keep: dict
) -> dict[str, list[dict]]:
    """Record active units, spread of the mean codes and the accuracy of two probes.

    code_variance: mean over the latent dimensions of the variance of the mean code over the test
    images, 1 at most if codes are spread like N(0, I); least_share: the smallest of these variances
    over the largest. Returns the per-dimension statistics of every run, by model id.
    """
    found = _measure(latent_statistics, runs, data, keep)
    probes = _measure(probe_accuracy, runs, data, keep)
    for spec, values in found.items():
        add_measurements(results, spec, [
            {"active_units": active_units(value["mean_variance"]), "probe": probe,
             "code_variance": float(value["mean_variance"].mean()),
             "least_share": float(value["mean_variance"].min() / value["mean_variance"].max())}
            for value, probe in zip(values, probes[spec], strict=True)
        ])  # fmt: skip
    return {spec.id: values for spec, values in found.items()}


def add_quality(
    results: dict, runs: dict[ModelSpec, list[Run]], data: Data, keep: dict,
    classifier: Classifier, n: int, samplers: tuple[str, ...] = ("prior",),
) -> None:  # fmt: skip
    """Record the quality of n generated images per run, as "quality" -> sampler -> measure."""
    found = _measure(generation_quality, runs, data, keep, weights=to_arrays(classifier),
                     samplers=samplers, n=n)  # fmt: skip
    for spec, values in found.items():
        add_measurements(results, spec, [{"quality": _named_classes(v)} for v in values])
        shares = [min(value["prior"]["class_fractions"]) for value in values]
        if not spec.model.startswith("AutoEncoder"):
            judge = results.setdefault("judge", {})
            judge["rarest_class"] = min([judge.get("rarest_class", 1.0), *shares])


def _named_classes(quality: dict[str, dict]) -> dict[str, dict]:
    """Lists of class fractions as dicts by class name, so that every leaf is a number."""
    return {
        sampler: {**q, "class_fractions": dict(zip(CLASS_NAMES, q["class_fractions"], strict=True))}
        for sampler, q in quality.items()
    }


def _loss_record(results: dict, run: Run, losses: dict[str, torch.Tensor]) -> dict:
    curve = run.result.history["validation_total"]
    record: dict = {
        "best_epoch": run.result.best_epoch,
        "seconds": run.seconds,
        "gain_of_last_5_epochs": curve[max(0, len(curve) - 6)] - curve[-1],
    }
    for name in SPLITS:
        terms = {
            term: float(losses[f"{name}_{term}"].double().mean())
            for term in ("total", "reconstruction", "kl", "reconstruction_at_mean")
        }
        record[name] = {**terms, "excess": terms["total"] - results["floor"][name]}
    record["generalisation_gap"] = record["test"]["excess"] - record["train"]["excess"]
    return record


IMAGE_LOSSES = ("test_total", "test_reconstruction", "test_kl", "test_reconstruction_at_mean",
                "train_total", "train_reconstruction")  # fmt: skip
SCALARS = {
    "active_units": "active_units",
    "generalisation_gap": "generalisation_gap",
    "linear": "probe.linear",
    "knn": "probe.knn",
    "bound": "bound.best",
    "gain": "bound.gain",
    "frechet_distance": "quality.prior.frechet_distance",
    "precision": "quality.prior.precision",
    "recall": "quality.prior.recall",
    "coverage": "quality.prior.coverage",
    "frechet_mixture": "quality.mixture.frechet_distance",
}


def add_differences(results: dict, group: str, a: ModelSpec, b: ModelSpec, losses: dict) -> None:
    """Record the paired differences a - b of all losses, and of all scalars measured for both."""
    for quantity in IMAGE_LOSSES:
        d = paired_difference(losses[a.id][quantity], losses[b.id][quantity])
        _store(results, group, quantity, a, b, d)
    entry = results["comparisons"][group]
    loss_b = results["models"][b.id]
    entry["spread_ratio"] = abs(entry["test_total"]["mean"]) / loss_b["sd"]["test"]["total"]
    above_floor = loss_b["mean"]["test"]["reconstruction"] - results["floor"]["test"]
    entry["reconstruction_percent"] = abs(100 * entry["test_reconstruction"]["mean"] / above_floor)
    for quantity, path in SCALARS.items():
        if all(_has(results["models"][spec.id]["mean"], path) for spec in (a, b)):
            add_scalar_difference(results, group, quantity, a, b, path)


def add_scalar_difference(
    results: dict, group: str, quantity: str, a: ModelSpec, b: ModelSpec, path: str,
    path_of_b: str | None = None,
) -> None:  # fmt: skip
    """Record the paired difference, over seeds, of a's number at `path` and b's at `path_of_b`."""

    def values(spec, path):
        records = results["models"][spec.id]["seeds"].values()
        return [_at(record, path) for record in records]

    d = paired_scalars(values(a, path), values(b, path_of_b or path))
    _store(results, group, quantity, a, b, d)


def _at(record: dict, path: str):
    for part in path.split("."):
        record = record[part]
    return record


def _has(record: dict, path: str) -> bool:
    for part in path.split("."):
        if part not in record:
            return False
        record = record[part]
    return True


def _store(results, group, quantity, a, b, d) -> None:
    entry = {"a": a.id, "b": b.id, **asdict(d), "verdict": d.verdict}
    results["comparisons"].setdefault(group, {})[quantity] = entry


def add_judge(results: dict, data: Data, classifier: Classifier, reference: Reference) -> None:
    """Record the classifier's test accuracy and what real training images score."""
    floor = quality_floor(data, reference)
    results["judge"] = {
        "accuracy": classifier_accuracy(classifier, data.test.floats(), data.test.labels),
        "features": classifier.feature_count,
        "floor": {k: v for k, v in floor.items() if k != "class_fractions"},
    }


def add_novelty(
    results: dict, spec: ModelSpec, images: torch.Tensor, data: Data, reference: Reference
) -> None:
    """Record memorisation measures of generated images, and Frechet distance by sample size."""
    found = memorisation(images, data)
    sizes = [n for n in (1000, 2000, 5000, 10_000) if n <= len(images)]
    by_size = sample_size_effect(images, reference, sizes)["frechet_distance"]
    results["novelty"] = {
        "model": spec.id,
        "images": len(images),
        "smallest": sizes[0],
        **{name: found[name] for name in ("distance_ratio", "nearer_to_train", "chance", "copied",
                                          "copied_error")},
        "frechet_by_size": {str(n): d for n, d in zip(sizes, by_size, strict=True)},
    }


def add_ladder(
    results: dict, ladder: dict[int, dict[ModelSpec, list[Run]]]
) -> dict[str, tuple[list[int], list[float]]]:
    """Record two models' best validation loss by budget (two or more), first seed.

    Returns label -> (budgets, losses).
    """
    budgets = sorted(ladder)
    entry: dict = {"budgets": {str(i): n for i, n in enumerate(budgets)}, "models": {}}
    lines = {}
    for spec in ladder[budgets[0]]:
        best = [min(ladder[n][spec][0].result.history["validation_total"]) for n in budgets]
        gains = [before - after for before, after in zip(best[:-1], best[1:], strict=True)]
        entry["models"][spec.id] = {
            "loss": {str(n): value for n, value in zip(budgets, best, strict=True)},
            "gain": {str(n): value for n, value in zip(budgets[1:], gains, strict=True)},
            "best_epoch": {str(n): ladder[n][spec][0].result.best_epoch for n in budgets},
        }
        lines[spec.label] = (budgets, best)
    first, second = (model["loss"] for model in entry["models"].values())
    apart = {n: first[n] - second[n] for n in first}
    entry["first_minus_second"] = apart
    entry["narrowed"] = apart[str(budgets[-2])] - apart[str(budgets[-1])]  # by the last doubling
    results["ladder"] = entry
    return lines


def add_ranking(
    results: dict, group: str, family: list[ModelSpec], losses: dict,
    reference: ModelSpec | None = None,
) -> ModelSpec:  # fmt: skip
    """Rank a family: the best by mean validation loss, the others by their test difference to it.

    A model whose interval (joint 95 % over the family) holds 0 ties with the best. `reference` is
    shown in the order but does not compete. Returns the best.
    """
    def validation(spec):
        return float(losses[spec.id]["validation_total"].mean())

    best = min(family, key=validation)
    shown = sorted([*family, *([reference] if reference else [])], key=validation)
    differences = compare_with(best.id, {s.id: losses[s.id]["test_total"] for s in family})
    ranks = {"tie": "tie with best", "higher": "worse", "lower": "better on test"}
    results["rankings"][group] = {
        "best": best.id,
        "order": [spec.id for spec in shown],
        "to_best": {
            name: {**asdict(d), "verdict": d.verdict, "rank": ranks[d.verdict]}
            for name, d in differences.items()
        },
        "tied": [name for name, d in differences.items() if d.verdict == "tie"],
    }
    return best


def table(results: dict, name: str, function: str, *arguments) -> str:
    """Make a table, and note under `name` how it is made so that it can be checked later."""
    results["tables"][name] = {"function": function, "arguments": list(arguments)}
    return tables.render(results, function, list(arguments))


def write_results(results: dict, folder: str | Path | None = None, quick: bool = False) -> Path:
    """Write the document as JSON, atomically; its path.

    The folder is that of the environment variable VAE_RESULTS_DIR, else `report`. Results of the
    stand-in or of the quick plan get a name of their own. Raises ValueError for a number that is
    not finite.
    """
    folder = Path(folder or os.environ.get(RESULTS_DIR, "report"))
    real = results["data"]["name"] == "Fashion-MNIST"
    name = "results.json" if real and not quick else "results.quick.json"
    text = json.dumps(results, indent=1, sort_keys=True, allow_nan=False)
    write_atomic(folder / name, (text + "\n").encode())
    return folder / name
