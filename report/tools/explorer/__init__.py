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
from vae_helpers.measures.latents import ACTIVE_VARIANCE, latent_statistics
from vae_helpers.models import Model
from vae_helpers.plotting.style import COLORS
from vae_helpers.runs import Trained
from vae_helpers.study import Study, results_folder

POINTS = 1_000  # test images in the planes
ROUNDING_IMAGES = 4_000  # training images by which weights are rounded
# Ten classes: dark and strong colours, any two of them at least 32 apart in CIELAB.
CLASS_COLORS = (
    "#1f4fd8",
    "#000000",
    "#d81b1b",
    "#00b7d8",
    "#ff8c00",
    "#1a7f2e",
    "#8e2bd9",
    "#8fd400",
    "#8a4b20",
    "#ff6fc1",
)
NOTICES = {
    "": "",
    "own": "",
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
        raise ValueError(
            f"mode must be one of {tuple(NOTICES)}, got {mode!r}"
            if models
            else "models is empty; at least one trained model is needed"
        )
    side, labels = math.isqrt(data.test.images.shape[1]), data.test.labels
    if side**2 != data.test.images.shape[1]:
        raise ValueError(f"images of {data.test.images.shape[1]} pixels are no squares")
    places = torch.cat(
        [(labels == label).nonzero()[:images_per_class, 0] for label in labels.unique()]
    )
    study = {
        "data": data.name,
        "side": side,
        "classes": data.class_names,
        "notice": NOTICES["stand-in" if data.is_stand_in else mode].format(data=data.name),
        "colors": COLORS,
        "classColors": CLASS_COLORS,
        "diverging": _base64(mpl.colormaps["RdBu_r"](np.arange(256), bytes=True)),
        "places": places.tolist(),
        "labels": labels[places].tolist(),
        "images": _base64(data.test.images[places]),
        "pointLabels": labels[:POINTS].tolist(),
        "models": [_describe(model, data) for model in models],
    }
    page, *parts = [
        Path(__file__).with_name(name).read_text(encoding="utf-8")
        for name in ("page.html", "style.css", "network.js", "page.js")
    ]
    parts.append(json.dumps(study, separators=(",", ":")).replace("<", "\\u003c"))
    for name, part in zip(("style", "network", "page", "study"), parts, strict=True):
        page = page.replace(f"/* {name} */", part)
    write_atomic(Path(path), page.encode())
    return Path(path)


def explore(study: Study, models: Sequence[Trained]) -> Path | None:
    """`write_explorer` beside the study's results, for the notebook: a failure is only told."""
    models = [trained.model for trained in models]
    name = f"explorer.{study.mode}.html" if study.mode else "explorer.html"
    try:
        return write_explorer(results_folder() / name, study.data, models, mode=study.mode)
    except (ValueError, TypeError, OSError) as error:
        print(f"The explorer was not written: {error}")
        return None


@torch.no_grad()
def _describe(model: Model, data: Data) -> dict:
    """What the page needs of a model: its layers, and what its latents hold of test images."""
    shown, layers = as_shown(model, data)
    found = latent_statistics(shown, data)
    codes = shown.latent(data.test.take(slice(POINTS)).floats())
    random = shown.posterior(torch.zeros(1, shown.image_size))[1] is not None
    rank = found["kl"] if random else found["variance"]
    return {
        "label": shown.label,
        "random": random,
        "zDim": shown.z_dim,
        "order": rank.argsort(descending=True, stable=True).tolist(),
        "klPerLatent": found["kl"].tolist(),
        "spread": found["variance"].sqrt().tolist(),
        "active": (found["variance"] > ACTIVE_VARIANCE).tolist(),
        "codes": _base64(codes.T),
        "encoder": layers[: len(_halves(shown)[0])],
        "decoder": layers[len(_halves(shown)[0]) :],
    }


@torch.no_grad()
def as_shown(model: Model, data: Data) -> tuple[Model, list[dict]]:
    """A copy of `model` (CPU, evaluation mode) with the weights of the page; its layers for it.

    Raises ValueError for a model that is not made of fully connected layers with ReLU between
    them, named as this package names them: x_to_h, ..., and ..._to_z at the encoder's end.
    """
    shown = copy.deepcopy(check_type(model, Model, "every model")).cpu().float().eval()
    layers, x = [], data.train.take(slice(ROUNDING_IMAGES)).floats()
    for half in _halves(shown):
        for place, layer in enumerate(half):
            x = torch.relu(x) if place else x[:, : layer.in_features]  # the mean comes first in z
            levels, scales = rounded(layer.weight, x)
            layer.weight.copy_(levels * scales)
            bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
            layers.append(
                {
                    "rows": layer.out_features,
                    "columns": layer.in_features,
                    "bias": _base64(bias),
                    "weights": _base64(levels),
                    "scales": _base64(scales),
                }
            )
            x = layer(x)
    return shown, layers


def rounded(weight: torch.Tensor, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 levels (rows, columns) and float32 scales (rows, 1) whose product stands for `weight`.

    Rounded so that `inputs` (N, columns) meet the least squared error (GPTQ, arXiv:2210.17323):
    column by column, the error of one goes into those not rounded yet, as they correlate. Plain
    rounding costs a tenth of a nat, this a hundredth.
    """
    scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    moments = (inputs.T @ inputs).double() / len(inputs)
    moments += 0.01 * moments.diag().mean().clamp(min=1e-12) * torch.eye(len(moments))
    order = moments.diag().argsort(descending=True, stable=True)
    root = torch.linalg.cholesky(torch.linalg.inv(moments[order][:, order]), upper=True)
    rest, levels = (weight / scales).double()[:, order], torch.empty(weight.shape, dtype=torch.int8)
    for i, column in enumerate(order):
        level = rest[:, i].round().clamp(-127, 127)
        rest[:, i:] -= torch.outer((rest[:, i] - level) / root[i, i], root[i, i:])
        levels[:, column] = level.to(torch.int8)
    return levels, scales


@torch.no_grad()
def _halves(model: Model) -> tuple[list[nn.Linear], list[nn.Linear]]:
    """The layers of encoder and decoder, after a check that they alone make the model's results."""
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if next(layer.parameters(recurse=False), None) is not None
    }
    end = next((end for end, name in enumerate(layers, 1) if name.endswith("_to_z")), 0)
    encoder, decoder = list(layers.values())[:end], list(layers.values())[end:]
    x = torch.rand(4, model.image_size, generator=torch.Generator().manual_seed(0))
    mean, log_var = model.posterior(x)
    head = mean if log_var is None else torch.cat([mean, log_var], dim=1)
    if not (_make(encoder, x, head) and _make(decoder, mean, model.decode_logits(mean))):
        raise ValueError(
            f"{model.label} can not be shown: the explorer takes fully connected layers, made in "
            "their order, with ReLU between them and one ..._to_z at the encoder's end; got "
            + ", ".join(f"{name} ({type(layer).__name__})" for name, layer in layers.items())
        )
    return encoder, decoder


def _make(layers: list[nn.Module], x: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether the layers, with ReLU between them, make `wanted` of x."""
    for place, layer in enumerate(layers):
        if not isinstance(layer, nn.Linear) or layer.in_features != x.shape[1]:
            return False
        x = layer(torch.relu(x) if place else x)
    return x.shape == wanted.shape and torch.allclose(x, wanted, rtol=1e-3, atol=1e-3)


def _base64(array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
