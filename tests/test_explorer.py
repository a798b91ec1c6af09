"""The explorer page: its arithmetic against torch's, and every control by pointer and keyboard."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from browser import CHROMIUM, Browser
from torch import nn

from report.tools.explorer import as_shown, rounded, write_explorer
from vae_helpers.data import Data, DataError, Split, load_data
from vae_helpers.losses import kl_divergence, reconstruction_loss
from vae_helpers.models import VAE, AutoEncoder, VAE3Layer, VAE4Layer
from vae_helpers.training import Recipe, train

RECIPE = Recipe(epochs=2, batch_size=256, learning_rate=4e-3, warmup_epochs=1, schedule="cosine")
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
    with pytest.raises(ValueError, match="models is empty"):
        write_explorer(tmp_path / "page.html", tiny_data, [])
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
    for number, model in enumerate(shown_models):
        mean, log_var = model.posterior(x)
        cell = f"#results .cell:nth-child({number + 2})"
        loss, kl = page.evaluate(
            f"[...document.querySelectorAll('{cell} dd')].map(d => d.textContent)"
        )
        wanted = float(reconstruction_loss(model.decode_logits(mean), x))
        assert float(loss) == pytest.approx(wanted, abs=0.06)
        if log_var is None:
            assert kl == "none"
        else:
            assert float(kl) == pytest.approx(float(kl_divergence(mean, log_var).sum()), abs=0.06)
        shown = pixels_of(page, f"{cell} .picture")
        assert torch.allclose(shown, model.decode(mean)[0], atol=0.004)
    page.press("ArrowRight")  # radio buttons: the next one
    assert page.evaluate("input.name") == page.evaluate("images[3].name")


# --- the controls ---------------------------------------------------------------------------------


@needs_browser
def test_sliders_move_one_latent_and_inactive_ones_are_folded(page):
    before, decoded = z_of(page), pixels_of(page, "#results .cell:nth-child(2) .picture")
    first = "#sliders .latent input"
    page.drag(page.point(first), page.point(first, 0.9))
    after, latent = z_of(page), page.evaluate("models[0].order[0]")
    assert after[latent] > 1.5 and (after != before).sum() == 1
    assert not torch.equal(pixels_of(page, "#results .cell:nth-child(2) .picture"), decoded)
    page.press("ArrowLeft", 3)  # the slider has the focus
    assert z_of(page)[latent] < after[latent]
    assert text(page, "#results .cell:nth-child(2) .state") == "moved"
    page.drag(page.point("#sliders .reset"))
    assert torch.equal(z_of(page), before)
    in_sight = page.evaluate(
        "[...document.querySelectorAll('#sliders .cell')].map(cell => "
        "cell.querySelectorAll('.cell > .latent').length)"
    )
    used = page.evaluate("models.map(model => model.active.filter(Boolean).length)")
    assert in_sight == [min(count, 16) for count in used]
    assert text(page, "#sliders .use").startswith(f"{used[0]} of 20")
    kl = values(page, "models[0].order.map(latent => models[0].klPerLatent[latent])")
    assert (kl.diff() <= 0).all()


@needs_browser
def test_plane_by_pointer_touch_and_keyboard(page):
    plane = "#planes .cell:nth-child(3) .plane"
    across, up = page.evaluate("models[1].order.slice(0, 2)")
    before = z_of(page, 1)
    page.drag(page.point(plane, 0.5, 0.5), page.point(plane, 0.75, 0.5))
    after = z_of(page, 1)
    assert after[across] > 1 and abs(after[up]) < 0.1
    assert {*(after != before).nonzero()[:, 0].tolist()} <= {across, up}
    page.touch(page.point(plane, 0.5, 0.5), page.point(plane, 0.5, 0.25))
    assert z_of(page, 1)[up] > 1 and abs(z_of(page, 1)[across]) < 0.1
    page.press("ArrowDown", shift=True)
    page.press("ArrowLeft", 2)
    assert z_of(page, 1)[across] < -0.05
    assert "\u2212" in page.evaluate(f"document.querySelector('{plane}').ariaValueText")
    page.evaluate("document.querySelector('#planes .cell:nth-child(3) select').focus()")
    page.press("ArrowDown", 2)
    page.drag(page.point(plane, 0.2, 0.5))
    assert z_of(page, 1)[page.evaluate("models[1].order[2]")] < -1
    page.drag(page.point("#legend button:nth-child(2)"))
    assert page.evaluate("document.querySelectorAll('#legend [aria-pressed=true]').length") == 1
    page.drag(page.point("#planes .reset"))
    assert torch.equal(z_of(page, 1), before)


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
def test_draws_are_the_same_for_every_model_and_new_at_every_press(page):
    first = pixels_of(page, "#draws .twelve")
    page.drag(page.point("#draw"))
    second = pixels_of(page, "#draws .twelve")
    page.press("Enter")
    third = pixels_of(page, "#draws .twelve")
    assert not torch.equal(first, second) and not torch.equal(second, third)
    noise = values(page, "Array.from(normals(20000, 3))")
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03


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
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(22, 24, 26)" if dark else "rgb(255, 255, 255)")


@needs_browser
def test_speed(page):
    """Figures only, as time on the processor, which others that are at work change little."""
    page.send("Performance.enable", timeDomain="threadTicks")

    def spent():
        metrics = page.send("Performance.getMetrics")["metrics"]
        return next(1e3 * each["value"] for each in metrics if each["name"] == "TaskDuration")

    opened = page.evaluate("performance.getEntriesByName('first picture')[0].startTime")
    page.open(Path(page.evaluate("decodeURI(location.pathname)")))
    print(
        f"\nfirst picture {opened:.0f} ms after opening, {spent():.0f} ms of work; frames of "
        "all models (script, style, layout, painting), mean:",
        end="",
    )
    for name, action in [
        ("a latent moved", "models.forEach(m => { m.z[m.order[0]] = i / 30 - 1; redraw(m) })"),
        ("an image drawn", "setInput('x', images[i % images.length].values)"),
        ("between two images", "share.value = i / 60; share.dispatchEvent(new Event('input'))"),
    ]:
        before = spent()
        page.evaluate(f"""new Promise(done => {{
            let i = 0;
            const frame = () => {{ {action}; ++i < 60 ? requestAnimationFrame(frame) : done() }};
            frame() }})""")
        print(f" {name} {(spent() - before) / 60:.1f} ms;", end="")
