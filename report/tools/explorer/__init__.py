"""One HTML file to explore the latent spaces of trained models in a browser, without a network.

The page's source lies beside this file: page.html, style.css, network.js (the models' arithmetic)
and page.js. Weights travel as int8 with one scale per row, biases as float32.
"""

from __future__ import annotations

import base64
import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import nn

from vae_helpers.data import Data
from vae_helpers.engine.files import write_atomic
from vae_helpers.engine.guards import check_positive_int, check_type
from vae_helpers.measures.latents import ACTIVE_VARIANCE, latent_statistics, latent_vectors
from vae_helpers.models import Model
from vae_helpers.plotting.style import CLASS_COLORS, COLORS

POINTS = 1_000  # test images in the planes
LEVELS = 127  # of an int8, on either side of 0
NOTICES = {
    "": "",
    "stand-in": "This is not Fashion-MNIST: the models have learned a stand-in, {data}.",
    "quick": "A quick run: the models are hardly trained.",
    "short": "A short run: the models are not fully trained.",
}


def write_explorer(
    path: str | Path, data: Data, models: Sequence[Model], *, mode="", images_per_class: int = 2
) -> Path:
    """Write the page for trained `models`, shown in this order, to `path`, which is returned.

    mode: "stand-in", "quick" or "short" for a run that is not the study; the page then says so, as
    it always does on stand-in data. images_per_class: test images to pick from, the first of every
    class. The same arguments give the same bytes. Raises ValueError for a model that `as_shown`
    refuses and for images that are no squares, TypeError for an argument of another type.
    """
    check_type(data, Data, "data")
    check_positive_int(images_per_class, "images_per_class")
    if mode not in NOTICES or not models:
        raise ValueError(f"mode must be one of {tuple(NOTICES)}, got {mode!r}" if models else
                         "models is empty; at least one trained model is needed")  # fmt: skip
    side, labels = math.isqrt(data.test.images.shape[1]), data.test.labels
    if side**2 != data.test.images.shape[1]:
        raise ValueError(f"images of {data.test.images.shape[1]} pixels are no squares")
    places = torch.cat([(labels == label).nonzero()[:images_per_class, 0]
                        for label in labels.unique()])  # fmt: skip
    names = getattr(data, "class_names", [f"class {i}" for i in range(int(labels.max()) + 1)])
    study = {
        "data": data.name, "side": side, "classes": names, "colors": COLORS,
        "notice": NOTICES["stand-in" if data.is_stand_in else mode].format(data=data.name),
        "classColors": CLASS_COLORS,
        "diverging": _base64(mpl.colormaps["RdBu_r"](np.arange(256), bytes=True)),
        "places": places.tolist(), "labels": labels[places].tolist(),
        "images": _base64(data.test.images[places]),
        "pointLabels": labels[:POINTS].tolist(),
        "models": [_describe(model, data) for model in models],
    }  # fmt: skip
    page, *parts = [Path(__file__).with_name(name).read_text(encoding="utf-8")
                    for name in ("page.html", "style.css", "network.js", "page.js")]  # fmt: skip
    parts.append(json.dumps(study, separators=(",", ":")).replace("<", "\\u003c"))
    for name, part in zip(("style", "network", "page", "study"), parts, strict=True):
        page = page.replace(f"/* {name} */", part)
    write_atomic(Path(path), page.encode())
    return Path(path)


def quantised(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 (rows, columns) and float32 scales (rows, 1) whose product is close to `weight`."""
    scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LEVELS
    return (weight / scales).round().to(torch.int8), scales


@torch.no_grad()
def as_shown(model: Model) -> Model:
    """A copy of `model` on the CPU, in evaluation mode, with the weights that the page uses.

    Raises ValueError for a model that is not made of fully connected layers with ReLU between
    them, named as this package names them: x_to_h, ..., and ..._to_z at the encoder's end.
    """
    shown = copy.deepcopy(check_type(model, Model, "every model")).cpu().float().eval()
    for layer in sum(_halves(shown), []):
        levels, scales = quantised(layer.weight)
        layer.weight.copy_(levels * scales)
    return shown


@torch.no_grad()
def _describe(model: Model, data: Data) -> dict:
    """What the page needs of a model: its layers, and what its latents hold of test images."""
    shown, plain = as_shown(model), copy.deepcopy(model).cpu().float().eval()
    random = shown.posterior(torch.zeros(1, shown.image_size))[1] is not None
    found = latent_statistics(shown, data)
    codes, scales = quantised(latent_vectors(shown, data.test.take(slice(POINTS))).T)
    rank = found["kl"] if random else found["variance"]
    sizes = "-".join(map(str, shown.encoder_sizes))
    return {
        "label": shown.label, "sizes": sizes, "random": random, "zDim": shown.z_dim,
        "order": rank.argsort(descending=True, stable=True).tolist(),
        "kl": [round(value, 4) for value in found["kl"].tolist()],
        "spread": [round(value, 4) for value in found["variance"].sqrt().tolist()],
        "active": (found["variance"] > ACTIVE_VARIANCE).tolist(),
        "codes": _base64(codes), "codeScales": _base64(scales),
        "encoder": [_pack(layer) for layer in _halves(plain)[0]],
        "decoder": [_pack(layer) for layer in _halves(plain)[1]],
    }  # fmt: skip


def _halves(model: Model) -> tuple[list[nn.Linear], list[nn.Linear]]:
    """The layers of encoder and decoder, after a check that they alone make the model's results."""
    layers = {name: layer for name, layer in model.named_modules()
              if next(layer.parameters(recurse=False), None) is not None}  # fmt: skip
    ends = [place for place, name in enumerate(layers, 1) if name.endswith("_to_z")]
    encoder = list(layers.values())[: ends[0] if ends else 0]
    decoder = list(layers.values())[len(encoder) :]
    with torch.no_grad():
        x = torch.rand(4, model.image_size, generator=torch.Generator().manual_seed(0))
        mean, log_var = model.posterior(x)
        pairs = [(x, encoder, mean if log_var is None else torch.cat([mean, log_var], 1)),
                 (mean, decoder, model.decode_logits(mean))]  # fmt: skip
        if len(ends) != 1 or not all(_makes(*pair) for pair in pairs):
            raise ValueError(
                f"{model.label} can not be shown: the explorer takes fully connected layers, made "
                "in their order, with ReLU between them and one ..._to_z at the encoder's end; got "
                + ", ".join(f"{name} ({type(layer).__name__})" for name, layer in layers.items())
            )
    return encoder, decoder


def _makes(x: torch.Tensor, layers: list[nn.Linear], wanted: torch.Tensor) -> bool:
    """Whether the layers, with ReLU between them, make `wanted` of x."""
    for place, layer in enumerate(layers):
        if not isinstance(layer, nn.Linear) or layer.in_features != x.shape[1]:
            return False
        x = layer(torch.relu(x) if place else x)
    return x.shape == wanted.shape and torch.allclose(x, wanted, rtol=1e-3, atol=1e-3)


def _pack(layer: nn.Linear) -> dict:
    levels, scales = quantised(layer.weight)
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return {"rows": layer.out_features, "columns": layer.in_features, "weights": _base64(levels),
            "scales": _base64(scales), "bias": _base64(bias)}  # fmt: skip


def _base64(array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
