"""The lessons of the explorer's page: what each sets, and what it says of the given models.

A lesson is offered only where the models can show it, and its numbers are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

UNUSED_VALUE = 3  # a latent that is not used is moved here, far out in N(0, 1)


def lessons(models: Sequence[dict]) -> list[dict]:
    """The lessons that `models`, as the page describes them, can show.

    A lesson has an id, a title, a text, the page's section to look at, the places of the models it
    is about, and what it moves: (place, latent, value).
    """
    made = (_unused(models), _off_cloud(models), _depth(models), _size(models))
    return [lesson for lesson in made if lesson]


def _unused(models: Sequence[dict]) -> dict | None:
    moves = [
        (place, next(latent for latent in model["order"] if not model["active"][latent]))
        for place, model in enumerate(models)
        if model["random"] and not all(model["active"])
    ]
    if not moves:
        return None
    largest = max(models[place]["effect"] for place, _ in moves)
    return {
        "id": "unused",
        "title": "Latents that are not used",
        "text": "Each column says how many latents are in use. The first unused one of "
        f"{'the' if len(moves) == 1 else 'each'} VAE is moved to {UNUSED_VALUE} here. Then drag "
        "the top bar's slider, the latent with the most KL. The unused one changes no pixel of "
        f"this image by more than {largest:.2f}: a latent costs KL, so training leaves it unused "
        "unless it saves more reconstruction loss.",
        "section": "sliders",
        "models": list(range(len(models))),
        "moves": [(place, latent, UNUSED_VALUE) for place, latent in moves],
    }


def _off_cloud(models: Sequence[dict]) -> dict | None:
    """An autoencoder whose z differ from N(0, I), beside the VAE of the nearest size."""
    plain = next(
        (i for i, model in enumerate(models) if not model["random"] and _apart(model) >= 0.1), None
    )
    if plain is None:
        return None
    model = models[plain]
    vaes = [i for i, other in enumerate(models) if other["random"]]
    beside = sorted(vaes, key=lambda place: abs(models[place]["zDim"] - model["zDim"]))[:1]
    text = (
        f"The latents of {model['label']} have a mean standard deviation of "
        f"{model['zDeviation']:.1f} and correlations up to {model['zCorrelation']:.1f}; N(0, I) "
        "has 1 and 0. So most upper draws miss the z its decoder was trained on. The lower ones "
        "match the mean and covariance of its z: how many look more like the data?"
    )
    for vae in (models[place] for place in beside):
        if _apart(vae) < _apart(model):
            text += (
                f" The halves of {vae['label']} ({vae['zDeviation']:.1f} and "
                f"{vae['zCorrelation']:.1f}) look alike: its KL term keeps its z near N(0, I)."
            )
    return {
        "id": "cloud",
        "title": "An autoencoder off its own cloud",
        "text": text,
        "section": "draws",
        "models": [*beside, plain],
        "moves": [],
    }


def _depth(models: Sequence[dict]) -> dict | None:
    """Two VAEs with as many latents, of which one has more layers."""
    pair = _pair(
        models,
        lambda a, b: a["zDim"] == b["zDim"] and len(a["hidden"]) != len(b["hidden"]),
        lambda model: len(model["hidden"]),
    )
    if pair is None:
        return None
    few, many = (models[place] for place in pair)
    layers = [len(model["hidden"]) + 2 for model in (few, many)]
    reason = (
        "The likely reason: more layers can put more of an image into each latent, so fewer are "
        "needed."
        if sum(many["active"]) < sum(few["active"]) and _losses(many)[2] < _losses(few)[2]
        else "More layers can put more of an image into each latent; here that does not lower both "
        "the KL and the number of latents in use."
    )
    return {
        "id": "depth",
        "title": f"{_count(layers[0])} layers against {_count(layers[1]).lower()}",
        "text": f"{_compared(few, many, 'deeper')} {reason}",
        "section": "sliders",
        "models": pair,
        "moves": [],
    }


def _size(models: Sequence[dict]) -> dict | None:
    """Two VAEs of one depth, of which one has more latents."""
    pair = _pair(
        models,
        lambda a, b: len(a["hidden"]) == len(b["hidden"]) and a["zDim"] != b["zDim"],
        lambda model: model["zDim"],
    )
    if pair is None:
        return None
    small, large = (models[place] for place in pair)
    unused = small["zDim"] - sum(small["active"])
    reason = (
        f"{small['label']} leaves {unused} unused, so it does not lack room: one more would likely "
        "save less reconstruction loss than its KL costs."
        if unused
        else f"All latents of {small['label']} are in use, so it may lack room for more."
    )
    return {
        "id": "size",
        "title": f"{small['zDim']} latent{'s' * (small['zDim'] > 1)} against {large['zDim']}",
        "text": f"{_compared(small, large, 'larger')} {reason}",
        "section": "sliders",
        "models": pair,
        "moves": [],
    }


def _pair(models: Sequence[dict], fits, size) -> list[int] | None:
    """The places of two VAEs that fit together, the smaller first.

    Those whose first layers are of one width come first, then those that differ most.
    """
    vaes = [place for place, model in enumerate(models) if model["random"]]
    pairs = [
        sorted(pair, key=lambda place: size(models[place]))
        for pair in combinations(vaes, 2)
        if fits(*(models[place] for place in pair))
    ]
    return max(pairs, key=lambda pair: size(models[pair[1]]) - size(models[pair[0]]), default=None)


def _apart(model: dict) -> float:
    """How far the z of a model are from N(0, I), by the two numbers that the lesson tells."""
    return abs(model["zDeviation"] - 1) + model["zCorrelation"]


def _compared(first: dict, second: dict, name: str) -> str:
    """The latents in use of two models, and by how much the losses of the second differ."""
    before, after = _losses(first), _losses(second)
    loss, reconstruction, kl = (round(b - a, 1) for a, b in zip(before, after, strict=True))
    lower = f"{abs(loss):.1f} nats {'lower' if loss < 0 else 'higher'}" if loss else "the same"
    return (
        f"Look at the bars: {first['label']} uses {sum(first['active'])} latents and "
        f"{second['label']} {sum(second['active'])}. In this training, over all test images, the "
        f"{name} model's loss is {lower} ({before[0]:.1f} to {after[0]:.1f}): KL {_change(kl)}, "
        f"reconstruction loss {_change(reconstruction)}."
    )


def _losses(model: dict) -> tuple[float, float, float]:
    """Loss, reconstruction loss and KL as they are told, so that their sums are right as well."""
    reconstruction, kl = round(model["testReconstruction"], 1), round(model["testKl"], 1)
    return round(reconstruction + kl, 1), reconstruction, kl


def _change(difference: float) -> str:
    if not difference:
        return "stays the same"
    return f"{'falls' if difference < 0 else 'rises'} by {abs(difference):.1f}"


def _count(number: int) -> str:
    words = ("Two", "Three", "Four", "Five", "Six")
    return words[number - 2] if number - 2 < len(words) else str(number)
