"""A built-in stand-in for Fashion-MNIST: garments drawn by code from a seed.

For tests and for machines without access to the data set. The pictures are outlines filled and
shaded by signed distances, so their edges are anti-aliased; shape, brightness, texture and
position vary within each class.
"""

from __future__ import annotations

import numpy as np
import torch

from .checks import check_positive_int

SIDE = 28
CHUNK = 200  # images drawn at once: their distance fields then stay in the processor's cache


def draw_garments(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw n garments of the ten Fashion-MNIST classes, in random order.

    Returns images, uint8 (n, 784) in 0..255, and labels, int64 (n,) in 0..9. The class counts
    differ by at most one. The same (n, seed) gives the same images every time.
    """
    check_positive_int(n, "n")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an int in [0, 2**32), got {seed!r}")
    random = np.random.RandomState(seed)  # its stream is frozen by NumPy
    labels = random.permutation(np.arange(n) % len(_DRAW)).astype(np.int64)
    images = np.empty((n, SIDE * SIDE), dtype=np.uint8)
    for label, draw in enumerate(_DRAW):
        members = np.flatnonzero(labels == label)
        for start in range(0, len(members), CHUNK):
            chunk = members[start : start + CHUNK]
            canvas = _Canvas(len(chunk), random)
            draw(canvas)
            images[chunk] = canvas.finish()
    return torch.from_numpy(images), torch.from_numpy(labels)


class _Canvas:
    """n pictures drawn at once; x to the right and y down, in pixels from the centre.

    A number in the methods below is a scalar or an array with one value per picture.
    """

    def __init__(self, n: int, random: np.random.RandomState):
        self.n, self.random = n, random
        row = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
        shift_x, shift_y = (_column(random.uniform(-0.7, 0.7, n)) for _ in range(2))
        stretch = _column(random.uniform(0.95, 1.03, n))
        self.x = np.broadcast_to((row[None, None, :] - shift_x) / stretch, (n, SIDE, SIDE))
        self.y = np.broadcast_to((row[None, :, None] - shift_y) / stretch, (n, SIDE, SIDE))
        self.pixels = np.zeros((n, SIDE, SIDE), dtype=np.float32)

    def uniform(self, low: float, high: float) -> np.ndarray:
        return self.random.uniform(low, high, self.n).astype(np.float32)

    def chance(self, probability: float) -> np.ndarray:
        """1.0 for a random share of the pictures, 0.0 for the others."""
        return (self.random.uniform(size=self.n) < probability).astype(np.float32)

    def polygon(self, points: list, round_by: float = 0.0) -> np.ndarray:
        """Signed distance (n, 28, 28) to the polygon with these (x, y) corners; < 0 inside."""
        corners = [(_column(x), _column(y)) for x, y in points]
        nearest = np.full_like(self.pixels, np.inf)
        inside = np.zeros(self.pixels.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            ex, ey = bx - ax, by - ay
            px, py = self.x - ax, self.y - ay
            along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey + 1e-9), 0, 1)
            np.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2, out=nearest)
            crosses = (py >= 0) != (self.y >= by)
            inside ^= crosses & ((px * ey < py * ex) == (ey > 0))
        distance = np.sqrt(nearest, out=nearest)
        return np.where(inside, -distance, distance) - np.float32(round_by)

    def mirrored(self, half: list, round_by: float = 0.0) -> np.ndarray:
        """`polygon` whose right half has these corners, from the top down."""
        return self.polygon(half + [(-np.asarray(x), y) for x, y in reversed(half)], round_by)

    def stroke(self, points: list, width) -> np.ndarray:
        """Signed distance to an open line of this width through the points."""
        return self.polygon(points + points[-2:0:-1]) * _sign_free - _column(width) / 2

    def fill(self, distance: np.ndarray, value, visible=1.0) -> None:
        """Paint the inside of `distance` with a brightness (`value` may be a texture)."""
        cover = np.clip(0.5 - distance, 0, 1) * _column(visible)
        self.pixels += cover * (_column(value) - self.pixels)

    def shade(self, distance: np.ndarray, factor, visible=1.0) -> None:
        """Multiply the brightness inside `distance` by `factor`."""
        cover = np.clip(0.5 - distance, 0, 1) * _column(visible)
        self.pixels *= 1 + cover * (_column(factor) - 1)

    def cloth(self, low: float = 0.35, high: float = 0.95, patterned: float = 0.35) -> np.ndarray:
        """Brightness texture (n, 28, 28): soft folds, for a share of the pictures a pattern."""
        folds = np.zeros_like(self.pixels)
        for _ in range(2):
            fx, fy = _column(self.uniform(0.2, 0.7)), _column(self.uniform(-0.25, 0.25))
            phase = _column(self.uniform(0, 2 * np.pi))
            folds += np.sin(fx * self.x + fy * self.y + phase)
        angle = (np.pi / 2) * self.chance(0.6) + self.uniform(-0.05, 0.05)  # mostly across
        across = _column(np.cos(angle)) * self.x + _column(np.sin(angle)) * self.y
        stripes = np.sin(across * _column(self.uniform(1.0, 2.2)) + _column(self.uniform(0, 6)))
        contrast = _column(self.uniform(0.1, 0.35) * self.chance(patterned))
        texture = 1 + _column(self.uniform(0.02, 0.07)) * folds - contrast * (stripes > 0)
        return _column(self.uniform(low, high)) * texture

    def finish(self) -> np.ndarray:
        """The pictures as uint8 (n, 784), with grain on the garment and none around it."""
        grain = self.random.standard_normal(self.pixels.shape).astype(np.float32)
        bright = self.pixels * (1 + 0.04 * grain)
        return (np.clip(bright, 0, 1) * 255).round().astype(np.uint8).reshape(self.n, -1)
