"""Figures: same images and noise for all, sharp pixels, no trace in models or random states."""

import random

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vae_helpers.data import CLASS_NAMES
from vae_helpers.models import AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.plotting.diagram import plot_architectures
from vae_helpers.plotting.images import curves as charts
from vae_helpers.plotting.images import images as plotting
from vae_helpers.plotting.images import style

mpl.use("Agg")


@pytest.fixture
def images():
    return torch.rand(30, 784, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VAE3Layer(h_dim=16, z_dim=4)


def history(level: float, epochs: int = 12) -> dict:
    curve = [level + 100.0 * 0.5**e for e in range(epochs)]
    terms = ("total", "reconstruction", "kl")
    return {f"{split}_{term}": curve for split in ("train", "validation") for term in terms}


def every_figure(model, images) -> dict:
    labels = torch.arange(30) % 10
    other = AutoEncoder(h_dim=8, z_dim=3)
    x = [1, 2, 4, 8]
    return {
        "reconstruction": lambda: plotting.plot_reconstruction(model, images),
        "generation": lambda: plotting.plot_generation(model),
        "compare_reconstructions": lambda: plotting.compare_reconstructions(
            {"VAE (16, 4)": model, "AE": other}, images[:10], errors=True,
            column_titles=CLASS_NAMES, row_notes={"AE": "240.0"}),
        "compare_generations": lambda: plotting.compare_generations({"VAE": model, "AE": other}),
        "image_rows": lambda: plotting.image_rows({"one": images[:3], "two": images[3:6]}),
        "samples": lambda: plotting.plot_samples_by_class(images, labels, CLASS_NAMES, 3),
        "curves": lambda: charts.plot_loss_curves({"VAE": [history(240.0), history(241.0)]}),
        "lines": lambda: charts.plot_lines(
            {"a": (x, x), "b": (x, x, [0, 1, 2, 3], [2, 3, 5, 9])}, "k", "nats", logx=True),
        "rate_distortion": lambda: charts.plot_rate_distortion(
            {"a": (10.0, 230.0), "b": ([15, 15.2], [226, 226.1])}),
        "kl": lambda: charts.plot_kl_per_dimension(
            {"a": torch.tensor([2.0, 0.0, 1.0])}, active={"a": torch.tensor([True, False, True])}),
        "map": lambda: charts.plot_latent_map({"a": (images[:, :2], labels)}, CLASS_NAMES),
        "curves, enlarged": lambda: charts.plot_loss_curves(
            {"VAE": [history(240.0)], "AE": [history(200.0)]}, enlarge=3),
        "rate_distortion, enlarged": lambda: charts.plot_rate_distortion(
            {"a": (10.0, 230.0), "b": (15.0, 226.0), "c": (15.1, 226.1)}, enlarge=["b", "c"]),
        "architectures": plot_architectures,
    }  # fmt: skip


def test_every_function_returns_a_figure_and_leaves_no_trace(model, images):
    import matplotlib.pyplot as plt

    figures = every_figure(model, images)
    model.train()
    model.encoder.eval()  # a mixed mode must come back mixed
    modes = [m.training for m in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    settings, open_figures = dict(mpl.rcParams), plt.get_fignums()
    for name, draw in figures.items():
        fig = draw()
        assert isinstance(fig, Figure), name
        assert fig.get_figwidth() == pytest.approx(6.3), name
        assert fig.get_figheight() <= 3.7, name
        style.mark_stand_in(fig).savefig("/dev/null", format="png", dpi=50)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == open_figures


def test_options_without_effect_are_refused(model, images):
    ax = Figure().subplots()
    with pytest.raises(TypeError, match="erors can only be given with several models"):
        plotting.plot_reconstruction(model, images, 8, erors=True)
    for call in (lambda: plotting.plot_reconstruction({"a": model}, images, ax=ax),
                 lambda: plotting.plot_generation({"a": model}, ax=ax)):  # fmt: skip
        with pytest.raises(TypeError, match="ax can only be given with one model"):
            call()
    with pytest.raises(TypeError, match="erors"):
        plotting.plot_reconstruction({"a": model}, images, erors=True)


def test_the_style_holds_inside_the_figures_and_nowhere_else():
    defaults = {key: mpl.rcParamsDefault[key] for key in style.STYLE}
    assert {key: mpl.rcParams[key] for key in style.STYLE} == defaults
    with mpl.rc_context({"font.size": 20, "axes.labelsize": 20, "axes.spines.top": True}):
        ax = charts.plot_lines({"a": ([1, 2], [1, 2])}, "k", "nats").axes[0]
    assert ax.xaxis.label.get_fontsize() == style.STYLE["axes.labelsize"]
    assert not ax.spines["top"].get_visible()


def pixels_of(fig: Figure, which: int = 0) -> np.ndarray:
    """The array shown, with NaN where nothing is."""
    return np.ma.filled(fig.axes[0].images[which].get_array().astype(float), np.nan)


def cells_of(fig: Figure, width: int = 28, which: int = 0) -> list[np.ndarray]:
    """The cells of the grid that hold an image, read back from the pixels of the figure."""
    pixels = pixels_of(fig, which)
    cells = [
        pixels[y : y + 28, x : x + width]
        for y in range(0, pixels.shape[0], 30)
        for x in range(0, pixels.shape[1], width + 2)
    ]
    return [cell for cell in cells if not np.isnan(cell).any()]


@pytest.mark.parametrize("n", [1, 5, 24])
def test_reconstruction_shows_the_first_n_pairs(model, images, n):
    fig = plotting.plot_reconstruction(model, images, n)
    cells = cells_of(fig, width=56)
    assert len(cells) == n
    expected = plotting.reconstruct(model, images[:n]).reshape(-1, 28, 28)
    for cell, x, y in zip(cells, images[:n].reshape(-1, 28, 28), expected, strict=True):
        assert np.allclose(cell[:, :28], x) and np.allclose(cell[:, 28:], y)


@pytest.mark.parametrize("n", [1, 13, 24])
def test_generation_shows_n_decodings(model, n):
    cells = cells_of(plotting.plot_generation(model, n))
    expected = model.decode(plotting.latent_noise(n, 4)).detach().reshape(-1, 28, 28)
    assert len(cells) == n
    assert np.allclose(np.stack(cells), expected)


def test_pixels_are_not_interpolated(model, images):
    figures = every_figure(model, images)
    for name in ("reconstruction", "generation", "compare_reconstructions", "samples"):
        for image in figures[name]().axes[0].images:
            assert image.get_interpolation() == "nearest", name
            assert image.get_clim() in ((0, 1), (-1, 1)), name


def test_a_drawn_pixel_is_one_flat_square():
    """Rendered, not asked: a checkerboard shows only black, white and the page."""
    board = (torch.arange(784) % 28 + torch.arange(784) // 28) % 2
    fig = plotting.image_rows({"": board.float()[None]})
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    box = fig.axes[0].get_window_extent()
    drawn = np.asarray(canvas.buffer_rgba())[:, :, 0]
    x0, y0 = int(box.x0) + 3, drawn.shape[0] - int(box.y1) + 3
    inside = drawn[y0 : y0 + 100, x0 : x0 + 100]
    assert set(np.unique(inside)) == {0, 255}


def test_rows_of_a_comparison(model, images):
    other = VAE4Layer(h_dims=(16, 8), z_dim=6)
    models = {"VAE (16, 4)": model, "VAE (16, 8, 6)": other}
    fig = plotting.compare_reconstructions(models, images[:10], errors=True)
    shown = cells_of(fig)  # originals and two rows; each row of differences is an image of its own
    x, y, z = images[:10], *(plotting.reconstruct(m, images[:10]) for m in models.values())
    assert np.allclose(np.stack(shown), torch.cat([x, y, z]).reshape(-1, 28, 28))
    differences = np.stack(cells_of(fig, which=1) + cells_of(fig, which=2))
    assert np.allclose(differences, torch.cat([y - x, z - x]).reshape(-1, 28, 28), atol=1e-6)
    tops = [image.get_extent()[3] for image in fig.axes[0].images]
    assert tops == [-0.5, 2 * 30 - 0.5, 4 * 30 - 0.5]
    labels = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert labels == ["original", "VAE\n(16, 4)", "difference", "VAE\n(16, 8, 6)", "difference"]


class Recording(VAE3Layer):
    """Keeps the latents it decodes; the list is shared with copies of the model."""

    seen: list = []

    def decode_logits(self, z):
        self.seen.append(z)
        return super().decode_logits(z)


def test_all_models_get_the_same_noise(images):
    Recording.seen.clear()
    sizes = (4, 20, 70, 130)
    models = {str(z): Recording(h_dim=8, z_dim=z) for z in sizes}
    plotting.compare_generations(models, 5)
    plotting.plot_generation(models["20"], 5)
    widest = Recording.seen[3]
    assert widest.shape == (5, 130)
    for z in Recording.seen:
        assert torch.equal(z, widest[:, : z.shape[1]])
    assert abs(widest.mean()) < 0.2 and abs(widest.std() - 1) < 0.1
    own = torch.arange(9.0 * 200).reshape(9, 200)
    plotting.plot_generation(models["20"], 5, noise=own)
    assert torch.equal(Recording.seen[-1], own[:5, :20])


def test_reconstructions_repeat_whatever_the_random_state(model, images):
    first = plotting.reconstruct(model, images)
    torch.manual_seed(123)
    assert torch.equal(plotting.reconstruct(model, images), first)
    assert torch.equal(plotting.reconstruct(model, images.reshape(-1, 1, 28, 28)), first)
    mean_only = model.decode(model.encode(images)[0])
    assert not torch.allclose(first, mean_only, atol=1e-3)  # z is sampled, as in forward


def test_every_copy_runs_in_evaluation_mode(images):
    class WithDropout(VAE3Layer):
        def encode(self, x):
            return super().encode(torch.nn.functional.dropout(x, 0.5, self.training))

    model = WithDropout(h_dim=8, z_dim=3).train()
    plain = VAE3Layer(h_dim=8, z_dim=3)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plotting.reconstruct(model, images), plotting.reconstruct(plain, images))


def test_images_that_need_gradients_and_doubles_are_fine(model, images):
    expected = plotting.reconstruct(model, images)
    again = plotting.reconstruct(model, images.double().requires_grad_())
    assert not again.requires_grad and torch.equal(again, expected)


def test_draws_on_given_axes(model, images):
    fig = Figure()
    above, below = fig.subplots(2, 1)
    assert plotting.plot_reconstruction(model, images, 8, ax=above) is fig
    assert plotting.plot_generation(model, 8, ax=below) is fig
    assert len(above.images) == len(below.images) == 1 and len(fig.axes) == 2


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        (lambda x: x[:, :700], ValueError, r"\(N, 784\).*got \(30, 700\)"),
        (lambda x: x[0], ValueError, r"\(N, 784\)"),
        (lambda x: x * 255, ValueError, r"\[0, 1\].*images / 255"),
        (lambda x: x - 0.5, ValueError, r"\[0, 1\]"),
        (lambda x: x * torch.nan, ValueError, "NaN"),
        (lambda x: (x * 255).byte(), TypeError, "uint8.*/ 255"),
        (lambda x: x.numpy(), TypeError, "from_numpy"),
        (lambda x: x[:23], ValueError, "n = 24 .* only 23"),
    ],
)
def test_wrong_images_are_refused(model, images, wrong, error, message):
    with pytest.raises(error, match=message):
        plotting.plot_reconstruction(model, wrong(images))


def test_wrong_arguments_are_refused(model, images):
    with pytest.raises(TypeError, match="n must be an int"):
        plotting.plot_reconstruction(model, images, 2.5)
    with pytest.raises(ValueError, match="at least 1"):
        plotting.plot_generation(model, 0)
    with pytest.raises(TypeError, match="nn.Module, got str"):
        plotting.plot_generation("VAE")
    with pytest.raises(ValueError, match="at least 24, at least 4.*got \\(24, 3\\)"):
        plotting.plot_generation(model, noise=torch.zeros(24, 3))
    with pytest.raises(TypeError, match="float tensor, got torch.int64"):
        plotting.plot_generation(model, noise=torch.zeros(24, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="'a' has 3, 'b' has 2"):
        plotting.image_rows({"a": images[:3], "b": images[:2]})
    with pytest.raises(ValueError, match="3 column_titles"):
        plotting.image_rows({"a": images[:3]}, column_titles=["one"])
    with pytest.raises(ValueError, match="models is empty"):
        plotting.compare_generations({})
    with pytest.raises(ValueError, match="VAE: .* number of epochs, got \\[5, 6\\]"):
        charts.plot_loss_curves({"VAE": [history(1, 5), history(1, 6)]})
    with pytest.raises(ValueError, match="looks has no entry for \\['b'\\]; it has \\['a'\\]"):
        charts.plot_lines({"a": ([1], [1]), "b": ([1], [1])}, "k", "nats", looks={"a": 0})
    with pytest.raises(ValueError, match="Trouser"):
        plotting.plot_samples_by_class(images, torch.zeros(30).long(), CLASS_NAMES, 2)


def test_differences_are_shown_only_where_marked(images):
    rows = {"x": images[:4], "difference": images[4:8] - images[:4]}
    with pytest.raises(ValueError, match="'difference' must have pixels in"):
        plotting.image_rows(rows)
    fig = plotting.image_rows(rows, signed=["difference"])
    assert len(cells_of(fig)) == len(cells_of(fig, which=1)) == 4


def test_samples_by_class_hold_their_class():
    labels = torch.arange(10).repeat(5)
    images = (labels / 10).float()[:, None].expand(50, 784)
    fig = plotting.plot_samples_by_class(images, labels, CLASS_NAMES, 3)
    shown = np.stack(cells_of(fig)).reshape(3, 10, 28, 28)
    assert np.allclose(shown, (np.arange(10) / 10)[None, :, None, None])


def test_loss_curves_show_mean_and_range_and_skip_the_first_drop():
    fig = charts.plot_loss_curves({"VAE": [history(240.0), history(242.0)]})
    total = fig.axes[0]
    solid = total.lines[0].get_ydata()
    assert solid[0] == 341 and solid[-1] == pytest.approx(241, abs=0.1)
    band = total.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(240, abs=0.1) and band.max() == 342
    assert total.get_ylim()[1] < 280  # the third of twelve epochs, not the first
    assert total.lines[1].get_linestyle() == "--" and len(fig.axes[1].lines) == 1


def test_a_panel_more_shows_the_last_epochs_of_the_curves_near_the_best():
    curves = {"best": [history(240.0)], "near": [history(241.0)], "far": [history(250.0)]}
    axes = charts.plot_loss_curves(curves, enlarge=3).axes
    assert len(axes) == 4 and len(charts.plot_loss_curves(curves).axes) == 3
    assert [line.get_xdata().tolist() for line in axes[1].lines] == [[10, 11, 12]] * 2
    assert [line.get_color() for line in axes[1].lines] == list(style.COLORS[:2])


def test_a_model_looks_the_same_in_every_figure():
    looks = {"x": 0, "A": 3, "B": 8}
    figures = [
        charts.plot_loss_curves({"B": [history(1.0)], "A": [history(2.0)]}, looks=looks),
        charts.plot_lines({"B": ([1, 2], [1, 2]), "A": ([1, 2], [2, 1])}, "k", "l", looks=looks),
        charts.plot_rate_distortion({"B": (1.0, 2.0), "A": (2.0, 1.0)}, looks=looks),
        charts.plot_rate_distortion({"B": (1.0, 2.0), "A": (2.0, 1.0)}, looks=looks,
                                    enlarge=["A"]),
        charts.plot_kl_per_dimension({"B": torch.ones(3), "A": torch.ones(2)}, looks=looks),
    ]  # fmt: skip
    for fig in figures:
        lines = fig.axes[0].lines
        for look in (3, 8):
            drawn = [line for line in lines if line.get_color() == style.COLORS[look]]
            assert style.MARKERS[look] in [line.get_marker() for line in drawn]


def test_crowded_points_are_named_in_the_second_panel_alone():
    points = {"far": (11.0, 231.0), "b": (15.0, 224.0), "c": (15.1, 224.1)}
    left, right = charts.plot_rate_distortion(points, enlarge=["b", "c"]).axes
    names = [[t.get_text() for t in ax.texts] for ax in (left, right)]
    assert "far" in names[0] and not {"b", "c"} & set(names[0])
    assert {"b", "c"} <= set(names[1]) and "far" not in names[1]
    (frame,) = left.patches
    assert frame.get_x() == right.get_xlim()[0] and frame.get_width() > 0
    marked = [line for line in left.lines if line.get_marker() != "None"]
    assert len(marked) == 3  # all points are in the left panel


def test_kl_is_sorted_and_marks_inactive_dimensions():
    kl, active = torch.tensor([0.02, 3.0, 1.0, 0.0]), torch.tensor([False, True, True, False])
    ax = charts.plot_kl_per_dimension({"a": kl}, active={"a": active}).axes[0]
    line, filled, hollow = ax.lines[:3]
    assert np.allclose(line.get_ydata(), [3, 1, 0.02, 0.001])
    assert np.allclose(filled.get_xdata(), [1, 2]) and np.allclose(hollow.get_xdata(), [3, 4])


def test_iso_lines_are_lines_of_equal_loss():
    points = {"a": (10.0, 234.0), "b": (16.0, 226.0), "c": (14.0, 228.0)}
    ax = charts.plot_rate_distortion(points).axes[0]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 2]
    sums = [np.add(line.get_xdata(), line.get_ydata()) for line in lines]
    assert len(sums) >= 3
    labels = {text.get_text() for text in ax.texts}
    for first, last in sums:
        assert first == pytest.approx(last) and f"{first:g}" in labels


@pytest.mark.parametrize("seed", range(5))
def test_spread_keeps_order_and_distance(seed):
    positions = np.random.default_rng(seed).uniform(0, 1, 9)
    moved = charts._spread(positions, 0.1)
    assert (np.argsort(moved) == np.argsort(positions)).all()
    assert np.diff(np.sort(moved)).min() >= 0.1 - 1e-9
    apart = np.array([3.0, 1.0, 2.0])
    assert np.array_equal(charts._spread(apart, 0.5), apart)


def test_line_labels_do_not_overlap():
    series = {f"model {i}": ([1, 2], [0, 1 + 0.001 * i]) for i in range(6)}
    fig = charts.plot_lines(series, "k", "nats")
    fig.draw_without_rendering()
    tops = sorted((t.get_window_extent().y0, t.get_window_extent().y1) for t in fig.axes[0].texts)
    assert len(tops) == 6
    assert all(upper[0] >= lower[1] - 2 for lower, upper in zip(tops, tops[1:], strict=False))


def test_stand_in_mark_is_written_once_and_covers_nothing(model):
    fig = plotting.plot_generation(model)
    height = fig.get_figheight()
    style.mark_stand_in(style.mark_stand_in(fig))
    marks = [text for text in fig.texts if "stand-in" in text.get_text()]
    assert len(marks) == 1 and fig.get_figheight() > height
    fig.draw_without_rendering()
    assert marks[0].get_window_extent().y1 <= fig.axes[0].get_tightbbox().y0


def test_architecture_boxes_are_to_scale():
    fig = plot_architectures({"AE": AutoEncoder(h_dim=400, z_dim=20), "VAE": VAE4Layer()})
    boxes = [[p for p in ax.patches if hasattr(p, "get_boxstyle")] for ax in fig.axes]
    heights = [[round(box.get_height() ** 2) for box in row] for row in boxes]
    assert sorted(heights[0]) == sorted([784, 400, 20, 400, 784])
    assert sorted(heights[1]) == sorted([784, 400, 100, 20, 20, 20, 100, 400, 784])
    texts = [text.get_text() for text in fig.axes[1].texts]
    assert [texts.count(size) for size in ("784", "400", "100", "20")] == [2, 2, 2, 1]
    assert {"$x$", "$h_1$", "$h_4$", r"$\mu$", r"$\sigma$", "$z$", "$x_2$"} <= set(texts)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_any_device(model, images):
    on_cpu = plotting.reconstruct(model, images)
    state = torch.cuda.get_rng_state()
    model.cuda()
    assert torch.allclose(plotting.reconstruct(model, images.cuda()), on_cpu, atol=1e-5)
    assert isinstance(plotting.plot_generation(model), Figure)
    assert next(model.parameters()).is_cuda and torch.equal(torch.cuda.get_rng_state(), state)
