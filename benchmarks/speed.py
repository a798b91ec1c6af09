"""What is measured: our training, the usual loop, and the matrix products, which are the floor."""

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
from torch.nn.functional import linear

from vae_helpers import Recipe, VAE3Layer, VAE4Layer, train
from vae_helpers.engine.files import load_tensors, save_tensors
from vae_helpers.engine.parallel import run_tasks, torch_threads
from vae_helpers.measures.losses import image_losses
from vae_helpers.study import RECIPE

from . import spread
from .reference import UsualTraining

EQUAL = Recipe()  # the given notebook's batches, learning rate and optimizer
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
    ratios = {f"{a} / {b}": spread([x / y for x, y in zip(times[a], times[b], strict=True)])
              for a, b in pairs}  # fmt: skip
    return {"seconds": {name: spread(t) for name, t in times.items()}, "ratios": ratios}


def epoch(setup: Setup) -> dict:
    """Seconds of one epoch for every side, by one thread and by torch's own number of them."""
    images, times, pairs = torch.from_numpy(setup.arrays[0]), {}, []

    recipe = replace(EQUAL, epochs=1)  # with one validation image: the usual loop validates nothing
    ours = partial(train, VAE3Layer(), images, images[:1], recipe, seed=0, device="cpu")
    for n in sorted({1, torch.get_num_threads()}):
        sides = {
            f"{n}: usual": UsualTraining(images), f"{n}: equal": ours,
            f"{n}: products": Products(len(images), recipe),
            f"{n}: products by nn.Linear": Products(len(images), recipe, linear),
        }  # fmt: skip
        with torch_threads(n):
            in_turns(sides, 1)  # libraries and memory are up before the clock starts
            times |= in_turns(sides, setup.rounds)
        pairs += [(f"{n}: {a}", f"{n}: {b}") for a, b in [
            ("usual", "equal"), ("usual", "products"), ("equal", "products"),
            ("products by nn.Linear", "products")]]  # fmt: skip
    step = statistics.median(times["1: equal"]) / -(-len(images) // recipe.batch_size)
    note = f"One step of {recipe.batch_size} images takes {1000 * step:.2f} ms (1: equal)."
    return summary(times, *pairs) | {"note": note}


def throughput(setup: Setup) -> dict:
    """Seconds per run and epoch: one process of the usual loop, or one of ours on every core."""
    cores, sides = joblib.cpu_count(), {"usual": UsualTraining(setup.arrays[0])}

    def on_all_cores(function, recipe):
        recipe = replace(recipe, epochs=EPOCHS)
        tasks = [(recipe, seed, *setup.arrays[:2]) for seed in range(cores)]
        return partial(run_tasks, function, tasks, jobs=cores)

    for name, recipe in [("equal", EQUAL), ("own", RECIPE)]:
        sides[name] = on_all_cores(our_run, recipe)
        sides[f"{name} products"] = on_all_cores(products_run, recipe)
    sides["equal products"]()  # the processes are up before the clock starts
    times = {name: [taken / (1 if name == "usual" else cores * EPOCHS) for taken in values]
             for name, values in in_turns(sides, setup.rounds).items()}  # fmt: skip
    return summary(times, *[("usual", name) for name in list(sides)[1:]])


def products_run(recipe: Recipe, seed: int, images, validation) -> None:
    Products(len(images), recipe)()


def our_run(recipe: Recipe, seed: int, images, validation, *measured) -> list[float]:
    """Train a fresh VAE (400, 20); its `losses` on the arrays `measured`."""
    model = VAE3Layer().fresh(seed)
    train(model, *map(torch.from_numpy, (images, validation)), recipe, seed=seed, device="cpu")
    return losses(model, measured)


def losses(model, arrays) -> list[float]:
    """Negative ELBO (nats per image) of every array, one draw, the same noise for every model."""
    return [float(image_losses(model, torch.from_numpy(x) / 255)["total"].mean()) for x in arrays]


class Products:
    """A recipe's forward and backward products over n images, and nothing else.

    y = x W', then dW = dy' x and, except for the first layer, dx = dy W; by default as our layers
    have them computed.
    """

    def __init__(self, n: int, recipe: Recipe, product=None):
        self.product = product or torch.ops.mkldnn._linear_pointwise
        self.options = () if product else (None, "none", [], "")
        self.steps, batch = recipe.epochs * -(-n // recipe.batch_size), recipe.batch_size
        self.layers = [[torch.rand(batch, layer.in_features), torch.rand(layer.weight.shape),
                        torch.rand(batch, layer.out_features)]
                       for layer in VAE3Layer().children()]  # fmt: skip

    def __call__(self) -> None:
        for _ in range(self.steps):
            for x, w, _ in self.layers:
                self.product(x, w, *self.options)
            for x, w, dy in reversed(self.layers):
                self.product(dy.T, x.T, *self.options)
                if w is not self.layers[0][1]:
                    self.product(dy, w.T, *self.options)


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
    sides = {"usual": lambda: [usual() for _ in range(TIMED)], "alone": partial(our_run, *timed[0]),
             "side by side": partial(run_tasks, our_run, timed, jobs=cores)}  # fmt: skip
    times = in_turns(sides, min(3, setup.rounds))
    scale = {"usual": usual_epochs / TIMED, "alone": 1, "side by side": 1 / cores}
    times = {name: [taken * scale[name] for taken in values] for name, values in times.items()}
    note = (f"{usual_epochs} epochs of the usual recipe end at {bar[0]:.2f} (validation) and "
            f"{bar[1]:.2f} (test) nats per image, mean of {len(SEEDS)} seeds; {epochs} epochs of "
            f"the study's at {worst[0]:.2f} and {worst[1]:.2f}, the worst of {cores} seeds"
            f"{'' if reached else ': NOT REACHED'}.")  # fmt: skip
    return summary(times, ("usual", "alone"), ("usual", "side by side")) | {
        "note": note, "reached": reached, "usual losses": ends, "searched": searched}  # fmt: skip


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


def gpu(setup: Setup) -> dict:
    """Seconds per epoch on a CUDA device: of the usual loop, and of one of five stacked seeds."""
    if not torch.cuda.is_available():
        return {"note": "**It has not run on a GPU: none was at hand.**"}
    from vae_helpers.stacked import train_stacked

    images = [torch.from_numpy(array) for array in setup.arrays[:2]]
    stacked = partial(train_stacked, VAE3Layer(), *images, RECIPE, list(range(5)), device="cuda")
    times = in_turns({"usual": UsualTraining(images[0], "cuda"), "stacked": stacked}, setup.rounds)
    times["stacked"] = [taken / (5 * RECIPE.epochs) for taken in times["stacked"]]
    return summary(times, ("usual", "stacked"))
