"""Where the time of a training step goes, by torch's profiler."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile

from vae_helpers.plotting.tables import number, pipe_table
from vae_helpers.study import torch_threads
from vae_helpers.training import _train_epoch

from .race import SPEC
from .setup import BATCH, Setup
from .speed import CONSTANT, fused_adam

GROUPS = {  # the profiler's names of operations; "aten::" where there is no other
    "matrix products": ("addmm", "mm", "mkldnn::_linear_pointwise"),
    "Adam, fused": ("_fused_adam_",),
    "images: gather, to float, / 255": ("index_select", "copy_", "_to_copy", "to"),
    "loss, ReLU, sampling: one pass per element": (
        "abs", "sigmoid_", "sigmoid", "log_", "clamp_min", "clamp_min_", "sub_", "addcmul_",
        "addcmul", "mul_", "mul", "div_", "div", "sum", "mean", "relu", "threshold_backward",
        "exp", "pow", "square", "normal_", "add", "sub", "rsub", "neg", "randn", "fill_", "zero_",
        "cat", "stack", "select_backward", "slice_backward",
    ),
}  # fmt: skip
REST = "views, allocation, autograd's bookkeeping, Python"


def measure(setup: Setup) -> dict:
    """Share of the self CPU time of each group, and milliseconds per step, on one thread."""
    steps = 10 if setup.quick else 100
    images = setup.data.train.images[: steps * BATCH]
    model = SPEC.build(0)
    optimizer = fused_adam(model)
    with torch_threads(1):
        _train_epoch(model, optimizer, images, CONSTANT, 0, 1)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            _train_epoch(model, optimizer, images, CONSTANT, 0, 2)
    events = profiler.key_averages()
    group_of = {op if "::" in op else f"aten::{op}": group
                for group, ops in GROUPS.items() for op in ops}  # fmt: skip
    total = sum(event.self_cpu_time_total for event in events)
    shares = dict.fromkeys([*GROUPS, REST], 0.0)
    for event in events:
        shares[group_of.get(event.key, REST)] += event.self_cpu_time_total / total
    return {"milliseconds": total / 1000 / (len(images) / BATCH), "shares": shares}


def report(result: dict) -> str:
    total = result["milliseconds"]
    rows = [[name, number(100 * share, 1), number(share * total, 3)]
            for name, share in sorted(result["shares"].items(), key=lambda item: -item[1])]
    rows.append(["all", "100", number(total, 3)])
    return (
        f"{pipe_table(['Part', '% of a step', 'ms'], rows)}\n\n"
        f"Batch of {BATCH}, one thread, with the profiler's own cost in the last part."
    )
