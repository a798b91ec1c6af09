"""What is measured: our training, the usual loop, and as floors the operations of our steps."""

import multiprocessing
import statistics
import zlib
from bisect import bisect_left
from dataclasses import replace
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import NamedTuple

import joblib
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vae_helpers import Recipe, VAE3Layer, VAE4Layer, train
from vae_helpers.engine.files import load_tensors, save_tensors
from vae_helpers.engine.parallel import run_tasks, torch_threads
from vae_helpers.measures.losses import image_losses
from vae_helpers.study import RECIPE

from . import spread
from .reference import UsualTraining

EQUAL = Recipe()  # the given notebook's batches, learning rate and optimizer
PRODUCT = torch.ops.mkldnn._linear_pointwise.default  # as our layers call it
GRID = (3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 120)
SEEDS = (0, 1)  # of the race's usual runs, and of its search; those that are timed are others
EPOCHS, TIMED = 3, 2  # per round: a run's in `throughput`, the usual loop's in `race`
AXES = {  # values, and why cost grows as it does
    "width": ((100, 400, 1600), "both big layers are 784 x width; loss, images and noise stay"),
    "latents": ((5, 20, 80), "only the two small layers know them"),
    "depth": ((1, 2), "a further hidden layer adds a 400 x 400 product on either side"),
    "images": ((6_400, 12_800, 51_200), "one step per batch; 784 bytes of memory each"),
    "models": ((1, 2, 8), "one after the other; only weights are kept, images are shared"),
}


class Setup(NamedTuple):
    arrays: list  # training, validation and test images, uint8 (N, 784)
    rounds: int  # turns of what is timed
    folder: Path  # where the usual runs are continued from
    quick: bool  # only see that everything runs


def in_turns(functions: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of every function in every round: a slow moment of the machine meets all alike."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(timeit(function, number=1))
    return times


def summary(times: dict[str, list[float]], *pairs: tuple[str, str]) -> dict:
    """Spreads of the "seconds" of every name, and of the "ratios" a / b within each round."""
    ratios = {
        f"{a} / {b}": spread([x / y for x, y in zip(times[a], times[b], strict=True)])
        for a, b in pairs
    }
    return {"seconds": {name: spread(t) for name, t in times.items()}, "ratios": ratios}


def epoch(setup: Setup) -> dict:
    """Seconds of one epoch for every side, by one thread and by torch's own number of them."""
    images, times, pairs = torch.from_numpy(setup.arrays[0]), {}, []

    recipe = replace(EQUAL, epochs=1)  # with one validation image: the usual loop validates nothing
    ours = partial(train, VAE3Layer(), images, images[:1], recipe, seed=0, device="cpu")
    for n in sorted({1, torch.get_num_threads()}):
        sides = {
            f"{n}: usual": UsualTraining(images),
            f"{n}: equal": ours,
            f"{n}: operations": Replay(recipe, len(images), products=False),
            f"{n}: products": Replay(recipe, len(images), products=True),
        }
        with torch_threads(n):
            in_turns(sides, 1)  # libraries and memory are up before the clock starts
            times |= in_turns(sides, setup.rounds)
        pairs += [
            (f"{n}: {a}", f"{n}: {b}")
            for a, b in [("usual", "equal"), ("usual", "operations"), ("usual", "products")]
        ]
    step = statistics.median(times["1: equal"]) / -(-len(images) // recipe.batch_size)
    note = f"One step of {recipe.batch_size} images takes {1000 * step:.2f} ms (1: equal)."
    return summary(times, *pairs) | {"note": note}


def throughput(setup: Setup) -> dict:
    """Seconds per run and epoch: one process of the usual loop, or one of ours on every core."""
    cores, sides = joblib.cpu_count(), {"usual": UsualTraining(setup.arrays[0])}

    def on_all_cores(function, *first):
        tasks = [
            (*first, replace(EQUAL, epochs=EPOCHS), seed, *setup.arrays[:2])
            for seed in range(cores)
        ]
        return partial(run_tasks, function, tasks, jobs=cores)

    sides |= {
        "equal": on_all_cores(our_run),
        "operations": on_all_cores(replay_run, False),
        "products": on_all_cores(replay_run, True),
    }
    sides["products"]()  # the processes are up before the clock starts
    times = {
        name: [taken / (1 if name == "usual" else cores * EPOCHS) for taken in values]
        for name, values in in_turns(sides, setup.rounds).items()
    }
    return summary(times, *[("usual", name) for name in list(sides)[1:]])


def replay_run(products: bool, recipe: Recipe, seed: int, images, validation) -> None:
    Replay(recipe, len(images), products)()


def our_run(recipe: Recipe, seed: int, images, validation, *measured) -> list[float]:
    """Train a fresh VAE (400, 20); its `losses` on the arrays `measured`."""
    model = VAE3Layer().fresh(seed)
    train(model, *map(torch.from_numpy, (images, validation)), recipe, seed=seed, device="cpu")
    return losses(model, measured)


def losses(model, arrays) -> list[float]:
    """Negative ELBO (nats per image) of every array, one draw, the same noise for every model."""
    return [float(image_losses(model, torch.from_numpy(x) / 255)["total"].mean()) for x in arrays]


class StepRecorder(TorchDispatchMode):
    """Keeps the calls of torch's operations inside the block."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls.append((function, args, kwargs or {}))
        return function(*args, **(kwargs or {}))


class Replay:
    """The operations of our training over n images without Python of ours, modules or autograd.

    Those of one step (forward, backward, Adam) are recorded and then called as they are, once per
    step; of `products` only the matrix products. Gathering a batch's images is left out.
    """

    def __init__(self, recipe: Recipe, n: int, products: bool):
        self.steps, model = recipe.epochs * -(-n // recipe.batch_size), VAE3Layer()
        images = torch.randint(0, 256, (recipe.batch_size, 784), dtype=torch.uint8)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.0, fused=True)
        for recorder in (StepRecorder(), StepRecorder()):  # the first step makes Adam's state
            with recorder:
                x = images.float().div_(255)
                optimizer.zero_grad(set_to_none=True)
                model.loss(x).total.backward()
                optimizer.step()
        self.calls = [call for call in recorder.calls if call[0] is PRODUCT or not products]

    @torch.no_grad()
    def __call__(self) -> None:
        for _ in range(self.steps):
            for function, args, kwargs in self.calls:
                function(*args, **kwargs)


def race(setup: Setup, usual_epochs: int) -> dict:
    """Time to the loss that the usual recipe ends with, from the study's with other epochs.

    They are the fewest of GRID after which the validation loss is at or below the usual recipe's,
    and with other seeds the test loss, too. Same model, same images; usual runs are continued.
    """
    (train_images, *held_out), cores = setup.arrays, joblib.cpu_count()
    grid, usual_epochs = (GRID[:2], 2) if setup.quick else (GRID, usual_epochs)
    start = setup.folder / f"usual-{zlib.crc32(train_images):08x}-seed"
    tasks = [(Path(f"{start}{seed}.pt"), seed, usual_epochs, *setup.arrays) for seed in SEEDS]
    ends = [history[usual_epochs - 1] for history in run_tasks(usual_run, tasks, jobs=cores)]
    bar, searched = [float(value) for value in np.mean(ends, axis=0)], {}

    def our_tasks(epochs: int, seeds) -> list[tuple]:
        given = train_images, held_out[0], *held_out
        return [(replace(RECIPE, epochs=epochs), seed, *given) for seed in seeds]

    def reaches(epochs: int) -> bool:
        searched[epochs] = run_tasks(our_run, our_tasks(epochs, SEEDS), jobs=cores)
        return all(validation <= bar[0] for validation, _ in searched[epochs])

    for epochs in grid[min(bisect_left(grid, True, key=reaches), len(grid) - 1) :]:
        timed = our_tasks(epochs, range(100, 100 + cores))
        worst = np.max(run_tasks(our_run, timed, jobs=cores), axis=0)
        if reached := bool((worst <= bar).all()):  # with other seeds, and on the test images
            break
    timed, usual = [task[:4] for task in timed], UsualTraining(train_images)  # no losses timed
    sides = {
        "usual": lambda: [usual() for _ in range(TIMED)],
        "alone": partial(our_run, *timed[0]),
        "side by side": partial(run_tasks, our_run, timed, jobs=cores),
    }
    times = in_turns(sides, min(3, setup.rounds))
    scale = {"usual": usual_epochs / TIMED, "alone": 1, "side by side": 1 / cores}
    times = {name: [taken * scale[name] for taken in values] for name, values in times.items()}
    note = (
        f"{usual_epochs} epochs of the usual recipe end at {bar[0]:.2f} (validation) and "
        f"{bar[1]:.2f} (test) nats per image, mean of {len(SEEDS)} seeds; {epochs} epochs of "
        f"the study's at {worst[0]:.2f} and {worst[1]:.2f}, the worst of {cores} seeds"
        f"{'' if reached else ': NOT REACHED'}."
    )
    return summary(times, ("usual", "alone"), ("usual", "side by side")) | {
        "note": note,
        "reached": reached,
        "usual losses": ends,
        "searched": searched,
    }


def usual_run(path: Path, seed: int, epochs: int, images, *held_out) -> list[list[float]]:
    """`losses` after every epoch of the usual recipe, continued from `path`."""
    torch.manual_seed(seed)
    usual = UsualTraining(images)
    parts = {"model": usual.model, "optimizer": usual.optimizer}
    stored = load_tensors(path) or {"losses": []}
    for name in set(parts) & set(stored):
        parts[name].load_state_dict(stored[name])
    for epoch in range(len(stored["losses"]) + 1, epochs + 1):
        torch.manual_seed(1000 * seed + epoch)  # order and noise, also when continued
        usual()
        stored["losses"].append(losses(usual.model.as_ours(), held_out))
        save_tensors(path, stored | {name: part.state_dict() for name, part in parts.items()})
    return stored["losses"]


def growth(setup: Setup) -> dict:
    """Per axis the ends of an epoch's seconds and MiB, and the exponents p of cost ~ value^p."""
    table = [["Grows", "Values", "Seconds per epoch", "Exponent", "Peak MiB", "Exponent", "Why"]]
    for axis, (values, why) in ({"images": ((320, 640), "")} if setup.quick else AXES).items():
        points, cells = [], []
        for value in values:
            with multiprocessing.get_context("spawn").Pool(1) as fresh:
                points.append(fresh.apply(growth_point, [setup.rounds], {axis: value}))
        for costs, decimals in zip(zip(*points, strict=True), (2, 0), strict=True):
            exponent = np.polyfit(np.log(values), np.log(costs), 1)[0]
            cells += [f"{costs[0]:.{decimals}f} to {costs[-1]:.{decimals}f}", f"{exponent:.2f}"]
        table.append([axis, f"{values[0]:,} to {values[-1]:,}", *cells, why])
    return {"table": table, "note": "One thread; memory above that of the imports."}


def growth_point(rounds, width=400, latents=20, depth=1, images=12_800, models=1) -> tuple:
    """Seconds per epoch of all models (median); peak MiB above what the imports take."""
    torch.set_num_threads(1)
    at_rest = peak_mib()
    pixels = torch.randint(0, 256, (images, 784), dtype=torch.uint8)
    model = VAE3Layer(784, width, latents) if depth == 1 else VAE4Layer(784, (width,) * 2, latents)
    group = [model.fresh(seed) for seed in range(models)]

    def epoch(n=images):
        for model in group:
            train(model, pixels[:n], pixels[:1], replace(EQUAL, epochs=1), seed=0, device="cpu")

    epoch(256)
    return spread(in_turns({"": epoch}, rounds)[""])["median"], peak_mib() - at_rest


def peak_mib() -> float:
    """Peak resident MiB of this process (Linux; getrusage's is inherited from the parent)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
