"""Figures, tables and how they are shown."""

from .curves import plot_lines, plot_loss_curves
from .diagram import plot_architectures
from .display import show_source
from .images import image_rows, plot_generation, plot_reconstruction, plot_samples_by_class

__all__ = [
    "image_rows",
    "plot_architectures",
    "plot_generation",
    "plot_lines",
    "plot_loss_curves",
    "plot_reconstruction",
    "plot_samples_by_class",
    "show_source",
]
