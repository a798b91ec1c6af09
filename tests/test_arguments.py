"""Every public function tells a wrong argument from a right one and says what to pass instead.

Figures: tests/test_plotting.py. Intervals: tests/test_statistics.py. Losses: tests/test_losses.py.
"""

import math

import pytest
import torch

from vae_helpers import AutoEncoder, Data, Recipe, Split, Study, VAE3Layer, VAE4Layer, train
from vae_helpers.measures.losses import bce_floor, image_losses, iwae_bounds
from vae_helpers.study import choose_preset

VAE_MODEL = VAE3Layer(h_dim=4, z_dim=2).eval()
AE_MODEL = AutoEncoder(h_dim=4, z_dim=2).eval()
MODELS = [VAE_MODEL, VAE4Layer(h_dims=(4, 4), z_dim=2).eval(), AE_MODEL]
X = torch.rand(2, 784, generator=torch.Generator().manual_seed(0))
BYTES = (X * 255).to(torch.uint8)

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
WRONG_TYPES = [
    (X.numpy(), "torch.from_numpy"),
    (X.tolist(), "list"),
    (BYTES, "/ 255"),
    (BYTES.long(), "int64"),
    (X > 0.5, "bool"),
]
WRONG_SHAPES = [(), (28,), (0, 30), (2, 0), (2, 783), (2, 28, 27), (2, 2, 28, 28)]
WRONG_PIXELS = [math.nan, math.inf, -math.inf, -255.0, -1e-3, 1.001, 255.0]


def with_a_pixel(value):
    images = X.clone()
    images[1, 300] = value
    return images


@pytest.mark.parametrize("name", TAKES_IMAGES)
def test_images_are_taken_or_refused_with_the_remedy(name):
    take, in_range = TAKES_IMAGES[name]
    for right in (X, X.round(), X.view(2, 1, 28, 28), X.view(2, 28, 28)):
        found = take(right)
        values = found.values() if isinstance(found, dict) else found
        assert all(torch.isfinite(value).all() for value in values)
    for wrong, words in WRONG_TYPES:
        with pytest.raises(TypeError, match=words):
            take(wrong)
    for shape in WRONG_SHAPES:
        with pytest.raises(ValueError, match="784") as raised:
            take(torch.zeros(shape))
        assert str(shape) in str(raised.value)
    for value in WRONG_PIXELS if in_range else ():
        with pytest.raises(ValueError, match=r"\[0, 1\], not NaN, got .*/ (255|2)$"):
            take(with_a_pixel(value))


def test_bce_floor_takes_images_of_any_size_but_no_other_pixels():
    assert bce_floor(torch.full((3, 5), 0.5)).shape == (3,)
    with pytest.raises(ValueError, match="/ 255$"):
        bce_floor(with_a_pixel(1.001))
    with pytest.raises(TypeError, match="/ 255"):
        bce_floor(BYTES)


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


@pytest.mark.parametrize("pixel", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("log_var", [-50.0, 0.0, 50.0])
def test_extreme_images_and_posteriors_stay_finite_in_every_measure(pixel, log_var):
    model = VAE3Layer(h_dim=4, z_dim=2).eval()
    torch.nn.init.constant_(model.h_to_z.bias[2:], log_var)
    for n in (1, 101):
        x = torch.full((n, 784), pixel)
        found = [*image_losses(model, x, 2).values(), *iwae_bounds(model, x, 2), bce_floor(x)]
        assert all(value.shape == (n,) and torch.isfinite(value).all() for value in found)


# --- counts, seeds, recipes, studies -----------------------------------------------------------


def recipe(name):
    return lambda value: Recipe(**{name: value})


def study(name):
    return lambda value: Study(**{"data": TINY, "folder": None, name: value})


TINY = Data("tiny", *3 * [Split(BYTES, torch.tensor([0, 1]))], class_names=("a", "b"))
NO_COUNT = [0, -3, 1.0, math.nan, True, "3", None]
NO_SEED = [-1, 2**63, 0.0, True, "0"]
NO_FLAG = [0, 1, "no", None]
REFUSED = {
    "image_size": (lambda n: VAE3Layer(image_size=n), NO_COUNT),
    "width": (lambda n: VAE4Layer(h_dims=(4, n)), NO_COUNT),
    "z_dim": (lambda n: AutoEncoder(z_dim=n), NO_COUNT),
    "draws": (lambda n: image_losses(VAE_MODEL, X, draws=n), NO_COUNT),
    "k": (lambda n: iwae_bounds(VAE_MODEL, X, k=n), NO_COUNT),
    "epochs": (recipe("epochs"), NO_COUNT),
    "batch_size": (recipe("batch_size"), NO_COUNT),
    "learning_rate": (recipe("learning_rate"), [math.nan, math.inf, 0.0, -1, 1.0, True, "0.1"]),
    "warmup_epochs": (recipe("warmup_epochs"), [-1, 1.5, "1"]),
    "schedule": (recipe("schedule"), ["cos", "", None]),
    "products": (recipe("products"), ["half", None, 16]),
    "betas": (
        recipe("betas"),  # the last equals no tuple, and is not hashable
        [(0.9, 1.0), (-0.1, 0.9), (0.9,), (0.9, math.nan), ("a", "b"), 0.9, "ab", [0.9, 0.98]],
    ),
    "seed": (lambda seed: image_losses(VAE_MODEL, X, seed=seed), NO_SEED),
    "seed ": (lambda seed: iwae_bounds(VAE_MODEL, X, 2, seed=seed), NO_SEED),
    " seed": (VAE_MODEL.fresh, NO_SEED),
    "seeds": (study("seeds"), [0, 1, True, "3", None, [4], [0, 1, 0]]),
    "every seed": (lambda seed: study("seeds")([0, seed]), NO_SEED),
    "mode": (study("mode"), ["../x", None]),
    "fresh": (study("fresh"), NO_FLAG),
    "jobs": (study("jobs"), [0, "2", True]),
    "quick": (lambda flag: choose_preset(TINY, quick=flag), NO_FLAG),
    "short": (lambda flag: choose_preset(TINY, short=flag), NO_FLAG),
    "seeds ": (lambda n: choose_preset(TINY, seeds=n), [1, *NO_COUNT]),
    "epochs ": (lambda n: choose_preset(TINY, epochs=n), NO_COUNT),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_out_of_range_is_refused_by_name_and_value(name):
    call, values = REFUSED[name]
    for value in values:
        with pytest.raises((TypeError, ValueError)) as raised:
            call(value)
        assert f"{name.strip()} must" in str(raised.value) and repr(value) in str(raised.value)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: image_losses(torch.nn.Linear(784, 784), X), TypeError, "model must be a Model"),
        (lambda: iwae_bounds(None, X, 2), TypeError, "model must be a Model, got NoneType"),
        (lambda: VAE4Layer(h_dims=(400,)), ValueError, "two widths such as"),
        (lambda: study("data")(X), TypeError, "data must be a Data, got Tensor"),
        (lambda: study("recipe")(3), TypeError, "recipe must be a Recipe, got int"),
        (lambda: study("sizes")(3), TypeError, "sizes must be a Sizes, got int"),
        (lambda: study("device")("tpu"), ValueError, "device 'tpu' can not be used here"),
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
    images = {"train_images": BYTES, "validation_images": BYTES}
    right = {"model": AE_MODEL, **images, "recipe": Recipe(1), "seed": 0}
    before = {key: weight.clone() for key, weight in AE_MODEL.state_dict().items()}
    with pytest.raises(error, match=words):
        train(**{**right, name: value})
    after = AE_MODEL.state_dict()
    assert all(torch.equal(weight, after[key]) for key, weight in before.items())
