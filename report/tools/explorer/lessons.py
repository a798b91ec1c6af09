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
    uses = "; ".join(f"{model['label']} uses {_used(model)}" for model in models)
    largest = max(models[place]["effect"] for place, _ in moves)
    of_first = "the VAE" if len(moves) == 1 else "each VAE"
    return {
        "id": "unused",
        "title": "Latents that are not used",
        "text": f"Look at the flat bars: {uses}, and the first flat one of {of_first} is moved to "
        f"{UNUSED_VALUE} here, which changes no pixel of this image by more than "
        f"{largest:.2f}. A latent that differs from image to image costs KL, so training leaves "
        "it at N(0, 1), the same for every image, unless it saves more reconstruction loss than "
        "that; an autoencoder has no KL term and pays nothing for a latent.",
        "section": "sliders",
        "models": list(range(len(models))),
        "moves": [(place, latent, UNUSED_VALUE) for place, latent in moves],
    }


def _off_cloud(models: Sequence[dict]) -> dict | None:
    plain = next((place for place, model in enumerate(models) if not model["random"]), None)
    if plain is None:
        return None
    model = models[plain]
    vaes = [place for place, other in enumerate(models) if other["random"]]
    alike = sorted(vaes, key=lambda place: abs(models[place]["zDim"] - model["zDim"]))[:1]
    spread = sum(model["spread"]) / len(model["spread"])
    return {
        "id": "cloud",
        "title": "An autoencoder off its own cloud",
        "text": f"Compare the two halves of {model['label']}: the upper draws come from N(0, I), "
        "the lower ones from a Gaussian fitted to its own z of training images. Nothing in its "
        f"loss makes its z follow N(0, I) (the standard deviation of its latents is {spread:.1f} "
        "on average, not 1, and nothing keeps them independent), so draws of N(0, I) fall off the "
        "cloud of its z, where its decoder was hardly trained, and the fitted Gaussian draws where "
        "it was.",
        "section": "draws",
        "models": [*alike, plain],
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
    return {
        "id": "depth",
        "title": f"{_count(layers[0])} layers against {_count(layers[1]).lower()}",
        "text": f"Compare the bars and the losses: {_spends(few)}, and {_spends(many)}, with the "
        "loss taken over all test images. Every latent in use costs KL, and more layers can put "
        "more of an image into each, so look for whether the deeper model needs fewer of them.",
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
    reason = (
        f"All latents of {small['label']} are in use, so it may lack room for more."
        if all(small["active"])
        else f"{small['label']} leaves some of its latents unused, so it does not lack room: what "
        "one more would save in reconstruction loss is less than its KL."
    )
    return {
        "id": "size",
        "title": f"{small['zDim']} latent{'s' * (small['zDim'] > 1)} against {large['zDim']}",
        "text": f"Compare the bars and the losses: {_spends(small)}, and {_spends(large)}, with "
        f"the loss taken over all test images. {reason}",
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


def _used(model: dict) -> str:
    return f"{sum(model['active'])} of {model['zDim']}"


def _spends(model: dict) -> str:
    total = model["testReconstruction"] + model["testKl"]
    return (
        f"{model['label']} uses {_used(model)} latents at a loss of {total:.1f} nats "
        f"({model['testReconstruction']:.1f} reconstruction, {model['testKl']:.1f} KL)"
    )


def _count(number: int) -> str:
    words = ("Two", "Three", "Four", "Five", "Six")
    return words[number - 2] if number - 2 < len(words) else str(number)
