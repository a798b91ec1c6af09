"""Randomness with explicit seeds, also where code draws from global generators."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager

import numpy as np
import torch

_ONE_AT_A_TIME = threading.RLock()


def seed_of(*numbers: int) -> int:
    """One seed of several numbers (a polynomial hash, 63 bits)."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    return seed


def seeded_generator(device, *numbers: int) -> torch.Generator:
    """A generator on `device`, seeded by `seed_of(numbers)`."""
    return torch.Generator(device=device).manual_seed(seed_of(*numbers))


@contextmanager
def global_seed(seed: int, device: torch.device | None = None):
    """Within it torch's, NumPy's and Python's global generators start from `seed`.

    For code that takes no generator: initial weights, dropout. Afterwards they are as before.
    Of torch, the generators of the CPU and of `device`. The generators belong to the process, so
    one thread at a time is let in, and others wait.
    """
    on_cuda = device is not None and device.type == "cuda"
    with _ONE_AT_A_TIME, torch.random.fork_rng([device] if on_cuda else []):
        states = random.getstate(), np.random.get_state()
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def global_state() -> tuple:
    """What tells whether something was drawn from a global generator of the CPU since."""
    numpy_state = np.random.get_state()
    return (
        torch.default_generator.get_state().numpy().tobytes(),
        (numpy_state[1].tobytes(), numpy_state[2:]),
        random.getstate(),
    )
