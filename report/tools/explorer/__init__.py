"""One HTML file to explore the latent spaces of trained models in a browser, without a network.

The page's source lies beside this file: page.html, style.css, network.js (the models' arithmetic),
page.js, and lessons.py (what the page's lessons say of the given models). Weights travel as int8
with one scale per row, biases as float32.
"""

from __future__ import annotations

import base64
import copy
import html
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
import torch
from IPython import get_ipython
from IPython.display import display
from torch import nn

from report.tools.explorer.lessons import UNUSED_VALUE, lessons
from vae_helpers.data import Data
from vae_helpers.engine.files import write_atomic
from vae_helpers.engine.guards import check_positive_int, check_type
from vae_helpers.losses import reconstruction_loss
from vae_helpers.measures.latents import ACTIVE_VARIANCE, latent_statistics
from vae_helpers.models import Model
from vae_helpers.plotting.style import COLORS
from vae_helpers.runs import Trained
from vae_helpers.study import OWN, Study, results_folder

TITLE = "Latent spaces side by side"
POINTS = 1_000  # test images in the planes, fewer of larger images than Fashion-MNIST's
PIXELS = 784 * POINTS  # of all of them
MOST_MODELS = 8
ROUNDING_IMAGES = 4_000  # training images by which weights are rounded, and z's Gaussian is fitted
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
    OWN: "",
    "stand-in": "This is not Fashion-MNIST: the models have learned a stand-in, {data}.",
    "quick": "A quick run: the models are hardly trained.",
    "short": "A short run: the models are not fully trained.",
}
# The page itself is only loaded when it is asked for; where a viewer can not, the link remains.
SHOWN = """<p><a href="{link}" target="_blank">{link}</a>: open it in a browser. In JupyterLab,
press <b>Trust HTML</b> above the page, which does nothing until then.</p>
<details><summary>Show it here</summary>
<iframe src="{link}" title="{title}" loading="lazy" width="100%" height="800"></iframe></details>"""


def write_explorer(
    path: str | Path,
    data: Data,
    models: Sequence[Model],
    *,
    mode: str = "",
    title: str = TITLE,
    seeds: Sequence[str] = (),
    images_per_class: int = 2,
) -> Path:
    """Write the page for one to eight trained `models`, in this order, to `path`; returns `path`.

    mode: "stand-in", "quick" or "short" for a run that is not the study; the page then says so, as
    it always does on stand-in data. seeds: for every model, what is to be said of its seeds.
    images_per_class: test images to pick from, the first of every class. The same arguments give
    the same bytes. Raises ValueError for a model that `as_shown` refuses and for images that are no
    squares, TypeError for an argument of another type, FileExistsError for a file at `path` that is
    no explorer page of this title.
    """
    check_type(data, Data, "data")
    check_type(title, str, "title")
    check_positive_int(images_per_class, "images_per_class")
    if mode not in NOTICES:
        raise ValueError(f"mode must be one of {tuple(NOTICES)}, got {mode!r}")
    if not 1 <= len(models) <= MOST_MODELS:
        raise ValueError(f"models must be one to {MOST_MODELS} trained models, got {len(models)}")
    pixels, labels = data.test.images.shape[1], data.test.labels
    if math.isqrt(pixels) ** 2 != pixels:
        raise ValueError(f"images of {pixels} pixels are no squares; crop or pad them")
    heading = f"<title>{html.escape(title)}</title>"
    if Path(path).exists() and heading.encode() not in Path(path).read_bytes()[:2_000]:
        raise FileExistsError(
            f"{path} is there and is no explorer page with the title {title!r}: pass another path, "
            "or remove the file"
        )
    places = torch.cat(
        [(labels == label).nonzero()[:images_per_class, 0] for label in labels.unique()]
    )
    points = data.test.take(slice(max(1, min(POINTS, PIXELS // pixels))))
    described = [
        {**_describe(model, data, len(points), int(places[0])), "seeds": text}
        for model, text in zip(models, seeds or [""] * len(models), strict=True)
    ]
    study = {
        "data": data.name,
        "side": math.isqrt(pixels),
        "classes": data.class_names,
        "notice": NOTICES["stand-in" if data.is_stand_in else mode].format(data=data.name),
        "colors": COLORS,
        "classColors": CLASS_COLORS,
        "diverging": _base64(mpl.colormaps["RdBu_r"](np.arange(256), bytes=True)),
        "places": places.tolist(),
        "labels": labels[places].tolist(),
        "images": _base64(data.test.images[places]),
        "pointLabels": points.labels.tolist(),
        "pointImages": _base64(points.images),
        "lessons": lessons(described),
        "models": described,
    }
    page, *parts = [
        Path(__file__).with_name(name).read_text(encoding="utf-8")
        for name in ("page.html", "style.css", "network.js", "page.js")
    ]
    parts.append(json.dumps(study, separators=(",", ":")).replace("<", "\\u003c"))
    page = page.replace("/* title */", html.escape(title))
    page = page.replace("/* in use */", str(ACTIVE_VARIANCE))
    for name, part in zip(("style", "network", "page", "study"), parts, strict=True):
        page = page.replace(f"/* {name} */", part)
    write_atomic(Path(path), page.encode())
    return Path(path)


def explore(
    study: Study,
    models: Sequence[Trained],
    path: str | Path | None = None,
    title: str | None = None,
) -> Path | None:
    """`write_explorer`, for a notebook: shows a link to the page; a failure is only told.

    path: by default beside the study's results, with its mode in the name. A page of the same title
    that is there is replaced, which is told; any other file stays as it is.
    """
    name = f"explorer.{study.mode}.html" if study.mode else "explorer.html"
    place = results_folder() / name if path is None else Path(path)
    title = title or (f"{TITLE}: {study.data.name}" if study.mode == OWN else TITLE)
    try:
        models = [check_type(model, Trained, "every model") for model in models]
        replaced = place.exists()
        write_explorer(
            place,
            study.data,
            [trained.model for trained in models],
            mode=study.mode,
            title=title,
            seeds=[_of_seeds(study, trained) for trained in models],
        )
    except (ValueError, TypeError, OSError) as error:
        print(f"The explorer was not written: {error}")
        return None
    if replaced:
        print(f"{place} was there and has been replaced.")
    if get_ipython():
        # The results' folder may be a temporary one whose files end in `report`.
        link = Path("report", name) if path is None else Path(os.path.relpath(place))
        shown = {"link": quote(link.as_posix()), "title": html.escape(title)}
        display({"text/html": SHOWN.format(**shown)}, raw=True)
    return place


def _of_seeds(study: Study, trained: Trained) -> str:
    """Which of the trainings the page shows, and how many latents are in use over all of them."""
    text = f"first of {len(trained.seeds)} trainings" if len(trained.seeds) > 1 else ""
    if not text or "active_units" not in (measured := study.measured(trained)):
        return text
    counts = [round(count) for count in measured["active_units"]["seeds"]]
    low, high = min(counts), max(counts)
    return f"{text}; {low} in each" if low == high else f"{text}; {low} to {high} over all"


@torch.no_grad()
def _describe(model: Model, data: Data, points: int, first: int) -> dict:
    """What the page needs of a model: its layers, and what its latents hold of test images.

    points: so many test images have their z in the page. first: the one that a lesson shows.
    """
    shown, layers = as_shown(model, data)
    found = latent_statistics(shown, data)
    codes = shown.latent(data.test.take(slice(points)).floats())
    noise = torch.Generator().manual_seed(0)
    losses = [
        reconstruction_loss(shown.decode_logits(shown.sample_latent(x, noise)), x)
        for x in data.test.float_batches()
    ]
    mean, covariance = _fitted(shown, data, noise)
    deviation = covariance.diag().sqrt()
    correlation = (covariance / deviation.outer(deviation)).fill_diagonal_(0)
    random = shown.posterior(torch.zeros(1, shown.image_size))[1] is not None
    rank = found["kl"] if random else found["variance"]
    order = rank.argsort(descending=True, stable=True)
    active = found["variance"] > ACTIVE_VARIANCE
    layers_text = "-".join(map(str, shown.encoder_sizes))
    if shown.decoder_sizes == shown.encoder_sizes[::-1]:
        layers_text += " and back"
    else:
        layers_text += ", decoder " + "-".join(map(str, shown.decoder_sizes))
    return {
        "label": shown.label,
        "kind": (
            f"variational, layers {layers_text}; for every image its encoder gives a Gaussian of "
            "z, kept near N(0, I)"
            if random
            else f"plain, layers {layers_text}; for every image its encoder gives one z, which "
            "nothing keeps near N(0, I)"
        ),
        "random": random,
        "zDim": shown.z_dim,
        "hidden": shown.hidden,
        "order": order.tolist(),
        "klPerLatent": found["kl"].tolist(),
        "spread": found["variance"].sqrt().tolist(),
        "active": active.tolist(),
        "effect": _effect(shown, data.test.take([first]).floats(), order[~active[order]]),
        "testReconstruction": float(torch.cat(losses).mean()),
        "testKl": float(found["kl"].sum()),
        "fittedMean": _base64(mean),
        "fittedRoot": _base64(torch.linalg.cholesky(covariance).float()),
        "zDeviation": float(deviation.mean()),
        "zCorrelation": float(correlation.abs().max()),
        "codes": _base64(codes.T),
        "encoder": layers[: len(_halves(shown)[0])],
        "decoder": layers[len(_halves(shown)[0]) :],
    }


def _fitted(model: Model, data: Data, noise: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of a Gaussian fitted to the z of training images."""
    x = data.train.take(slice(ROUNDING_IMAGES)).floats()
    z = model.sample_latent(x, noise).double()
    covariance = torch.cov(z.T, correction=0).reshape(model.z_dim, model.z_dim)
    covariance += 1e-6 * torch.eye(model.z_dim)  # for fewer images than latents
    return z.mean(dim=0).float(), covariance


def _effect(model: Model, x: torch.Tensor, idle: torch.Tensor) -> float | None:
    """By how much a pixel of x changes at most when the lesson moves the first unused latent."""
    if not len(idle):
        return None
    z = model.latent(x)
    moved = z.clone()
    moved[0, idle[0]] = UNUSED_VALUE
    return float((model.decode(moved) - model.decode(z)).abs().max())


@torch.no_grad()
def as_shown(model: Model, data: Data) -> tuple[Model, list[dict]]:
    """A copy of `model` (CPU, evaluation mode) with the weights of the page; its layers for it.

    Raises ValueError for a model that is not made of fully connected layers with ReLU between
    them, named as this package names them: x_to_h, ..., and ..._to_z at the encoder's end; and for
    one that takes images of another size than the data's.
    """
    shown = copy.deepcopy(check_type(model, Model, "every model")).cpu().float().eval()
    if shown.image_size != (pixels := data.test.images.shape[1]):
        raise ValueError(
            f"{shown.label} takes images of {shown.image_size} pixels and those of {data.name} "
            f"have {pixels}: pass the data that it was trained on"
        )
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
