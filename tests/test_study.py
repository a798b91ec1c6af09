"""Training in a study: nothing trained twice, nothing foreign loaded, equal results everywhere."""

from dataclasses import replace

import joblib
import pytest
import torch
from own_models import BetaVAE, ConvVAE, Fragile

from vae_helpers import AutoEncoder, Recipe, Study, VAE3Layer, VAE4Layer, study, training
from vae_helpers.engine.files import load_tensors, save_tensors

RECIPE = Recipe(epochs=2, batch_size=64)


def pair():
    return VAE3Layer(h_dim=16, z_dim=3), AutoEncoder(h_dim=16, z_dim=3)


def go(data, folder, models=None, seeds=(0, 1), recipe=RECIPE, stacked=False, jobs=1):
    """The states of every model's runs, in the order of models and seeds."""
    s = Study(data, folder=folder, jobs=jobs)
    s.stacked = stacked
    runs = s.runs_of([(model, recipe, seed) for model in models or pair() for seed in seeds])
    return [run["state"] for run in runs]


def equal(a, b):
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture
def trained(monkeypatch):
    """The seeds of the runs trained in this process."""
    seeds, train = [], training.train

    def counting(*args, **options):
        seeds.append(options["seed"])
        return train(*args, **options)

    monkeypatch.setattr(training, "train", counting)
    return seeds


@pytest.fixture
def short_recipe(monkeypatch):
    monkeypatch.setattr(study, "RECIPE", RECIPE)


def test_finished_runs_are_loaded_not_trained_again(tiny_data, tmp_path, trained):
    first = go(tiny_data, tmp_path)
    assert len(trained) == 4
    assert equal(first, go(tiny_data, tmp_path)) and len(trained) == 4
    go(tiny_data, tmp_path, seeds=(0, 1, 2))
    assert trained[4:] == [2, 2]
    again = Study(tiny_data, folder=tmp_path, jobs=1, fresh=True)
    for _ in range(2):  # each once
        again.runs_of([(model, RECIPE, seed) for model in pair() for seed in (0, 1)])
    assert len(trained) == 10
    assert {path.suffix for path in tmp_path.iterdir()} == {".pt"}


def test_training_leaves_the_first_seeds_weights_in_the_objects(
    tiny_data, tmp_path, short_recipe, trained
):
    s = Study(tiny_data, seeds=[5, 2], epochs=2, folder=tmp_path, jobs=1)
    four = VAE4Layer(h_dims=(24, 40), z_dim=3)
    s.train(*pair(), four)
    state = {name: value.clone() for name, value in four.state_dict().items()}
    assert equal([state], [s.runs([four])[four][0]["state"]]) and not four.training
    assert s.histories(four)[four.label][1]["validation_total"]
    s.runs_of([(four, replace(RECIPE, epochs=1), 5)])  # another recipe does not touch it
    assert equal([state], [four.state_dict()])
    count = len(trained)
    s.train(four)
    s.train(VAE4Layer(h_dims=(24, 40), z_dim=3))  # an equal object finds the same runs
    assert len(trained) == count


@pytest.mark.parametrize("make", [ConvVAE, BetaVAE])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_users_own_model_trains_and_is_found_again(tiny_data, tmp_path, trained, make, jobs):
    first = go(tiny_data, tmp_path, [make()], jobs=jobs)
    count = len(trained)
    assert equal(first, go(tiny_data, tmp_path, [make()])) and len(trained) == count
    again = make()
    again.load_state_dict(first[0])
    x = tiny_data.test.floats()
    assert again(x)[0].shape == (200, 784)


def test_whatever_could_change_the_weights_changes_the_key(tiny_data, tmp_path, monkeypatch):
    class VAE3Layer(BetaVAE):  # another class of the same name and sizes
        pass

    model, swapped = pair()[0], replace(tiny_data, train=tiny_data.test)
    go(tiny_data, tmp_path, [model], [0])
    for number, (data, other, seed, recipe) in enumerate(
        [
            (tiny_data, pair()[1], 0, RECIPE),
            (tiny_data, model, 1, RECIPE),
            (tiny_data, model, 0, replace(RECIPE, betas=(0.8, 0.999))),
            (swapped, model, 0, RECIPE),
            (tiny_data, BetaVAE(h_dim=16, z_dim=3), 0, RECIPE),
            (tiny_data, VAE3Layer(h_dim=16, z_dim=3), 0, RECIPE),
        ]
    ):
        go(data, tmp_path, [other], [seed], recipe)
        assert len(list(tmp_path.iterdir())) == number + 2
    monkeypatch.setattr(study, "source_digest", lambda *modules: "other code")
    go(tiny_data, tmp_path, [model], [0])
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("folder", [None, "Läufe und mehr"])
def test_parallel_and_sequential_runs_are_equal_bit_for_bit(tiny_data, tmp_path, folder):
    folders = (tmp_path / folder / name if folder else None for name in "ab")
    sequential, parallel = (go(tiny_data, next(folders), jobs=jobs) for jobs in (1, 2))
    assert equal(sequential, parallel)


@pytest.mark.slow
def test_dask_cluster_of_two_workers_gives_equal_results(tiny_data, tmp_path):
    distributed = pytest.importorskip("distributed")
    local = go(tiny_data, tmp_path / "local")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        remote = go(tiny_data, tmp_path / "remote", jobs=2)
    assert equal(local, remote)
    assert len(list((tmp_path / "remote").glob("*.pt"))) == 4


@pytest.mark.filterwarnings("ignore:TF32")
def test_seeds_in_a_stack_equal_single_runs_to_rounding(tiny_data, tmp_path, trained):
    stacked = go(tiny_data, tmp_path, stacked=True)
    assert equal(stacked, go(tiny_data, tmp_path, stacked=True)) and not trained
    with torch.backends.mkldnn.flags(enabled=False):  # the same kernel: only the stack differs
        single = go(tiny_data, None)
    for a, b in zip(stacked, single, strict=True):
        for name, weights in a.items():
            torch.testing.assert_close(weights, b[name], rtol=0, atol=1e-5)


def test_a_folder_that_can_not_be_written_costs_only_the_keeping(tiny_data, tmp_path):
    blocked = tmp_path / "runs"
    blocked.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="can not be written"):
        runs = go(tiny_data, blocked, seeds=[0])
    assert equal(runs, go(tiny_data, None, seeds=[0]))


def corrupt(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("kind", ["pt", "part"])
def test_a_corrupt_file_of_a_run_is_named_and_set_aside(tiny_data, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0)
    model = [pair()[0]]
    whole = go(tiny_data, None, model, [0])
    if kind == "part":

        def stop(path, content):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(study, "save_tensors", stop)  # of the result
            go(tiny_data, tmp_path, model, [0])
    else:
        go(tiny_data, tmp_path, model, [0])
    (victim,) = tmp_path.glob(f"*.{kind}")
    corrupt(victim)
    with pytest.warns(UserWarning, match=f"{victim.name} is corrupt"):
        assert equal(go(tiny_data, tmp_path, model, [0]), whole)
    assert victim.with_name(f"{victim.name}.corrupt").exists()


def test_a_validation_loss_that_is_not_finite_stops_at_every_start(tiny_data, tmp_path):
    for _ in range(2):
        with pytest.raises(training.NonFiniteLossError, match="nan after epoch 2"):
            go(tiny_data, tmp_path, [Fragile(h_dim=16, z_dim=3)], [7])
        assert list(tmp_path.glob("*.pt")) == []
        for part in tmp_path.glob("*.part"):  # of a machine so slow that it saved the first epoch,
            part.unlink()  # from which this model, which counts validations, would go on well


def test_the_results_name_the_machines_that_the_runs_were_trained_on(tiny_data, tmp_path):
    machine = f"CPU, PyTorch {torch.__version__.split('+')[0]}"
    s, jobs = Study(tiny_data, folder=tmp_path, jobs=1, device="cpu"), [(pair()[0], RECIPE, 0)]
    assert s.results["environment"]["trained_on"] == []
    s.runs_of(jobs)
    assert s.results["environment"]["trained_on"] == [machine]
    (path,) = tmp_path.glob("*.pt")
    save_tensors(path, load_tensors(path) | {"machine": "A GPU, PyTorch 2"})
    again = Study(tiny_data, folder=tmp_path, jobs=1, device="cpu")
    for _ in range(2):
        again.runs_of(jobs)
        again.runs_of([(pair()[0], RECIPE, 1)])
        assert again.results["environment"]["trained_on"] == ["A GPU, PyTorch 2", machine]


def test_two_models_of_one_label_are_refused(tiny_data):
    s = Study(tiny_data, folder=None)
    with pytest.raises(ValueError, match="different labels"):
        s.runs([pair()[0], pair()[0]])
    with pytest.raises(TypeError, match="every model must be a Model, got Linear"):
        s.runs([torch.nn.Linear(784, 2)])
