"""The models against the sheet and against the given class: sizes, interface, habits, errors."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from own_models import Given
from torch import nn
from torch.func import grad, jacrev, vmap

from vae_helpers import VAE, AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.models import Model

MODELS = [VAE3Layer, VAE4Layer, AutoEncoder]


@pytest.mark.parametrize(
    ("model", "layers", "kind", "short"),
    [
        (VAE3Layer(), "784-400-40 20-400-784", "VAE", "vae3"),
        (VAE3Layer(784, 300, 35), "784-300-70 35-300-784", "VAE", "vae3"),
        (VAE4Layer(), "784-400-100-40 20-100-400-784", "4-layer VAE", "vae4"),
        (VAE4Layer(h_dims=[64, 9], z_dim=3), "784-64-9-6 3-9-64-784", "4-layer VAE", "vae4"),
        (AutoEncoder(z_dim=5), "784-400-5 5-400-784", "AE", "ae"),
    ],
)
def test_layers_are_those_of_the_sheet_rectified_between_and_nowhere_else(
    model, layers, kind, short, generator
):
    """Sizes, counts, and outputs equal to the layers applied one by one, in the sheet's order."""
    down, up = ([int(size) for size in part.split("-")] for part in layers.split())
    pairs = [*zip(down[:-1], down[1:], strict=True), *zip(up[:-1], up[1:], strict=True)]
    stack = list(model.children())
    assert [(m.in_features, m.out_features) for m in stack] == pairs
    assert model.parameter_count == sum(m * n + n for m, n in pairs)
    halves = stack[: len(down) - 1], stack[len(down) - 1 :]
    for part, half, width in zip((model.encoder, model.decoder), halves, (784, up[0]), strict=True):
        x = h = torch.rand(7, width, generator=generator)
        for layer in half[:-1]:
            h = torch.relu(layer(h))
        assert torch.equal(part(x), half[-1](h))
    sizes = (*down[:-1], up[0])
    assert model.label == f"{kind} ({', '.join(map(str, sizes[1:]))})"
    assert model.id == f"{short}-{'-'.join(map(str, sizes[1:]))}" and model.encoder_sizes == sizes
    for words in (sizes, sizes[::-1]):
        assert "-".join(map(str, words)) in repr(model)
    assert f"{type(model).__name__}: " in repr(model) and f"{model.parameter_count:,}" in repr(
        model
    )


@pytest.mark.parametrize("shape", [(5, 784), (5, 1, 28, 28), (1, 784), (0, 784)])
@pytest.mark.parametrize("make", MODELS)
def test_interface_shapes_and_probabilities(make, shape, generator):
    model, x = make(), torch.rand(shape, generator=generator)
    with torch.no_grad():
        x_reconst, *latent = model(x)
        mean, log_var = model.posterior(x)
        z = model.sample_latent(x, generator)
    assert x_reconst.shape == (shape[0], 784) and ((x_reconst >= 0) & (x_reconst <= 1)).all()
    assert all(part.shape == (shape[0], 20) for part in (*latent, mean, z))
    assert torch.equal(mean, latent[0]) and torch.equal(mean, model.latent(x))
    if make is AutoEncoder:
        assert log_var is None and len(latent) == 1 and torch.equal(z, mean)
    else:
        assert torch.equal(log_var, latent[1]) and torch.equal(z, mean) == (shape[0] == 0)


@pytest.mark.parametrize("seed", [None, 1])
def test_reparameterize_has_the_mean_and_variance_it_is_given(seed):
    mu = torch.tensor([[0.0, 2.0]]).expand(200_000, 2)
    log_var = torch.tensor([[0.0, -2.0]]).expand(200_000, 2)
    noise = None if seed is None else torch.Generator().manual_seed(seed)
    z = VAE3Layer(z_dim=2).reparameterize(mu, log_var, noise)
    assert torch.allclose(z.mean(0), mu[0], atol=0.01)
    assert torch.allclose(z.var(0), log_var[0].exp(), rtol=0.02)


@pytest.mark.parametrize("make", MODELS)
def test_loss_reaches_every_parameter_and_depends_on_nothing_but_its_generator(make, generator):
    model, x = make(), torch.rand(4, 784, generator=generator)
    losses = [model.loss(x, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert torch.equal(losses[0].total, losses[1].total)
    assert torch.equal(losses[0].total, losses[2].total) == (make is AutoEncoder)
    losses[0].total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


# --- habits of the given class, each tried on it first --------------------------------------------


def mean(model, x):
    encoded = model.encode(x)
    return encoded if isinstance(encoded, torch.Tensor) else encoded[0]


def traced(model, x):
    """As TensorBoard's `add_graph` does."""
    assert torch.jit.trace(model, x, check_trace=False)(x[:2])[0].shape == (2, 784)


def exported(model, x):
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    assert program.module()(x[:2])[0].shape == (2, 784)


def compiled(model, x):
    torch._dynamo.reset()
    for part, values in [(model, x), (model.decode, torch.zeros(3, 20))]:
        torch.compile(part, backend="eager", fullgraph=True)(values)


def mapped_over_single_images_and_latents(model, x):
    z = torch.zeros(3, 20)
    assert torch.allclose(vmap(model.decode)(z), model.decode(z), atol=1e-6)
    assert torch.allclose(vmap(lambda one: mean(model, one))(x), mean(model, x), atol=1e-5)
    assert vmap(jacrev(model.decode))(z).shape == (3, 784, 20)
    assert jacrev(lambda one: mean(model, one))(x[0]).shape == (20, 784)
    gradients = vmap(grad(lambda one: model(one)[0].sum()), randomness="different")(x)
    assert model(x[0])[0].shape == (784,) and gradients.shape == x.shape


def clamped_in_place(model, x):
    mu, log_var = model.encode(x)
    log_var.clamp_(-5, 5)
    model.decode(model.reparameterize(mu.mul_(2), log_var)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def copied_and_stored(model, x):
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert repr(again) == repr(model) and type(again) is type(model)
        assert torch.equal(mean(again, x), mean(model, x))
    other = type(model)()
    other.load_state_dict(model.state_dict())
    assert torch.equal(mean(other, x), mean(model, x))


def computed_in_another_precision(model, x):
    with torch.autocast("cpu", torch.bfloat16):
        model(x)[0].float().sum().backward()
    for dtype in (torch.bfloat16, torch.float64):
        assert model.to(dtype)(x.to(dtype))[0].dtype == dtype


def without_parameters(model, x):
    """What quantization and the replicas of `nn.DataParallel` leave: layers of plain tensors."""
    for layer in model.children():
        for name, value in list(layer.named_parameters()):
            delattr(layer, name)
            setattr(layer, name, value.detach())
    assert not list(model.parameters()) and model(x)[0].shape == (3, 784)


def with_leading_dimensions(model, x):
    assert model(x.expand(2, 3, 784))[0].shape == (2, 3, 784)


@pytest.mark.parametrize("make", [Given, *MODELS])
@pytest.mark.parametrize(
    "habit",
    [
        traced,
        exported,
        compiled,
        mapped_over_single_images_and_latents,
        clamped_in_place,
        copied_and_stored,
        computed_in_another_precision,
        without_parameters,
        with_leading_dimensions,
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_works_with_the_given_class_works_with_ours(habit, make, generator):
    if habit is clamped_in_place and make is AutoEncoder:
        pytest.skip("has no log_var")
    habit(make(), torch.rand(3, 784, generator=generator))


# --- fresh weights -------------------------------------------------------------------------------


def test_fresh_weights_come_from_the_seed_alone():
    model, equal_model = VAE3Layer(h_dim=8, z_dim=2), VAE3Layer(h_dim=8, z_dim=2)
    before, state = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    first = model.fresh(3).state_dict()
    for other, same in [(equal_model.fresh(3), True), (model.fresh(4), False)]:
        equal = [torch.equal(first[name], value) for name, value in other.state_dict().items()]
        assert all(equal) if same else not any(equal)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


class Own(VAE3Layer):
    """Everything that an author may write into a constructor; `parts` holds modules somewhere."""

    def __init__(self, parts=None, scale=2.0):
        super().__init__(h_dim=8, z_dim=2)
        nn.init.orthogonal_(self.x_to_h.weight)
        nn.init.constant_(self.x_to_h.bias, scale)
        self.scale = nn.Parameter(torch.full((3,), scale))
        self.register_buffer("offset", torch.arange(3.0))
        self.reset_parameters()
        self.parts = nn.ModuleList(parts.modules if hasattr(parts, "modules") else parts or [])

    def reset_parameters(self):
        nn.init.normal_(self.h_to_z.weight, mean=5, std=0.1)


def test_fresh_weights_are_the_authors():
    parts = []
    model = Own(parts, scale=3.0)
    parts.append("changed since")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # as training leaves nothing of them
    first, again = model.fresh(1), model.fresh(2)
    for fresh in (first, again):
        weight = fresh.x_to_h.weight
        assert torch.allclose(weight @ weight.T, torch.eye(8), atol=1e-5)
        assert (fresh.x_to_h.bias == 3).all() and (fresh.scale == 3).all()
        assert torch.equal(fresh.offset, torch.arange(3.0))
        assert 4.9 < fresh.h_to_z.weight.mean() < 5.1
    assert not torch.equal(first.x_to_h.weight, again.x_to_h.weight)


@pytest.mark.parametrize(
    "hold",
    [lambda part: [part], lambda part: (part,), lambda part: SimpleNamespace(modules=[part])],
)
def test_modules_among_the_arguments_restart_wherever_they_are_held(hold):
    given = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model = Own(hold(given))
    given[0].weight.data.zero_()  # what is trained may be the object that was given
    (first,), (again,), (other,) = (model.fresh(seed).parts for seed in (1, 1, 2))
    assert torch.equal(first[0].weight, again[0].weight) and first[0].weight.any()
    assert not torch.equal(first[0].weight, other[0].weight)
    first[1].running_mean.fill_(7)
    assert not model.fresh(1).parts[0][1].running_mean.any() and not given[0].weight.any()
    with pytest.raises(TypeError, match=r"MultiheadAttention with weights and without reset_param"):
        Own(hold(nn.MultiheadAttention(4, 2))).fresh(0)


# --- what a model is called, and what it refuses -------------------------------------------------


class Small(VAE):
    def __init__(self, activation=torch.relu, p=0.0, head=None, **more):
        super().__init__(784, (), 2)
        self.encoder, self.decoder = nn.Linear(784, 4), nn.Linear(2, 784)


@pytest.mark.parametrize(
    ("model", "label", "id"),
    [
        (Small(), "Small (2)", "small-2"),
        (
            Small(torch.tanh, p=0.5),
            "Small (2), activation=tanh, p=0.5",
            "small-2-activation_tanh-p_0_5",
        ),
        (Small(z=3, p=0.0), "Small (2), z=3", "small-2-z_3"),
        (
            Small(head=nn.Sequential(nn.Linear(2, 2))),
            "Small (2), head=Sequential( (0): ...",
            "small-2-head_Sequential_0_",
        ),
    ],
)
def test_parts_may_be_modules_and_arguments_that_are_not_the_default_are_shown(model, label, id):
    assert (model.label, model.id) == (label, id)
    assert model.fresh(0).loss(torch.rand(3, 784)).total > 0


def test_what_a_model_must_define_is_said():
    model = Model(784, (), 2)
    for call in (model.posterior, model.loss):
        with pytest.raises(NotImplementedError, match=f"Model must define {call.__name__}"):
            call(torch.zeros(1, 784))
    with pytest.raises(AttributeError, match="'VAE' object has no attribute 'encoder'"):
        VAE(784, (), 2).encode(torch.zeros(1, 784))
