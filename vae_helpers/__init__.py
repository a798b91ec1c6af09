"""Models, losses, training, evaluation and figures of the Fashion-MNIST autoencoder study."""

from .data import Data, Split, load_data
from .losses import ae_loss, vae_loss
from .models import VAE, AutoEncoder, VAE3Layer, VAE4Layer
from .plotting import plot_generation, plot_loss_curves, plot_reconstruction
from .runs import Trained
from .study import STUDY_RECIPE, Study
from .training import Recipe, train

__all__ = [
    "STUDY_RECIPE",
    "VAE",
    "AutoEncoder",
    "Data",
    "Recipe",
    "Split",
    "Study",
    "Trained",
    "VAE3Layer",
    "VAE4Layer",
    "ae_loss",
    "load_data",
    "plot_generation",
    "plot_loss_curves",
    "plot_reconstruction",
    "train",
    "vae_loss",
]
