"""What a model is: two that differ in anything their training depends on have different identities.

A model of a user's own is told from others by

- the arguments of its constructor;
- the code of its class, of its bases and of its layers' classes, down to those of installed
  packages: every method's source without comments, every class attribute, and what a method reads
  of its surroundings: constants, and functions and classes of the user's;
- its behaviour: loss and gradients of the fresh model of seed 0 on one fixed batch.

What stays unseen: what is read as an attribute of another module (`settings.BETA`) or of an object
of an installed class, and changes nothing on that batch, as something that begins in a later epoch;
an installed package of another version. In a terminal a method's source is not found: its byte code
stands in, and runs are kept in memory only.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .engine.files import without_prose
from .engine.parallel import on_one_thread
from .engine.randomness import global_seed
from .models import Model

BATCH = 8
PLAIN = (bool, int, float, str, bytes, type(None))
PACKAGE = Path(__file__).parent
INSTALLED = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
_sources: dict[int, tuple] = {}  # by the id of byte code, which is kept: the id stays its own
NOT_COMPARED = {*vars(nn.Module()), "given_to_train", "_arguments", "_compiled_call_impl"}


@dataclass(frozen=True)
class Identity:
    """content: what a model is, as plain values for `Cache.key`; has_source: whether all of its
    code has a source text; modules: the user's modules that it comes from, by name."""

    content: dict
    has_source: bool
    modules: frozenset[str]


def identify(model: Model) -> Identity:
    """The `Identity` of a model.

    Raises ValueError for a model that was changed after it was built, or that the constructor
    does not build twice alike; TypeError for an argument that can not be told from others.
    """
    _refuse_changes(model)
    code = _Code()
    content = {
        "classes": [code.of_class(kind) for kind in {type(part): 0 for part in model.modules()}],
        "arguments": {name: code.of(value) for name, value in model.arguments.items()},
        "shapes": {name: list(value.shape) for name, value in model.state_dict().items()},
        "behaviour": on_one_thread(_behaviour, model),  # more would add in another order
    }
    return Identity(content, code.has_source, frozenset(code.modules))


def _behaviour(model: Model) -> list[str]:
    """Loss and gradients of the fresh model of seed 0, as texts.

    In float64 to six digits, as more would differ between processors; in float32 to three for a
    model that takes nothing else.
    """
    try:
        dtype, digits, first = torch.float64, 6, _numbers(model, torch.float64)
    except (RuntimeError, TypeError):
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
    nothing = 1e-9 if dtype == torch.float64 else 1e-3  # rounding, as before batch normalisation
    for parameter in fresh.parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.double().flatten()
            norm, ramp = float(gradient.norm()), torch.linspace(1, 2, len(gradient)).double()
            along = float(gradient @ ramp) / (norm * float(ramp.norm()) or 1)
            numbers += [0.0, 0.0] if norm < nothing else [norm, 2 + along]
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
    """All of a model but the values of its weights and buffers, by name."""
    found: dict[str, object] = {}
    for name, part in (*model.named_parameters(), *model.named_buffers()):
        found[name] = (part.shape, part.dtype, part.requires_grad)
    for path, module in model.named_modules():
        found[path or "class"] = str(type(module))
        for name, value in vars(module).items():
            if name.endswith("_hooks"):
                value = list(value.values())
            elif name in NOT_COMPARED:
                continue
            described = _Code(model.modules(), deep=True).of(value, strict=False)
            found[f"{path}.{name.strip('_')}".strip(".")] = described
    return found


class _Code:
    """Descriptions of values by plain ones; `has_source` falls when byte code stands in.

    known: objects that are not described again where a value refers to them. deep: an object of an
    installed class is described by its class and attributes also where it is no argument; else by
    its class alone, as the attributes of a logger change from one moment to the next.
    """

    def __init__(self, known=(), deep: bool = False):
        self.has_source, self._deep = True, deep
        self.modules: set[str] = set()
        self._seen = {id(value): (number, value) for number, value in enumerate(known)}

    def of(self, value, strict: bool = True):
        """A plain value, equal for equal values. TypeError if `strict` and there is none."""
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
            array = torch.as_tensor(value).detach().cpu().contiguous().view(-1)
            return [str(array.dtype), list(value.shape), array.view(torch.uint8).numpy().tobytes()]
        if isinstance(value, dict):
            return [[self.of(k, strict), self.of(v, strict)] for k, v in value.items()]
        if isinstance(value, (list, tuple)):
            name = [] if type(value) in (list, tuple) else [type(value).__name__]
            return name + [self.of(part, strict) for part in value]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted(repr(self.of(part, strict)) for part in value)]
        if isinstance(value, type):
            return self.of_class(value)
        if inspect.ismodule(value):
            return value.__name__
        return self._once(value, functools.partial(self._of_object, strict=strict))

    def of_class(self, kind: type):
        """Name and code of a class and of its bases; of installed ones the name alone."""
        return [self._once(base, self._of_base) for base in kind.__mro__[:-1]]

    def _once(self, value, describe: Callable):
        """The description, or where `value` was described: values may hold themselves."""
        if id(value) in self._seen:
            return ["as", self._seen[id(value)][0]]
        self._seen[id(value)] = len(self._seen), value
        return describe(value)

    def _of_object(self, value, strict: bool):
        if isinstance(value, functools.partial):
            return [self.of(part, strict) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, nn.Module):
            own = []
            for path, part in value.named_modules():
                kept = {name: each for name, each in vars(part).items() if name not in NOT_COMPARED}
                own.append([path, self.of_class(type(part)), self.of(kept, strict=False)])
            shapes = {name: list(part.shape) for name, part in value.state_dict().items()}
            return [own, repr(value), self.of(shapes)]
        if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
            return self._of_function(value)
        if hasattr(value, "__dict__"):
            inside = strict or self._deep or not _is_installed(type(value))
            return [self.of_class(type(value)), self.of(vars(value), strict) if inside else []]
        text = repr(value)
        if strict and f"{id(value):x}" in text:  # an address, other in every process
            raise TypeError(
                f"a {type(value).__name__} among the model's arguments can not be told from "
                "others; pass plain values, tensors, functions or modules"
            )
        return [type(value).__qualname__, "" if f"{id(value):x}" in text else text]

    def _of_base(self, kind: type):
        if _is_installed(kind):
            return f"{kind.__module__}.{kind.__qualname__}"
        self.modules.add(kind.__module__)
        generated = hasattr(kind, "__dataclass_fields__") or hasattr(kind, "_fields")
        found: list = [kind.__qualname__]
        for name, value in sorted(vars(kind).items()):
            if isinstance(value, (staticmethod, classmethod, functools.cached_property)):
                value = getattr(value, "func", None) or value.__func__
            if isinstance(value, property):
                value = [value.fget, value.fset]
            if not name.startswith("__") or (inspect.isfunction(value) and not generated):
                found.append([name, self.of(value, strict=False)])
        return found

    def _of_function(self, function):
        if inspect.ismethod(function):
            return [self.of(part, False) for part in (function.__self__, function.__func__)]
        found: list = [self.of(function.__wrapped__)] if hasattr(function, "__wrapped__") else []
        code = getattr(function, "__code__", None)
        if code is None or _is_installed_file(code.co_filename):  # a builtin, or of a package
            name = getattr(function, "__qualname__", type(function).__qualname__)
            return [f"{getattr(function, '__module__', None)}.{name}", *found]
        self.modules.add(function.__module__)
        source = _source(code)
        self.has_source = self.has_source and source is not None
        if source is None or function.__name__ == "<lambda>":  # a line may hold several
            found.append(_bytes_of(code))
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        read = dict(zip(code.co_freevars, cells, strict=True))
        around = function.__globals__
        read |= {name: around[name] for name in _globals_read(code) if name in around}
        constants = [[name, self.of(value, strict=False)] for name, value in sorted(read.items())]
        defaults = self.of([function.__defaults__, function.__kwdefaults__], strict=False)
        return [source, constants, defaults, *found]


def _source(code) -> str | None:
    """The source of byte code without comments, or None.

    As it was when it was first asked for: the file may be edited later, while this code still runs.
    """
    if id(code) not in _sources:
        try:
            source = without_prose(textwrap.dedent(inspect.getsource(code)))
        except (OSError, TypeError):
            source = None
        _sources[id(code)] = code, source
    return _sources[id(code)][1]


def _globals_read(code) -> set[str]:
    """The global names that byte code reads, that of inner functions included."""
    reading = ("LOAD_GLOBAL", "LOAD_NAME")  # the second in the body of a class
    names = {i.argval for i in dis.get_instructions(code) if i.opname in reading}
    return names.union(*(_globals_read(c) for c in code.co_consts if inspect.iscode(c)))


def _bytes_of(code) -> list:
    """Byte code with its constants, those of inner functions included."""
    constants = [_bytes_of(c) if inspect.iscode(c) else repr(c) for c in code.co_consts]
    return [code.co_code, list(code.co_names), constants]


def _is_installed(kind: type) -> bool:
    """Whether a class is Python's, an installed package's or this package's own."""
    module = sys.modules.get(kind.__module__)
    if getattr(module, "__file__", None) is None:
        return kind.__module__.partition(".")[0] in sys.stdlib_module_names
    return _is_installed_file(module.__file__)


def _is_installed_file(file: str) -> bool:
    path = Path(file)
    elsewhere = {"site-packages", "dist-packages"} & {*path.parts}  # a user's own, or another's
    return bool(elsewhere) or any(folder in path.parents for folder in (PACKAGE, *INSTALLED))
