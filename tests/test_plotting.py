"""Figures: same images and noise for all, sharp pixels, no trace in models or random states."""

import json
import random
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nbclient import NotebookClient
from torch import nn

from vae_helpers.data import Split
from vae_helpers.models import VAE, AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.plotting import curves, display, images, style, tables
from vae_helpers.plotting.diagram import plot_architectures

mpl.use("Agg")
ROOT = Path(__file__).parent.parent
NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
         "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")  # fmt: skip


@pytest.fixture
def x():
    return torch.rand(30, 784, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def split(x):
    return Split((x * 255).byte(), torch.arange(30) % 10)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VAE3Layer(h_dim=16, z_dim=4)


def history(level: float, epochs: int = 12, kl: float = 1.0) -> dict:
    curve = np.array([level + 100.0 * 0.5**e for e in range(epochs)])
    terms = {"total": curve, "reconstruction": curve, "kl": kl * curve}
    return {f"{s}_{term}": list(v) for s in ("train", "validation") for term, v in terms.items()}


def every_figure(model, x, split) -> dict:
    other, four, three = AutoEncoder(h_dim=8, z_dim=3), VAE4Layer(), np.arange(10.0)
    return {
        "reconstruction": lambda: images.plot_reconstruction(model, x),
        "triples": lambda: images.plot_reconstruction(model, x, z="both"),
        "reconstructions": lambda: images.plot_reconstruction(
            [model, other], split.first_of_each_class(), errors=True, titles=NAMES),
        "generation": lambda: images.plot_generation(model),
        "generations": lambda: images.plot_generation({"VAE": model, "AE": other}),
        "rows": lambda: images.image_rows({"one": x[:3], "two": x[3:6]}),
        "samples": lambda: images.plot_samples_by_class(split, NAMES, 3),
        "curves": lambda: curves.plot_loss_curves({"VAE": [history(240.0), history(241.0)]}),
        "curves, enlarged": lambda: curves.plot_loss_curves(
            {str(i): [history(240.0 + i)] for i in range(8)}, enlarge=3),
        "kl": lambda: curves.plot_kl_per_dimension({"a": [2.0, 0.0]}, {"a": [True, False]}),
        "map": lambda: curves.plot_latent_map({"a": (x[:, :2], split.labels)}, NAMES),
        "classes": lambda: curves.plot_class_losses({"a": (three, three - 1, three + 1)}, NAMES),
        "architectures": lambda: plot_architectures([model, other, four]),
    }  # fmt: skip


def test_every_function_returns_a_figure_and_leaves_no_trace(model, x, split):
    import matplotlib.pyplot as plt

    figures = every_figure(model, x, split)
    model.train()
    model.x_to_h.eval()  # a mixed mode must come back mixed
    modes = [m.training for m in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    settings, open_figures = dict(mpl.rcParams), plt.get_fignums()
    for name, draw in figures.items():
        fig = draw()
        assert isinstance(fig, Figure), name
        assert fig.get_figheight() <= 3.61, name
        assert style.page_box(fig).width == pytest.approx(6.3, abs=0.02), name
        style.mark(fig, "quick run").savefig("/dev/null", format="png", dpi=50)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == open_figures


def pictures_of(cell) -> int:
    shown = [output for output in cell.outputs if output.output_type != "stream"]
    assert all("image/png" in o.data or "text/markdown" in o.data for o in shown)
    return sum("image/png" in o.data for o in shown)


def run_cells(sources) -> list:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook.cells


def test_a_real_kernel_shows_every_figure_once(model, x, split):
    """As the last line of a cell and by `display`, before anything imports pyplot and after."""
    start = f"""
import sys, torch
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from vae_helpers.models import VAE3Layer
from vae_helpers.plotting.images import plot_generation, plot_reconstruction
model, x = VAE3Layer(h_dim=16, z_dim=4), torch.rand(30, 784)"""
    shown = ["plot_generation(model)", "plot_reconstruction([model], x)",
             "display(plot_generation(model))", "figure = plot_generation(model)"]  # fmt: skip
    fresh = "assert 'matplotlib.pyplot' not in sys.modules"
    inline = "%matplotlib inline\nimport matplotlib.pyplot as plt"
    both = "plt.plot([1, 2])\nplot_generation(model)"
    numbered = """from vae_helpers.plotting.display import show_figure
show_figure(plot_generation(model), 1, "One."); show_figure(plt.figure(), 2, "Two.")"""
    late = """import test_plotting as t
figures = t.every_figure(model, x, t.Split((x * 255).byte(), torch.arange(30) % 10))"""
    everything = [f"figures[{name!r}]()" for name in every_figure(model, x, split)]
    cells = run_cells([start, *shown, fresh, inline, *shown, both, numbered, late, inline,
                       *everything])  # fmt: skip
    once = [1, 1, 1, 0]
    counts = [pictures_of(cell) for cell in cells]
    assert counts == [0, *once, 0, 0, *once, 2, 2, 0, 0, *[1] * len(everything)]


def test_the_style_holds_inside_the_figures_and_nowhere_else():
    defaults = {key: mpl.rcParamsDefault[key] for key in style.STYLE}
    assert {key: mpl.rcParams[key] for key in style.STYLE} == defaults
    with mpl.rc_context({"font.size": 20, "axes.labelsize": 20, "axes.spines.top": True}):
        ax = curves.plot_kl_per_dimension({"a": [1.0, 2.0]}).axes[0]
    assert ax.xaxis.label.get_fontsize() == style.STYLE["axes.labelsize"]
    assert not ax.spines["top"].get_visible()


# --- images -------------------------------------------------------------------------------------


def cells_of(fig: Figure, height=28, width=28, which: int = 0) -> list[np.ndarray]:
    """The cells of the grid that hold an image, read back from the pixels of the figure."""
    pixels = np.ma.filled(fig.axes[0].images[which].get_array().astype(float), np.nan)
    cells = [
        pixels[y : y + height, x : x + width]
        for y in range(0, pixels.shape[0], height + 2)
        for x in range(0, pixels.shape[1], width + 2)
    ]
    return [cell for cell in cells if not (cell == 1).all()]


def labels_of(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.axes[0].get_yticklabels()]


@pytest.mark.parametrize("n", [1, 5, 24])
def test_reconstruction_shows_the_first_n_pairs(model, x, n):
    cells = cells_of(images.plot_reconstruction(model, x, n), width=56)
    assert len(cells) == n
    expected = images.reconstruct(model, x[:n])
    for cell, a, b in zip(cells, x.view(-1, 28, 28), expected.view(-1, 28, 28), strict=False):
        assert np.allclose(cell[:, :28], a) and np.allclose(cell[:, 28:], b)
    assert len(cells_of(images.plot_reconstruction(model, x[:7]), width=56)) == 7


@pytest.mark.parametrize("n", [1, 13, 24])
def test_generation_shows_n_decodings(model, n):
    cells = cells_of(images.plot_generation(model, n))
    expected = model.decode(images.latent_noise(n, 4)).detach().reshape(-1, 28, 28)
    assert len(cells) == n
    assert np.allclose(np.stack(cells), expected)


def test_a_drawn_pixel_is_one_flat_square(model, x, split):
    """Rendered, not asked: a checkerboard shows only black, white and the page."""
    board = (torch.arange(784) % 28 + torch.arange(784) // 28) % 2
    fig = images.image_rows({"": board.float()[None]})
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    box = fig.axes[0].get_window_extent()
    drawn = np.asarray(canvas.buffer_rgba())[:, :, 0]
    x0, y0 = int(box.x0) + 3, drawn.shape[0] - int(box.y1) + 3
    assert set(np.unique(drawn[y0 : y0 + 100, x0 : x0 + 100])) == {0, 255}
    figures = every_figure(model, x, split)
    for name in ("reconstruction", "generation", "reconstructions", "samples"):
        fig = figures[name]()
        assert not fig.vector
        for image in fig.axes[0].images:
            assert image.get_interpolation() == "nearest", name
            assert image.get_clim() in ((0, 1), (-1, 1)), name


def test_rows_of_several_models(model, x):
    other = VAE4Layer(h_dims=(16, 8), z_dim=6)
    fig = images.plot_reconstruction([model, other], x, 10, errors=True)
    a, b, c = x[:10], *(images.reconstruct(m, x[:10]) for m in (model, other))
    # originals and two rows; each row of differences is an image of its own
    assert np.allclose(np.stack(cells_of(fig)), torch.cat([a, b, c]).view(-1, 28, 28))
    differences = np.stack(cells_of(fig, which=1) + cells_of(fig, which=2))
    assert np.allclose(differences, torch.cat([b - a, c - a]).view(-1, 28, 28), atol=1e-6)
    tops = [image.get_extent()[3] for image in fig.axes[0].images]
    assert tops == [-0.5, 2 * 30 - 0.5, 4 * 30 - 0.5]
    assert labels_of(fig) == ["original", "VAE\n(16, 4)", "difference", "4-layer VAE\n(16, 8, 6)",
                              "difference"]  # fmt: skip


def test_a_split_brings_its_class_names(model, split):
    some = split.take(torch.tensor([3, 9, 3]))
    fig = images.plot_reconstruction([model], some, titles=NAMES)
    titles = [text.get_text() for text in fig.axes[0].get_xticklabels()]
    assert titles == ["Dress", "Ankle\nboot", "Dress"]
    assert np.allclose(np.stack(cells_of(fig)[:3]), some.floats().view(-1, 28, 28))


def test_a_sampled_z_stands_beside_its_mean(model, x):
    plain = AutoEncoder(h_dim=8, z_dim=3)
    fig = images.plot_reconstruction([model, plain], x, 5, z="both")
    assert labels_of(fig) == ["original", "VAE\n(16, 4)", "from the mean", "AE\n(8, 3)"]
    rows = np.stack(cells_of(fig)).reshape(4, 5, 28, 28)
    mean = model.decode(model.latent(x[:5])).detach().view(-1, 28, 28)
    assert np.allclose(rows[2], mean, atol=1e-6) and not np.allclose(rows[1], mean, atol=1e-3)
    triples = cells_of(images.plot_reconstruction(model, x, 5, z="both"), width=84)
    assert np.allclose(np.stack(triples)[:, :, 56:], mean, atol=1e-6)
    with pytest.raises(ValueError, match='"sample", "mean" or "both", got \'median\''):
        images.plot_reconstruction(model, x, z="median")


class Recording(VAE3Layer):
    """Keeps the latents it decodes; the list is shared with copies of the model."""

    seen: list = []

    def decoder(self, z):
        self.seen.append(z)
        return super().decoder(z)


def test_all_models_get_the_same_noise():
    Recording.seen.clear()
    models = [Recording(h_dim=8, z_dim=z) for z in (4, 20, 70, 130)]
    images.plot_generation(models, 5)
    images.plot_generation(models[1], 5)
    widest = Recording.seen[3]
    assert widest.shape == (5, 130)
    for z in Recording.seen:
        assert torch.equal(z, widest[:, : z.shape[1]])
    assert abs(widest.mean()) < 0.2 and abs(widest.std() - 1) < 0.1


def test_reconstructions_repeat_whatever_the_random_state(model, x):
    first = images.reconstruct(model, x)
    torch.manual_seed(123)
    assert torch.equal(images.reconstruct(model, x), first)
    assert torch.equal(images.reconstruct(model, x.reshape(-1, 1, 28, 28)).flatten(1), first)
    again = images.reconstruct(model, x.double().requires_grad_())
    assert not again.requires_grad and torch.equal(again, first)


def test_every_copy_runs_in_evaluation_mode(x):
    class WithDropout(VAE3Layer):
        def encoder(self, x):
            return super().encoder(torch.nn.functional.dropout(x, 0.5, self.training))

    model = WithDropout(h_dim=8, z_dim=3).train()
    plain = VAE3Layer(h_dim=8, z_dim=3)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(images.reconstruct(model, x), images.reconstruct(plain, x))


class ConvVAE(nn.Module):
    """Written elsewhere: images (N, channels, 28, 28), no attribute z_dim, a last forward kept."""

    def __init__(self, channels=1, output=torch.sigmoid, keep=True):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(channels, 4, 4, 2, 1), nn.ReLU(), nn.Flatten())
        self.heads = nn.Linear(4 * 14 * 14, 2 * 6)
        self.up = nn.Linear(6, 4 * 14 * 14)
        self.out = nn.ConvTranspose2d(4, channels, 4, 2, 1)
        self.output, self.keep = output, keep

    def encode(self, x):
        return self.heads(self.down(x)).chunk(2, dim=1)

    def decode(self, z):
        return self.output(self.out(self.up(z).view(-1, 4, 14, 14)))

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = mu + torch.randn_like(mu) * (log_var / 2).exp()
        if self.keep:
            self.last = {"z": [z], "posterior": torch.distributions.Normal(mu, log_var.exp())}
        return self.decode(z), mu, log_var


def test_a_convolutional_vae_gets_images_in_their_shape(x):
    model = ConvVAE()
    square = x.view(-1, 1, 28, 28)
    model(square)  # keeps tensors that deepcopy refuses
    expected = images.reconstruct(model, square)
    assert expected.shape == square.shape
    assert torch.equal(images.reconstruct(model, x).view_as(square), expected)  # made square
    assert images.generate(model, 3).shape == (3, 1, 28, 28)
    cells = cells_of(images.plot_reconstruction(model, square, 30), width=56)
    assert np.allclose(np.stack(cells)[:, :, 28:], expected[:, 0])
    fig = images.plot_generation({"conv": model, "ours": VAE3Layer(h_dim=8, z_dim=6)}, 3)
    assert np.allclose(np.stack(cells_of(fig))[:3], images.generate(model, 3)[:, 0])
    assert model.last["z"][0].requires_grad  # the user's own is as it was


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_copy_is_float32_whatever_the_model_is(model, x, dtype):
    for each in (model, ConvVAE()):
        each.to(dtype)
        picture = images.plot_reconstruction(each, x.to(dtype))
        assert isinstance(picture, Figure) and isinstance(images.plot_generation(each), Figure)
        assert next(each.parameters()).dtype == dtype


def test_z_dim_is_found_or_asked_for_by_name():
    class OnlyDecoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(9, 784)

        def decode(self, z):
            return torch.sigmoid(self.up(z))

    assert images.generate(OnlyDecoder(), 2, z_dim=9).shape == (2, 784)
    assert isinstance(images.plot_generation({"a": OnlyDecoder()}, z_dim=9), Figure)
    with pytest.raises(ValueError, match="OnlyDecoder does not tell .* pass z_dim="):
        images.plot_generation(OnlyDecoder())
    with pytest.raises(ValueError, match=r"failed on z of shape \(24, 5\).*pass z_dim="):
        images.plot_generation(OnlyDecoder(), z_dim=5)


@pytest.mark.parametrize(
    "output, error, message",
    [
        (lambda t: 50 * t - 3, ValueError, r"values in \[.*sigmoid\(logits\)"),
        (torch.tanh, ValueError, r"\(t \+ 1\) / 2 of tanh"),
        (lambda t: {"x": t}, TypeError, "returned dict.*float tensor, or a tuple led by it"),
        (lambda t: t.sigmoid().byte(), TypeError, "returned torch.uint8"),
        (lambda t: t.sigmoid() * torch.nan, ValueError, "NaN or infinite pixels; train it anew"),
    ],
)
def test_other_outputs_are_refused_in_both_forms(x, output, error, message):
    torch.manual_seed(0)
    model = ConvVAE(output=output)
    square = x.view(-1, 1, 28, 28)
    for draw in (lambda m: images.plot_reconstruction(m, square), images.plot_generation):
        for form in (model, {"a": model}):
            with pytest.raises(error, match=message) as raised:
                draw(form)
            assert "\n" not in str(raised.value)


def test_shapes_are_drawn_right_or_refused(x):
    wide = x.view(-1, 1, 14, 56)
    ours = VAE3Layer(h_dim=8, z_dim=3)
    cells = cells_of(images.plot_reconstruction([ours], wide, 4), 14, 56)
    assert np.allclose(np.stack(cells[:4]), wide[:4, 0]) and len(cells) == 8
    fig = images.plot_generation(ours, 4, image_shape=(14, 56))
    assert np.allclose(cells_of(fig, 14, 56), images.generate(ours, 4).view(-1, 14, 56))
    colour = torch.rand(6, 3, 28, 28)
    pictures = cells_of(images.plot_reconstruction(ConvVAE(3), colour), width=56)
    assert np.allclose(np.stack(pictures)[:, :, :28], colour.permute(0, 2, 3, 1))
    for refused, message in [
        (lambda: images.plot_reconstruction([ConvVAE(3)][0], colour, errors=True), "gray images"),
        (lambda: images.image_rows({"a": torch.rand(2, 4, 8, 8)}), "4 x 8 x 8 values can not"),
        (lambda: images.image_rows({"a": torch.rand(2, 14 * 28)}), "392 values.*image_shape="),
        (lambda: images.plot_reconstruction(ConvVAE(), wide[..., :55]), "can not take"),
        (lambda: images.plot_generation(ours, image_shape=(3, 28, 28)), "one value per pixel"),
    ]:
        with pytest.raises(ValueError, match=message):
            refused()


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        (lambda x: None, TypeError, r"needs images.*first_of_each_class\(\)"),
        (lambda x: 24, TypeError, r"plot_reconstruction\(model, images, n=24\)"),
        (lambda x: x[:, :700], ValueError, r"\(N, 784\).*got \(24, 700\)"),
        (lambda x: x[0], ValueError, r"\(N, image_size\)"),
        (lambda x: x * 255, ValueError, r"\[0, 1\].*images / 255"),
        (lambda x: x - 0.5, ValueError, r"\[0, 1\]"),
        (lambda x: x * torch.nan, ValueError, "NaN"),
        (lambda x: (x * 255).byte(), TypeError, "uint8.*/ 255"),
        (lambda x: x.numpy(), TypeError, "from_numpy"),
    ],
)
def test_wrong_images_are_refused(model, x, wrong, error, message):
    with pytest.raises(error, match=message):
        images.plot_reconstruction(model, wrong(x))


def test_wrong_arguments_are_refused(model, x, split):
    for error, message, call in [
        (TypeError, "erors", lambda: images.plot_reconstruction(model, x, erors=True)),
        (TypeError, "n must be an int", lambda: images.plot_reconstruction(model, x, 2.5)),
        (ValueError, "at least 1", lambda: images.plot_generation(model, 0)),
        (TypeError, "nn.Module, got str", lambda: images.plot_generation("VAE")),
        (TypeError, "Linear has no label; pass .*{label: model",
         lambda: images.plot_generation([model, nn.Linear(2, 2)])),
        (ValueError, r"two models are called 'VAE \(16, 4\)'",
         lambda: images.plot_generation([model, model])),
        (ValueError, "models is empty", lambda: images.plot_generation({})),
        (ValueError, r"'a' has shape \(3, .*'b' has \(2,",
         lambda: images.image_rows({"a": x[:3], "b": x[:2]})),
        (ValueError, "'b' must have pixels", lambda: images.image_rows({"a": x, "b": -x})),
        (ValueError, "3 titles", lambda: images.image_rows({"a": x[:3]}, titles=["one"])),
        (ValueError, "Trouser", lambda: images.plot_samples_by_class(split, NAMES[:2], 4)),
        (ValueError, r"VAE: .* number of epochs, got \[5, 6\]",
         lambda: curves.plot_loss_curves({"VAE": [history(1, 5), history(1, 6)]})),
        (ValueError, "a: 10 means", lambda: curves.plot_class_losses({"a": [[1]] * 3}, NAMES)),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            call()


def test_samples_by_class_hold_their_class():
    labels = torch.arange(10).repeat(5)
    split = Split((20 * labels).byte()[:, None].expand(50, 784), labels)
    shown = np.stack(cells_of(images.plot_samples_by_class(split, NAMES, 3)))
    assert np.allclose(shown.reshape(3, 10, 784), (np.arange(10) * 20 / 255)[None, :, None])


# --- charts -------------------------------------------------------------------------------------


def test_no_two_models_look_alike_and_each_keeps_its_look():
    looks = style.Looks()
    given = [looks[f"model {i}"] for i in range(60)]
    assert len(set(given)) == 60 and len({look.color for look in given[:9]}) == 9
    assert looks["model 7"] == given[7]
    figures = [
        curves.plot_loss_curves({f"model {i}": [history(i)] for i in (40, 7)}, looks),
        curves.plot_loss_curves({f"model {i}": [history(1)] for i in range(41)}, looks, enlarge=3),
        curves.plot_kl_per_dimension({f"model {i}": [1.0, 2.0] for i in (7, 40)}, looks=looks),
        curves.plot_class_losses({f"model {i}": [range(10)] * 3 for i in (7, 40)}, NAMES, looks),
    ]
    for fig in figures:
        lines = fig.axes[0].lines
        for look in (given[7], given[40]):
            drawn = [line for line in lines if line.get_color() == look.color]
            assert look.marker in [line.get_marker() for line in drawn]


def test_loss_curves_show_mean_and_range_and_skip_the_first_drop():
    fig = curves.plot_loss_curves({"VAE": [history(240.0), history(242.0)]})
    total = fig.axes[0]
    solid = total.lines[0].get_ydata()
    assert solid[0] == 341 and solid[-1] == pytest.approx(241, abs=0.1)
    band = total.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(240, abs=0.1) and band.max() == 342
    assert total.get_ylim()[1] < 280  # the third of twelve epochs, not the first
    assert total.lines[1].get_linestyle() == ":" and len(fig.axes[1].lines) == 1


def test_an_autoencoder_has_no_kl_panel():
    titles = [
        [ax.get_title() for ax in curves.plot_loss_curves(group).axes]
        for group in ({"AE": [history(200.0, kl=0)]}, {"VAE": [history(240.0)]},
                      {"AE": [history(200.0, kl=0)], "VAE": [history(240.0)]})
    ]  # fmt: skip
    everything = ["loss", "reconstruction", "KL"]
    assert titles == [everything[:1], everything, everything[:2]]


def test_the_last_epochs_of_the_curves_near_the_best_are_enlarged():
    group = {"best": [history(240.0)], "near": [history(241.0)], "far": [history(250.0)]}
    whole, last = curves.plot_loss_curves(group, enlarge=3).axes
    assert [line.get_xdata().tolist() for line in last.lines] == [[10, 11, 12]] * 2
    assert [line.get_color() for line in last.lines] == list(style.COLORS[:2])
    eight = curves.plot_loss_curves({str(i): [history(240.0 + i)] for i in range(8)}, enlarge=3)
    assert [text.get_text() for text in eight.legends[0].get_texts()] == list("01234567")


def test_kl_is_sorted_and_marks_inactive_dimensions():
    kl, active = torch.tensor([0.02, 3.0, 1.0, 0.0]), torch.tensor([False, True, True, False])
    ax = curves.plot_kl_per_dimension({"a": kl}, {"a": active}).axes[0]
    line, filled, hollow = ax.lines[:3]
    assert np.allclose(line.get_ydata(), [3, 1, 0.02, 0.001])
    assert np.allclose(filled.get_xdata(), [1, 2]) and np.allclose(hollow.get_xdata(), [3, 4])


def test_a_class_is_numbered_where_it_is_densest():
    xy = np.concatenate([np.full((30, 2), 5.0), np.full((29, 2), -5.0), np.zeros((1, 2))])
    fig = curves.plot_latent_map({"a": (xy, np.full(60, 3))}, NAMES)
    (text,) = fig.axes[0].texts
    assert text.get_text() == "3" and abs(text.get_position()[0]) == 5  # not between the clumps
    assert [t.get_text() for t in fig.legends[0].get_texts()][3] == "3 Dress"


def test_a_note_is_written_once_and_covers_nothing(model):
    fig = images.plot_generation(model)
    style.mark(style.mark(fig, "short run"), "short run")
    assert len(fig.texts) == 1
    fig.draw_without_rendering()
    box = fig.texts[0].get_window_extent()
    assert box.y1 <= fig.axes[0].get_tightbbox().y0
    assert style.page_box(fig).y0 <= box.y0 / fig.dpi  # and it is saved with the figure


def test_architecture_boxes_are_to_scale():
    class Deep(VAE):
        def __init__(self, hidden):
            super().__init__(784, hidden, 10)

    models = [AutoEncoder(h_dim=400, z_dim=20), VAE4Layer(), Deep(()), Deep((500, 200, 50))]
    fig = plot_architectures(models)
    boxes = [[p for p in ax.patches if hasattr(p, "get_boxstyle")] for ax in fig.axes]
    sizes = [sorted(round(box.get_height() ** 2) for box in row) for row in boxes]
    assert sizes == [
        [20, 400, 400, 784, 784],
        [20, 20, 20, 100, 100, 400, 400, 784, 784],
        [10, 10, 10, 784, 784],
        [10, 10, 10, 50, 50, 200, 200, 500, 500, 784, 784],
    ]
    texts = [text.get_text() for text in fig.axes[1].texts]
    assert [texts.count(size) for size in ("784", "400", "100", "20")] == [2, 2, 2, 1]
    assert {"$x$", "$h_{1}$", "$h_{4}$", r"$\mu$", r"$\sigma$", "$z$", "$x_2$"} <= set(texts)
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == [model.label for model in models]


# --- tables and display -------------------------------------------------------------------------

RESULTS = {
    "floor": {"test": 1189.9},
    "models": {
        "vae3": {"label": "VAE (400, 20)", "test_loss": {"mean": 239.46, "sd": 0.14},
                 "validation_loss": {"mean": 240.0, "sd": 0.1},
                 "frechet": {"mean": 99.0, "sd": 1.0}, "frechet_gaussian": {"mean": 80, "sd": 2}},
        "ae": {"label": "AE (400, 50)", "test_loss": {"mean": 225.0, "sd": 0.2},
               "frechet": {"mean": 250.26, "sd": 1.0}},
    },
    "comparisons": {"a": {"a": "vae3", "b": "ae", "test_loss": {
        "mean": -1.94, "low": -2.1, "high": -1.77, "confidence": 0.95, "verdict": "lower"},
        "frechet": {"mean": -0.004, "low": -0.006, "high": -0.002, "verdict": "lower"}}},
    "rankings": {"b": {"best": "vae3", "order": ["vae3", "ae"], "ae": {"test_loss": {
        "mean": 0.3, "low": -0.1, "high": 0.7, "confidence": 0.99, "verdict": "tie"}}}},
    "recipes": {"given": {"vae3": {"test_loss": {"mean": 245.0, "sd": 1.0}}}},
}  # fmt: skip


def rows_of(table: tables.Table) -> list[list[str]]:
    stored = tables.Table(**json.loads(json.dumps(asdict(table))))  # as results.json keeps it
    lines = stored.markdown(RESULTS).splitlines()
    assert len({len(line) for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_tables_show_the_results():
    models = tables.model_table(["vae3", "ae"], ["test_loss", "validation_loss"])
    assert rows_of(models) == [["VAE (400, 20)", "239.46 ± 0.14", "240.00 ± 0.10"],
                               ["AE (400, 50)", "225.00 ± 0.20", "–"]]  # fmt: skip
    given = tables.model_table(["vae3"], ["test_loss"], "given")
    assert rows_of(given) == [["VAE (400, 20)", "245.00 ± 1.00"]]
    compared = tables.comparison_table("a", "ae", "vae3", ["test_loss", "frechet"])
    assert ["AE (400, 50)", "VAE (400, 20)"] == [
        cell.strip() for cell in compared.markdown(RESULTS).split("|")[2:4]]  # fmt: skip
    # an interval beside zero is not rounded onto it
    assert rows_of(compared) == [
        ["Test loss", "225.00", "239.46", "−1.94", "−2.10 to −1.77"],
        ["Frechet distance", "250.3", "99.0", "−0.004", "−0.006 to −0.002"]]  # fmt: skip
    ranking = tables.ranking_table("b", ["vae3", "ae"], ["test_loss", "test_loss-best"])
    assert [row[1:] for row in rows_of(ranking)] == [
        ["239.46 ± 0.14", "–", "–"], ["225.00 ± 0.20", "0.30", "−0.10 to 0.70"]]  # fmt: skip
    samplers = tables.sampler_table(["vae3"], ["frechet"], ["prior", "gaussian"])
    assert [row[1:] for row in rows_of(samplers)] == [["$N(0, I)$", "99.0 ± 1.0"],
                                                      ["Gaussian", "80.0 ± 2.0"]]  # fmt: skip
    free = tables.Table(["", "Value"], [["Floor", "{floor.test:1}"], ["Best", "{b.best}"],
                        ["Given", "{given.vae3.test_loss:0}"]])  # fmt: skip
    assert rows_of(free) == [["Floor", "1,189.9"], ["Best", "vae3"], ["Given", "245"]]
    assert tables.number(-0.04, 1) == "0.0"


def test_paths_lead_to_models_comparisons_rankings_recipes_and_the_top():
    paths = {"vae3.test_loss": 239.46, "vae3.test_loss.sd": 0.14, "a.test_loss.verdict": "lower",
             "b.ae.test_loss": 0.3, "given.vae3.test_loss": 245.0, "floor.test": 1189.9}
    assert {path: tables.look_up(RESULTS, path) for path in paths} == paths
    with pytest.raises(KeyError, match=r"no 'vae3.test_los' \(stopped at 'test_los'\)"):
        tables.look_up(RESULTS, "vae3.test_los")
    with pytest.raises(KeyError, match="stopped at 'flor'"):
        tables.Table(["a"], [["{flor.test:1}"]]).markdown(RESULTS)
    with pytest.raises(ValueError, match="no column 'tset_loss'; there are"):
        tables.model_table(["vae3"], ["tset_loss"])


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    record = lambda data, raw, metadata=None: outputs.append((data, metadata))  # noqa: E731
    monkeypatch.setattr(display, "display", record)
    return outputs


def test_figures_and_tables_are_numbered_and_print_as_they_should(shown, model):
    display.show_figure(images.plot_generation(model), 3, "Many\n  spaces.", "short run")
    display.show_figure(curves.plot_kl_per_dimension({"a": [1.0]}), 4, "Lines.")
    display.show_table("| a |\n|---|\n| 1 |", 2, "One.")
    kinds = [sorted(data) for data, _ in shown]
    markdown = ["text/markdown", "text/plain"]
    assert kinds == [["image/png", "text/plain"], markdown,
                     ["application/pdf", "image/png", "text/plain"], markdown, markdown]
    assert shown[1][0]["text/markdown"] == "**Figure 3.** Many spaces."
    assert shown[4][0]["text/markdown"] == "**Table 2.** One.\n\n| a |\n|---|\n| 1 |"
    for index in (0, 2):
        assert shown[index][1]["image/png"]["width"] == pytest.approx(6.3 * 96, abs=2)
    for _ in range(2):  # the same values give the same bytes
        display.display_picture(curves.plot_kl_per_dimension({"a": [1.0, 2.0]}))
    assert shown[5] == shown[6]
    for wrong in ("", "   ", None):
        with pytest.raises(ValueError, match="caption of Table 2"):
            display.show_table("| a |", 2, wrong)
    with pytest.raises(ValueError, match="pipe table"):
        display.show_table("a", 2, "One.")


def test_banner_and_source(shown):
    display.show_banner("stand-in", "Not Fashion-MNIST.")
    assert shown[0][1] == {"stand_in": True}
    display.show_source(VAE4Layer, VAE.loss)
    (data, _) = shown[1]
    assert list(data) == ["text/html"]  # so that the PDF leaves it out
    assert all(name in data["text/html"] for name in ("VAE4Layer", "h3_to_h4", "generator"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_any_device(model, x):
    on_cpu = images.reconstruct(model, x)
    state = torch.cuda.get_rng_state()
    model.cuda()
    assert torch.allclose(images.reconstruct(model, x.cuda()), on_cpu, atol=1e-5)
    assert isinstance(images.plot_generation(model), Figure)
    assert next(model.parameters()).is_cuda and torch.equal(torch.cuda.get_rng_state(), state)
