"""Every public function tells a wrong argument from a right one and says what to pass instead.

Figures: tests/test_plotting.py. Intervals: tests/test_statistics.py. Losses: tests/test_losses.py.
"""

import math
import string

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_helpers import AutoEncoder, Data, Recipe, Split, Study, VAE3Layer, VAE4Layer, train
from vae_helpers.measures.losses import bce_floor, image_losses, iwae_bounds
from vae_helpers.study import choose_preset

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

# --- images ------------------------------------------------------------------------------------

TAKES_IMAGES = {  # whether the range is checked: not in training's inner loop
    "image_losses": (lambda x: image_losses(VAE_MODEL, x), True),
    "image_losses, autoencoder": (lambda x: image_losses(AE_MODEL, x), True),
    "iwae_bounds": (lambda x: iwae_bounds(VAE_MODEL, x, k=2), True),
    "VAE": (VAE_MODEL, False),
    "VAE.encode": (VAE_MODEL.encode, False),
    "VAE.loss": (VAE_MODEL.loss, False),
    "autoencoder": (AE_MODEL, False),
    "autoencoder.loss": (AE_MODEL.loss, False),
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
    return draw(
        st.sampled_from(
            [
                (images.numpy(), "torch.from_numpy"),
                (images.tolist(), "list"),
                ((images * 255).to(torch.uint8), "/ 255"),
                ((images * 255).to(torch.int64), "int64"),
                (images > 0.5, "bool"),
            ]
        )
    )


@st.composite
def wrong_shapes(draw):
    shape = draw(st.lists(st.integers(0, 30), min_size=0, max_size=4))
    pixels = math.prod(shape[1:]) if len(shape) > 1 else 0
    return torch.zeros(shape if pixels != 784 else [*shape[:-1], shape[-1] + 1])


@st.composite
def wrong_pixels(draw):
    """Images of the right shape with one pixel no pixel can have."""
    images = draw(right_images()).clone()
    value = draw(st.one_of(BAD_NUMBERS, st.floats(-255, -1e-3), st.floats(1.001, 255)))
    images.view(-1)[draw(st.integers(0, images.numel() - 1))] = value
    return images


@pytest.mark.parametrize("name", TAKES_IMAGES)
@EXAMPLES
@given(right=right_images(), case=wrong_types(), wrong=wrong_shapes(), pixels=wrong_pixels())
def test_images_are_taken_or_refused_with_the_remedy(name, right, case, wrong, pixels):
    take, in_range = TAKES_IMAGES[name]
    found = take(right)
    values = found.values() if isinstance(found, dict) else found
    assert all(torch.isfinite(value).all() for value in values)
    with pytest.raises(TypeError, match=case[1]):
        take(case[0])
    with pytest.raises(ValueError, match="784") as raised:
        take(wrong)
    assert str(tuple(wrong.shape)) in str(raised.value)
    if in_range:
        with pytest.raises(ValueError, match=r"\[0, 1\], not NaN, got .*/ (255|2)$"):
            take(pixels)


@EXAMPLES
@given(pixels=wrong_pixels(), case=wrong_types())
def test_bce_floor_takes_images_of_any_size_but_no_other_pixels(pixels, case):
    with pytest.raises(ValueError, match="/ (255|2)$"):
        bce_floor(pixels)
    with pytest.raises(TypeError, match=case[1]):
        bce_floor(case[0])
    assert bce_floor(torch.full((3, 5), 0.5)).shape == (3,)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_another_shape_precision_or_device_than_the_models_is_named_with_the_remedy(model):
    for z in (None, "z", torch.zeros(3), torch.zeros(2, 3), torch.tensor(2.0)):
        with pytest.raises(ValueError, match=r"\(N, 2\)"):
            model.decode(z)
    for change in (torch.float64, torch.bfloat16, "meta"):
        x, z = X.to(change), torch.zeros(2, 2).to(change)
        for call in (lambda x=x: model(x), lambda z=z: model.decode(z)):
            with pytest.raises(TypeError, match=rf'{change}.*pass .\.to\("cpu", torch.float32\)'):
                call()


@EXAMPLES
@given(
    pixel=st.sampled_from([0.0, 1.0, 0.5]),
    n=st.sampled_from([1, 2, 101]),
    log_var=st.sampled_from([-50.0, 0.0, 50.0]),
    draws=st.integers(1, 2),
)
def test_extreme_images_and_posteriors_stay_finite_in_every_measure(pixel, n, log_var, draws):
    model = VAE3Layer(h_dim=4, z_dim=2).eval()
    with torch.no_grad():
        model.h_to_z.bias[2:] = log_var
    x = torch.full((n, 784), pixel)
    found = [*image_losses(model, x, draws).values(), *iwae_bounds(model, x, 2), bce_floor(x)]
    assert all(value.shape == (n,) and torch.isfinite(value).all() for value in found)


# --- counts, seeds, recipes, studies -----------------------------------------------------------


def recipe(name):
    return lambda value: Recipe(**{name: value})


def study(name):
    return lambda value: Study(**{"data": TINY, "folder": None, name: value})


TINY = Data("tiny", *3 * [Split(BYTES, torch.tensor([0, 1]))], class_names=("a", "b"))
NO_COUNT = st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), TEXT, st.none())
NO_SEED = st.one_of(st.integers(max_value=-1), st.integers(2**63), st.floats(), st.booleans(), TEXT)
NO_FLAG = st.one_of(st.integers(), TEXT, st.none())
REFUSED = {
    "image_size": (lambda n: VAE3Layer(image_size=n), NO_COUNT),
    "width": (lambda n: VAE4Layer(h_dims=(4, n)), NO_COUNT),
    "z_dim": (lambda n: AutoEncoder(z_dim=n), NO_COUNT),
    "draws": (lambda n: image_losses(VAE_MODEL, X, draws=n), NO_COUNT),
    "k": (lambda n: iwae_bounds(VAE_MODEL, X, k=n), NO_COUNT),
    "epochs": (recipe("epochs"), NO_COUNT),
    "batch_size": (recipe("batch_size"), NO_COUNT),
    "learning_rate": (
        recipe("learning_rate"),
        st.one_of(BAD_NUMBERS, st.floats(max_value=0), st.floats(min_value=1), st.booleans(), TEXT),
    ),
    "warmup_epochs": (recipe("warmup_epochs"), st.one_of(st.integers(max_value=-1), TEXT)),
    "schedule": (recipe("schedule"), st.one_of(TEXT, st.none())),
    "products": (recipe("products"), st.one_of(TEXT, st.none(), st.integers())),
    "betas": (
        recipe("betas"),
        st.sampled_from([(0.9, 1.0), (-0.1, 0.9), (0.9,), (0.9, math.nan), ("a", "b"), 0.9, "ab"])
        | st.just([0.9, 0.98]),  # equal to no tuple, and not hashable
    ),
    "seed": (lambda seed: image_losses(VAE_MODEL, X, seed=seed), NO_SEED),
    "seed ": (lambda seed: iwae_bounds(VAE_MODEL, X, 2, seed=seed), NO_SEED),
    " seed": (VAE_MODEL.fresh, NO_SEED),
    "every seed": (lambda seed: study("seeds")([0, seed]), NO_SEED),
    "quick": (lambda flag: choose_preset(TINY, quick=flag), NO_FLAG),
    "short": (lambda flag: choose_preset(TINY, short=flag), NO_FLAG),
    "epochs ": (lambda n: choose_preset(TINY, epochs=n), NO_COUNT),
    "fresh": (study("fresh"), NO_FLAG),
    "jobs": (study("jobs"), st.one_of(st.integers(max_value=0), TEXT, st.booleans())),
}


@pytest.mark.parametrize("name", REFUSED)
@EXAMPLES
@given(examples=st.data())
def test_what_is_out_of_range_is_refused_by_name_and_value(name, examples):
    call, values = REFUSED[name]
    value = examples.draw(values)
    with pytest.raises((TypeError, ValueError)) as raised:
        call(value)
    assert f"{name.strip()} must" in str(raised.value) and repr(value) in str(raised.value)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: image_losses(torch.nn.Linear(784, 784), X), TypeError, "model must be a Model"),
        (lambda: iwae_bounds(None, X, 2), TypeError, "model must be a Model, got NoneType"),
        (lambda: iwae_bounds(AE_MODEL, X, 2), ValueError, "its z is not random"),
        (lambda: study("data")(X), TypeError, "data must be a Data, got Tensor"),
        (lambda: study("seeds")(1), ValueError, "seeds must be at least 2"),
        (lambda: study("seeds")([1, 2, 1]), ValueError, "seeds must differ"),
    ],
)
def test_what_does_not_belong_is_refused_with_the_remedy(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("model", torch.nn.Linear(784, 2), TypeError, "model must be a Model, got Linear"),
        ("recipe", {"epochs": 1}, TypeError, "recipe must be a Recipe, got dict"),
        ("train_images", X, TypeError, "train_images must be a uint8 tensor"),
        ("validation_images", BYTES[:, :9], ValueError, r"must have shape \(N, 784\)"),
        ("validation_images", BYTES[:0], ValueError, r"must have shape \(N, 784\)"),
        ("device", "nowhere", ValueError, "device 'nowhere' can not be used here"),
        ("device", "meta", ValueError, "device 'meta' can not be used here.*pass \"cpu\""),
        ("seed", -1, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_training_refuses_wrong_arguments_and_leaves_the_model(name, value, error, words):
    right = {
        "model": AE_MODEL,
        "train_images": BYTES,
        "validation_images": BYTES,
        "recipe": Recipe(1),
        "seed": 0,
    }
    before = {key: weight.clone() for key, weight in AE_MODEL.state_dict().items()}
    with pytest.raises(error, match=words):
        train(**{**right, name: value})
    after = AE_MODEL.state_dict()
    assert all(torch.equal(weight, after[key]) for key, weight in before.items())
