"""Identity: models that differ in anything training depends on share nothing; equal ones all."""

import functools
import importlib
import json
import os
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, python
from own_models import Beta, ConvVAE, small
from torch import nn
from torch.nn.functional import leaky_relu, relu

from vae_helpers import AutoEncoder, Recipe, Study, VAE3Layer, VAE4Layer
from vae_helpers.engine.cache import Cache
from vae_helpers.identity import identify

RECIPE = Recipe(epochs=1, batch_size=50)


def key(model):
    return Cache(None).key("x", content=identify(model).content)


# --- models of a user's own ----------------------------------------------------------------------


class Drop(VAE3Layer):
    def __init__(self, p):
        super().__init__(16, 8, 2)
        self.drop = nn.Dropout(p)

    def encoder(self, x):
        return self.h_to_z(self.drop(relu(self.x_to_h(x))))


class WeighingBeta(Beta):
    def loss(self, x, generator=None):
        loss = super().loss(x, generator)
        return loss._replace(total=loss.reconstruction + self.beta * loss.kl)


class Own(VAE3Layer):
    """Takes anything; what it is given changes nothing on one batch."""

    def __init__(self, thing=None, *, act=relu):
        super().__init__(16, 8, 2)
        self.thing, self.act = thing, act

    def encoder(self, x):
        return self.h_to_z(self.act(self.x_to_h(x)))


class OnlyKind(VAE3Layer):
    kind = "My VAE"


class OnlyKindToo(VAE3Layer):
    kind = "My VAE 2"


class Slope:
    def __init__(self, slope):
        self.slope = slope

    def at(self, x):
        return leaky_relu(x, 1 if self.slope is None else 0)


@dataclass
class Settings:
    rate: float = 0.5

    def doubled(self):
        return 2 * self.rate


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return relu(x)


def decay(rate):
    def decayed(x):
        return relu(x) if rate < 9 else x

    return decayed


same_line = Own(act=lambda x: x.relu().clamp(max=1e7)), Own(act=lambda x: x.relu().clamp(max=1e8))

DIFFERENT = {  # each a group of models that must all be told apart
    "dropout": [Drop(0.0), Drop(0.9)],
    "an argument": [Beta(1), Beta(100), Beta(1.0), Beta(None)],
    "a loss": [WeighingBeta(1), WeighingBeta(100), Beta(1)],
    "a function": [Own(act=relu), Own(act=torch.tanh), Own(act=torch.relu), Own(act=torch.sigmoid)],
    "a layer": [Own(act=nn.ReLU()), Own(act=nn.Tanh()), Own(act=nn.LeakyReLU(0.1))],
    "an argument of a layer": [Own(act=Scaled(1)), Own(act=Scaled(2))],
    "two lambdas of one line": [*same_line],
    "a closure": [Own(act=decay(1)), Own(act=decay(2))],
    "a partial": [Own(functools.partial(leaky_relu, negative_slope=s)) for s in (0.1, 0.2)],
    "a bound method": [Own(act=Slope(1).at), Own(act=Slope(2).at)],
    "an object": [Own(Slope(1)), Own(Slope(2)), Own(Settings(1)), Own(Settings(2))],
    "a tensor": [Own(torch.zeros(2)), Own(torch.ones(2)), Own(torch.zeros(2, 1))],
    "an array": [Own(np.zeros(2)), Own(np.zeros(2, np.float32)), Own(np.float32(0))],
    "a list": [Own([1, 2]), Own([2, 1]), Own({1: 2}), Own({2: 1}), Own({1, 2}), Own(torch.half)],
    "a class": [OnlyKind(16, 8, 2), OnlyKindToo(16, 8, 2), VAE3Layer(16, 8, 2), Beta(20)],
    "the package's": [VAE3Layer(), VAE3Layer(z_dim=21), VAE4Layer(), AutoEncoder(), ConvVAE()],
}
EVERY = [model for models in DIFFERENT.values() for model in models]


@pytest.mark.parametrize("models", DIFFERENT.values(), ids=DIFFERENT)
def test_models_that_differ_have_different_keys(models):
    assert len({key(model) for model in models}) == len(models)


def test_equal_models_have_equal_keys():
    for a, b in [
        (VAE3Layer(), VAE3Layer(784, 400, 20)),
        (VAE3Layer(16, h_dim=8, z_dim=2), VAE3Layer(z_dim=2, h_dim=8, image_size=16)),
        (VAE4Layer(16, (8, 4), 2), VAE4Layer(16, [8, 4], 2)),
        (Own(Slope(1)), Own(Slope(1))),
        (Own([1, [2]]), Own((1, (2,)))),
        (Own(act=decay(1)), Own(act=decay(1))),
        (Own(act=nn.Linear(8, 8)), Own(act=nn.Linear(8, 8))),  # weights start anew by the seed
    ]:
        assert key(a) == key(b)


def test_keys_are_the_same_in_another_process():
    code = "import json, test_identity as t; print(json.dumps([t.key(m) for m in t.EVERY]))"
    found = python("-c", code, PYTHONHASHSEED="7", OMP_NUM_THREADS="3")
    assert json.loads(found.stdout) == [key(model) for model in EVERY], found.stderr
    assert all(identify(model).has_source for model in EVERY)


def test_what_can_not_be_told_apart_is_refused():
    with pytest.raises(TypeError, match="Generator among the model's arguments can not be told"):
        identify(Own([torch.Generator()]))

    class Clock(VAE3Layer):
        def __init__(self):
            super().__init__(16, 8, 2)
            self.scale = int.from_bytes(os.urandom(4), "big")

        def loss(self, x, generator=None):
            loss = super().loss(x, generator)
            return loss._replace(total=loss.total * self.scale)

    with pytest.raises(ValueError, match="computed differently each time from the same seed"):
        identify(Clock())


def test_gradients_that_are_nothing_but_rounding_are_zero():
    class Normed(VAE3Layer):
        def __init__(self):
            super().__init__(16, 8, 2)
            self.norm = nn.BatchNorm1d(8)

        def encoder(self, x):
            return self.h_to_z(relu(self.norm(self.x_to_h(x))))

    texts = identify(Normed()).content["behaviour"]
    assert texts.count("0.00000e+00") == 2  # of the bias that the normalisation takes away


def test_a_model_that_takes_float32_alone_is_told_by_fewer_digits():
    class Single(WeighingBeta):
        def loss(self, x, generator=None):
            if x.dtype != torch.float32:
                raise RuntimeError("expected scalar type Float but found Double")
            return super().loss(x, generator)

    assert identify(Single(1)).content["behaviour"][0].count("0") < 6
    assert key(Single(1)) == key(Single(1)) != key(Single(2))


# --- edits ---------------------------------------------------------------------------------------

MODULE = '''
import functools
from torch import nn
from torch.nn.functional import relu
from vae_helpers import VAE3Layer

BETA = 1.0
WIDTHS = (8, 2)
STEPS = [0, 5]

def helper(x):
    return x

def decorated(rate):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args) if rate < 9 else None
        return wrapper
    return decorate

class Block(nn.Module):
    def forward(self, x):
        return relu(x) if x.shape[0] < 1e6 else 1

class Base(VAE3Layer):
    late = 3  # a comment
    calls = 0

    def __init__(self, image_size=16):
        """Doc."""
        super().__init__(image_size, *WIDTHS)
        self.block = Block()

    def loss(self, x, generator=None, power=1):
        self.calls += 1
        if self.calls > 2:  # not seen on one batch
            return [BETA * step for step in STEPS]
        return super().loss(helper(x), generator)

    @decorated(1)
    def tuned(self):
        return 1

    @property
    def scale(self):
        return 5

    @staticmethod
    def fixed():
        return 7

class Mine(Base):
    kind = "Mine"
'''
EDITS = {
    "a constant in an inner expression": ("BETA = 1.0", "BETA = 2.0"),
    "a list of constants": ("STEPS = [0, 5]", "STEPS = [0, 6]"),
    "a function of the user's": ("    return x\n", "    return x * 1\n"),
    "the class of a layer": ("else 1", "else 2"),
    "an attribute of a base class": ("late = 3", "late = 4"),
    "a method of a base class": ("self.calls > 2", "self.calls > 3"),
    "a default": ("power=1", "power=2"),
    "an argument of a decorator": ("@decorated(1)", "@decorated(2)"),
    "a decorator": ("rate < 9", "rate < 8"),
    "a property": ("return 5", "return 6"),
    "a static method": ("return 7", "return 8"),
    "the kind": ('kind = "Mine"', 'kind = "Yours"'),
}


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A function that (re)writes and (re)loads the module of a user."""
    name = f"user_models_{tmp_path.name}"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits within a second

    def load(text, reload=True):
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        if not reload:
            return None
        known = sys.modules.get(name)
        return importlib.reload(known) if known else importlib.import_module(name)

    yield load
    sys.modules.pop(name, None)


@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
def test_an_edit_of_the_users_code_changes_the_key(user_module, old, new):
    first = key(user_module(MODULE).Mine())
    assert MODULE.count(old) == 1
    assert key(user_module(MODULE.replace(old, new)).Mine()) != first
    assert key(user_module(MODULE).Mine()) == first


def test_an_edit_of_prose_or_of_what_is_not_used_does_not(user_module):
    first = key(user_module(MODULE).Mine())
    prose = MODULE.replace("# a comment", "# other").replace('"""Doc."""', '"""Documentation."""')
    assert key(user_module(f"UNUSED = 5\n\n{prose}\nz_dim = late = 7\n").Mine()) == first


def test_the_code_that_runs_counts_not_the_file(user_module):
    mine = user_module(MODULE).Mine
    first = key(mine())
    user_module(MODULE.replace("self.calls > 2", "self.calls > 3"), reload=False)
    assert key(mine()) == first


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tiny_data):
    return small(tiny_data)


def study(data, folder, jobs=1):
    return Study(data, RECIPE, seeds=2, folder=folder, jobs=jobs)


def weights(model):
    return [run.weights for run in model.runs]


def test_models_that_differ_share_no_run_and_equal_ones_do(data, tmp_path, trained):
    models = [Drop(0.0), Drop(0.9), WeighingBeta(2), WeighingBeta(100), OnlyKindToo(16, 9, 2)]
    found = study(data, tmp_path).train(*models)
    assert len(trained) == 10 == len({w for model in found for w in weights(model)})
    assert len({model.id for model in found}) == len({model.label for model in found}) == 5
    again = study(data, tmp_path).train(*models[::-1])[::-1]
    assert len(trained) == 10 and [m.key for m in again] == [m.key for m in found]
    assert [weights(model) for model in again] == [weights(model) for model in found]


def test_workers_train_the_code_that_is_here_not_that_of_a_file(data, user_module):
    """A worker has the module of an earlier run, or imports a file that was edited since."""

    def kl_of_first_seed():
        (found,) = study(data, None, jobs=2).train(module.Mine())
        return found.histories[0]["train_kl"][0]

    text = MODULE.replace("self.calls > 2", "False")
    zero = text.replace("helper(x), generator)", "helper(x), generator)._replace(kl=0 * x.sum())")
    module = user_module(text)
    user_module(zero, reload=False)
    assert kl_of_first_seed() > 0
    module = user_module(zero)
    assert kl_of_first_seed() == 0
    module = user_module(text)
    assert kl_of_first_seed() > 0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda m: setattr(m, "h_to_z", nn.Linear(9, 4)), "h_to_z.in_features"),
        (lambda m: setattr(m, "drop", nn.Identity()), "drop"),
        (lambda m: setattr(m.drop, "p", 0.5), "drop.p"),
        (lambda m: setattr(m, "x_to_h", nn.Sequential(m.x_to_h, nn.ReLU())), "x_to_h"),
        (lambda m: setattr(m, "beta", 4), "beta"),
        (lambda m: setattr(m, "hidden", (9,)), "hidden"),
        (lambda m: setattr(m, "constant", torch.ones(2)), "constant"),
        (lambda m: m.constant.mul_(2), "constant"),
        (lambda m: setattr(m.prior, "loc", 1), "prior"),
        (lambda m: delattr(m, "constant"), "constant"),
        (lambda m: setattr(m, "loss", lambda x, noise: None), "loss"),
        (lambda m: m.x_to_h.register_forward_hook(lambda *a: a[2] * 2), "x_to_h.forward_hooks"),
        (lambda m: m.register_forward_pre_hook(lambda *a: None), "forward_pre_hooks"),
        (lambda m: m.x_to_h.weight.requires_grad_(False), "x_to_h.weight"),
        (lambda m: m.double(), "h2_to_x2.bias"),
        (lambda m: m.register_buffer("mask", torch.ones(2)), "mask"),
        (lambda m: m.drop.register_parameter("gain", nn.Parameter(torch.ones(1))), "drop.gain"),
    ],
)
def test_a_model_changed_after_it_was_built_is_refused(data, change, name):
    class Whole(Drop):
        def __init__(self):
            super().__init__(0.1)
            self.constant = torch.zeros(2) + 3
            self.prior = torch.distributions.Normal(0, 1)
            self.x_to_h.register_forward_hook(self.hook)
            self.projection = torch.rand(2)  # drawn from the seed

        def hook(self, layer, inputs, output):
            return output

    model = Whole()
    identify(model)
    change(model)
    with pytest.raises(ValueError) as told:
        study(data, None).train(model)
    text = str(told.value)
    assert f"was changed after it was built ({name})" in text
    assert "\n" not in text and ": make the change in the class" in text


def test_training_evaluating_and_using_a_model_is_no_change(data):
    model = Drop(0.5).eval()
    x = data.test.floats()
    model.loss(x).total.backward()
    model.load_state_dict(Drop(0.5).state_dict())
    assert key(model) == key(Drop(0.5)) == key(model.train())
    (found,) = study(data, None).train(model)
    assert model.given_to_train and not found.model.given_to_train
    assert not Drop(0.5).given_to_train


def test_what_a_constructor_draws_and_keeps_as_no_weight_is_that_of_the_seed(data):
    class Projected(VAE3Layer):
        def __init__(self):
            super().__init__(16, 8, 2)
            self.projection = torch.rand(16)

        def encoder(self, x):
            return super().encoder(x * self.projection)

    (found,) = study(data, None).train(model := Projected())
    for index in range(2):
        assert torch.equal(found.of_seed(index).projection, model.fresh(index).projection)


# --- classes without a file ----------------------------------------------------------------------

SESSION = """
import warnings
warnings.simplefilter("always")
from test_identity import RECIPE, Study, VAE3Layer, small
from vae_helpers import training
from conftest import make_tiny_data
data = small(make_tiny_data())
names, train = [], training.train
def counting(model, *args, **options):
    names.append(model.label)
    return train(model, *args, **options)

training.train = counting
study = Study(data, RECIPE, seeds=2, folder="runs", jobs=1)
class Typed(VAE3Layer):
    def loss(self, x, generator=None):
        return super().loss(x, generator)

(a,) = study.train(Typed(16, 8, 2))
print("first", len(names))
_ = study.train(Typed(16, 8, 2))
print("again", len(names))
_ = study.measure(["test_loss"], a)
class Typed(VAE3Layer):
    def loss(self, x, generator=None):
        return super().loss(x, generator)._replace(kl=0 * x.sum())

_ = study.train(Typed(16, 8, 2))
print("edited", len(names))
_ = study.train(VAE3Layer(16, 8, 2))
"""


@pytest.mark.parametrize("how", ["terminal", "exec"])
def test_a_class_typed_into_a_terminal_trains_and_leaves_no_file(tmp_path, how):
    if how == "terminal":
        done = python("-i", said=SESSION, cwd=tmp_path)
    else:
        done = python("-c", f"exec({SESSION!r})", cwd=tmp_path)
    assert "first 2\n" in done.stdout, done.stderr
    assert "again 2\n" in done.stdout and "edited 4\n" in done.stdout
    told = "the class of Typed (8, 2) has no source here"
    assert done.stderr.count(told) == 2 and "Traceback" not in done.stderr
    assert {path.name.partition("-")[0] for path in (tmp_path / "runs").iterdir()} == {"vae3"}


CELLS = [
    """
    import torch
    from test_identity import RECIPE, Study, VAE3Layer, small
    from conftest import make_tiny_data
    study = Study(small(make_tiny_data()), RECIPE, seeds=2, folder="runs", jobs=2)
    """,
    """
    SCALE = 1
    class Block(torch.nn.Module):
        def forward(self, x):
            return x
    class Celled(VAE3Layer):
        def __init__(self):
            super().__init__(16, 8, 2)
            self.block = Block()
        def loss(self, x, generator=None):
            loss = super().loss(self.block(x), generator)
            return loss._replace(kl=SCALE * loss.kl)
    """,
    "(first,) = study.train(Celled())",
    "(again,) = study.train(Celled())\nassert again.runs == first.runs",
    "SCALE = 0",
    """
    (second,) = study.train(Celled())
    assert second.histories[0]["train_kl"] == [0] != first.histories[0]["train_kl"]
    SCALE = 1
    """,
    """
    class Block(torch.nn.Module):
        def forward(self, x):
            return 1 - x
    """,
    """
    (third,) = study.train(Celled())
    assert third.histories[0]["train_total"] != first.histories[0]["train_total"]
    print(study.measure(["test_loss"], third)["test_loss"][0][0].shape)
    """,
    "study.measure(['test_loss'], first)",
]


def test_a_class_of_a_notebooks_cell_trains_in_workers_and_anew_after_an_edit(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in CELLS]
    book = nbformat.v4.new_notebook(cells=cells)
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    with pytest.raises(nbclient.exceptions.CellExecutionError) as told:
        nbclient.NotebookClient(book, timeout=600).execute(
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
        )
    assert cells[-1].outputs[0].ename == "ValueError", told.value  # of its constants' time no more
    assert "was changed since it was trained" in cells[-1].outputs[0].evalue
    assert cells[-2].outputs[-1].text == "torch.Size([100])\n"
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.outputs)
    files = [path.name for path in (tmp_path / "runs").iterdir() if "-losses" not in path.name]
    assert len(files) == 6 and all(name.startswith("celled-") for name in files)
