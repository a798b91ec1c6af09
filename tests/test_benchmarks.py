"""The benchmarks measure what they say; how fast anything is, is not tested here."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from benchmarks import (
    gpu,
    growth,
    loss,
    output,
    race,
    reference,
    small_costs,
    speed,
    stacking,
    step_profile,
    targets,
    timing,
)  # fmt: skip
from benchmarks.__main__ import SECTIONS
from benchmarks.floor import FloorEpoch, MatrixProducts, our_product, torch_product
from benchmarks.output import FOLDER, replace_between
from benchmarks.setup import Setup
from vae_helpers import ModelSpec, TrainSettings, VAE3Layer, vae_loss
from vae_helpers.study import torch_threads


@pytest.fixture
def setup(tiny_data):
    return Setup(tiny_data, threads=(1,), repetitions=2, reference_epochs=1, growth_images=256,
                 quick=True)  # fmt: skip


def test_reference_and_our_training_agree_step_for_step(tiny_data):
    found = speed.agreement(tiny_data.train.images, epochs=4)
    assert found["steps"] == 16
    assert found["reference"][-1] < found["reference"][0] - 20  # they learn, and still agree
    assert found["largest difference"] < 1e-3


def test_agreement_would_notice_another_learning_rate(tiny_data, monkeypatch):
    monkeypatch.setattr(reference, "RATE", 1.1e-3)
    assert speed.agreement(tiny_data.train.images, epochs=4)["largest difference"] > 0.1


def test_as_ours_is_the_same_function_and_loss(tiny_data):
    torch.manual_seed(3)
    usual = reference.ReferenceVAE(z_dim=7, h_dim=50)
    ours = reference.as_ours(usual)
    x = tiny_data.test.floats()
    for a, b in zip(usual.encode(x), ours.encode(x), strict=True):
        torch.testing.assert_close(a, b)
    z = torch.randn(5, 7)
    torch.testing.assert_close(usual.decode(z), ours.decode(z))
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    probabilities, mu, log_var = usual(x, noise[0])
    bce = F.binary_cross_entropy(probabilities, x, reduction="sum") / len(x)
    logits, mu, log_var = ours.forward_logits(x, noise[1])
    loss_ours = vae_loss(logits, x, mu, log_var).reconstruction.detach()
    assert float(bce.detach()) == pytest.approx(float(loss_ours))


def test_the_recipe_sees_every_image_once_scaled_to_one(tiny_data):
    loader = reference.make_loader(tiny_data.train.images)
    batches = [x for x, _ in loader]
    assert [len(b) for b in batches] == [128] * 4 + [88]
    seen = torch.cat(batches).flatten(1)
    assert not torch.equal(seen, tiny_data.train.floats())  # shuffled
    assert torch.equal(seen.sum(1).sort()[0], tiny_data.train.floats().sum(1).sort()[0])


class ProductShapes(torch.utils._python_dispatch.TorchDispatchMode):
    """The sizes (rows, inner, columns) of all matrix products that run inside the block."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm", "_linear_pointwise"):
            a, b = args[1:3] if name == "addmm" else args[:2]
            columns = b.shape[0] if name == "_linear_pointwise" else b.shape[1]
            self.found.append((*a.shape, columns))
        return function(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's, of the switch itself
@pytest.mark.parametrize(
    ("onednn", "product"), [(True, our_product), (False, our_product), (True, torch_product)]
)
def test_floor_does_the_products_of_a_training_step(onednn, product):
    model = VAE3Layer(h_dim=40, z_dim=3)
    products = MatrixProducts(model, 64, product)
    with torch.backends.mkldnn.flags(enabled=onednn):
        with ProductShapes() as floor:
            products.step()
        with ProductShapes() as training:
            logits, mu, log_var = model.forward_logits(torch.rand(64, 784))
            (logits.sum() + mu.sum() + log_var.sum()).backward()

    def as_sets(found):  # a product and its transpose are the same work
        return sorted(sorted(shape) for shape in found)

    assert as_sets(floor.found) == as_sets(training.found)
    assert len(floor.found) == 11  # four layers, three products each, less one: no gradient of x


def test_floor_epoch_covers_all_images():
    epoch = FloorEpoch(VAE3Layer(h_dim=4, z_dim=2), 300, 128)
    assert sum(steps * len(p.layers[0][0]) for steps, p in epoch.parts) == 300


def test_the_three_losses_are_one_loss(setup):
    values = [found["nats"] for found in loss.measure(setup).values()]
    assert len(values) == 3 and values == pytest.approx([values[0]] * 3, rel=1e-5)


def test_ratios_are_formed_within_a_repetition():
    found = timing.ratio([1.0, 20.0, 6.0], [1.0, 10.0, 2.0])
    assert found == {"median": 2.0, "low": 1.0, "high": 3.0}
    calls = []
    timing.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b", "a", "b"]


def test_torch_threads_are_set_and_restored():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_peak_memory_sees_an_allocation():
    before = timing.peak_mib()
    torch.ones(2_000_000 * 50 // 4).sum()  # 95 MiB
    size = timing.peak_mib()
    torch.ones(2_000_000 * 100 // 4).sum()  # 191 MiB
    assert timing.peak_mib() - before > 90 and timing.peak_mib() >= size


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_exponent_of_a_power_law(power):
    values = [1, 2, 4, 8]
    assert growth.exponent(values, [3 * v**power for v in values]) == pytest.approx(power)


def test_more_models_and_images_take_more_time_and_memory():
    small, large = (
        timing.in_fresh_process("benchmarks.growth", {
            "width": 8, "z_dim": 5, "depth": 1, "images": n, "models": models, "repetitions": 1})
        for n, models in [(256, 1), (100_000, 2)]
    )  # fmt: skip
    assert large["mib"] > small["mib"] + 60  # 75 MiB of images
    assert large["seconds"] > small["seconds"] > 0


def test_profile_shares_add_up_and_products_are_found(setup):
    found = step_profile.measure(setup)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["shares"]["matrix products"] > 0.05 and found["shares"]["Adam, fused"] > 0
    assert "matrix products" in step_profile.report(found)


def test_sections_measure_and_report(setup, monkeypatch):
    """The whole table from tiny images, without the parts that start processes."""
    monkeypatch.setattr(race, "FAST", TrainSettings(epochs=1, warmup_epochs=0))
    monkeypatch.setattr(race, "SEEDS", (0,))
    monkeypatch.setattr(small_costs, "in_fresh_process", lambda *_: {"seconds": 1.0, "mib": 2.0})
    monkeypatch.setattr(small_costs, "_imports",
                        lambda _: {"torch": timing.spread([1.0])})  # fmt: skip
    sections = {"speed": speed, "race": race, "profile": step_profile,
                "small costs": small_costs, "stacking": stacking}  # fmt: skip
    results = {name: section.measure(setup) for name, section in sections.items()}
    assert set(sections) < set(SECTIONS)
    for name, section in sections.items():
        assert "|" in section.report(results[name]), name
    assert json.loads(json.dumps(results)) == results
    found = targets.targets(results)
    assert len(found) == 5 and all(math.isfinite(t["measured"]["median"]) for t in found)
    assert targets.report(found).count("\n") == 6
    missed = [{**found[0], "holds": False}, *found[1:]]
    assert "What bounds it: on one thread" in targets.bounds({**results, "targets": missed})
    held = [{**target, "holds": True} for target in found]
    assert targets.bounds({**results, "targets": held}) == ""


def test_a_target_holds_only_on_its_side_of_the_bound():
    at = {"median": 4.0, "low": 3.0, "high": 5.0}
    assert targets._target("x", ">=", 4, at)["holds"]
    assert not targets._target("x", ">=", 4.1, at)["holds"]
    assert targets._target("x", "<=", 4, at)["holds"]
    assert not targets._target("x", "<=", 3.9, at)["holds"]
    assert not targets._target("x", ">=", 4, at, condition=False)["holds"]


def test_gpu_benchmark_computes_its_ratios(tiny_data):
    specs = [ModelSpec("AutoEncoder", (8,), 2)]
    once = TrainSettings(epochs=1, warmup_epochs=0)
    found = gpu.measure(tiny_data, "cpu", once, specs, once)
    speeds = found["images per second"]
    assert speeds["stacked"] == pytest.approx(600 / found["seconds"]["stacked"])
    assert f"{speeds['stacked'] / speeds['reference']:,.1f}" in gpu.report(found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_benchmark_without_a_gpu_says_so():
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        gpu.main()


def test_results_go_between_the_markers_and_nowhere_else(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n", encoding="utf-8")
    output.write("x", {"a": 1}, "new", tmp_path)
    output.write("x", {"a": 2}, "newer", tmp_path)
    expected = "before\n<!-- x: begin -->\n\nnewer\n\n<!-- x: end -->\nafter\n"
    assert readme.read_text(encoding="utf-8") == expected
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"a": 2}


@pytest.mark.parametrize("text", ["", "<!-- x: begin -->", "<!-- x: end --><!-- x: begin -->"])
def test_missing_markers_are_named(text):
    with pytest.raises(ValueError, match="<!-- x: begin --> and <!-- x: end -->"):
        replace_between(text, "x", "new")


def test_readme_has_a_place_for_both_results():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in ("results", "gpu"):
        assert "new" in replace_between(text, name, "new")
