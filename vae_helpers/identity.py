"""What a model is: two that differ in anything their training depends on have different identities.

A model of a user's own is told from others by

- the arguments of its constructor;
- the code of its class and of its bases, down to those of installed packages: every method's
  source without comments, every class attribute, and the plain constants that a method reads;
- its behaviour: loss and gradients of the fresh model of seed 0 on one fixed batch.

What stays unseen: code that is not a method (a function of the user's, another module) and changes
nothing on that batch, as something that begins in a later epoch; an installed package of another
version. In a terminal a method's source is not found: its byte code stands in, and runs are
kept in memory only.
"""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .engine.files import without_prose
from .engine.randomness import global_seed
from .models import Model

BATCH = 8
PLAIN = (bool, int, float, str, bytes, type(None))
PACKAGE = Path(__file__).parent
INSTALLED = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]


@dataclass(frozen=True)
class Identity:
    """content: what a model is, as plain values for `Cache.key`; has_source: whether all of its
    code has a source text."""

    content: dict
    has_source: bool


def identify(model: Model) -> Identity:
    """The `Identity` of a model.

    Raises ValueError for a model that was changed after it was built, or that the constructor
    does not build twice alike; TypeError for an argument that can not be told from others.
    """
    _refuse_changes(model)
    code = _Code()
    content = {
        "class": code.of_class(type(model)),
        "arguments": {name: code.of(value) for name, value in model.arguments.items()},
        "shapes": {name: list(value.shape) for name, value in model.state_dict().items()},
        "behaviour": _behaviour(model),
    }
    return Identity(content, code.has_source)


def _behaviour(model: Model) -> list[str]:
    """Loss and gradients of the fresh model of seed 0, as texts.

    In float64 to six digits, as more would differ between processors; in float32 to three for a
    model that takes nothing else.
    """
    try:
        dtype, digits, first = torch.float64, 6, _numbers(model, torch.float64)
    except RuntimeError:
        dtype, digits, first = torch.float32, 3, _numbers(model, torch.float32)
    texts, again = (
        [f"{value:.{digits - 1}e}" for value in values]
        for values in (first, _numbers(model, dtype))
    )
    if texts != again:
        raise ValueError(
            f"{model.label} is built or computed differently each time from the same seed, so its "
            "results could not be repeated: draw from torch's, NumPy's or Python's global "
            "generators, which are seeded, or from a generator made in __init__"
        )
    return texts


def _numbers(model: Model, dtype: torch.dtype) -> list[float]:
    """Losses in training and in evaluation mode, then norm and direction of every gradient."""
    fresh = model.fresh(0).to(dtype)
    noise = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, model.image_size, generator=noise).to(dtype)
    with global_seed(1):
        with torch.enable_grad():
            trained = fresh.loss(x, noise.manual_seed(1))
            trained.total.backward()
        with torch.no_grad():
            evaluated = fresh.eval().loss(x, noise.manual_seed(1))
    numbers = [float(term.detach()) for term in (*trained, *evaluated)]
    for parameter in fresh.parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.double().flatten()
            norm, ramp = float(gradient.norm()), torch.linspace(1, 2, len(gradient)).double()
            numbers += [norm, 2 + float(gradient @ ramp) / (norm * float(ramp.norm()) or 1)]
    return numbers


def _refuse_changes(model: Model) -> None:
    """Raise ValueError for a model that is not as its constructor builds it."""
    given, *built = (_structure(each) for each in (model, model.fresh(0), model.fresh(1)))
    for name in sorted({*given, *built[0]}):
        drawn = built[0].get(name) != built[1].get(name)  # by the constructor, from the seed
        if given.get(name) != built[0].get(name) and not drawn:
            raise ValueError(
                f"{model.label} was changed after it was built ({name}), and training builds it "
                "anew for every seed: make the change in the class, or an argument of it"
            )


def _structure(model: Model) -> dict[str, object]:
    """All of a model but its weights' values, by name."""
    found, code = {}, _Code()
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        found[f"{prefix}layer" if path else "class"] = (
            type(module).__qualname__,
            str(type(module)),
        )
        for name, value in vars(module).items():
            if name.endswith("_hooks") and value:
                found[f"{prefix}{name.strip('_')}"] = [code.of(hook) for hook in value.values()]
            elif not name.endswith(("_hooks", "_hooks_with_kwargs", "_always_called")):
                found |= _attribute(prefix, name, value, code)
    return found


def _attribute(prefix: str, name: str, value, code: _Code) -> dict[str, object]:
    if name in ("_parameters", "_buffers"):
        return {
            f"{prefix}{key}": None
            if part is None
            else (list(part.shape), str(part.dtype), part.requires_grad)
            for key, part in value.items()
        }
    if name == "_modules":
        return {f"{prefix}{key}": str(type(part)) for key, part in value.items()}
    if name in ("training", "given_to_train", "_arguments", "_compiled_call_impl"):
        return {}
    if isinstance(value, torch.Tensor):
        return {f"{prefix}{name}": (list(value.shape), str(value.dtype))}
    return {f"{prefix}{name}": code.of(value, strict=False)}


class _Code:
    """Descriptions of values by plain ones; `has_source` falls when byte code stands in."""

    def __init__(self):
        self.has_source = True
        self._open: list[int] = []  # ids of what is being described: values may hold themselves

    def of(self, value, strict: bool = True):
        """A plain value, equal for equal values. TypeError if `strict` and there is none."""
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
            array = torch.as_tensor(value).detach().cpu().contiguous().numpy()
            return [str(array.dtype), list(array.shape), array.tobytes()]
        if id(value) in self._open:
            return "itself"
        self._open.append(id(value))
        try:
            return self._of_compound(value, strict)
        finally:
            self._open.pop()

    def _of_compound(self, value, strict: bool):
        if isinstance(value, dict):
            return [[self.of(k, strict), self.of(v, strict)] for k, v in value.items()]
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *(self.of(part, strict) for part in value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted(repr(self.of(part, strict)) for part in value)]
        if isinstance(value, type):
            return self.of_class(value)
        if isinstance(value, functools.partial):
            return [self.of(part, strict) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, nn.Module):
            shapes = {name: list(part.shape) for name, part in value.state_dict().items()}
            return [self.of_class(type(value)), repr(value), self.of(shapes)]
        if inspect.isroutine(value):
            return self._of_function(value)
        if hasattr(value, "__dict__"):
            return [self.of_class(type(value)), self.of(vars(value), strict)]
        text = repr(value)
        if strict and f"{id(value):x}" in text:  # an address, other in every process
            raise TypeError(
                f"a {type(value).__name__} among the model's arguments can not be told from "
                "others; pass plain values, tensors, functions or modules"
            )
        return [type(value).__qualname__, "" if f"{id(value):x}" in text else text]

    def of_class(self, kind: type):
        """Name and code of a class and of its bases; of installed ones the name alone."""
        return [
            f"{base.__module__}.{base.__qualname__}"
            if _is_installed(base)
            else [base.__qualname__, *self._members(base)]
            for base in kind.__mro__[:-1]
        ]

    def _members(self, kind: type) -> list:
        found = []
        for name, value in sorted(vars(kind).items()):
            value = getattr(value, "__func__", getattr(value, "func", value))
            if isinstance(value, property):
                value = [value.fget, value.fset]
            if not name.startswith("__") or inspect.isfunction(value):
                found.append([name, self.of(value, strict=False)])
        return found

    def _of_function(self, function):
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is None or _is_installed(function):  # a builtin, or of a package
            module = getattr(function, "__module__", None)
            return f"{module}.{getattr(function, '__qualname__', repr(function))}"
        function = inspect.unwrap(function)
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        read = {name: cell.cell_contents for name, cell in cells if name != "__class__"}
        read |= {n: function.__globals__[n] for n in code.co_names if n in function.__globals__}
        plain = {name: value for name, value in sorted(read.items()) if isinstance(value, PLAIN)}
        try:
            source = without_prose(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError):
            self.has_source = False
            source = _bytes_of(code)
        defaults = self.of([function.__defaults__, function.__kwdefaults__], strict=False)
        return [source, self.of(plain), defaults]


def _bytes_of(code) -> list:
    """Byte code with its constants, those of inner functions included."""
    constants = [_bytes_of(c) if inspect.iscode(c) else repr(c) for c in code.co_consts]
    return [code.co_code, list(code.co_names), constants]


def _is_installed(thing) -> bool:
    """Whether a class or function is Python's, an installed package's or this package's own."""
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if file is None:
        return module is not None and module.__name__ != "__main__"
    path = Path(file)
    return PACKAGE in path.parents or any(folder in path.parents for folder in INSTALLED)
