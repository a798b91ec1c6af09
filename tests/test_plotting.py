"""Figures: same images and noise for all, sharp pixels, no trace in models or random states."""

import random
from itertools import pairwise
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT, python
from matplotlib.backends.backend_agg import FigureCanvasAgg
from nbclient import NotebookClient
from torch import nn
from torch.optim.swa_utils import AveragedModel

from vae_helpers.data import CLASS_NAMES, Split
from vae_helpers.models import AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.plotting import curves, display, images, outputs, style
from vae_helpers.plotting.diagram import plot_architectures

mpl.use("Agg")
X = torch.rand(30, 784, generator=torch.Generator().manual_seed(1))
SQUARE = X.view(-1, 1, 28, 28)
SPLIT = Split((X * 255).byte(), torch.arange(30) % 10)


@pytest.fixture
def model():
    plt.close("all")
    torch.manual_seed(0)
    return VAE3Layer(h_dim=16, z_dim=4)


def history(level: float, epochs: int = 12, kl: float = 1.0) -> dict:
    curve = level + 100.0 * 0.5 ** np.arange(epochs)
    terms = {"total": curve, "reconstruction": curve, "kl": kl * curve}
    return {f"{s}_{term}": list(v) for s in ("train", "validation") for term, v in terms.items()}


def trained(model, order=0, *levels):
    """As `study.train` returns it."""
    histories = [history(level) for level in levels]
    return SimpleNamespace(model=model, label=model.label, order=order, histories=histories)


def every_figure(model) -> list:
    reconstruct, losses = images.plot_reconstruction, curves.plot_loss_curves
    other, four, ten = AutoEncoder(h_dim=8, z_dim=3), VAE4Layer(), SPLIT.first_of_each_class()
    seven = {f"VAE (400, {i})": model for i in range(7)}
    many = {str(i): [history(240.0 + i)] for i in range(8)}
    return [
        lambda: reconstruct(model, X),
        lambda: reconstruct([model, other], ten, errors=True, titles=CLASS_NAMES),
        lambda: reconstruct(seven, ten, titles=CLASS_NAMES),
        lambda: images.plot_generation(model),
        lambda: images.image_rows({"one": X[:13], "two": X[13:26]}),
        lambda: images.plot_samples_by_class(SPLIT, CLASS_NAMES, 3),
        lambda: losses(trained(model, 0, 240.0, 241.0)),
        lambda: losses(many, enlarge=3),
        lambda: curves.plot_lines({"a": ([1, 2], [3, 4], [1, 1])}, "x", "y"),
        lambda: plot_architectures([model, other, four]),
    ]


def test_every_figure_fills_the_page_and_leaves_no_trace(model):
    model.train()
    model.x_to_h.eval()  # a mixed mode must come back mixed
    figures, states = every_figure(model), (torch.get_rng_state(), np.random.get_state()[1].copy())
    others = random.getstate(), [dict(vars(m)) for m in model.modules()]
    with mpl.rc_context({"font.size": 20, "axes.titlesize": 20, "axes.spines.top": True}):
        before = dict(mpl.rcParams)  # which neither reach into the figures nor are changed
        for i, draw in enumerate(figures):
            fig = draw()
            box = style.page_box(fig)
            assert box.height < 4.5 and box.width == pytest.approx(6.3, abs=0.02), i
            assert not fig.axes[0].images or fig.axes[0].get_tightbbox().width > 5.8 * fig.dpi, i
            style.mark(style.mark(fig, "quick run"), "quick run")
            (note,) = fig.texts  # once, where it covers nothing, and saved with the figure
            plt.savefig("/dev/null", format="png", dpi=50)
            assert plt.gcf() is fig
            lowest = min(ax.get_tightbbox().y0 for ax in fig.axes)
            assert fig.dpi * style.page_box(fig).y0 <= note.get_window_extent().y0, i
            assert note.get_window_extent().y1 <= lowest, i
        assert dict(mpl.rcParams) == before
    assert fig.axes[0].title.get_fontsize() == 8.5 and not fig.axes[0].spines.top.get_visible()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert others == (random.getstate(), [dict(vars(m)) for m in model.modules()])


def test_titles_of_many_rows_stay_in_the_saved_picture():
    models = [VAE3Layer(h_dim=4, z_dim=size) for size in range(1, 7)]
    fig = images.plot_reconstruction(models, SPLIT.first_of_each_class(), titles=CLASS_NAMES)
    box = style.page_box(fig)
    fig.draw_without_rendering()  # as saving does, which lays the figure out once more
    ink = fig.get_tightbbox()
    assert box.y0 <= ink.y0 and ink.y1 <= box.y1


# --- where pictures appear ----------------------------------------------------------------------

START = f"""
import sys, torch
sys.path.insert(0, {str(ROOT)!r})
from vae_helpers.models import VAE3Layer
from vae_helpers.plotting.display import render, show_figure
from vae_helpers.plotting.images import plot_generation, plot_reconstruction
model, x = VAE3Layer(h_dim=16, z_dim=4), torch.rand(30, 784)
assert "matplotlib.pyplot" not in sys.modules
"""
MINE = """import matplotlib.pyplot as plt
plt.figure(figsize=(8, 3))
plot_generation(model)
plt.title("mine")
plt.savefig("{0}/mine.png")
plt.show()
assert plt.imread("{0}/mine.png").shape[1] == 1260
"""


def test_a_real_kernel_shows_every_picture_once(tmp_path):
    two = "small, large = plot_generation(model, 12), plot_reconstruction(model, x)\n"
    cells = {  # and how many pictures it shows
        START: 0,
        "plot_generation(model)": 1,
        "plot_generation(model);": 1,
        "plot_generation(model)\nafter = 1": 1,
        "for _ in range(3):\n    plot_generation(model)": 3,
        "plot_generation(model, 12)\nplot_reconstruction(model, x)": 2,
        f"{two}large": 2,
        "large": 1,  # again, on demand
        "display(plot_reconstruction([model], x))": 1,
        MINE.format(tmp_path): 1,
        "assert not plt.get_fignums()": 0,
        "plt.figure()\nplot_generation(model)": 1,
        "_, ax = plt.subplots()\nplot_generation(model)\nax.plot([1, 2]); plt.show()": 2,
        f"{two}display(large)\ndisplay(small)": 2,
        f"{two}plt.figure(small.number);": 2,
        f"{two}show_figure(small, 1, 'One.'); show_figure(large, 2, 'Two.')": 2,
        "%matplotlib inline\nshow_figure(plt.figure(), 1, 'One.')": 1,
        "render(plot_generation(model), 'png');": 0,  # kept in a file
        "try:\n    plot_generation('VAE')\nexcept TypeError:\n    pass": 0,
    }
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    NotebookClient(notebook, kernel_name="python3").execute()
    for cell, expected in zip(notebook.cells, cells.values(), strict=True):
        shown = [o.data for o in cell.outputs if o.output_type != "stream"]
        assert all("image/png" in o or "text/markdown" in o for o in shown), cell.source
        sizes = [len(o["image/png"]) for o in shown if "image/png" in o]
        assert len(sizes) == expected, cell.source
        assert sizes == sorted(sizes) or "ax." in cell.source  # in the order of their making


def test_a_script_with_agg_saves_what_it_drew(tmp_path):
    """An empty figure is replaced, one that holds axes is left, a second picture is a second."""
    script = f"""{START}
import matplotlib
matplotlib.use("Agg")
{MINE.format(tmp_path)}
figure, ax = plt.subplots()
plot_generation(model)
plt.figure("pairs")
plot_reconstruction(model, x)
plt.savefig("{tmp_path}/pairs.png")
assert plt.get_fignums() == [1, 2, 3, 4] and figure.axes == [ax] and not ax.images
"""
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    mine, pairs = (plt.imread(tmp_path / f"{name}.png") for name in ("mine", "pairs"))
    assert mine.shape[1] == pairs.shape[1] == 1260 and len(mine) < len(pairs) and pairs.std() > 0.1


# --- images -------------------------------------------------------------------------------------


def made(given, x=X) -> torch.Tensor:
    return outputs.reconstruct(given, x)[0]


def drawn(given, n=24, **options) -> torch.Tensor:
    return outputs.generate(given, n, **options)[0]


def cells_of(fig, height=28, width=28) -> np.ndarray:
    """The cells of the grid that hold an image (N, H, W, 3), from the pixels of the figure."""
    pixels = np.asarray(fig.axes[0].images[0].get_array())
    down, across = (range(0, n, s + 2) for n, s in zip(pixels.shape, (height, width), strict=False))
    cells = [pixels[y : y + height, x : x + width] for y in down for x in across]
    return np.stack([cell for cell in cells if not (cell == 1).all()])


def same(cells: np.ndarray, expected: torch.Tensor) -> bool:
    """Whether gray cells hold these images."""
    return np.allclose(cells, expected.detach().reshape(cells.shape[:3])[..., None], atol=1e-6)


def labels_of(fig, axis: str = "y") -> list[str]:
    return [text.get_text() for text in getattr(fig.axes[0], f"get_{axis}ticklabels")()]


@pytest.mark.parametrize("n", [1, 13, 24])
def test_one_model_fills_a_grid_with_n_images(model, n):
    cells = cells_of(images.plot_reconstruction(trained(model), X, n), width=56)
    assert same(cells[:, :, :28], X[:n]) and same(cells[:, :, 28:], made(model, X[:n]))
    expected = model.decode(outputs.latent_noise(n, 4))
    assert same(cells_of(images.plot_generation(trained(model), n)), expected)


def test_a_drawn_pixel_is_one_flat_square():
    """Rendered, not asked: a checkerboard shows only black, white and the page."""
    board = (torch.arange(784) % 28 + torch.arange(784) // 28) % 2
    fig = images.image_rows({"": board.float()[None]})
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    box = fig.axes[0].get_window_extent()
    shown = np.asarray(canvas.buffer_rgba())[:, :, 0]
    x0, y0 = int(box.x0) + 3, shown.shape[0] - int(box.y1) + 3
    assert set(np.unique(shown[y0 : y0 + 100, x0 : x0 + 100])) == {0, 255}


def test_rows_of_several_models_their_differences_errors_and_titles(model):
    other = VAE4Layer(h_dims=(16, 8), z_dim=6)
    fig = images.plot_reconstruction([trained(model), other], X, 10, errors=True)
    a, b, c = X[:10], made(model, X[:10]), made(other, X[:10])
    cells = cells_of(fig).reshape(5, 10, 28, 28, 3)
    assert all(same(cells[row], expected) for row, expected in [(0, a), (1, b), (3, c)])
    for row, difference in [(2, b - a), (4, c - a)]:
        expected = images.SIGNED((difference.view(-1, 28, 28).numpy() + 1) / 2)[..., :3]
        assert np.allclose(cells[row], expected, atol=0.02)
    ends = {t.get_text(): t.get_position()[1] // 30 for t in fig.axes[0].texts if t.get_text()}
    means = [f"{(m - a).abs().mean():.3f}" for m in (b, c)]
    assert ends == {"mean\n|error|": -1, means[0]: 1, means[1]: 3}  # text: row
    lightness = images.SIGNED(np.linspace(0, 1, 50))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 0).all() and np.ptp(lightness) > 0.8  # in gray print, too
    labels = ["original", "VAE\n(16, 4)", "difference", "4-layer VAE\n(16, 8, 6)", "difference"]
    assert labels_of(fig) == labels
    some = SPLIT.take(torch.tensor([3, 9, 3]))
    fig = images.plot_reconstruction([model], some, titles=CLASS_NAMES)
    assert labels_of(fig, "x") == ["Dress", "Ankle\nboot", "Dress"]
    assert same(cells_of(fig)[:3], some.floats())
    fig = images.plot_samples_by_class(SPLIT, CLASS_NAMES, 3)
    assert same(cells_of(fig), SPLIT.floats()) and labels_of(fig, "x")[3] == "Dress"


def test_a_draw_of_z_is_decoded_or_its_mean_or_both(model):
    plain, x = AutoEncoder(h_dim=8, z_dim=3), X[:10]
    draw, means = made(model, x), model.decode(model.latent(x))
    assert not torch.allclose(draw, means, atol=1e-3)
    fig = images.plot_reconstruction([model, plain], x, z="both")
    expected = [x, draw, means, plain.decode(plain.latent(x))]  # nothing to draw: one row
    assert same(cells_of(fig), torch.cat(expected))
    assert labels_of(fig) == ["original", "VAE\n(16, 4)", "VAE\n(16, 4)\nz = mean", "AE\n(8, 3)"]
    fig = images.plot_reconstruction(model, x, z="mean")
    assert same(cells_of(fig, width=56)[:, :, 28:], means)


def test_all_models_get_the_same_noise_whatever_the_random_state_and_the_mode():
    widest = outputs.latent_noise(50, 130)
    assert all(torch.equal(outputs.latent_noise(50, z), widest[:, :z]) for z in (4, 20, 70))
    assert abs(widest.mean()) < 0.05 and abs(widest.std() - 1) < 0.05

    class WithDropout(VAE3Layer):
        def encoder(self, x):
            return super().encoder(torch.nn.functional.dropout(x, 0.5, self.training))

    model, plain = WithDropout(h_dim=8, z_dim=3).train(), VAE3Layer(h_dim=8, z_dim=3)
    plain.load_state_dict(model.state_dict())
    first = made(plain)
    torch.manual_seed(123)
    for x in (X, SQUARE, X.double().requires_grad_()):
        again = made(model, x)
        assert not again.requires_grad and torch.equal(again.flatten(1), first)


class ConvVAE(nn.Module):
    """Written elsewhere: images (N, channels, 28, 28), no attribute z_dim, a last forward kept, and
    noise on a device of its own."""

    def __init__(self, channels=1, output=torch.sigmoid, device="cpu"):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 12, 28), nn.ConvTranspose2d(6, channels, 28)
        self.output, self.device = output, device

    def decode(self, z):
        return self.output(self.up(z[:, :, None, None]))

    def forward(self, x):
        mu, log_var = self.down(x).flatten(1).chunk(2, dim=1)
        noise = torch.randn(mu.shape, dtype=mu.dtype, device=self.device)
        self.last = {"z": [mu + noise * (log_var / 2).exp()]}
        return self.decode(*self.last["z"]), mu, log_var


class Modules(nn.Module):
    """Encoder and decoder as modules, as most public autoencoders have them; and it holds what
    can not be copied."""

    def __init__(self, encoder, decoder, output=nn.Identity):
        super().__init__()
        self.encoder, self.decoder, self.output = encoder, decoder, output()

    def forward(self, x):
        return self.output(self.decoder(self.encoder(x)))

    def __deepcopy__(self, memo):
        raise TypeError("can not pickle '_thread.lock' object")


def test_a_convolutional_vae_gets_images_in_their_shape():
    model = ConvVAE()
    model(SQUARE)
    kept, expected = model.last, made(model, SQUARE)
    assert torch.equal(made(model).view_as(SQUARE), expected)  # made square
    pairs = cells_of(images.plot_reconstruction(model, SQUARE, 30), width=56)
    assert same(pairs[:, :, 28:], expected)
    fig = images.plot_generation({"conv": model, "ours": VAE3Layer(h_dim=8, z_dim=6)})
    assert same(cells_of(fig)[:12], drawn(model, 12))
    assert model.last is kept and kept["z"][0].requires_grad  # the user's own is as it was
    with pytest.raises(ValueError, match=r"shape \(24, 5\).*pass z_dim="):
        images.plot_generation(model, z_dim=5)


@pytest.mark.parametrize("place", [torch.float64, torch.float16, torch.bfloat16, "cuda"])
def test_a_model_runs_in_its_own_precision_and_where_it_is(model, place):
    if place == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    for each in (model, ConvVAE()):
        expected, each.device = drawn(each), "cuda" if place == "cuda" else "cpu"
        weight = next(each.to(place).parameters())
        state = torch.cuda.get_rng_state() if place == "cuda" else None
        assert torch.equal(made(each, X.to(place)), made(each))
        assert torch.allclose(drawn(each), expected, atol=0.02)  # float32, too
        assert place in (weight.dtype, weight.device.type)
        assert state is None or torch.equal(torch.cuda.get_rng_state(), state)


def test_a_decoder_is_used_where_there_is_no_decode_and_wrappers_are_opened(model):
    z, maps = outputs.latent_noise(5, 3), outputs.latent_noise(5, 98).view(5, 2, 7, 7)
    up, wide = nn.Sequential(nn.Linear(3, 784), nn.Sigmoid()), nn.ConvTranspose2d(2, 1, 4, 4)
    flat = Modules(nn.Linear(784, 3), up)
    conv = Modules(nn.Conv2d(1, 2, 4, 4), nn.Sequential(wide, nn.Sigmoid()))
    assert torch.equal(drawn(flat, 5), up(z)) and torch.equal(drawn(conv, 5), conv.decoder(maps))
    for inner in (flat, model):
        averaged, compiled = AveragedModel(model), torch.compile(inner, backend="eager")
        averaged.module = inner
        for wrapped in (nn.DataParallel(inner), averaged, compiled, nn.DataParallel(compiled)):
            assert torch.equal(drawn(wrapped), drawn(inner))
            assert torch.equal(made(wrapped), made(inner))
    bare = nn.Sequential(nn.Linear(784, 3), nn.Linear(3, 784), nn.Sigmoid())
    with pytest.raises(TypeError, match="^Sequential has neither decode nor decoder; pass decode="):
        images.plot_generation(bare)
    cells = cells_of(images.plot_generation(bare, 5, z_dim=3, decode=bare[1:]))
    assert same(cells, bare[1:](z))


def test_logits_are_recognised_and_named(model):
    fresh = Modules(nn.Linear(784, 3), nn.Linear(3, 784), nn.Sigmoid)  # its logits are small
    nn.init.uniform_(fresh.decoder.weight, -0.1, 0.1)
    fig, logits = images.plot_generation(fresh), fresh.decoder(outputs.latent_noise(24, 3))
    assert logits.min() > -3 and same(cells_of(fig), torch.sigmoid(logits))
    assert fig.axes[0].get_title().endswith("(sigmoid of logits)")
    far, named = ConvVAE(output=lambda t: 50 * t - 30), "ConvVAE\n(sigmoid of logits)"
    assert labels_of(images.plot_reconstruction([far, fresh], X)) == ["original", named, "Modules"]
    assert labels_of(images.plot_generation([model, far])) == ["VAE\n(16, 4)", named]
    assert "(sigmoid of logits)" in images.plot_reconstruction(far, X).axes[0].get_title()


def test_other_outputs_are_refused_in_both_forms():
    for output, error, message in [
        (lambda t: t - 1, ValueError, r"values in \[.*sigmoid\(logits\)"),
        (torch.tanh, ValueError, r"\(t \+ 1\) / 2 of tanh"),
        (lambda t: {"x": t}, TypeError, "returned dict.*float tensor, or a tuple led by it"),
        (lambda t: t.sigmoid().byte(), TypeError, "returned torch.uint8"),
        (lambda t: t.sigmoid() * torch.nan, ValueError, r"\[nan, nan\]"),
    ]:
        model = ConvVAE(output=output)
        for form in (model, {"a": model}):
            for draw in (images.plot_generation, lambda m: images.plot_reconstruction(m, X)):
                with pytest.raises(error, match=f"^.*{message}.*$"):  # in one line
                    draw(form)


def test_other_shapes_and_colours_are_drawn_right(model):
    wide, colour = X.view(-1, 1, 14, 56), torch.rand(6, 3, 28, 28)
    cells = cells_of(images.plot_reconstruction([model], wide, 4), 14, 56)
    assert same(cells[:4], wide[:4]) and len(cells) == 8
    pictures = cells_of(images.plot_reconstruction(ConvVAE(3), colour, errors=True))
    assert np.allclose(pictures[:6], colour.permute(0, 2, 3, 1)) and len(pictures) == 18


def test_wrong_arguments_are_refused(model):
    draw, make, rows = images.plot_reconstruction, images.plot_generation, images.image_rows
    given, losses, lines = AutoEncoder(), curves.plot_loss_curves, curves.plot_lines
    given.given_to_train, lost = True, ConvVAE(device="nowhere")  # where its noise is drawn
    untrained = r"^AE \(400, 20\) was given to train\(\), .*: draw what train returned, as in \(tr"
    for error, message, call in [
        (TypeError, r"needs images.*first_of_each_class\(\)", lambda: draw(model)),
        (TypeError, r"plot_reconstruction\(model, images, n=24\)", lambda: draw(model, 24)),
        (ValueError, "images of 700 values can not be drawn", lambda: draw(model, X[:, :700])),
        (ValueError, r"\[0, 1\].*images / 255$", lambda: draw(model, X * 255)),
        (ValueError, r"-1, 1\] pass \(images \+ 1\) / 2$", lambda: draw(model, 2 * X - 1)),
        (ValueError, 'z must be "sample", "mean" or "both"', lambda: draw(model, X, z="draw")),
        (TypeError, 'ConvVAE .*pass z="sample"', lambda: draw(ConvVAE(), X, z="mean")),
        (ValueError, "12 titles", lambda: draw(model, X, titles=["one"])),
        (ValueError, r"^ConvVAE can not take .*\(.*nowhere.*move it to its", lambda: draw(lost, X)),
        (ValueError, r"^ConvVAE does not tell .* pass z_dim=", lambda: make(lost)),
        (ValueError, untrained, lambda: draw([model, given], X)),
        (ValueError, untrained, lambda: make(given)),
        (ValueError, "at least 1", lambda: make(model, 0)),
        (TypeError, "model must be a Module, got str", lambda: make("VAE")),
        (ValueError, r"different labels, .*pass {label: m", lambda: make([model, model])),
        (ValueError, "models is empty", lambda: make({})),
        (ValueError, "decode= is for one model", lambda: make([model, given], decode=len)),
        (ValueError, r"got \[\(2, 28.*, \(3, 28", lambda: rows({"a": X[:3], "b": X[:2]})),
        (ValueError, "'b' must have pixels", lambda: rows({"a": X, "b": -X})),
        (ValueError, "4 x 8 x 8 values can not", lambda: rows({"a": torch.rand(2, 4, 8, 8)})),
        (ValueError, "Trouser", lambda: images.plot_samples_by_class(SPLIT, CLASS_NAMES[:2], 4)),
        (
            ValueError,
            r"with epochs \[5, 6\]",
            lambda: losses({"a": [history(1, 5), history(1, 6)]}),
        ),
        (ValueError, r"VAE \(16, 4\) must be what .*train returned", lambda: losses([model])),
        (ValueError, r"a: x, y .*\[2, 1\]", lambda: lines({"a": ([1, 2], [1])}, "", "")),
        (TypeError, "must be a Model, got Linear", lambda: plot_architectures(nn.Linear(2, 2))),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert not plt.get_fignums()  # nor is half a figure left


# --- charts -------------------------------------------------------------------------------------


def test_no_two_models_look_alike_and_each_keeps_its_look(model):
    looks = [style.look_of(i) for i in range(60)]
    assert len(set(looks)) == 60 and len({look.color for look in looks[:9]}) == 9
    seventh, other = trained(model, 7, 240), trained(AutoEncoder(), 40, 230)
    for group in ([seventh, other], [other, seventh], {"VAE (16, 4)": seventh}, seventh):
        lines = curves.plot_loss_curves(group).axes[0].lines
        found = {(line.get_label(), line.get_color(), line.get_marker()) for line in lines}
        assert ("VAE (16, 4)", *looks[7][:2]) in found
        assert (("AE (400, 20)", *looks[40][:2]) in found) == isinstance(group, list)
    assert style.looks_of([9, 5, 0, 14]) == [looks[i] for i in (10, 5, 0, 15)]  # 9 has 0's colour
    assert style.looks_of(range(12)) == looks[:12]  # no colour is left for the last three


def test_loss_curves_show_mean_and_range_and_skip_the_first_drop():
    total, other, _ = curves.plot_loss_curves({"VAE": [history(240.0), history(242.0)]}).axes
    assert total.lines[0].get_ydata()[[0, -1]] == pytest.approx([341, 241], abs=0.1)
    band = total.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(240, abs=0.1) and band.max() == 342
    assert total.get_ylim()[1] < 280  # the third of twelve epochs, not the first
    assert total.lines[1].get_linestyle() == ":" and len(other.lines) == 1
    vae, plain = {"VAE": [history(240.0)]}, {"AE": [history(200.0, kl=0)]}
    for group, titles in [
        (plain, ["loss"]),
        (vae, ["loss", "reconstruction", "KL"]),
        (plain | vae, ["loss", "reconstruction"]),
    ]:
        assert [ax.get_title() for ax in curves.plot_loss_curves(group).axes] == titles


def test_the_last_epochs_of_the_best_curves_are_enlarged_and_named_where_they_end():
    for levels, shown in [
        ([240, 250, 240.2, 241, 240.4, 240.21, 252], "02543"),  # all that end near the best
        ([131, 100, 118, 104, 109, 107, 112], "1354"),  # or the best four, if they lie apart
    ]:
        group = {str(i): [history(level)] for i, level in enumerate(levels)}
        figure = curves.plot_loss_curves(group, enlarge=3)
        figure.draw_without_rendering()
        lines = {line.get_label(): line for line in figure.axes[1].lines}
        assert {tuple(line.get_xdata()) for line in lines.values()} == {(10, 11, 12)}
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list("0123456")
        names = {text.get_text(): text for text in figure.axes[1].texts}
        assert [*names] == list(shown) and set(names) == set(lines)  # from the lowest end up
        assert all(names[i].xy == (12, line.get_ydata()[-1]) for i, line in lines.items())
        boxes = [mpl.text.Text.get_window_extent(name) for name in names.values()]
        assert all(a.y0 + 0.8 * a.height < b.y0 for a, b in pairwise(boxes))  # none on another


def test_lines_show_their_points_intervals_marks_and_reference(model):
    series = {"300 units": ([5, 40], [242.1, 238.9], [0.5, 0.25]), "400 units": ([10], [239.0])}
    asked, text = {"asked for": [(40, 238.9), (10, 239.0)]}, [(5, 242.1, "the smallest")]
    floor = ("floor", 177.5)
    curves.plot_lines(series, "z_dim", "nats", marked=asked, texts=text, reference=floor)
    labels = [text.get_text() for text in plt.gcf().legends[0].get_texts()]
    assert labels == ["300 units", "400 units", "asked for", "floor"]
    lines = {line.get_label(): line for line in plt.gca().lines}
    first, second, asked, floor = (lines[label] for label in labels)
    assert [*first.get_ydata()] == [242.1, 238.9] and [*asked.get_xdata()] == [40, 10]
    assert set(floor.get_ydata()) == {177.5} and plt.gca().texts[0].get_text() == "the smallest"
    (bars,) = (bars for bars in plt.gca().collections if bars.get_segments())
    limits = np.array([242.1 - 0.5, 242.1 + 0.5, 238.9 - 0.25, 238.9 + 0.25])
    assert np.allclose(np.concatenate(bars.get_segments())[:, 1], limits)
    assert first.get_marker() != second.get_marker() != asked.get_marker()
    assert (plt.gca().get_xlabel(), plt.gca().get_ylabel()) == ("z_dim", "nats")


def test_a_points_text_stands_on_the_side_where_no_other_line_is():
    series = {"upper": ([9, 1], [3.0, 5.0]), "lower": ([1, 9], [4.0, 2.0])}
    ends = [(x, y, "end") for each in series.values() for x, y in zip(*each, strict=True)]
    curves.plot_lines(series, "x", "y", texts=ends)
    sides = {text.xy: text.get_position()[1] > 0 for text in plt.gca().texts}
    assert sides == {(x, y): y in (3, 5) for x, y, _ in ends}


def test_architecture_boxes_are_to_scale():
    given = [trained(AutoEncoder(h_dim=400, z_dim=20)), VAE4Layer()]
    given[1].given_to_train = True  # its layers are what they were
    fig = plot_architectures(given)
    sizes = [[round(bar[0].get_height() ** 2) for bar in ax.containers] for ax in fig.axes]
    assert sizes == [[784, 400, 20, 400, 784], [784, 400, 100, 20, 20, 20, 100, 400, 784]]
    texts = {text.get_text() for text in fig.axes[1].texts}
    assert {"784", "100", "20", "$h_{1}$", "$h_{4}$", r"$\mu$", r"$\sigma$", "$x_2$"} <= texts


# --- tables and display -------------------------------------------------------------------------


def test_what_is_shown_is_numbered_and_prints_as_it_should(monkeypatch, model):
    shown = []
    record = lambda data, raw, metadata=None: shown.append((data, metadata))  # noqa: E731
    monkeypatch.setattr(display, "display", record)
    display.show_figure(images.plot_generation(model), 3, "Many\n  spaces.", "short run")
    for _ in range(2):  # the same values give the same bytes
        display.show_figure(curves.plot_loss_curves({"a": [history(1)]}), 4, "Lines.")
    display.show_table("| a |", 2, "One.")
    kinds = [[*data][0] for data, _ in shown]
    assert kinds == ["image/png", "text/markdown"] * 3 + ["text/markdown"]
    assert ["application/pdf" in data for data, _ in shown[:3]] == [False, False, True]
    assert shown[1][0]["text/markdown"] == "**Figure 3.** Many spaces."
    assert shown[6][0]["text/markdown"] == "**Table 2.** One.\n\n| a |"
    assert shown[2] == shown[4]
    assert shown[0][1]["image/png"]["width"] == pytest.approx(6.3 * 96, abs=2)
    with pytest.raises(ValueError, match="caption of Table 2"):
        display.show_table("| a |", 2, "   ")
    display.show_markdown("Not Fashion-MNIST.", run_mode="stand-in")
    assert shown[7][1] == {"run_mode": "stand-in"}
    display.show_source(VAE4Layer, VAE3Layer.encoder)
    ((kind, source),) = shown[8][0].items()
    assert kind == "text/html"  # so that the PDF leaves it out
    assert all(name in source for name in ("VAE4Layer", "h3_to_h4", "x_to_h"))
