"""Every public function tells a wrong argument from a right one and says what to pass instead.

Figures: tests/test_plotting.py. Intervals: tests/test_comparison.py.
"""

import math
import string

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vae_helpers
from vae_helpers import (
    VAE,
    AutoEncoder,
    Data,
    Recipe,
    Split,
    Study,
    VAE3Layer,
    VAE4Layer,
    ae_loss,
    load_data,
    train,
    vae_loss,
)
from vae_helpers.data import load_fashion_mnist
from vae_helpers.engine.guards import check_between
from vae_helpers.measures.latents import active_units
from vae_helpers.measures.losses import bce_floor, image_losses, iwae_bounds

VAE_MODEL = VAE3Layer(h_dim=4, z_dim=2).eval()
AE_MODEL = AutoEncoder(h_dim=4, z_dim=2).eval()
MODELS = [VAE_MODEL, VAE4Layer(h_dims=(4, 4), z_dim=2).eval(), AE_MODEL]
X = torch.rand(2, 784, generator=torch.Generator().manual_seed(0))
BYTES = (X * 255).to(torch.uint8)
EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(string.printable)
BAD_NUMBERS = st.sampled_from([math.nan, math.inf, -math.inf])
NO_COUNTS = st.one_of(
    st.integers(max_value=0), st.floats(), st.booleans(), TEXT, st.none(),
    st.tuples(st.integers(1, 3)),
)  # fmt: skip
NO_SEEDS = st.one_of(
    st.integers(max_value=-1), st.integers(min_value=2**63), st.floats(), st.booleans(), TEXT
)


def test_every_public_name_is_tested_here():
    """A new public name needs a line in this file, or in the set below with the reason."""
    figures = {"plot_generation", "plot_loss_curves", "plot_reconstruction"}
    assert set(vae_helpers.__all__) - figures <= set(globals())
    assert issubclass(VAE3Layer, VAE)


# --- images ------------------------------------------------------------------------------------

TAKES_IMAGES = {
    "image_losses": lambda x: image_losses(VAE_MODEL, x),
    "image_losses, autoencoder": lambda x: image_losses(AE_MODEL, x),
    "iwae_bounds": lambda x: iwae_bounds(VAE_MODEL, x, ks=(1, 2)),
}
CHECK_SHAPE_ALONE = {  # the inner loop of training: no pass over the pixels
    "VAE": VAE_MODEL,
    "VAE.encode": VAE_MODEL.encode,
    "VAE.loss": VAE_MODEL.loss,
    "autoencoder": AE_MODEL,
    "autoencoder.loss": AE_MODEL.loss,
}


@st.composite
def right_images(draw):
    shape = draw(st.sampled_from([(2, 784), (2, 1, 28, 28), (2, 28, 28)]))
    seed = draw(st.integers(0, 2**31))
    images = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return images.round() if draw(st.booleans()) else images


@st.composite
def wrong_types(draw):
    """(images, words of the message)."""
    images = draw(right_images())
    return draw(st.sampled_from([
        (images.numpy(), "torch.from_numpy"),
        ((images * 255).to(torch.uint8), "/ 255"),
        ((images * 255).to(torch.int64), "int64"),
        (images > 0.5, "bool"),
        (images.to(torch.complex64), "complex64"),
    ]))  # fmt: skip


@st.composite
def wrong_shapes(draw):
    shape = draw(st.lists(st.integers(0, 30), min_size=0, max_size=4))
    pixels = math.prod(shape[1:]) if len(shape) > 1 else 0
    return torch.zeros(shape if pixels != 784 else [*shape[:-1], shape[-1] + 1])


@st.composite
def wrong_pixels(draw):
    """(images of the right shape with one pixel no pixel can have, words of the message)."""
    images = draw(right_images()).clone()
    value = draw(st.one_of(BAD_NUMBERS, st.floats(-255, -1e-3), st.floats(1.001, 255)))
    images.view(-1)[draw(st.integers(0, images.numel() - 1))] = value
    return images, "/ 255" if math.isfinite(value) else "NaN"


@pytest.mark.parametrize("name", [*TAKES_IMAGES, *CHECK_SHAPE_ALONE])
@EXAMPLES
@given(right=right_images(), case=wrong_types(), wrong=wrong_shapes(), pixels=wrong_pixels())
def test_images_are_taken_or_refused_with_the_remedy(name, right, case, wrong, pixels):
    take = (TAKES_IMAGES | CHECK_SHAPE_ALONE)[name]
    found = take(right)
    values = found.values() if isinstance(found, dict) else found
    assert all(torch.isfinite(value).all() for value in values)
    with pytest.raises(TypeError) as raised:
        take(case[0])
    assert case[1] in str(raised.value)
    with pytest.raises(ValueError) as raised:
        take(wrong)
    assert "784" in str(raised.value) and str(tuple(wrong.shape)) in str(raised.value)
    if name in TAKES_IMAGES:
        with pytest.raises(ValueError) as raised:
            take(pixels[0])
        assert pixels[1] in str(raised.value)


@EXAMPLES
@given(pixels=wrong_pixels(), case=wrong_types())
def test_bce_floor_takes_images_of_any_size_but_no_other_pixels(pixels, case):
    with pytest.raises(ValueError, match=pixels[1]):
        bce_floor(pixels[0])
    with pytest.raises(TypeError, match=case[1]):
        bce_floor(case[0])
    assert bce_floor(torch.full((3, 5), 0.5)).shape == (3,)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_another_shape_precision_or_device_than_the_models_is_named_with_the_remedy(model):
    for z in (None, "z", torch.zeros(2), torch.zeros(2, 3), torch.zeros(1, 2, 2)):
        with pytest.raises(ValueError, match=r"\(N, 2\)"):
            model.decode(z)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        x, z = X.to(dtype), torch.zeros(2, 2, dtype=dtype)
        for call in (lambda x=x: model(x), lambda x=x: image_losses(model, x),
                     lambda z=z: model.decode(z)):  # fmt: skip
            with pytest.raises(TypeError, match=rf"{dtype}.*float32.*\.to\(torch\.float32\)"):
                call()
    for call in (lambda: model(X.to("meta")), lambda: model.decode(torch.zeros(2, 2).to("meta"))):
        with pytest.raises(ValueError, match='on device meta and the model on cpu.*to\\("cpu"\\)'):
            call()


@EXAMPLES
@given(n=st.integers(1, 4), pixels=st.integers(1, 4), z_dim=st.integers(1, 3), more=st.integers(1))
def test_losses_refuse_shapes_that_do_not_belong_together(n, pixels, z_dim, more):
    more = 1 + more % 3
    logits, x, mu = torch.zeros(n, pixels), torch.zeros(n, pixels), torch.zeros(n, z_dim)
    assert vae_loss(logits, x, mu, mu).total == ae_loss(logits, x).total
    for other in (torch.zeros(n + more, pixels), torch.zeros(n, pixels + more)):
        with pytest.raises(ValueError, match="same images and pixels"):
            ae_loss(logits, other)
    for a, b in ((mu, torch.zeros(n, z_dim + more)), (torch.zeros(n + more, z_dim),) * 2):
        with pytest.raises(ValueError, match="one row per image"):
            vae_loss(logits, x, a, b)


# --- data --------------------------------------------------------------------------------------


@EXAMPLES
@given(n=st.integers(1, 5), pixels=st.integers(1, 9), x=st.one_of(
    right_images(), wrong_types().map(lambda case: case[0]), st.sampled_from([None, "images"])))
def test_a_split_takes_bytes_and_class_numbers_alone(n, pixels, x):
    images, labels = torch.zeros(n, pixels, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64)
    assert len(Split(images, labels)) == n
    if not (isinstance(x, torch.Tensor) and x.dtype == torch.uint8):
        with pytest.raises(TypeError, match="images must be a uint8 tensor.*got .*255"):
            Split(x, labels)
    for wrong in (labels.float(), labels.tolist(), None):
        with pytest.raises(TypeError, match="labels must be an int64 tensor"):
            Split(images, wrong)
    for wrong in (images[0], images.unsqueeze(1), images[:0], images[:, :0]):
        with pytest.raises(ValueError, match="images must have shape"):
            Split(wrong, labels)
    with pytest.raises(ValueError, match=rf"labels must have shape \({n},\)"):
        Split(images, torch.zeros(n + 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="from 0 on, got -1"):
        Split(images, labels - 1)


def test_data_are_three_splits_of_images_of_one_size_and_a_name_for_every_class(tiny_data):
    split, names = tiny_data.train, tiny_data.class_names
    for arguments, error, words in [
        (("x", split, split.images, split, names), TypeError, "validation must be a Split"),
        ((None, split, split, split, names), TypeError, "name must be a str, got NoneType"),
        (("x", split, split, Split(split.images[:, :9], split.labels), names), ValueError,
         r"\(784\), those of test have 9"),
        (("x", split, split, split, list(names)), TypeError, "class_names must be a tuple"),
        (("x", split, split, split, tuple(range(10))), TypeError, "every class name must be a str"),
        (("x", split, split, split, names[:9]), ValueError, "train has label 9.*got 9 names"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            Data(*arguments)


@EXAMPLES
@given(source=st.one_of(TEXT, st.booleans(), st.none()), timeout=st.one_of(
    st.floats(max_value=0), st.just(math.nan), st.floats(min_value=86_400), st.booleans(), TEXT))
def test_other_sources_and_timeouts_are_refused(source, timeout, tmp_path):
    with pytest.raises(ValueError, match='source must be "auto", "real" or "stand-in", got'):
        load_data(source, tmp_path)
    with pytest.raises((TypeError, ValueError), match="timeout must"):
        load_fashion_mnist(tmp_path, timeout)
    with pytest.raises((TypeError, ValueError), match=r"rate must"):
        check_between(timeout, "rate", 0, 1)


@EXAMPLES
@given(value=st.one_of(BAD_NUMBERS, st.floats(-9, -1e-3)), position=st.integers(0, 2))
def test_variances_that_are_none_are_not_counted_as_inactive(value, position):
    variances = torch.tensor([1.0, 0.0, 0.5])
    assert active_units(variances) == 2
    variances[position] = value
    with pytest.raises(ValueError, match="finite and at least 0"):
        active_units(variances)


# --- counts, seeds, recipes --------------------------------------------------------------------

COUNTS = {
    "VAE3Layer image_size": lambda n: VAE3Layer(image_size=n),
    "VAE3Layer h_dim": lambda n: VAE3Layer(h_dim=n),
    "VAE3Layer z_dim": lambda n: VAE3Layer(z_dim=n),
    "VAE4Layer h_dims": lambda n: VAE4Layer(h_dims=(4, n)),
    "AutoEncoder h_dim": lambda n: AutoEncoder(h_dim=n),
    "Recipe epochs": lambda n: Recipe(epochs=n),
    "Recipe batch_size": lambda n: Recipe(batch_size=n),
    "image_losses draws": lambda n: image_losses(VAE_MODEL, X, draws=n),
    "iwae_bounds ks": lambda n: iwae_bounds(VAE_MODEL, X, ks=(n,)),
}


@pytest.mark.parametrize("name", COUNTS)
@EXAMPLES
@given(n=NO_COUNTS)
def test_what_is_no_count_is_refused_by_value(name, n):
    with pytest.raises((TypeError, ValueError)) as raised:
        COUNTS[name](n)
    assert repr(n) in str(raised.value)


@EXAMPLES
@given(seed=NO_SEEDS)
def test_what_is_no_seed_is_refused(seed):
    for call in (lambda: image_losses(VAE_MODEL, X, seed=seed),
                 lambda: iwae_bounds(VAE_MODEL, X, (1, 2), seed=seed),
                 lambda: VAE_MODEL.fresh(seed),
                 lambda: train(AE_MODEL, BYTES, BYTES, Recipe(1), seed=seed)):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match="seed must"):
            call()


@EXAMPLES
@given(
    rate=st.one_of(BAD_NUMBERS, st.floats(max_value=0), st.floats(min_value=1), TEXT, st.none()),
    warmup=st.one_of(st.integers(max_value=-1), st.floats(), TEXT, st.none()),
    schedule=TEXT,
)
def test_recipes_out_of_range_are_refused(rate, warmup, schedule):
    for name, value in [("learning_rate", rate), ("warmup_epochs", warmup), ("schedule", schedule)]:
        with pytest.raises((TypeError, ValueError), match=f"{name} must"):
            Recipe(**{name: value})


@pytest.mark.parametrize("wrong", [None, "model", torch.nn.Linear(784, 784)])
def test_measures_need_a_model_of_this_interface(wrong):
    for call in (lambda: image_losses(wrong, X), lambda: iwae_bounds(wrong, X, (1, 2))):
        with pytest.raises(TypeError, match="model must be a Model"):
            call()
    with pytest.raises(ValueError, match="its z is not random"):
        iwae_bounds(AE_MODEL, X, (1, 2))
    with pytest.raises(ValueError, match=r"ks must grow.*got \(\)"):
        iwae_bounds(VAE_MODEL, X, ())


# --- training and studies ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("model", torch.nn.Linear(784, 2), TypeError, "model must be a Model, got Linear"),
        ("recipe", {"epochs": 1}, TypeError, "recipe must be a Recipe, got dict"),
        ("train_images", X, TypeError, "train_images must be a uint8 tensor"),
        ("train_images", None, TypeError, "train_images must be a uint8 tensor"),
        ("validation_images", BYTES[:, :9], ValueError, r"must have shape \(N, 784\)"),
        ("validation_images", BYTES[:0], ValueError, r"must have shape \(N, 784\)"),
        ("device", "nowhere", ValueError, "device 'nowhere' can not be used here"),
        ("device", 1.5, ValueError, "device 1.5 can not be used here"),
        ("device", "meta", ValueError, 'device \'meta\' can not be used here.*pass "cpu"'),
    ],
)
def test_training_refuses_wrong_arguments_and_leaves_the_model(name, value, error, words):
    right = {"model": AE_MODEL, "train_images": BYTES, "validation_images": BYTES,
             "recipe": Recipe(1), "seed": 0}  # fmt: skip
    before = {key: weight.clone() for key, weight in AE_MODEL.state_dict().items()}
    with pytest.raises(error, match=words):
        train(**{**right, name: value})
    after = AE_MODEL.state_dict()
    assert all(torch.equal(weight, after[key]) for key, weight in before.items())


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("seeds", "3", TypeError, r"seeds must be an int, got '3' \(str\)"),
        ("seeds", True, TypeError, "seeds must be an int, got True"),
        ("seeds", 1, ValueError, "seeds must be at least 2"),
        ("seeds", [1, 2, 1], ValueError, "seeds must differ"),
        ("seeds", [0, -1], ValueError, "every seed must be at least 0, got -1"),
        ("epochs", True, TypeError, "epochs must be an int, got True"),
        ("epochs", "160", TypeError, r"epochs must be an int, got '160' \(str\)"),
        ("quick", "false", TypeError, r"quick must be True or False, got 'false' \(str\)"),
        ("fresh", 1, TypeError, r"fresh must be True or False, got 1 \(int\)"),
        ("jobs", 0, ValueError, "jobs must be at least 1"),
        ("recipe", {"epochs": 2}, TypeError, "recipe must be a Recipe, got dict"),
        ("data", X, TypeError, "data must be a Data, got Tensor"),
    ],
)
def test_studies_refuse_wrong_parameters_before_anything_runs(tiny_data, name, value, error, words):
    with pytest.raises(error, match=words):
        Study(**{"data": tiny_data, "folder": None, name: value})


# --- extreme but right -------------------------------------------------------------------------


@EXAMPLES
@given(
    pixel=st.sampled_from([0.0, 1.0, 0.5]), n=st.sampled_from([1, 2, 101]),
    log_var=st.sampled_from([-50.0, 0.0, 50.0]), draws=st.integers(1, 2),
)  # fmt: skip
def test_extreme_images_and_posteriors_stay_finite_in_every_measure(pixel, n, log_var, draws):
    model = VAE3Layer(h_dim=4, z_dim=2).eval()
    with torch.no_grad():
        model.h_to_z.bias[2:] = log_var
    x = torch.full((n, 784), pixel)
    found = {**image_losses(model, x, draws), **iwae_bounds(model, x, (1, 2))}
    assert all(value.shape == (n,) and torch.isfinite(value).all() for value in found.values())
    assert torch.isfinite(bce_floor(x)).all()
