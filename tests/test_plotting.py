"""Figures: same images and noise for all, sharp pixels, no trace in models or random states."""

import json
import random
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from nbclient import NotebookClient
from torch import nn

from vae_helpers.data import CLASS_NAMES, Split
from vae_helpers.models import AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.plotting import curves, display, images, style, tables
from vae_helpers.plotting.diagram import plot_architectures

mpl.use("Agg")
ROOT = Path(__file__).parent.parent
X = torch.rand(30, 784, generator=torch.Generator().manual_seed(1))
SPLIT = Split((X * 255).byte(), torch.arange(30) % 10)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VAE3Layer(h_dim=16, z_dim=4)


def history(level: float, epochs: int = 12, kl: float = 1.0) -> dict:
    curve = level + 100.0 * 0.5 ** np.arange(epochs)
    terms = {"total": curve, "reconstruction": curve, "kl": kl * curve}
    return {f"{s}_{term}": list(v) for s in ("train", "validation") for term, v in terms.items()}


def every_figure(model) -> dict:
    other, four, ten = AutoEncoder(h_dim=8, z_dim=3), VAE4Layer(), SPLIT.first_of_each_class()
    return {
        "reconstruction": lambda: images.plot_reconstruction(model, X),
        "reconstructions": lambda: images.plot_reconstruction(
            [model, other], ten, errors=True, titles=CLASS_NAMES
        ),
        "seven models": lambda: images.plot_reconstruction(
            {f"VAE (400, {i})": model for i in range(7)}, ten, titles=CLASS_NAMES
        ),
        "generation": lambda: images.plot_generation(model),
        "rows": lambda: images.image_rows({"one": X[:13], "two": X[13:26]}),
        "samples": lambda: images.plot_samples_by_class(SPLIT, CLASS_NAMES, 3),
        "curves": lambda: curves.plot_loss_curves({"VAE": [history(240.0), history(241.0)]}),
        "curves, enlarged": lambda: curves.plot_loss_curves(
            {str(i): [history(240.0 + i)] for i in range(8)}, enlarge=3
        ),
        "architectures": lambda: plot_architectures([model, other, four]),
    }


def test_every_figure_fills_the_page_and_leaves_no_trace(model):
    figures = every_figure(model)
    model.train()
    model.x_to_h.eval()  # a mixed mode must come back mixed
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    others = random.getstate(), plt.get_fignums(), [m.training for m in model.modules()]
    with mpl.rc_context({"font.size": 20, "axes.labelsize": 20, "axes.spines.top": True}):
        before = dict(mpl.rcParams)  # which neither reach into the figures nor are changed
        for name, draw in figures.items():
            fig = draw()
            box = style.page_box(fig)
            assert box.height < 4.5 and box.width == pytest.approx(6.3, abs=0.02), name
            if not fig.vector:
                assert fig.axes[0].get_tightbbox().width > 6.1 * fig.dpi, name
            style.mark(style.mark(fig, "quick run"), "quick run")
            (note,) = fig.texts  # once, where it covers nothing, and saved with the figure
            fig.savefig("/dev/null", format="png", dpi=50)
            lowest = min(ax.get_tightbbox().y0 for ax in fig.axes)
            assert fig.dpi * style.page_box(fig).y0 <= note.get_window_extent().y0, name
            assert note.get_window_extent().y1 <= lowest, name
        assert dict(mpl.rcParams) == before
    assert fig.axes[0].xaxis.label.get_fontsize() == 8 and not fig.axes[0].spines.top.get_visible()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert others == (random.getstate(), plt.get_fignums(), [m.training for m in model.modules()])


def test_a_real_kernel_shows_every_figure_once(model):
    """As the last line of a cell and by `display`, before anything imports pyplot and after."""
    start = f"""
import sys, torch
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from vae_helpers.models import VAE3Layer
from vae_helpers.plotting.images import plot_generation, plot_reconstruction
model, x = VAE3Layer(h_dim=16, z_dim=4), torch.rand(30, 784)"""
    shown = [
        "plot_generation(model)",
        "plot_reconstruction([model], x)",
        "display(plot_generation(model))",
        "figure = plot_generation(model)",
    ]
    fresh = "assert 'matplotlib.pyplot' not in sys.modules"
    inline = "%matplotlib inline\nimport matplotlib.pyplot as plt"
    both = "plt.plot([1, 2])\nplot_generation(model)"
    numbered = """from vae_helpers.plotting.display import show_figure
show_figure(plot_generation(model), 1, "One."); show_figure(plt.figure(), 2, "Two.")"""
    late = "import test_plotting\nfigures = test_plotting.every_figure(model)"
    everything = [f"figures[{name!r}]()" for name in every_figure(model)]
    sources = [start, *shown, fresh, inline, *shown, both, numbered, late, inline, *everything]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name="python3").execute()
    once = [1, 1, 1, 0]
    shown = [[o.data for o in cell.outputs if o.output_type != "stream"] for cell in cells]
    assert all("image/png" in o or "text/markdown" in o for cell in shown for o in cell)
    counts = [sum("image/png" in o for o in cell) for cell in shown]
    assert counts == [0, *once, 0, 0, *once, 2, 2, 0, 0, *[1] * len(everything)]


# --- images -------------------------------------------------------------------------------------


def cells_of(fig, height=28, width=28) -> np.ndarray:
    """The cells of the grid that hold an image (N, H, W, 3), from the pixels of the figure."""
    pixels = np.asarray(fig.axes[0].images[0].get_array())
    cells = [
        pixels[y : y + height, x : x + width]
        for y in range(0, pixels.shape[0], height + 2)
        for x in range(0, pixels.shape[1], width + 2)
    ]
    return np.stack([cell for cell in cells if not (cell == 1).all()])


def same(cells: np.ndarray, expected: torch.Tensor) -> bool:
    """Whether gray cells hold these images."""
    return np.allclose(cells, expected.detach().reshape(cells.shape[:3])[..., None], atol=1e-6)


def labels_of(fig, axis: str) -> list[str]:
    return [text.get_text() for text in getattr(fig.axes[0], f"get_{axis}ticklabels")()]


@pytest.mark.parametrize("n", [1, 13, 24])
def test_one_model_fills_a_grid_with_n_images(model, n):
    cells = cells_of(images.plot_reconstruction(model, X, n), width=56)
    assert same(cells[:, :, :28], X[:n])
    assert same(cells[:, :, 28:], images.reconstruct(model, X[:n]))
    assert same(cells_of(images.plot_generation(model, n)), model.decode(images.latent_noise(n, 4)))


def test_a_drawn_pixel_is_one_flat_square():
    """Rendered, not asked: a checkerboard shows only black, white and the page."""
    board = (torch.arange(784) % 28 + torch.arange(784) // 28) % 2
    fig = images.image_rows({"": board.float()[None]})
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    box = fig.axes[0].get_window_extent()
    drawn = np.asarray(canvas.buffer_rgba())[:, :, 0]
    x0, y0 = int(box.x0) + 3, drawn.shape[0] - int(box.y1) + 3
    assert set(np.unique(drawn[y0 : y0 + 100, x0 : x0 + 100])) == {0, 255}


def test_rows_of_several_models_their_differences_and_titles(model):
    other = VAE4Layer(h_dims=(16, 8), z_dim=6)
    fig = images.plot_reconstruction([model, other], X, 10, errors=True)
    a, b, c = X[:10], *(images.reconstruct(m, X[:10]) for m in (model, other))
    cells = cells_of(fig).reshape(5, 10, 28, 28, 3)
    assert all(same(cells[row], expected) for row, expected in [(0, a), (1, b), (3, c)])
    for row, difference in [(2, b - a), (4, c - a)]:
        expected = images.SIGNED((difference.view(-1, 28, 28).numpy() + 1) / 2)[..., :3]
        assert np.allclose(cells[row], expected, atol=0.02)
    lightness = images.SIGNED(np.linspace(0, 1, 50))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 0).all() and np.ptp(lightness) > 0.8  # in gray print, too
    assert labels_of(fig, "y") == [
        "original",
        "VAE\n(16, 4)",
        "difference",
        "4-layer VAE\n(16, 8, 6)",
        "difference",
    ]
    some = SPLIT.take(torch.tensor([3, 9, 3]))
    fig = images.plot_reconstruction([model], some, titles=CLASS_NAMES)
    assert labels_of(fig, "x") == ["Dress", "Ankle\nboot", "Dress"]
    assert same(cells_of(fig)[:3], some.floats())
    fig = images.plot_samples_by_class(SPLIT, CLASS_NAMES, 3)
    assert same(cells_of(fig), SPLIT.floats()) and labels_of(fig, "x")[3] == "Dress"


def test_a_draw_of_z_is_decoded_or_its_mean_or_both(model):
    plain, x = AutoEncoder(h_dim=8, z_dim=3), X[:10]
    drawn, means = images.reconstruct(model, x), model.decode(model.latent(x))
    assert not torch.allclose(drawn, means, atol=1e-3)
    fig = images.plot_reconstruction([model, plain], x, z="both")
    expected = [x, drawn, means, plain.decode(plain.latent(x))]  # nothing to draw: one row
    assert same(cells_of(fig), torch.cat(expected))
    labels = ["original", "VAE\n(16, 4)", "VAE\n(16, 4)\nz = mean", "AE\n(8, 3)"]
    assert labels_of(fig, "y") == labels
    fig = images.plot_reconstruction(model, x, z="mean")
    assert same(cells_of(fig, width=56)[:, :, 28:], means)


def test_all_models_get_the_same_noise_whatever_the_random_state_and_the_mode():
    widest = images.latent_noise(50, 130)
    for z_dim in (4, 20, 70):
        assert torch.equal(images.latent_noise(50, z_dim), widest[:, :z_dim])
    assert abs(widest.mean()) < 0.05 and abs(widest.std() - 1) < 0.05

    class WithDropout(VAE3Layer):
        def encoder(self, x):
            return super().encoder(torch.nn.functional.dropout(x, 0.5, self.training))

    model, plain = WithDropout(h_dim=8, z_dim=3).train(), VAE3Layer(h_dim=8, z_dim=3)
    plain.load_state_dict(model.state_dict())
    first = images.reconstruct(plain, X)
    torch.manual_seed(123)
    for x in (X, X.reshape(-1, 1, 28, 28), X.double().requires_grad_()):
        again = images.reconstruct(model, x)
        assert not again.requires_grad and torch.equal(again.flatten(1), first)


class ConvVAE(nn.Module):
    """Written elsewhere: images (N, channels, 28, 28), no attribute z_dim, a last forward kept."""

    def __init__(self, channels=1, output=torch.sigmoid):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 12, 28), nn.ConvTranspose2d(6, channels, 28)
        self.output = output

    def encode(self, x):
        return self.down(x).flatten(1).chunk(2, dim=1)

    def decode(self, z):
        return self.output(self.up(z[:, :, None, None]))

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = mu + torch.randn_like(mu) * (log_var / 2).exp()
        self.last = {"z": [z], "posterior": torch.distributions.Normal(mu, log_var.exp())}
        return self.decode(z), mu, log_var


def test_a_convolutional_vae_gets_images_in_their_shape():
    model, square = ConvVAE(), X.view(-1, 1, 28, 28)
    model(square)  # keeps tensors that deepcopy refuses
    expected = images.reconstruct(model, square)
    assert torch.equal(images.reconstruct(model, X).view_as(square), expected)  # made square
    pairs = cells_of(images.plot_reconstruction(model, square, 30), width=56)
    assert same(pairs[:, :, 28:], expected)
    fig = images.plot_generation({"conv": model, "ours": VAE3Layer(h_dim=8, z_dim=6)})
    assert same(cells_of(fig)[:12], images.generate(model, 12))
    assert model.last["z"][0].requires_grad  # the user's own is as it was
    model.encode = None  # then nothing tells how wide z is
    assert len(cells_of(images.plot_generation({"a": model}, 12, z_dim=6))) == 12
    with pytest.raises(ValueError, match="ConvVAE does not tell .* pass z_dim="):
        images.plot_generation(model)
    with pytest.raises(ValueError, match=r"shape \(24, 5\).*pass z_dim="):
        images.plot_generation(model, z_dim=5)


@pytest.mark.parametrize("place", [torch.float64, torch.float16, torch.bfloat16, "cuda"])
def test_the_copy_is_float32_on_the_cpu_wherever_the_model_is(model, place):
    if place == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    for each in (model, ConvVAE()):
        expected = images.reconstruct(each, X)
        weight = next(each.to(place).parameters())
        assert torch.allclose(images.reconstruct(each, X.to(place)), expected, atol=0.02)
        assert images.generate(each).dtype == torch.float32
        assert place in (weight.dtype, weight.device.type)


def test_other_outputs_are_refused_in_both_forms():
    for output, error, message in [
        (lambda t: 50 * t - 3, ValueError, r"values in \[.*sigmoid\(logits\)"),
        (torch.tanh, ValueError, r"\(t \+ 1\) / 2 of tanh"),
        (lambda t: {"x": t}, TypeError, "returned dict.*float tensor, or a tuple led by it"),
        (lambda t: t.sigmoid().byte(), TypeError, "returned torch.uint8"),
        (lambda t: t.sigmoid() * torch.nan, ValueError, r"\[nan, nan\]"),
    ]:
        model = ConvVAE(output=output)
        for form in (model, {"a": model}):
            with pytest.raises(error, match=f"^.*{message}.*$"):  # in one line
                images.plot_reconstruction(form, X)
            with pytest.raises(error, match=f"^.*{message}.*$"):
                images.plot_generation(form)


def test_other_shapes_and_colours_are_drawn_right(model):
    wide, colour = X.view(-1, 1, 14, 56), torch.rand(6, 3, 28, 28)
    cells = cells_of(images.plot_reconstruction([model], wide, 4), 14, 56)
    assert same(cells[:4], wide[:4]) and len(cells) == 8
    pictures = cells_of(images.plot_reconstruction(ConvVAE(3), colour, errors=True))
    assert np.allclose(pictures[:6], colour.permute(0, 2, 3, 1)) and len(pictures) == 18


def test_wrong_arguments_are_refused(model):
    draw, make, rows = images.plot_reconstruction, images.plot_generation, images.image_rows
    histories = {"VAE": [history(1, 5), history(1, 6)]}
    for error, message, call in [
        (TypeError, r"needs images.*first_of_each_class\(\)", lambda: draw(model)),
        (TypeError, r"plot_reconstruction\(model, images, n=24\)", lambda: draw(model, 24)),
        (ValueError, r"\(N, 784\).*got \(24, 700\)", lambda: draw(model, X[:, :700])),
        (ValueError, r"\[0, 1\].*images / 255", lambda: draw(model, X * 255)),
        (ValueError, 'z must be "sample", "mean" or "both"', lambda: draw(model, X, z="draw")),
        (TypeError, 'ConvVAE .*pass z="sample"', lambda: draw(ConvVAE(), X, z="mean")),
        (ValueError, "12 titles", lambda: draw(model, X, titles=["one"])),
        (ValueError, "can not take", lambda: draw(ConvVAE(), X.view(-1, 1, 14, 56)[..., :55])),
        (ValueError, "at least 1", lambda: make(model, 0)),
        (TypeError, "nn.Module, got str", lambda: make("VAE")),
        (ValueError, r"called 'VAE \(16, 4\)'; pass {label: m", lambda: make([model, model])),
        (ValueError, "models is empty", lambda: make({})),
        (ValueError, r"'a' has shape \(3, .*'b' has \(2,", lambda: rows({"a": X[:3], "b": X[:2]})),
        (ValueError, "'b' must have pixels", lambda: rows({"a": X, "b": -X})),
        (ValueError, "4 x 8 x 8 values can not", lambda: rows({"a": torch.rand(2, 4, 8, 8)})),
        (ValueError, "392 values can not", lambda: rows({"a": X[:, :392]})),
        (ValueError, "Trouser", lambda: images.plot_samples_by_class(SPLIT, CLASS_NAMES[:2], 4)),
        (ValueError, r"VAE: .*, got \[5, 6\]", lambda: curves.plot_loss_curves(histories)),
    ]:
        with pytest.raises(error, match=message):
            call()


# --- charts -------------------------------------------------------------------------------------


def test_no_two_models_look_alike_and_each_keeps_its_look():
    looks = style.Looks()
    given = [looks[f"model {i}"] for i in range(60)]
    assert len(set(given)) == 60 and len({look.color for look in given[:9]}) == 9
    for order in [(7, 40), (40, 7)]:
        figure = curves.plot_loss_curves({f"model {i}": [history(i)] for i in order}, looks)
        drawn = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines}
        assert {given[7][:2], given[40][:2]} <= drawn


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


def test_the_last_epochs_of_the_best_curves_are_enlarged():
    for levels, shown in [
        ([240, 250, 240.2, 241, 240.4, 240.6, 252], "02345"),  # all that end near the best
        ([131, 100, 118, 104, 109, 107, 112], "1345"),  # or the best four, if they lie apart
    ]:
        group = {str(i): [history(level)] for i, level in enumerate(levels)}
        figure = curves.plot_loss_curves(group, enlarge=3)
        assert [line.get_label() for line in figure.axes[1].lines] == list(shown)
        assert {tuple(line.get_xdata()) for line in figure.axes[1].lines} == {(10, 11, 12)}
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list("0123456")


def test_architecture_boxes_are_to_scale():
    fig = plot_architectures([AutoEncoder(h_dim=400, z_dim=20), VAE4Layer()])
    boxes = [[p for p in ax.patches if hasattr(p, "get_boxstyle")] for ax in fig.axes]
    sizes = [[round(box.get_height() ** 2) for box in row] for row in boxes]
    assert sizes == [[784, 400, 20, 400, 784], [784, 400, 100, 20, 20, 20, 100, 400, 784]]
    texts = {text.get_text() for text in fig.axes[1].texts}
    assert {"784", "100", "20", "$h_{1}$", "$h_{4}$", r"$\mu$", r"$\sigma$", "$x_2$"} <= texts


# --- tables and display -------------------------------------------------------------------------

RESULTS = {
    "floor": {"test": 1189.9},
    "models": {
        "vae3": {
            "label": "VAE (400, 20)",
            "test_loss": {"mean": 239.46, "sd": 0.14},
            "validation_loss": {"mean": 240.0, "sd": 0.1},
            "active_units": {"mean": 14.0},
            "frechet": {"mean": 0, "sd": 1},
            "recall": {"mean": 0, "sd": 1},
        },
        "ae": {
            "label": "AE (400, 50)",
            "test_loss": {"mean": 225.0, "sd": 0.2},
            "frechet": 250.26,
            "recall": 0.33,
            "active_units": 8,
        },
    },
    "comparisons": {
        "a": {
            "test_loss": {"mean": -1.94, "low": -2.1, "high": -1.77, "verdict": "lower"},
            "frechet": {"mean": -0.004, "low": -0.006, "high": -0.002},
            "recall": {"mean": -0.067, "low": -0.1329, "high": -0.00096},
            "active_units": {"mean": -6.0, "low": -6.0, "high": -6.0},
        }
    },
    "rankings": {"b": {"ae": {"test_loss": {"mean": 0.3, "low": -0.1, "high": 0.7}}}},
}


def test_tables_show_the_results():
    for table, rows in [
        (
            tables.model_table(["vae3", "ae"], ["test_loss", "validation_loss"], "b"),
            [
                "Model|Test loss|Validation loss",
                "VAE (400, 20)|239.46 ± 0.14|240.00 ± 0.10",
                "AE (400, 50)|225.00 ± 0.20|–",
            ],
        ),
        (
            tables.comparison_table(
                "a", "ae", "vae3", ["test_loss", "frechet", "recall", "active_units"]
            ),
            [
                "|AE (400, 50)|VAE (400, 20)|Difference|95 % interval",
                "Test loss|225.00|239.46|−1.94|−2.10 to −1.77",
                "Frechet distance|250.3|0.0|−0.004|−0.006 to −0.002",  # not rounded onto zero
                "Recall|0.33|0.00|−0.067|−0.133 to −0.001",  # nor is a limit
                "Active latents|8.0|14.0|−6.0|–",
            ],
        ),  # all seeds agree: no interval
        (
            tables.model_table(["vae3", "ae"], ["test_loss-mean", "test_loss-best"], "b"),
            [
                "Model|Test loss|Test loss minus best",
                "VAE (400, 20)|239.46|–",
                "AE (400, 50)|225.00|0.30 (−0.10 to 0.70)",
            ],
        ),
        (tables.Table(["a"], [["{floor.test:1} {a.test_loss.verdict}"]]), ["a", "1,189.9 lower"]),
    ]:
        stored = tables.Table(**json.loads(json.dumps(vars(table))))  # as results.json keeps it
        lines = stored.markdown(RESULTS).splitlines()
        cells = ["|".join(map(str.strip, line.split("|")[1:-1])) for line in lines]
        assert [cells[0], *cells[2:]] == rows
    assert tables.look_up(RESULTS, "vae3.test_loss") == 239.46
    with pytest.raises(KeyError, match=r"no 'vae3.test_los' \(stopped at 'test_los'\)"):
        tables.Table(["a"], [["{vae3.test_los:1}"]]).markdown(RESULTS)
    assert tables.number(-0.04, 1) == "0.0"


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
