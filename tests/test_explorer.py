"""The explorer page: its arithmetic against torch's, and every control by pointer and keyboard."""

import base64
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from browser import CHROMIUM, Browser
from torch import nn

from report.tools.explorer import as_shown, explore, rounded, write_explorer
from report.tools.explorer.lessons import lessons
from vae_helpers.data import Data, DataError, Split, load_data
from vae_helpers.losses import kl_divergence, reconstruction_loss
from vae_helpers.models import VAE, AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.study import Study
from vae_helpers.training import Recipe, train

RECIPE = Recipe(epochs=2, batch_size=256, learning_rate=4e-3, warmup_epochs=1, schedule="cosine")
CELL = "#results .cell:nth-child({})"
RAW = Path(__file__).parents[1] / "data" / "FashionMNIST" / "raw"
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; see the README")


@pytest.fixture(scope="module")
def data():
    """Fashion-MNIST where its files are, else the digits; never a download."""
    try:
        return load_data("real" if RAW.is_dir() else "stand-in", RAW.parents[1])
    except DataError:
        return load_data("stand-in")


@pytest.fixture(scope="module")
def models(data):
    """The four models of the page in its order, trained a little."""
    made = [VAE3Layer(), VAE4Layer(), VAE3Layer(z_dim=50), AutoEncoder(z_dim=50)]
    for model in made:
        model.load_state_dict(model.fresh(0).state_dict())
        train(
            model,
            data.train.images[:10_000],
            data.validation.images[:500],
            RECIPE,
            seed=0,
            device="cpu",
        )
    return made


@pytest.fixture(scope="module")
def shown_models(data, models):
    return [as_shown(model, data)[0] for model in models]


@pytest.fixture(scope="module")
def path(data, models, tmp_path_factory):
    return write_explorer(tmp_path_factory.mktemp("explorer") / "explorer.html", data, models)


@pytest.fixture(scope="module")
def browser(path, tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser, path):
    """The page, opened anew in a wide window; afterwards nothing was said or asked for."""
    browser.events.clear()
    browser.window(1360, 900)
    browser.open(path)
    yield browser
    browser.evaluate("1")
    assert browser.complaints() == []


def values(page, script):
    return torch.tensor(page.evaluate(script), dtype=torch.float32)


def widths_of(page, *selectors):
    width = "name => document.querySelector(name).getBoundingClientRect().width"
    return page.evaluate(f"{json.dumps(selectors)}.map({width})")


def z_of(page, model=0):
    return values(page, f"Array.from(models[{model}].z)")


def text(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def pixels_of(page, selector):
    """Gray values in 0..1 of a canvas."""
    return (
        values(
            page,
            f"""(() => {{
        const canvas = document.querySelector({json.dumps(selector)}), {{ width, height }} = canvas;
        const copy = new OffscreenCanvas(width, height).getContext("2d");
        copy.drawImage(canvas, 0, 0);
        const data = copy.getImageData(0, 0, width, height).data;
        return Array.from(data).filter((_, i) => i % 4 === 0) }})()""",
        )
        / 255
    )


# --- the file -------------------------------------------------------------------------------------


def test_one_file_without_addresses_the_same_every_time(path, data, models, tmp_path):
    twice = [write_explorer(tmp_path / f"{i}.html", data, models[1:2]) for i in range(2)]
    assert twice[0].read_bytes() == twice[1].read_bytes()
    assert path.stat().st_size <= 6e6
    page = path.read_text()
    assert not re.search(r"(src|href)=(?!\"data:)|url\(|@import|fetch\(|https?://", page)
    assert "default-src 'none'" in page and "/* study */" not in page
    print(f"\nexplorer.html: {path.stat().st_size / 1e6:.2f} MB")


def test_stand_in_and_short_runs_are_named(tmp_path):
    digits = load_data("stand-in")
    model = VAE3Layer(h_dim=8, z_dim=3).fresh(0).eval()
    shown = write_explorer(tmp_path / "page.html", digits, [model]).read_text()
    assert f"not Fashion-MNIST: the models have learned a stand-in, {digits.name}" in shown
    other = replace(digits, name="Other images")
    assert "stand-in" not in write_explorer(tmp_path / "page.html", other, [model]).read_text()
    quick = write_explorer(tmp_path / "page.html", other, [model], mode="quick").read_text()
    assert "hardly trained" in quick


class Deep(VAE):
    """A user's own: five layers, defined in their order."""

    def __init__(self, activation=torch.relu):
        super().__init__(784, (30, 20, 10), 4)
        sizes = (784, 30, 20, 10)
        self.down = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.h3_to_z = nn.Linear(10, 8)
        self.z_to_h4 = nn.Linear(4, 30, bias=False)
        self.h4_to_x2 = nn.Linear(30, 784)
        self.activation = activation

    def encoder(self, x):
        for layer in self.down:
            x = self.activation(layer(x))
        return self.h3_to_z(x)

    def decoder(self, z):
        return self.h4_to_x2(self.activation(self.z_to_h4(z)))


def test_other_models_are_shown_or_refused(tiny_data, tmp_path):
    deep = Deep().fresh(0).eval()
    write_explorer(tmp_path / "page.html", tiny_data, [deep], images_per_class=1)
    shown, layers = as_shown(deep, tiny_data)
    assert len(layers) == 6 and not torch.equal(shown.h3_to_z.weight, deep.h3_to_z.weight)
    with pytest.raises(ValueError, match=r"can not be shown.*fully connected.*ReLU"):
        as_shown(Deep(torch.tanh), tiny_data)
    normalised = Deep()
    normalised.norm = nn.LayerNorm(4)
    with pytest.raises(ValueError, match=r"can not be shown.*norm \(LayerNorm\)"):
        as_shown(normalised, tiny_data)
    with pytest.raises(TypeError, match="every model must be a Model"):
        write_explorer(tmp_path / "page.html", tiny_data, [nn.Linear(784, 3)])
    for count in (0, 9):
        with pytest.raises(ValueError, match=f"one to 8 trained models, got {count}"):
            write_explorer(tmp_path / "page.html", tiny_data, [deep] * count)
    with pytest.raises(ValueError, match=r"takes images of 64 pixels.*tiny have 784"):
        as_shown(VAE3Layer(64, 8, 3), tiny_data)
    with pytest.raises(ValueError, match="mode must be one of"):
        write_explorer(tmp_path / "page.html", tiny_data, [deep], mode="slow")
    oblong = [
        Split(s.images[:, :782], s.labels)
        for s in (tiny_data.train, tiny_data.validation, tiny_data.test)
    ]
    with pytest.raises(ValueError, match="782 pixels are no squares"):
        write_explorer(tmp_path / "page", Data("oblong", *oblong, tiny_data.class_names), [deep])


def test_rounding_serves_the_inputs_it_is_given():
    """Correlated inputs: their products keep far closer than with every weight rounded alone."""
    noise = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 8, generator=noise) @ torch.randn(8, 60, generator=noise)
    weight = torch.randn(20, 60, generator=noise)
    levels, scales = rounded(weight, inputs)
    assert levels.dtype == torch.int8 and levels.abs().max() <= 127
    alone = (weight / scales).round() * scales
    errors = [float(((w - weight) @ inputs.T).square().mean()) for w in (levels * scales, alone)]
    assert errors[0] < 0.2 * errors[1]


# --- the arithmetic -------------------------------------------------------------------------------


@needs_browser
@torch.no_grad()
def test_pixels_are_those_of_torch(page, data, shown_models):
    x = data.test.take(slice(20)).floats()
    for place, model in enumerate(shown_models):
        z = model.latent(x)
        shown = values(
            page,
            f"{json.dumps(z.tolist())}.map(z => "
            f"Array.from(decode(models[{place}], Float32Array.from(z))))",
        )
        error = float((shown - model.decode(z)).abs().max())
        print(f"\n{model.label}: pixels differ from torch's by at most {error:.1e}", end="")
        assert error < 0.001


@needs_browser
@torch.no_grad()
def test_int8_weights_cost_less_than_a_tenth_of_a_nat(page, data, models):
    """At the latent vector, reconstruction loss plus KL, over 1,000 test images."""
    images = data.test.images[:1_000]
    packed = base64.b64encode(images.numpy().tobytes()).decode()
    page.evaluate(f"globalThis.many = bytes('{packed}'); many.length")
    x = images.float() / 255
    for place, model in enumerate(models):
        shown = values(
            page,
            f"""(() => {{
            const model = models[{place}], losses = [];
            for (let i = 0; i < many.length; i += pixels) {{
                const image = Float32Array.from(many.subarray(i, i + pixels), v => v / 255);
                const code = encode(model, image);
                losses.push(reconstructionLoss(run(model.decoder, code.mean), image) + code.kl);
            }}
            return losses }})()""",
        )
        mean, log_var = model.posterior(x)
        loss = reconstruction_loss(model.decode_logits(mean), x)
        if log_var is not None:
            loss += kl_divergence(mean, log_var).sum(dim=1)
        difference = float((shown.double() - loss.double()).mean())
        print(f"\n{model.label}: mean loss of {len(x)} images {difference:+.4f} nats", end="")
        assert abs(difference) <= 0.1


@needs_browser
@torch.no_grad()
def test_a_picked_image_is_encoded_by_every_model(page, data, shown_models):
    page.drag(page.point("#strip label:nth-child(3)"))
    place = page.evaluate("study.places[2]")
    x = data.test.take([place]).floats()
    assert torch.allclose(pixels_of(page, "#paper"), x[0], atol=1e-6)
    floor = float((torch.special.entr(x[0]) + torch.special.entr(1 - x[0])).sum())
    for number, model in enumerate(shown_models):
        mean, log_var = model.posterior(x)
        cell = CELL.format(number + 2)
        state, loss, above, kl, total = page.evaluate(
            f"[...document.querySelectorAll('{cell} dd')].map(d => d.textContent)"
        )
        wanted = float(reconstruction_loss(model.decode_logits(mean), x))
        wanted_kl = 0 if log_var is None else float(kl_divergence(mean, log_var).sum())
        assert float(loss) == pytest.approx(wanted, abs=0.06)
        assert float(above) == pytest.approx(wanted - floor, abs=0.06)
        assert float(total) == pytest.approx(wanted + wanted_kl, abs=0.06)
        if log_var is None:
            assert (state, kl) == ("its only z", "none")
        else:
            assert state == "the mean" and float(kl) == pytest.approx(wanted_kl, abs=0.06)
        shown = pixels_of(page, f"{cell} .picture")
        assert torch.allclose(shown, model.decode(mean)[0], atol=0.004)
    page.press("ArrowRight")  # radio buttons: the next one
    assert page.evaluate("input.name") == page.evaluate("images[3].name")


# --- the controls ---------------------------------------------------------------------------------


@needs_browser
def test_sliders_move_one_latent_and_bars_are_sorted(page):
    before, decoded = z_of(page), pixels_of(page, "#results .cell:nth-child(2) .picture")
    first = "#sliders .latent input"
    page.drag(page.point(first), page.point(first, 0.9))
    after, latent = z_of(page), page.evaluate("models[0].order[0]")
    assert after[latent] > 1.5 and (after != before).sum() == 1
    assert not torch.equal(pixels_of(page, "#results .cell:nth-child(2) .picture"), decoded)
    page.press("ArrowLeft", 3)  # the slider has the focus
    assert z_of(page)[latent] < after[latent]
    assert text(page, "#results .cell:nth-child(2) dd") == "moved"
    page.settle(0.5)
    assert re.search(r"VAE \(400, 20\): reconstruction loss [\d.]+, KL", text(page, "#status"))
    page.drag(page.point("#sliders .reset"))
    assert torch.equal(z_of(page), before)
    in_sight = page.evaluate(
        "[...document.querySelectorAll('#sliders .cell')].map(cell => "
        "cell.querySelectorAll('.cell > .latent').length)"
    )
    assert in_sight == [20, 20, 20, 20]
    used = page.evaluate("models.map(model => model.active.filter(Boolean).length)")
    assert text(page, "#sliders .use").startswith(f"{used[0]} of 20 latents in use")
    widths = values(
        page,
        "[...document.querySelectorAll('#sliders .cell:nth-child(2) .bar')]"
        ".map(bar => parseFloat(getComputedStyle(bar, '::before').width))",
    )
    kl = values(page, "models[0].order.map(latent => models[0].klPerLatent[latent])")
    assert (widths.diff() <= 0).all() and widths[0] > 20
    # as long as the KL, and a pixel where there is none
    torch.testing.assert_close(widths, (widths[0] * kl / kl[0]).clamp(min=1), rtol=0, atol=0.1)


@needs_browser
def test_a_value_beyond_the_slider_is_shown_as_such_and_not_pulled_back(page):
    latent = page.evaluate("models[0].order[0]")
    page.point("#sliders .latent input")  # in sight
    page.evaluate(f"setLatent(models[0], {latent}, 9)")
    page.settle()
    assert page.evaluate("document.querySelector('#sliders .latent input').className") == "beyond"
    assert text(page, "#sliders .value") == "\u25b8 9.00"
    page.evaluate("document.querySelector('#sliders .latent input').focus()")
    page.press("ArrowLeft", 2)
    assert 8.5 < z_of(page)[latent] < 9
    page.press("End")
    assert z_of(page)[latent] < 8
    assert text(page, "#sliders .value")[0] != "\u25b8"
    page.evaluate(f"setLatent(models[0], {latent}, 9)")
    page.evaluate("document.querySelector('#planes .plane').focus()")
    page.press("ArrowUp")  # the other axis: this one stays
    assert z_of(page)[latent] == 9


@needs_browser
@torch.no_grad()
def test_the_encoders_gaussian_is_shown_and_drawn_from(page, data, shown_models):
    x = data.test.take([page.evaluate("study.places[0]")]).floats()
    mean, log_var = shown_models[0].posterior(x)
    deviation = (log_var[0] / 2).exp()
    assert torch.allclose(values(page, "Array.from(models[0].deviation)"), deviation, atol=1e-3)
    latent = page.evaluate("models[0].order[0]")
    page.point("#sliders .latent input")
    page.settle()
    track, band = widths_of(page, "#sliders .latent .ends", "#sliders .latent .band")
    limit = page.evaluate("Number(document.querySelector('#sliders .latent input').max)")
    ends = mean[0, latent] + torch.tensor([-2, 2]) * deviation[latent]
    low, high = ends.clamp(-limit, limit).tolist()  # what the slider has room for
    assert band / track == pytest.approx((high - low) / (2 * limit), abs=0.02)
    before = [z_of(page, i) for i in range(4)]
    page.drag(page.point("#sliders .again"))
    after = [z_of(page, i) for i in range(4)]
    assert ((after[0] - mean[0]).abs() < 5 * deviation).all()
    assert not torch.equal(after[0], before[0]) and torch.equal(after[3], before[3])
    assert text(page, CELL.format(2) + " dd") == "a draw"
    page.point("#planes .plane")
    page.settle()
    plane, ellipse = widths_of(page, "#planes .plane", "#planes .plane u")
    reach = page.evaluate("document.querySelector('#planes .plane').ariaValueMax")
    assert ellipse / plane == pytest.approx(
        2 * float(deviation[latent]) / float(reach), abs=4 / plane
    )


@needs_browser
def test_plane_by_pointer_touch_and_keyboard(page):
    plane = "#planes .cell:nth-child(3) .plane"
    across, up = page.evaluate("models[1].order.slice(0, 2)")
    before = z_of(page, 1)
    page.drag(page.point(plane, 0.5, 0.5), page.point(plane, 0.75, 0.5))
    after = z_of(page, 1)
    assert after[across] > 1 and abs(after[up]) < 0.1
    assert {*(after != before).nonzero()[:, 0].tolist()} <= {across, up}
    page.touch(page.point(plane + " b"), page.point(plane, 0.75, 0.25))  # the ring
    assert z_of(page, 1)[up] > 1 and z_of(page, 1)[across] > 1
    there = z_of(page, 1)
    page.touch(page.point(plane, 0.3, 0.6), page.point(plane, 0.3, 0.4))  # elsewhere: scrolls
    assert torch.equal(z_of(page, 1), there)
    page.evaluate(f"document.querySelector('{plane}').focus()")
    page.press("ArrowDown", shift=True)
    page.press("ArrowLeft", 2)
    assert z_of(page, 1)[across] < there[across] and z_of(page, 1)[up] < there[up]
    page.evaluate("document.querySelector('#planes .cell:nth-child(3) select').focus()")
    page.press("ArrowDown", 2)
    page.drag(page.point(plane, 0.2, 0.5))
    assert z_of(page, 1)[page.evaluate("models[1].order[2]")] < -1
    assert "\u2212" in page.evaluate(f"document.querySelector('{plane}').ariaValueText")
    page.drag(page.point("#legend button:nth-child(2)"))
    assert page.evaluate("document.querySelectorAll('#legend [aria-pressed=true]').length") == 1
    assert "Nearest dot: " + page.evaluate("study.classes[1]") in text(
        page, "#planes .cell:nth-child(3) .nearest"
    )
    page.drag(page.point("#planes .reset"))
    assert torch.equal(z_of(page, 1), before)


@needs_browser
@torch.no_grad()
def test_pictures_lie_behind_the_plane_and_the_nearest_dot_can_be_taken(page, shown_models):
    plane = "#planes .cell:nth-child(2) .plane"
    page.drag(page.point(plane, 0.9, 0.9))
    page.settle(1.5)
    reach = page.evaluate(f"Number(document.querySelector('{plane}').ariaValueMax)")
    z, (across, up) = z_of(page), page.evaluate("models[0].order.slice(0, 2)")
    z[across], z[up] = 0, 2 / 9 * reach  # above the middle
    alpha = values(
        page,
        f"Array.from(document.querySelector('{plane} .under').getContext('2d')"
        ".getImageData(4 * side, 3 * side, side, side).data).filter((_, i) => i % 4 === 3)",
    )
    assert torch.allclose(alpha / 255, 0.4 * shown_models[0].decode(z[None])[0], atol=0.01)
    assert page.evaluate("document.querySelectorAll('.old').length") == 0
    for act in ("pointer", "keyboard"):
        nearest = text(page, "#planes .cell:nth-child(2) .nearest span")
        if act == "pointer":
            page.drag(page.point("#planes .cell:nth-child(2) .nearest"))
        else:
            page.evaluate(f"document.querySelector('{plane}').focus()")
            page.press("ArrowRight", 3, shift=True)
            nearest = text(page, "#planes .cell:nth-child(2) .nearest span")
            page.press("Enter")
        name = page.evaluate("input.name")
        assert nearest == f"Nearest dot: {name}. Take it" and "test image" in name


@needs_browser
def test_drawing_by_pointer_and_keyboard(page):
    page.drag(page.point("#clear"))
    assert pixels_of(page, "#paper").max() == 0
    page.drag(page.point("#paper", 0.2, 0.2), page.point("#paper", 0.8, 0.2))
    drawn = pixels_of(page, "#paper").view(28, 28)
    assert drawn[5, 6:22].min() > 0.9 and drawn[10:].max() == 0
    before = z_of(page)
    page.press("ArrowDown", 10)
    page.press(" ")
    page.press("ArrowLeft", 5, shift=True)
    drawn = pixels_of(page, "#paper").view(28, 28)
    assert drawn[13:17].sum() > 5 and not torch.equal(z_of(page), before)
    assert page.evaluate("input.name") == "Your drawing"
    assert page.evaluate("document.querySelector('#strip :checked')") is None
    page.drag(page.point("#undo"))
    assert not torch.equal(pixels_of(page, "#paper").view(28, 28), drawn)
    page.drag(page.point("#paper", 0.5, 0.9), button="right")
    assert pixels_of(page, "#paper").view(28, 28)[24:].max() == 0
    page.evaluate("document.getElementById('paper').focus()")  # as a tap does
    page.touch(page.point("#paper", 0.1, 0.95), page.point("#paper", 0.1, 0.5))
    assert pixels_of(page, "#paper").view(28, 28)[24:].max() > 0.9
    while not page.evaluate("find('undo').disabled"):
        page.drag(page.point("#undo"))
    assert page.evaluate("input.name") == page.evaluate("images[0].name")
    drawn = pixels_of(page, "#paper")
    page.evaluate("document.activeElement.blur()")
    page.touch(page.point("#paper", 0.1, 0.95), page.point("#paper", 0.1, 0.5))  # scrolls
    assert torch.equal(pixels_of(page, "#paper"), drawn)


@needs_browser
@torch.no_grad()
def test_interpolation_goes_through_all_models_at_once(page, data, shown_models):
    page.drag(page.point("#from label:nth-child(3)"))
    page.drag(page.point("#to label:nth-child(8)"))
    page.evaluate("document.getElementById('share').focus()")
    page.press("Home")
    page.press("ArrowRight", 25)
    assert text(page, "#share-value") == "0.25"
    places = page.evaluate("[study.places[1], study.places[6]]")
    for number, model in enumerate(shown_models):
        a, b = model.latent(data.test.take(places).floats())
        wanted = model.decode((a + 0.25 * (b - a))[None])[0]
        shown = pixels_of(page, f"#between .cell:nth-child({number + 4}) .picture")
        assert torch.allclose(shown, wanted, atol=0.004)


@needs_browser
@torch.no_grad()
def test_draws_of_the_prior_and_of_each_models_own_gaussian(page, data, shown_models):
    page.point("#draws .eight")
    page.settle()
    first = pixels_of(page, "#draws .eight")
    page.drag(page.point("#draw"))
    second = pixels_of(page, "#draws .eight")
    page.press("Enter")
    third = pixels_of(page, "#draws .eight")
    assert not torch.equal(first, second) and not torch.equal(second, third)
    noise = values(page, "Array.from(normals(20000, 3))")
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
    z = values(
        page,
        "Array.from({length: 4000}, (_, i) => "
        "Array.from(fromFitted(models[3], normals(models[3].zDim, 7919 * i))))",
    )
    wanted = shown_models[3].latent(data.train.take(slice(4_000)).floats())
    spread = wanted.std(dim=0)
    assert ((z.mean(dim=0) - wanted.mean(dim=0)).abs() < 0.1 * spread).all()
    told = page.evaluate("[models[3].zDeviation, models[3].zCorrelation]")
    correlation = torch.corrcoef(wanted.T).fill_diagonal_(0).abs().max()
    assert told == pytest.approx([float(spread.mean()), float(correlation)], rel=0.01)
    assert (((torch.cov(z.T) - torch.cov(wanted.T)) / spread.outer(spread)).abs() < 0.1).all()


@needs_browser
def test_differences_have_a_scale_that_is_seen(page, path):
    """A quarter of the gray range takes the last colour, and most differences are smaller."""
    large = page.evaluate(
        "models.map(m => m.decoded.filter((v, i) => Math.abs(v - input.values[i]) <= DIFFERENCE)"
        ".length / pixels)"
    )
    print(f"\ndifferences within the colours' ends: {large}")
    for width in (1360, 390):
        page.window(width, 844)
        page.open(path)
        box = page.evaluate(
            "(({width, height}) => [width, height])(find('scale').getBoundingClientRect())"
        )
        assert box[0] > 50 and box[1] > 8
        assert "\u22120.25 0.25" in " ".join(page.evaluate("find('key').innerText").split())


# --- lessons, the address, images of one's own ----------------------------------------------------


def described(label, z_dim, used, hidden=(400,), random=True):
    return {
        "label": label,
        "random": random,
        "zDim": z_dim,
        "hidden": hidden,
        "order": list(range(z_dim)),
        "active": [latent < used for latent in range(z_dim)],
        "zDeviation": 1.0 if random else 1.6,
        "zCorrelation": 0.0 if random else 0.4,
        "effect": 0.01 if used < z_dim else None,
        "testReconstruction": 220.0,
        "testKl": 1.0 * used,
    }


def test_lessons_are_offered_where_the_models_show_them():
    three, four = described("A", 20, 12), described("B", 20, 8, (400, 100))
    large, plain = described("C", 50, 13), described("D", 50, 50, random=False)
    unused, cloud, depth, size = lessons([three, four, large, plain])
    assert "by more than 0.01" in unused["text"] and "the top bar's slider" in unused["text"]
    assert unused["moves"] == [(0, 12, 3), (1, 8, 3), (2, 13, 3)]
    assert cloud["models"] == [2, 3] and cloud["text"].startswith("The latents of D")
    assert "deviation of 1.6 and correlations up to 0.4; N(0, I) has 1 and 0" in cloud["text"]
    assert "C (1.0 and 0.0) look alike" in cloud["text"]
    assert depth["title"] == "Three layers against four" and depth["models"] == [0, 1]
    assert size["title"] == "20 latents against 50" and size["models"] == [0, 2]
    assert (
        "A uses 12 latents and B 8. In this training, over all test images, the deeper"
        in depth["text"]
    )
    assert "is 4.0 nats lower (232.0 to 228.0): KL falls by 4.0, reconstruction" in depth["text"]
    assert "loss stays the same. The likely reason" in depth["text"]
    assert "loss is 1.0 nats higher (232.0 to 233.0): KL rises by 1.0" in size["text"]
    assert "A leaves 8 unused" in size["text"]
    (_, none) = lessons([three, described("B", 20, 12, (400, 100))])
    assert "loss is the same" in none["text"] and "likely" not in none["text"]
    near = {**plain, "zDeviation": 1.0, "zCorrelation": 0.05}
    assert "cloud" not in {lesson["id"] for lesson in lessons([three, near])}
    assert [lesson["id"] for lesson in lessons([three])] == ["unused"]
    assert lessons([described("E", 5, 5)]) == []
    (small,) = lessons([described("E", 5, 5), described("F", 9, 9)])
    assert "All latents of E are in use" in small["text"]
    for lesson in (unused, cloud, depth, size):
        assert len(lesson["text"].split()) <= 70


@needs_browser
def test_lessons_set_a_state_that_the_address_keeps(page, path):
    ids = page.evaluate("study.lessons.map(lesson => lesson.id)")
    assert {"cloud", "depth", "size"} <= {*ids}
    for number, name in enumerate(ids):
        page.drag(page.point(f"#lessons button:nth-of-type({number + 1})"))
        page.settle(0.6)
        assert page.evaluate("location.hash").startswith(f"#lesson={name}")
        lesson = page.evaluate(f"study.lessons[{number}]")
        assert lesson["text"] in text(page, "#lesson")
        top, bottom = page.evaluate(
            "(({top, bottom}) => [top, bottom])(find('lesson').getBoundingClientRect())"
        )
        pictures = page.evaluate("find('results').getBoundingClientRect().bottom")
        assert pictures - 1 <= top < pictures + 12 and bottom < 900  # right below the pictures
        for model, latent, value in lesson["moves"]:
            assert z_of(page, model)[latent] == value
        assert page.evaluate(
            "models.every((model, i) => model.cells[0].classList.contains('beside') === "
            "!state.lesson.models.includes(i))"
        )


@needs_browser
def test_the_next_lesson_and_the_end_that_puts_all_back(page):
    page.drag(page.point("#sliders .latent:nth-of-type(2) input", 0.9))
    page.settle(0.6)
    before, z = page.evaluate("address()"), z_of(page)
    page.drag(page.point("#lessons button"))
    ids, last = page.evaluate("study.lessons.map(lesson => lesson.id)"), "#lesson button:last-child"
    for name in ids[1:]:
        page.evaluate("document.querySelector('#lesson button').focus()")
        page.press("Enter")
        assert page.evaluate("location.hash").startswith(f"#lesson={name}")
        size = "(({width, height}) => Math.min(width, height))"
        assert (
            page.evaluate(f"{size}(find('lesson').lastChild.firstChild.getBoundingClientRect())")
            >= 24
        )
    assert page.evaluate("find('lesson').querySelectorAll('button').length") == 1  # no next one
    page.drag(page.point("#sliders .latent input", 0.2))
    assert not torch.equal(z_of(page), z)
    page.drag(page.point(last))
    assert page.evaluate("address()") == page.evaluate("location.hash") == before
    assert torch.equal(z_of(page), z) and page.evaluate("find('lesson').hidden")
    page.evaluate("history.back()")
    page.settle()
    assert page.evaluate("state.lesson.id") == ids[-1]


@needs_browser
def test_a_phone_shows_the_moved_latents_and_the_key(browser, data, tmp_path):
    """Of models with more latents in use than are in sight, too, whose moved one is in the fold."""
    model = VAE3Layer(h_dim=16, z_dim=30).fresh(0).eval()
    model.h_to_z.weight.data[:29] *= 20  # all but the last mean vary much
    model.h_to_z.weight.data[29] = 0
    path = write_explorer(tmp_path / "page.html", data, [model, model])
    browser.window(390, 844)
    browser.open(path, "#lesson=unused")
    assert browser.evaluate("study.lessons[0].moves.map(([, latent]) => latent)") == [29, 29]
    boxes = browser.evaluate(
        """[find("results"), find("lesson"), ...models.flatMap(({rows, order}) =>
        [rows[29], rows[order[0]]]), find("key").lastElementChild].map(node =>
        (({top, bottom}) => [top, bottom])(node.getBoundingClientRect()))"""
    )
    (_, pictures), (text_top, text_end), *rows, key = boxes
    assert pictures <= text_top + 1 and 0 < key[0] < key[1] <= pictures
    assert all(text_end < top < bottom < 844 for top, bottom in rows)


@needs_browser
def test_terms_are_explained_where_they_are_met(page):
    assert text(page, "#results h3") == "This image and its losses"
    assert "with a variance above 0.01." in " ".join(text(page, "#sliders .lead").split())
    assert re.search(r"Full bar: KL [\d.]+ nats\. Sliders go from", text(page, "#sliders .use"))
    page.drag(page.point("header .term"))
    assert page.evaluate("find('about-nats').matches(':popover-open')")


@needs_browser
def test_address_reload_and_the_back_button_restore_all(page, path):
    def now():
        page.settle(0.6)  # the address follows once the hand rests
        return page.evaluate(
            "JSON.stringify([state, Array.from(input.values), models.map(m => [...m.z])])"
        )

    states = [now()]
    page.drag(page.point("#paper", 0.2, 0.2), page.point("#paper", 0.8, 0.8))
    states.append(now())
    page.drag(page.point("#sliders .again"))
    page.drag(page.point("#legend button:nth-child(2)"))
    page.drag(page.point("#draw"))
    page.evaluate("find('share').value = 0.25; find('share').dispatchEvent(new Event('input'))")
    page.drag(page.point("#from label:nth-child(1)"))
    page.evaluate(
        "(select => { select.value = models[1].order[4]; select.dispatchEvent(new Event('change'))"
        "})(document.querySelector('#planes .cell:nth-child(3) select'))"
    )
    page.drag(page.point("#sliders .latent input", 0.9))
    states.append(now())
    assert len({*states}) == 3
    link = page.evaluate("location.hash")
    assert 1_000 < len(link) < 4_000
    page.open(path, link)
    assert now() == states[2] and page.evaluate("location.hash") == link
    assert text(page, CELL.format(2) + " dd") == "moved"
    assert text(page, CELL.format(3) + " dd") == "a draw"
    page.open(path)
    page.drag(page.point("#strip label:nth-child(4)"))
    other = now()
    page.evaluate(f"location.hash = {json.dumps(link)}")
    assert now() == states[2]
    page.evaluate("history.back()")
    assert now() == other
    page.evaluate("history.back()")
    assert now() == states[0]
    for wrong in ("#image=-1&z1=abc&draws=x&axes=99.1_", "#pixels=%%%&lesson=none&share=7"):
        page.open(path, wrong)
        assert now() == states[0]


@needs_browser
def test_an_image_of_ones_own_is_shown_as_the_models_get_it(page):
    page.evaluate(
        """(async () => {
        const canvas = new OffscreenCanvas(300, 150), context = canvas.getContext("2d");
        context.fillStyle = "rgb(255, 0, 0)";
        context.fillRect(0, 0, 300, 150);
        const files = new DataTransfer();
        files.items.add(new File([await canvas.convertToBlob()], "red.png"));
        document.body.dispatchEvent(new ClipboardEvent("paste",
            { clipboardData: files, bubbles: true, cancelable: true })) })()"""
    )
    page.settle(0.5)
    shown = pixels_of(page, "#shown-input").view(28, 28)
    assert page.evaluate("input.name") == "red.png" and shown[:6].max() == 0
    assert torch.allclose(shown[9:19], torch.tensor(0.299), atol=0.003)
    page.drag(page.point("#invert"))
    assert pixels_of(page, "#shown-input").view(28, 28)[0, 0] == 1
    page.evaluate(
        """(() => {
        const files = new DataTransfer();
        files.items.add(new File(["text"], "notes.txt"));
        document.body.dispatchEvent(new DragEvent("drop",
            { dataTransfer: files, bubbles: true, cancelable: true })) })()"""
    )
    page.settle(0.3)
    assert text(page, "#said") == "notes.txt is no image that this browser can read."


# --- everywhere -----------------------------------------------------------------------------------


@needs_browser
def test_everything_that_takes_the_focus_has_a_name(page):
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    seen = {}
    for node in nodes:
        properties = {p["name"]: p["value"].get("value") for p in node.get("properties", [])}
        role = node.get("role", {}).get("value")
        if properties.get("focusable") and role != "RootWebArea":
            assert node["name"]["value"].strip(), role
            seen[role] = seen.get(role, 0) + 1
    assert {"radio", "slider", "button", "application"} <= seen.keys(), seen


@needs_browser
@pytest.mark.parametrize("width, dark", [(1360, False), (820, True), (390, True), (360, False)])
def test_every_window_shows_all_of_it(page, path, width, dark):
    page.window(width, 844, dark)
    page.open(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        """[...document.querySelectorAll("button, select, summary, input[type=range], .strip label,"
            + " .brush label, .button")].filter(node => node.offsetWidth
            && (node.offsetWidth < 24 || node.offsetHeight < 24)).map(node => node.outerHTML)"""
    )
    assert small == []
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(22, 24, 26)" if dark else "rgb(255, 255, 255)")


@needs_browser
@pytest.mark.parametrize("width, height", [(1440, 900), (720, 450), (844, 390), (390, 844)])
def test_pictures_stay_in_sight(page, path, width, height):
    """On a desktop, with 200 % zoom, on a phone on its side and upright."""
    page.window(width, height)
    page.open(path)
    for section in ("#sliders", "#planes", "#between", "#draws"):
        page.evaluate(f"document.querySelector('{section} .cell').scrollIntoView()")
        box = "(({top, height}) => [top, height])(%s.getBoundingClientRect())"
        top, high = page.evaluate(box % "find('results')")
        assert top >= -1 and high < 0.42 * height
        start, _ = page.evaluate(box % f"document.querySelector('{section} .cell')")
        assert start >= top + high - 1  # not below them


@needs_browser
def test_scrolling_by_touch_moves_no_slider(page, path):
    page.window(390, 844)
    page.send("Emulation.setTouchEmulationEnabled", enabled=True)
    page.open(path)
    x, y = page.point("#sliders .latent:nth-of-type(5) input", 0.8)
    before, scrolled = z_of(page), page.evaluate("scrollY")
    page.touch((x, y), *((x, y - 15 * i) for i in range(1, 9)))
    page.settle(0.3)
    after = z_of(page)
    page.touch((x, y), *((x - 3 * i, y) for i in range(1, 9)))
    moved = z_of(page)
    page.send("Emulation.setTouchEmulationEnabled", enabled=False)
    assert page.evaluate("scrollY") > scrolled + 60 and torch.equal(after, before)
    assert not torch.equal(moved, before)  # along the slider


@needs_browser
def test_without_scripts_the_page_says_what_to_do(page, path):
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.send("Page.navigate", url=path.as_uri())
    while page.evaluate("document.readyState") != "complete":
        time.sleep(0.1)
    shown = page.evaluate("document.body.innerText")
    page.send("Emulation.setScriptExecutionDisabled", value=False)
    assert "Trust HTML" in shown and "Latents, one by one" not in shown


@needs_browser
def test_forced_colours_and_print_show_all(page):
    page.point("#sliders .latent")
    page.send("Emulation.setEmulatedMedia", features=[{"name": "forced-colors", "value": "active"}])
    bar, dot, band = page.evaluate(
        """[["#sliders .bar", "backgroundColor"], ["#legend button", "backgroundColor"],
        ["#sliders .band", "borderStyle"]].map(([name, style]) =>
        getComputedStyle(document.querySelector(name), name.endsWith("band") ? null
            : "::before")[style])"""
    )
    assert page.evaluate("study.classColors[0]") == "#1f4fd8" and dot == "rgb(31, 79, 216)"
    assert bar not in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)") and band == "dashed"
    page.send("Emulation.setEmulatedMedia", features=[])
    before = pixels_of(page, CELL.format(2) + " .picture")
    page.evaluate(
        "addEventListener('beforeprint', () => { globalThis.printed = "
        "[find('results').querySelector('.cell:nth-child(2) canvas').width / side, "
        "views.some(each => each.stale)] })"
    )
    page.send("Page.printToPDF")
    assert page.evaluate("printed") == [8, False]  # of many pixels, and all is drawn
    page.settle()
    assert torch.equal(pixels_of(page, CELL.format(2) + " .picture"), before)


@needs_browser
def test_one_and_eight_models_of_other_images_fit_every_window(browser, tmp_path):
    digits = load_data("stand-in")
    pixels = digits.test.images.shape[1]
    made = [VAE3Layer(pixels, 16, 2 + i) for i in range(6)]
    made += [VAE4Layer(pixels, (16, 8), 3), AutoEncoder(pixels, 16, 1)]
    made = [model.fresh(0).eval() for model in made]
    for chosen in (made[-1:], made):
        path = write_explorer(tmp_path / f"{len(chosen)}.html", digits, chosen, title="A <b> c")
        for width, height in ((1440, 900), (390, 844), (844, 390)):
            browser.window(width, height)
            browser.open(path)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            assert browser.evaluate("document.querySelector('h1').textContent") == "A <b> c"
            overlaps = browser.evaluate(
                """["results", "sliders", "planes", "draws"].flatMap(id => {
                const boxes = [...find(id).querySelectorAll(".cell")]
                    .map(node => node.getBoundingClientRect());
                return boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right - 1
                    && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)) })"""
            )
            assert overlaps == []


# --- a study's page -------------------------------------------------------------------------------


def test_explore_names_seeds_and_replaces_only_its_own_page(tiny_data, tmp_path, capsys):
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0, learning_rate=1e-3)
    study = Study(tiny_data, recipe, seeds=2, folder=None, jobs=1)
    trained = study.train(VAE3Layer(784, 8, 3))
    path = tmp_path / "page.html"
    assert explore(study, trained, path=path, title="Mine & yours") == path
    assert capsys.readouterr().out == ""
    assert '"seeds":"first of 2 trainings"' in path.read_text()
    assert "<title>Mine &amp; yours</title>" in path.read_text()
    assert "fully trained" not in path.read_text()
    study.measure(["active_units"], *trained)
    explore(study, trained, path=path, title="Mine & yours")
    assert "page.html was there and has been replaced." in capsys.readouterr().out
    assert re.search(r"first of 2 trainings; \d( to \d over all| in each)", path.read_text())
    kept = path.read_bytes()
    assert explore(study, trained, path=path, title="Another") is None
    notes = tmp_path / "notes.html"
    notes.write_text("notes")
    assert explore(study, trained, path=notes) is None
    assert capsys.readouterr().out.count("is there and is no explorer page with the title") == 2
    assert path.read_bytes() == kept and notes.read_text() == "notes"
    assert explore(study, [trained[0].model], path=tmp_path / "new.html") is None
    assert "every model must be a Trained" in capsys.readouterr().out


def test_explore_shows_a_link_in_a_notebook(tiny_data, tmp_path, monkeypatch):
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0, learning_rate=1e-3)
    study = Study(tiny_data, recipe, seeds=2, folder=None, jobs=1, mode="short")
    trained, shown = study.train(VAE3Layer(784, 8, 3)), []
    monkeypatch.setattr("report.tools.explorer.get_ipython", lambda: True)
    monkeypatch.setattr("report.tools.explorer.display", lambda data, raw: shown.append(data))
    monkeypatch.setenv("VAE_RESULTS_DIR", str(tmp_path))
    assert explore(study, trained) == tmp_path / "explorer.short.html"
    monkeypatch.chdir(tmp_path)
    explore(study, trained, path=tmp_path / "my page.html")
    first, second = (data["text/html"] for data in shown)
    assert 'href="report/explorer.short.html"' in first and "Trust HTML" in first
    assert 'src="my%20page.html"' in second


@needs_browser
def test_speed(page, path):
    """Figures, as time on the processor, which others that are at work change little."""
    page.send("Performance.enable", timeDomain="threadTicks")

    def spent():
        metrics = page.send("Performance.getMetrics")["metrics"]
        return next(1e3 * each["value"] for each in metrics if each["name"] == "TaskDuration")

    page.open(path)
    opened = page.evaluate("performance.getEntriesByName('first picture')[0].startTime")
    print(f"\nfirst picture {opened:.0f} ms after opening, {spent():.0f} ms of work; frames:")
    assert page.evaluate("views.some(each => each.stale && each.section.id === 'draws')")
    for name, action in [
        ("a latent moved", "models.forEach(m => setLatent(m, m.order[0], i / 30 - 1))"),
        ("drawing", "takeTest(images[i % images.length])"),
        ("between two images", "share.value = i / 60; share.dispatchEvent(new Event('input'))"),
    ]:
        if name.startswith("between"):
            page.point("#share")
        times = values(
            page,
            f"""new Promise(done => {{
            const times = [];
            let i = 0;
            const step = () => {{
                {action};
                const start = performance.now();
                frame();
                times.push(performance.now() - start);
                ++i < 60 ? requestAnimationFrame(step) : done(times) }};
            step() }})""",
        )
        print(f"  {name}: median {times.median():.1f} ms, 95 % {times.quantile(0.95):.1f} ms")
    page.settle(1.5)
    page.evaluate(
        "globalThis.before = requestAnimationFrame; globalThis.asks = 0;"
        "globalThis.requestAnimationFrame = done => { asks++; return before(done); }; 1"
    )
    page.evaluate("new Promise(done => setTimeout(done, 800))")
    assert page.evaluate("asks") == 0  # at rest nothing is drawn
    assert page.evaluate("document.getAnimations().length") == 0
