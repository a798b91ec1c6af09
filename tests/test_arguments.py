"""Every public function tells a wrong argument from a right one and says what to pass instead."""

import math
import string

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vae_helpers
from vae_helpers import (
    AutoEncoder,
    Data,
    ModelSpec,
    Split,
    TrainSettings,
    VAE3Layer,
    VAE4Layer,
    active_units,
    ae_loss,
    bce_floor,
    image_losses,
    iwae_bounds,
    load_data,
    load_fashion_mnist,
    load_stand_in,
    map_runs,
    paired_difference,
    plot_generation,
    plot_reconstruction,
    train,
    train_study,
    vae_loss,
)
from vae_helpers.engine.stacked import train_stacked
from vae_helpers.measures.losses import latent_statistics

VAE_MODEL = VAE3Layer(h_dim=4, z_dim=2).eval()
AE_MODEL = AutoEncoder(h_dim=4, z_dim=2).eval()
EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(string.printable)
BAD_NUMBERS = st.sampled_from([math.nan, math.inf, -math.inf])


def test_every_public_function_is_tested_here():
    """A new public name needs a line in this file, or in TESTED_ELSEWHERE with the reason."""
    only_returned = {"CLASS_NAMES", "Run", "TrainResult"}
    assert set(vae_helpers.__all__) <= set(globals()) | only_returned


# --- images ------------------------------------------------------------------------------------

TAKES_IMAGES = {
    "image_losses": lambda x: image_losses(VAE_MODEL, x),
    "image_losses, autoencoder": lambda x: image_losses(AE_MODEL, x),
    "iwae_bounds": lambda x: iwae_bounds(VAE_MODEL, x, ks=(1, 2)),
    "ae_loss": lambda x: ae_loss(torch.zeros(2, 784), x),
    "vae_loss": lambda x: vae_loss(torch.zeros(2, 784), x, torch.zeros(2, 3), torch.zeros(2, 3)),
    "plot_reconstruction": lambda x: plot_reconstruction(VAE_MODEL, x, n=2),
    "plot_reconstruction, several": lambda x: plot_reconstruction({"A": VAE_MODEL}, x, n=2),
}
CHECKS_SHAPE_ALONE = {"VAE": VAE_MODEL, "autoencoder": AE_MODEL}  # the inner loop of training
every_taker = pytest.mark.parametrize("name", TAKES_IMAGES)


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
    low, high = st.floats(-255, -1e-3), st.floats(1.001, 255)
    value = draw(st.one_of(BAD_NUMBERS, low, high))
    images.view(-1)[draw(st.integers(0, images.numel() - 1))] = value
    return images, "/ 255" if math.isfinite(value) else "NaN"


@every_taker
@EXAMPLES
@given(x=right_images())
def test_right_images_are_taken(name, x):
    if not name.startswith("plot"):  # these draw: tests/test_plotting.py
        found = TAKES_IMAGES[name](x)
        values = found.values() if isinstance(found, dict) else found
        assert all(torch.isfinite(value).all() for value in values)


@every_taker
@EXAMPLES
@given(case=wrong_types())
def test_wrong_types_are_refused_with_the_remedy(name, case):
    x, words = case
    with pytest.raises(TypeError) as raised:
        TAKES_IMAGES[name](x)
    assert words in str(raised.value)


@every_taker
@EXAMPLES
@given(x=wrong_shapes())
def test_wrong_shapes_are_named(name, x):
    with pytest.raises(ValueError) as raised:
        TAKES_IMAGES[name](x)
    assert "784" in str(raised.value) and str(tuple(x.shape)) in str(raised.value)


@every_taker
@EXAMPLES
@given(case=wrong_pixels())
def test_wrong_pixels_are_refused_with_the_remedy(name, case):
    x, words = case
    with pytest.raises(ValueError) as raised:
        TAKES_IMAGES[name](x)
    assert words in str(raised.value)


@pytest.mark.parametrize("name", CHECKS_SHAPE_ALONE)
@EXAMPLES
@given(case=wrong_types(), x=wrong_shapes())
def test_models_refuse_wrong_types_and_shapes(name, case, x):
    wrong, words = case
    with pytest.raises(TypeError) as raised:
        CHECKS_SHAPE_ALONE[name](wrong)
    assert words in str(raised.value)
    with pytest.raises(ValueError, match="784"):
        CHECKS_SHAPE_ALONE[name](x)


@pytest.mark.parametrize("z", [None, "z", torch.zeros(2), torch.zeros(2, 3), torch.zeros(1, 2, 2)])
def test_latents_of_another_shape_are_refused(z):
    for model in (VAE_MODEL, AE_MODEL, VAE4Layer(h_dims=(4, 4), z_dim=2)):
        with pytest.raises(ValueError, match=r"\(N, 2\)"):
            model.decode(z)


@EXAMPLES
@given(case=wrong_pixels(), other=wrong_types())
def test_bce_floor_takes_images_of_any_size_but_no_other_pixels(case, other):
    with pytest.raises(ValueError, match=case[1]):
        bce_floor(case[0])
    with pytest.raises(TypeError, match=other[1]):
        bce_floor(other[0])
    assert bce_floor(torch.full((3, 5), 0.5)).shape == (3,)


@EXAMPLES
@given(x=st.one_of(right_images(), st.sampled_from([None, "images", [1.0]])))
def test_training_takes_uint8_alone(x):
    with pytest.raises(TypeError, match="uint8"):
        train(AE_MODEL, x, torch.zeros(2, 784, dtype=torch.uint8), TrainSettings(1), seed=0)


@EXAMPLES
@given(shape=st.lists(st.integers(0, 30), max_size=3))
def test_training_names_a_wrong_shape(shape):
    wrong = torch.zeros(shape, dtype=torch.uint8)  # 784 pixels can not come out of these
    with pytest.raises(ValueError, match=r"validation_images must have shape \(N, 784\)"):
        train(AE_MODEL, torch.zeros(2, 784, dtype=torch.uint8), wrong, TrainSettings(1), seed=0)


TRAINS = {"model": AE_MODEL, "train_images": torch.zeros(2, 784, dtype=torch.uint8),
          "validation_images": torch.zeros(2, 784, dtype=torch.uint8),
          "settings": TrainSettings(1), "seed": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("model", torch.nn.Linear(784, 2), TypeError, "model must be a FullyConnected, got Linear"),
        ("settings", {"epochs": 1}, TypeError, "settings must be a TrainSettings, got dict"),
        ("seed", 1.0, TypeError, "seed must be an int, got 1.0"),
        ("seed", True, TypeError, "seed must be an int, got True"),
        ("seed", -1, ValueError, "seed must lie in"),
        ("seed", 2**63, ValueError, "seed must lie in"),
        ("device", "nowhere", ValueError, "device 'nowhere' can not be used here"),
        ("device", 1.5, ValueError, "device 1.5 can not be used here"),
        ("device", "meta", ValueError, "device 'meta' can not be used here"),
    ],
)
def test_training_refuses_other_wrong_arguments_and_leaves_the_model(name, value, error, words):
    before = {key: weight.clone() for key, weight in AE_MODEL.state_dict().items()}
    with pytest.raises(error, match=words):
        train(**{**TRAINS, name: value})
    after = AE_MODEL.state_dict()
    assert all(torch.equal(weight, after[key]) for key, weight in before.items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_named_with_the_remedy(tiny_data):
    for call in (
        lambda: train(**TRAINS, device="cuda"),
        lambda: train_study([SPEC], tiny_data, *STUDY, runs_dir=None, device="cuda"),
        lambda: train_stacked(SPEC, tiny_data, *STUDY, device="cuda"),
    ):
        with pytest.raises(ValueError, match="device 'cuda' can not be used here.*pass \"cpu\""):
            call()


# --- dtype and device of model and input -------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("model", [VAE_MODEL, AE_MODEL], ids=["VAE", "autoencoder"])
def test_images_of_another_precision_than_the_model_are_refused_with_the_remedy(model, dtype):
    x, z = torch.zeros(2, 784, dtype=dtype), torch.zeros(2, 2, dtype=dtype)
    calls = [lambda: model(x), lambda: image_losses(model, x), lambda: model.decode(z)]
    for call in calls:
        with pytest.raises(TypeError, match=rf"{dtype}.*torch\.float32.*\.to\(torch\.float32\)"):
            call()


@pytest.mark.parametrize("model", [VAE_MODEL, AE_MODEL], ids=["VAE", "autoencoder"])
def test_images_on_another_device_than_the_model_are_refused_with_the_remedy(model):
    x, z = torch.zeros(2, 784, device="meta"), torch.zeros(2, 2, device="meta")
    for call in (lambda: model(x), lambda: model.decode(z)):
        with pytest.raises(ValueError, match='on device meta and the model on cpu.*to\\("cpu"\\)'):
            call()


def test_bounds_need_at_least_one_k():
    with pytest.raises(ValueError, match=r"ks must grow.*got \(\)"):
        iwae_bounds(VAE_MODEL, X, ())


@pytest.mark.parametrize("wrong", [None, "model", torch.nn.Linear(784, 784)])
def test_measures_need_a_model_of_this_package(wrong):
    for call in (lambda: image_losses(wrong, X), lambda: iwae_bounds(wrong, X, (1, 2))):
        with pytest.raises(TypeError, match="model must be a"):
            call()
    with pytest.raises(TypeError, match="model must be a VAE, got AutoEncoder"):
        iwae_bounds(AE_MODEL, X, (1, 2))


@EXAMPLES
@given(seed=st.one_of(st.integers(max_value=-1), st.floats(), st.booleans(), TEXT, st.none()))
def test_measures_refuse_seeds_that_are_none(seed):
    for call in (lambda: load_stand_in(10, 10, 10, seed=seed),
                 lambda: image_losses(VAE_MODEL, X, seed=seed),
                 lambda: iwae_bounds(VAE_MODEL, X, (1, 2), seed=seed),
                 lambda: SPEC.build(seed)):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match="seed must"):
            call()


# --- data --------------------------------------------------------------------------------------


@EXAMPLES
@given(n=st.integers(1, 5), pixels=st.integers(1, 9), x=st.one_of(
    right_images(), wrong_types().map(lambda case: case[0]), st.sampled_from([None, "images"])))
def test_a_split_takes_bytes_and_class_numbers_alone(n, pixels, x):
    images, labels = torch.zeros(n, pixels, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64)
    assert len(Split(images, labels)) == n
    if not (isinstance(x, torch.Tensor) and x.dtype == torch.uint8):
        with pytest.raises(TypeError, match="images must be a uint8 tensor, got .*255"):
            Split(x, labels)
    for wrong in (labels.float(), labels.tolist(), None):
        with pytest.raises(TypeError, match="labels must be a int64 tensor"):
            Split(images, wrong)
    for wrong in (images[0], images.unsqueeze(1), images[:0], images[:, :0]):
        with pytest.raises(ValueError, match="images must have shape"):
            Split(wrong, labels)
    with pytest.raises(ValueError, match=rf"labels must have shape \({n},\)"):
        Split(images, torch.zeros(n + 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="from 0 on, got -1"):
        Split(images, labels - 1)


def test_data_are_three_splits_of_images_of_one_size(tiny_data):
    split = tiny_data.train
    other = Split(split.images[:, :100], split.labels)
    with pytest.raises(TypeError, match="validation must be a Split, got Tensor"):
        Data("x", split, split.images, split)
    with pytest.raises(TypeError, match="name must be a str, got NoneType"):
        Data(None, split, split, split)
    with pytest.raises(ValueError, match=r"\(784\), those of test have 100"):
        Data("x", split, split, other)


@EXAMPLES
@given(value=st.one_of(BAD_NUMBERS, st.floats(-9, -1e-3)), position=st.integers(0, 2))
def test_variances_that_are_none_are_not_counted_as_inactive(value, position):
    variances = torch.tensor([1.0, 0.0, 0.5])
    assert active_units(variances) == 2
    variances[position] = value
    with pytest.raises(ValueError, match="finite and at least 0"):
        active_units(variances)
    with pytest.raises(TypeError, match="mean_variance must be a Tensor"):
        active_units([1.0, 0.0])


# --- sizes and counts --------------------------------------------------------------------------

X = torch.rand(2, 784, generator=torch.Generator().manual_seed(0))
STUDY = (TrainSettings(1), [0])
COUNTS = {
    "VAE3Layer image_size": lambda n: VAE3Layer(image_size=n),
    "VAE3Layer h_dim": lambda n: VAE3Layer(h_dim=n),
    "VAE3Layer z_dim": lambda n: VAE3Layer(z_dim=n),
    "VAE4Layer h_dims": lambda n: VAE4Layer(h_dims=(4, n)),
    "AutoEncoder h_dim": lambda n: AutoEncoder(h_dim=n),
    "AutoEncoder z_dim": lambda n: AutoEncoder(z_dim=n),
    "ModelSpec h_dims": lambda n: ModelSpec("VAE4Layer", (n, 4), 2),
    "ModelSpec z_dim": lambda n: ModelSpec("AutoEncoder", (4,), n),
    "TrainSettings epochs": lambda n: TrainSettings(epochs=n),
    "TrainSettings batch_size": lambda n: TrainSettings(batch_size=n),
    "image_losses draws": lambda n: image_losses(VAE_MODEL, X, draws=n),
    "iwae_bounds ks": lambda n: iwae_bounds(VAE_MODEL, X, ks=(n,)),
    "load_stand_in train_size": lambda n: load_stand_in(train_size=n),
    "load_stand_in test_size": lambda n: load_stand_in(10, 10, n),
    "plot_generation n": lambda n: plot_generation(VAE_MODEL, n),
    "plot_reconstruction n": lambda n: plot_reconstruction(VAE_MODEL, X, n),
}
no_counts = st.one_of(
    st.integers(max_value=0), st.floats(), st.booleans(), TEXT,
    st.none(), st.tuples(st.integers(1, 3)),
)  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
@EXAMPLES
@given(n=no_counts)
def test_what_is_no_count_is_refused_by_value(name, n):
    with pytest.raises((TypeError, ValueError)) as raised:
        COUNTS[name](n)
    assert repr(n) in str(raised.value)


@EXAMPLES
@given(
    model=st.sampled_from(["VAE3Layer", "VAE4Layer", "AutoEncoder"]),
    h_dims=st.one_of(
        st.integers(), st.lists(st.integers(1, 9)), st.lists(st.integers(1, 9)).map(tuple)
    ),
)  # fmt: skip
def test_a_spec_has_the_widths_of_its_model(model, h_dims):
    """A width too many would be in the label and in the file's name, but not in the model."""
    count = 2 if model == "VAE4Layer" else 1
    if isinstance(h_dims, tuple) and len(h_dims) == count:
        assert ModelSpec(model, h_dims, 2).build(0, 9).hidden == h_dims
    else:
        with pytest.raises(ValueError, match=f"tuple of {count}"):
            ModelSpec(model, h_dims, 2)


@EXAMPLES
@given(name=TEXT)
def test_other_models_and_sources_are_refused(name):
    with pytest.raises(ValueError, match="VAE3Layer, VAE4Layer or AutoEncoder"):
        ModelSpec(name, (4,), 2)
    with pytest.raises(ValueError, match='"auto", "real" or "stand-in"'):
        load_data(name)


@EXAMPLES
@given(
    rate=st.one_of(BAD_NUMBERS, st.floats(max_value=0), st.floats(min_value=1), st.integers(),
                   TEXT, st.none()),
    warmup=st.one_of(st.integers(max_value=-1), st.floats(), TEXT, st.none()),
    timeout=st.one_of(st.floats(max_value=0), st.just(math.nan), TEXT, st.none()),
)  # fmt: skip
def test_rates_and_times_out_of_range_are_refused(rate, warmup, timeout, tmp_path):
    with pytest.raises(ValueError, match="learning_rate must be a float"):
        TrainSettings(learning_rate=rate)
    with pytest.raises(ValueError, match="warmup_epochs must be an int"):
        TrainSettings(warmup_epochs=warmup)
    with pytest.raises(ValueError, match="timeout must be a number"):
        load_fashion_mnist(tmp_path, timeout)


# --- tables of losses, noise -------------------------------------------------------------------


@EXAMPLES
@given(bad=BAD_NUMBERS, row=st.integers(0, 2), column=st.integers(0, 4), first=st.booleans())
def test_a_difference_of_numbers_that_are_none_is_no_tie(bad, row, column, first):
    good, spoilt = torch.zeros(3, 5), torch.zeros(3, 5)
    spoilt[row, column] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        paired_difference(*((spoilt, good) if first else (good, spoilt)))


@EXAMPLES
@given(
    shape=st.lists(st.integers(0, 4), max_size=3).filter(lambda s: len(s) != 2 or min(s) < 2),
    other=st.sampled_from([None, 1.0, [[1.0, 2.0]] * 2, np.zeros((2, 2)), torch.ones(2, 2).int()]),
    confidence=st.one_of(st.integers(), st.floats(max_value=0), st.floats(min_value=1), st.none()),
)  # fmt: skip
def test_differences_need_float_tables_and_a_confidence(shape, other, confidence):
    with pytest.raises(ValueError, match="shape"):
        paired_difference(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(TypeError, match="float tensor"):
        paired_difference(other, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="confidence"):
        paired_difference(torch.zeros(2, 2), torch.zeros(2, 2), confidence)


@EXAMPLES
@given(bad=BAD_NUMBERS, position=st.integers(0, 3))
def test_pictures_of_numbers_that_are_none_are_not_drawn_white(bad, position):
    noise = torch.zeros(2, 2)
    noise.view(-1)[position] = bad
    with pytest.raises(ValueError, match="noise holds NaN"):
        plot_generation(VAE_MODEL, 2, noise=noise)
    diverged = VAE3Layer(h_dim=4, z_dim=2)
    with torch.no_grad():
        diverged.decoder[-1].bias[position] = math.nan
    for draw in (lambda: plot_generation(diverged, 2), lambda: plot_reconstruction(diverged, X, 2)):
        with pytest.raises(ValueError, match="pixels are NaN"):
            draw()


# --- studies -----------------------------------------------------------------------------------

SPEC = ModelSpec("AutoEncoder", (4,), 2)


@EXAMPLES
@given(n=st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), TEXT))
def test_studies_refuse_counts_of_processes_that_are_none(tiny_data, n):
    for arguments in ({"n_jobs": n}, {"threads": n}):
        with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
            train_study([SPEC], tiny_data, *STUDY, runs_dir=None, **arguments)
        with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
            map_runs(latent_statistics, [], tiny_data, runs_dir=None, **arguments)


@EXAMPLES
@given(seed=st.one_of(st.integers(max_value=-1), st.floats(), st.booleans(), TEXT, st.none()))
def test_studies_refuse_seeds_that_are_none(tiny_data, seed):
    for call in (train_study, lambda specs, *rest, **_: train_stacked(specs[0], *rest)):
        with pytest.raises((TypeError, ValueError), match="every seed must"):
            call([SPEC], tiny_data, TrainSettings(1), [0, seed], runs_dir=None)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"specs": [SPEC, SPEC]}, ValueError, "specs must differ"),
        ({"seeds": [1, 2, 1]}, ValueError, "seeds must differ"),
        ({"specs": ["VAE3Layer"]}, TypeError, "ModelSpec"),
        ({"data": torch.zeros(2, 784)}, TypeError, "data must be a Data, got Tensor"),
        ({"settings": {"epochs": 2}}, TypeError, "settings must be a TrainSettings, got dict"),
        ({"device": "nowhere"}, ValueError, "device 'nowhere' can not be used here"),
    ],
)
def test_studies_refuse_other_wrong_arguments(tiny_data, change, error, words):
    arguments = {"specs": [SPEC], "data": tiny_data, "settings": TrainSettings(1), "seeds": [0]}
    with pytest.raises(error, match=words):
        train_study(**{**arguments, **change}, runs_dir=None, n_jobs=1)


# --- extreme but right -------------------------------------------------------------------------


@EXAMPLES
@given(
    pixel=st.sampled_from([0.0, 1.0, 0.5]), n=st.sampled_from([1, 2, 101]),
    log_var=st.sampled_from([-50.0, 0.0, 50.0]), draws=st.integers(1, 2),
)  # fmt: skip
def test_extreme_images_and_posteriors_stay_finite_in_every_measure(pixel, n, log_var, draws):
    model = VAE3Layer(h_dim=4, z_dim=2).eval()
    with torch.no_grad():
        model.encoder[-1].bias[2:] = log_var
    x = torch.full((n, 784), pixel)
    found = {**image_losses(model, x, draws), **iwae_bounds(model, x, (1, 2))}
    assert all(value.shape == (n,) and torch.isfinite(value).all() for value in found.values())
    assert torch.isfinite(bce_floor(x)).all()
