"""Models, losses, training, evaluation and figures of the Fashion-MNIST autoencoder study.

The names below are the package's public interface; each is loaded from its module when it is
first used, so that importing the package costs little beyond torch itself.
"""

from importlib import import_module

_MODULE_OF = {
    name: module
    for module, names in {
        "data": "CLASS_NAMES Data Split load_data load_fashion_mnist load_stand_in",
        "models": "VAE3Layer VAE4Layer AutoEncoder",
        "losses": "vae_loss ae_loss",
        "training": "TrainSettings TrainResult train",
        "study": "ModelSpec Run train_study map_runs",
        "measures.losses": "image_losses iwae_bounds bce_floor active_units",
        "measures.statistics": "paired_difference",
        "plotting.images": "plot_reconstruction plot_generation",
    }.items()
    for name in names.split()
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"vae_helpers has no name {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__():
    return [*globals(), *__all__]
