"""Argument checks, made once where a value enters. Each error names the value and the remedy."""

from __future__ import annotations

import math

import torch


def check_type(value, kind: type, name: str):
    """Return `value` if it is a `kind`, else raise TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
    return value


def check_bool(value, name: str) -> bool:
    """Return `value` if it is True or False, else raise TypeError: the text "false" is true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def check_positive_int(value, name: str, at_least: int = 1) -> int:
    """Return `value` if it is an int of at least `at_least`, else raise TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r} ({type(value).__name__})")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    return value


def check_seed(value, name: str = "seed") -> int:
    """Return `value` if it is an int in [0, 2^63), which torch takes as a seed, else raise."""
    if check_positive_int(value, name, at_least=0) >= 2**63:
        raise ValueError(f"{name} must be below 2^63, got {value}")
    return value


def check_between(value, name: str, low: float, high: float) -> float:
    """Return `value` if it is a number in the open interval (low, high), else raise ValueError."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and low < value < high):
        raise ValueError(f"{name} must be a number in ({low:g}, {high:g}), got {value!r}")
    return value


def check_choice(value, choices: tuple[str, ...], name: str) -> str:
    """Return `value` if it is one of the texts `choices`, else raise ValueError."""
    if not isinstance(value, str) or value not in choices:
        *rest, last = (f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {', '.join(rest)} or {last}, got {value!r}")
    return value


def check_device(device) -> torch.device:
    """The torch.device of this name, if a tensor can be put there, else ValueError."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()  # not on "meta", which holds no values
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'device {device!r} can not be used here ({reason}); pass "cpu", or None for the best '
            "there is"
        ) from error
    return found


def check_images(images, image_size: int | None = 784, name: str = "images") -> torch.Tensor:
    """Return `images` flattened to (N, image_size) after checking type, shape and range.

    Accepts float tensors of shape (N, image_size) or (N, 1, H, W) with H * W = image_size and
    values in [0, 1]; any number of pixels if `image_size` is None. Raises TypeError for a wrong
    type or dtype, ValueError for a wrong shape or range, or for NaN.
    """
    flat = check_shape(images, image_size, name)
    low, high = (float(v) for v in torch.aminmax(flat.detach()))
    if not (low >= 0 and high <= 1):
        signed = -1 <= low < 0 and high <= 1
        remedy = "[-1, 1] pass (images + 1) / 2" if signed else "[0, 255] pass images / 255"
        raise ValueError(
            f"{name} must have pixels in [0, 1], not NaN, got [{low:g}, {high:g}]; "
            f"for images in {remedy}"
        )
    return flat


def check_shape(images, image_size: int | None, name: str = "images") -> torch.Tensor:
    """The part of `check_images` that costs no pass over the pixels (and no device sync)."""
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        got = getattr(images, "dtype", type(images).__name__)
        raise TypeError(
            f"{name} must be a float tensor in [0, 1], got {got}; for uint8 in 0..255 "
            "pass images.float() / 255, for a NumPy array torch.from_numpy(array)"
        )
    pixels = math.prod(images.shape[1:]) if images.dim() >= 2 else 0
    if pixels == 0 or image_size not in (None, pixels) or images.shape[0] == 0:
        size = image_size or "image_size"
        raise ValueError(
            f"{name} must have shape (N, {size}) or (N, 1, H, W) with "
            f"H * W = {size} and N >= 1, got {tuple(images.shape)}"
        )
    return images.flatten(1)


def check_pixels(images, image_size: int | None = None, name: str = "images") -> torch.Tensor:
    """Return `images` if they are stored pixels, uint8 (N, image_size) in 0..255, else raise.

    Any number of pixels if `image_size` is None. Raises TypeError for another type or dtype,
    ValueError for another shape.
    """
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
        got = getattr(images, "dtype", type(images).__name__)
        raise TypeError(
            f"{name} must be a uint8 tensor in 0..255, got {got}; "
            "for floats in [0, 1] pass (255 * images).round().to(torch.uint8)"
        )
    if images.dim() != 2 or 0 in images.shape or image_size not in (None, images.shape[1]):
        raise ValueError(
            f"{name} must have shape (N, {image_size or 'pixels'}) with N >= 1, got "
            f"{tuple(images.shape)}; pass images.flatten(1)"
        )
    return images


def check_like(values: torch.Tensor, weight: torch.Tensor, name: str) -> torch.Tensor:
    """Return `values` if a layer with this weight can take them, else raise TypeError."""
    if (values.dtype, values.device) != (weight.dtype, weight.device):
        raise TypeError(
            f"{name} is {values.dtype} on device {values.device} and the model {weight.dtype} on "
            f'{weight.device}; pass {name}.to("{weight.device}", {weight.dtype})'
        )
    return values
