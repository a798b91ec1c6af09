"""Two runs of the study on two cores: one process with two threads, or two with one each."""

from __future__ import annotations

from vae_helpers import TrainSettings, train_study
from vae_helpers.plotting.tables import number, pipe_table

from .race import SPEC
from .setup import Setup
from .timing import in_turns, ratio, spread

WAYS = {"one process, two threads": {"n_jobs": 1, "threads": 2},
        "two processes, one thread each": {"n_jobs": 2, "threads": 1}}  # fmt: skip


def measure(setup: Setup) -> dict:
    """Seconds of two runs of two epochs through `train_study`, the two processes already up."""

    def study(epochs: int, **way):
        settings = TrainSettings(epochs=epochs, warmup_epochs=1)
        train_study([SPEC], setup.data, settings, [0, 1], runs_dir=None, device="cpu", **way)

    for way in WAYS.values():
        study(1, **way)
    functions = {name: lambda way=way: study(2, **way) for name, way in WAYS.items()}
    times = in_turns(functions, 1 if setup.quick else 3)
    one, two = times.values()
    return {"seconds": {name: spread(values) for name, values in times.items()},
            "one / two": ratio(one, two)}  # fmt: skip


def report(result: dict) -> str:
    rows = [[name, *(number(s[k]) for k in ("median", "low", "high"))]
            for name, s in result["seconds"].items()]  # fmt: skip
    gain = result["one / two"]
    return (
        f"{pipe_table(['', 'Seconds', 'Lowest', 'Highest'], rows)}\n\n"
        f"Two runs of two epochs each. Two processes do the study's work in "
        f"1/{number(gain['median'])} of the time [{number(gain['low'])}, {number(gain['high'])}]: "
        "the products of a batch of 128 are too small to be shared well by two threads, and all "
        "between them runs on one. That is why the study gives each run one thread."
    )
