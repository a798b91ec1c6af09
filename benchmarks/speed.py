"""What is timed: the usual loop and ours, fresh and late, and from these the whole study."""

import statistics
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import joblib
import torch

from vae_helpers import STUDY_RECIPE, AutoEncoder, Recipe, Study, VAE3Layer, VAE4Layer, training
from vae_helpers.engine.parallel import run_tasks
from vae_helpers.measures.columns import COLUMNS

from .reference import UsualTraining

CORES = joblib.cpu_count()
EPOCHS = 3  # of each of our runs in a turn
KINDS = {"three layers": VAE3Layer(), "four layers": VAE4Layer(), "AE": AutoEncoder(z_dim=50)}


def our_run(model, recipe, seed, images, validation, part=None, save=1e9, flush=True):
    """A `TrainResult`; the run goes on from the file `part`, saved there every `save` seconds.

    Without `flush`, denormal numbers stay what they are.
    """
    arrays = map(torch.from_numpy, (images, validation))
    kept = nullcontext() if flush else patch("torch.set_flush_denormal")
    with kept, patch.object(training, "SAVE_SECONDS", save):
        return training.train(model, *arrays, recipe, seed=seed, device="cpu", checkpoint=part)


def on_all_cores(data, model, recipe, epochs=EPOCHS, folder=None, **options):
    """A function that does `our_run` on every core, each with a seed of its own."""
    recipe = replace(recipe, epochs=epochs)
    images = data.train.images.numpy(), data.validation.images.numpy()
    tasks = [
        (model.fresh(seed), recipe, seed, *images, folder and f"{folder}/{seed}.part")
        for seed in range(CORES)
    ]
    return partial(run_tasks, partial(our_run, **options), tasks, jobs=CORES)


def timed(function, *arguments) -> tuple:
    """(seconds, what the function returned)"""
    started = time.perf_counter()
    found = function(*arguments)
    return time.perf_counter() - started, found


def in_turns(usual, ours: dict, turns: int) -> dict:
    """Seconds of an epoch of `usual`, a run's share of one of `ours`; ratios within each turn.

    In turns, so that a slow moment of the machine meets all sides alike.
    """
    took, weights = {name: [] for name in ("usual", *ours)}, set()
    for _ in range(turns):
        took["usual"].append(timed(usual)[0])
        for name, function in ours.items():
            seconds, runs = timed(function)
            took[name].append(seconds / (CORES * EPOCHS))
            weights |= {(name, seed, run.weights) for seed, run in enumerate(runs)}
    values = {f"{name} (s)": seconds for name, seconds in took.items()}
    for name in ours:
        values[f"usual / {name}"] = [a / b for a, b in zip(took["usual"], took[name], strict=True)]
    equal = "equal" if len(weights) == len(ours) * CORES else "**not equal**"
    note = f"The weights of our runs of one seed in all {turns} turns: {equal}, bit for bit."
    return {"values": values, "note": note}


def fresh(data, turns: int) -> dict:
    """Fresh models: ours by the given recipe, and each kind of model by the study's."""
    ours = {"equal": on_all_cores(data, VAE3Layer(), Recipe())}
    ours |= {kind: on_all_cores(data, model, STUDY_RECIPE) for kind, model in KINDS.items()}
    on_all_cores(data, VAE3Layer(), Recipe(), epochs=1)()  # the processes are up
    return in_turns(UsualTraining(data.train.images), ours, turns)


def late(data, turns: int, epochs: int) -> dict:
    """Models that each side has trained for `epochs` by its own recipe, and how its time grew."""
    usual = UsualTraining(data.train.images)
    side = partial(on_all_cores, data, VAE3Layer(), STUDY_RECIPE)
    with tempfile.TemporaryDirectory() as folder:
        alone = [timed(usual)[0] for _ in range(epochs)]
        flushed, kept = side(epochs, folder, save=0)(), side(epochs, flush=False)()
        found = in_turns(usual, {"ours": side(epochs + EPOCHS, folder)}, turns)
    shown = [n for n in (1, 5, 15, 30) if n <= epochs]
    table = [["Seconds of epoch", *map(str, shown)]]
    table.append(["usual, alone", *(f"{alone[n - 1]:.2f}" for n in shown)])
    for name, runs in [("ours, a run per core", flushed), ("ours, denormals kept", kept)]:
        means = [statistics.fmean(run.history["seconds"][n - 1] for run in runs) for n in shown]
        table.append([name, *(f"{mean:.2f}" for mean in means)])
    return found | {"tables": [table]}


def study(data, preset, of_fresh: dict[str, list[float]]) -> dict:
    """Minutes of the nine models from nothing, from the values of `fresh` and a short study.

    The short study trains and measures one model of each kind, with as many seeds as cores.
    """
    runs = max(2, CORES)
    short = Study(data, preset.recipe, seeds=runs, sizes=preset.sizes, folder=None)
    judge, train, measure, whole = timed(short.judge_report)[0] / 60, {}, {}, {}
    for kind, model in KINDS.items():
        seconds, (value,) = timed(short.train, model)
        train[kind] = seconds / runs
        measure[kind] = timed(short.measure, COLUMNS, value)[0] / runs
        whole[kind] = statistics.median(of_fresh[f"{kind} (s)"]) * STUDY_RECIPE.epochs
    measuring = {seeds: judge + minutes(seeds, measure) for seeds in (preset.seeds, 3, 5)}
    values = {f"{n} seeds (min)": [measuring[n] + minutes(n, whole)] for n in (3, 5)}
    values["measuring / whole"] = [measuring[3] / values["3 seeds (min)"][0]]
    values["short (min)"] = [measuring[preset.seeds] + minutes(preset.seeds, train)]
    note = (
        f"Nine models, extrapolated from one of each kind: {preset.recipe.epochs} epochs and all "
        f"measurements; {STUDY_RECIPE.epochs} epochs from their shares in *fresh*. Training "
        f"multiplied in {value.runs[0].products}."
    )
    return {"values": values, "note": note}


def minutes(seeds: int, cost: dict[str, float]) -> float:
    """Of the nine models, from seconds per run; the autoencoder comes last, and a core may wait."""
    last = -(-seeds // CORES) * CORES * cost["AE"]
    return (seeds * (7 * cost["three layers"] + cost["four layers"]) + last) / 60
