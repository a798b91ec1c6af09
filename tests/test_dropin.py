"""Our VAEs in the given notebook's place, and its class in ours.

The cells below are written for this test to the interface of the given notebook (dataflowr/
notebooks, HW3/VAE_clustering): a training loop, and two plot functions that read the globals
`data_loader`, `device`, `image_size` and `z_dim`; its class `VAE` is `own_models.Given`.
"""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from own_models import Given
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from vae_helpers.models import VAE3Layer, VAE4Layer
from vae_helpers.plotting import outputs, plot_reconstruction

mpl.use("Agg")

SETUP_CELL = """
model = VAE().to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
"""

TRAINING_CELL = """
losses = []
for epoch in range(num_epochs):
    for batch, _ in data_loader:
        batch = batch.to(device).view(-1, image_size)
        x_reconst, mu, log_var = model(batch)
        bce = F.binary_cross_entropy(x_reconst, batch, reduction="sum")
        kl = 0.5 * (mu.pow(2) + log_var.exp() - log_var - 1).sum()
        optimizer.zero_grad()
        (bce + kl).backward()
        optimizer.step()
        losses.append((bce + kl).item() / len(batch))
"""

PLOT_CELL = """
def show(grid):
    plt.imshow(grid.numpy().transpose(1, 2, 0), interpolation="nearest")

def plot_reconstruction(model, n=24):
    batch = next(iter(data_loader))[0][:n].to(device)
    try:
        decoded, _, _, _ = model(batch.view(-1, image_size))
    except ValueError:
        decoded, _, _ = model(batch.view(-1, image_size))
    x_concat = torch.cat([batch, decoded.view(-1, 1, 28, 28)], dim=3)
    show(torchvision.utils.make_grid(x_concat).cpu().detach())

def plot_generation(model, n=24):
    with torch.no_grad():
        noise = torch.randn(n, z_dim).to(device)
        decoded = model.decode(noise).view(-1, 1, 28, 28)
    show(torchvision.utils.make_grid(decoded).cpu())
"""


@pytest.fixture
def notebook():
    """The given notebook's names, with 320 random images that have something to learn."""
    generator = torch.Generator().manual_seed(3)
    shapes = torch.rand(4, 1, 28, 28, generator=generator)
    labels = torch.randint(4, (320,), generator=generator)
    images = 0.8 * shapes[labels] + 0.2 * torch.rand(320, 1, 28, 28, generator=generator)
    order = {"shuffle": True, "generator": torch.Generator().manual_seed(4)}
    names = {"torch": torch, "nn": nn, "F": F, "torchvision": torchvision, "np": np, "plt": plt}
    names |= {"device": torch.device("cpu"), "image_size": 784, "h_dim": 400, "z_dim": 20}
    names |= {"num_epochs": 3, "learning_rate": 1e-3}
    names["data_loader"] = DataLoader(TensorDataset(images, labels), batch_size=64, **order)
    torch.manual_seed(0)
    yield names | {"VAE": Given}
    plt.close("all")


def with_equal_weights(reference: nn.Module) -> VAE3Layer:
    """Our model with the reference's weights; its two heads are our one layer of double width."""
    layers = {
        "x_to_h": [reference.fc1],
        "h_to_z": [reference.fc2, reference.fc3],
        "z_to_h2": [reference.fc4],
        "h2_to_x2": [reference.fc5],
    }
    ours = VAE3Layer()
    for name, heads in layers.items():
        for part in ("weight", "bias"):
            joined = torch.cat([getattr(head, part) for head in heads])
            setattr(getattr(ours, name), part, nn.Parameter(joined))
    return ours


@pytest.mark.parametrize("name", ["reference", "VAE3Layer", "VAE4Layer"])
def test_the_given_notebook_runs_unchanged(notebook, name):
    if name != "reference":
        notebook["VAE"] = {"VAE3Layer": VAE3Layer, "VAE4Layer": VAE4Layer}[name]
    exec(SETUP_CELL, notebook)
    exec(TRAINING_CELL, notebook)
    losses = notebook["losses"]
    assert len(losses) == 15 and np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.98 * losses[0]
    exec(PLOT_CELL, notebook)
    for cell, width in [("plot_reconstruction(model)", 56), ("plot_generation(model)", 28)]:
        notebook["plt"].figure()
        exec(cell, notebook)
        shown = notebook["plt"].gca().images[-1].get_array()
        assert shown.shape == (3 * 30 + 2, 8 * (width + 2) + 2, 3)  # make_grid: eight to a row
        assert shown.min() >= 0 and shown.max() <= 1


def test_training_the_same_weights_gives_the_same_losses(notebook):
    """The given loop follows the same path with our class as with its own."""
    exec(SETUP_CELL, notebook)
    ours = with_equal_weights(notebook["model"])
    batches = list(notebook["data_loader"])
    paths = []
    for model in (notebook["model"], ours):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        torch.manual_seed(1)
        run = {**notebook, "data_loader": batches, "model": model, "optimizer": optimizer}
        exec(TRAINING_CELL, run)
        paths.append(run["losses"])
    assert np.allclose(*paths, rtol=1e-4)


def test_equal_weights_give_equal_outputs_and_losses(notebook):
    reference = notebook["VAE"]()
    ours = with_equal_weights(reference)
    x = next(iter(notebook["data_loader"]))[0].view(-1, 784)
    torch.manual_seed(5)
    expected = reference(x)
    torch.manual_seed(5)
    got = ours(x)
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    torch.manual_seed(5)
    loss = ours.loss(x)
    x_reconst, mu, log_var = expected
    bce = F.binary_cross_entropy(x_reconst, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
    assert torch.allclose(len(x) * loss.reconstruction, bce, rtol=1e-5)
    assert torch.allclose(len(x) * loss.kl, kl, rtol=1e-4)
    assert torch.allclose(len(x) * loss.total, bce + kl, rtol=1e-5)


def test_our_plots_take_the_given_class(notebook):
    """The given class draws its own noise, ours the noise that all our models share."""
    reference = notebook["VAE"](z_dim=20)
    ours = with_equal_weights(reference)
    x = next(iter(notebook["data_loader"]))[0]  # (N, 1, 28, 28), which the given class flattens
    before = torch.get_rng_state()
    reconstructed, _ = outputs.reconstruct(reference, x)
    assert torch.equal(outputs.reconstruct(reference, x)[0], reconstructed)
    mu, log_var = ours.encode(x)
    z = mu + (log_var / 2).exp() * outputs.latent_noise(len(x), 20)
    assert torch.allclose(outputs.reconstruct(ours, x)[0].flatten(1), ours.decode(z))
    made = [outputs.generate(model)[0] for model in (reference, ours)]
    assert torch.allclose(*made, atol=1e-6)
    plot_reconstruction(reference, x)
    plot_reconstruction({"given": reference, "ours": ours}, x, 10)
    assert reference.training and torch.equal(torch.get_rng_state(), before)
    narrow = notebook["VAE"](h_dim=30, z_dim=7)  # its forward tells how wide z is
    assert outputs.generate(narrow, 3)[0].shape == (3, 784)
