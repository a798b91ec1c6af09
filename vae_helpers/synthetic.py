"""A built-in stand-in for Fashion-MNIST: garments drawn by code from a seed.

For tests and for machines without access to the data set. The pictures are outlines filled and
shaded by signed distances, so their edges are anti-aliased; shape, brightness, texture and
position vary within each class.
"""

from __future__ import annotations

import numpy as np
import torch

from .engine.guards import check_positive_int

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

    def stroke(self, points: list, width) -> np.ndarray:
        """Signed distance (n, 28, 28) to an open line of this width through (x, y) points."""
        corners = [(_column(x), _column(y)) for x, y in points]
        squared = np.full_like(self.pixels, np.inf)
        for (ax, ay), (bx, by) in zip(corners, corners[1:], strict=False):
            ex, ey = bx - ax, by - ay
            px, py = self.x - ax, self.y - ay
            along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey + np.float32(1e-9)), 0, 1)
            np.minimum(squared, (px - along * ex) ** 2 + (py - along * ey) ** 2, out=squared)
        return np.sqrt(squared) - _column(width) / 2

    def polygon(self, points: list) -> np.ndarray:
        """Signed distance (n, 28, 28) to the polygon with these (x, y) corners; < 0 inside."""
        outline = self.stroke([*points, points[0]], 0)
        inside = np.zeros(self.pixels.shape, dtype=bool)
        corners = [(_column(x), _column(y)) for x, y in points]
        for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
            spans = (self.y >= ay) != (self.y >= by)
            left = (self.x - ax) * (by - ay) < (self.y - ay) * (bx - ax)
            inside ^= spans & (left == (by > ay))
        return np.where(inside, -outline, outline)

    def mirrored(self, half: list) -> np.ndarray:
        """`polygon` symmetric about x = 0, whose right half has these corners from the top down."""
        return self.polygon(half + [(-np.asarray(x), y) for x, y in reversed(half)])

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
        bright = self.pixels * (1 + 0.03 * grain)
        return (np.clip(bright, 0, 1) * 255).round().astype(np.uint8).reshape(self.n, -1)


def _column(values) -> np.ndarray:
    """Scalars, (n,) or (n, 28, 28) arrays as float32 that broadcasts over the pictures."""
    values = np.asarray(values, dtype=np.float32)
    return values[:, None, None] if values.ndim == 1 else values


def _top(canvas: _Canvas, cloth, *, waist, hem, bottom, sleeve) -> np.ndarray:
    """Body and two sleeves; returns the signed distance to the body.

    waist, hem: half widths; bottom: y of the hem; sleeve: 0 (none) to 1 (down to the hip).
    """
    shoulder, neck = canvas.uniform(6.2, 7.2), canvas.uniform(2.2, 3.2)
    wrist_x = shoulder + 2.2 + 2.6 * np.sqrt(sleeve) + canvas.uniform(-0.3, 0.3)
    wrist_y = -9.3 + 19.0 * sleeve
    cuff = 2.4 - 0.9 * sleeve
    arm = canvas.mirrored(
        [(shoulder - 2.5, -11.3), (shoulder + 0.7, -10.2), (wrist_x + cuff * 0.6, wrist_y - 0.4),
         (wrist_x - cuff, wrist_y + cuff * 0.5), (shoulder - 1.0, -4.5)]
    )  # fmt: skip
    canvas.fill(arm, cloth, visible=sleeve > 0)
    body = canvas.mirrored(
        [(neck, -12.2), (shoulder, -10.6), (shoulder - 0.6, -5.0), (waist, 1.0), (hem, bottom)]
    )
    canvas.shade(np.abs(body) - 0.45, 0.72, visible=sleeve > 0)  # the seam and shadow at the arm
    canvas.fill(body + 0.4, cloth)
    return body


def _neckline(canvas: _Canvas, width, depth, visible=1.0) -> None:
    """Cut a round neck out of the top edge, with a darker collar band around it."""
    round_neck = np.hypot(canvas.x / _column(width), (canvas.y + 12.8) / _column(depth)) - 1
    round_neck *= _column(np.minimum(width, depth))
    canvas.shade(round_neck - 1.0, canvas.uniform(0.65, 0.9), visible)
    canvas.fill(round_neck, 0.0, visible)


def _t_shirt(canvas: _Canvas) -> None:
    waist = canvas.uniform(5.2, 6.4)
    cloth = canvas.cloth()
    sleeve = canvas.uniform(0.18, 0.36)
    _top(canvas, cloth, waist=waist, hem=waist + canvas.uniform(0, 1.0),
         bottom=canvas.uniform(10.5, 12.8), sleeve=sleeve)  # fmt: skip
    _neckline(canvas, canvas.uniform(2.6, 3.6), canvas.uniform(1.8, 4.0))
    width, height = canvas.uniform(1.5, 3.5), canvas.uniform(1.0, 3.0)
    print_ = canvas.mirrored([(width, -4.5 - height / 2), (width, -4.5 + height)])
    canvas.shade(print_, canvas.uniform(0.4, 0.8), visible=canvas.chance(0.35))


def _trouser(canvas: _Canvas) -> None:
    cloth = canvas.cloth(patterned=0.15)
    waist, hip = canvas.uniform(3.4, 4.4), canvas.uniform(4.2, 5.4)
    crotch, bottom = canvas.uniform(-6.0, -3.5), canvas.uniform(12.0, 13.3)
    leg = canvas.uniform(2.0, 3.2)
    inner = canvas.uniform(1.0, 2.6)
    legs = canvas.mirrored(
        [(waist, -13.2), (hip, -7.0), (inner + leg, bottom), (inner, bottom), (0.15, crotch)]
    )
    canvas.fill(legs, cloth)
    canvas.shade(canvas.stroke([(-6, -11.6), (6, -11.6)], 0.7), 0.7)
    canvas.shade(canvas.stroke([(0, -11.5), (0, crotch)], 0.6), 0.75)


def _pullover(canvas: _Canvas) -> None:
    waist = canvas.uniform(5.2, 6.2)
    cloth = canvas.cloth(patterned=0.4)
    bottom = canvas.uniform(9.5, 12.0)
    _top(canvas, cloth, waist=waist, hem=waist - canvas.uniform(0, 0.6), bottom=bottom,
         sleeve=canvas.uniform(0.92, 1.08))  # fmt: skip
    _neckline(canvas, canvas.uniform(2.4, 3.4), canvas.uniform(1.4, 3.0))
    ribbing = 0.85 + 0.15 * np.sin(3.0 * canvas.x)
    hem = canvas.stroke([(-8, bottom - 0.8), (8, bottom - 0.8)], 1.8)
    canvas.shade(np.maximum(hem, np.abs(canvas.x) - _column(waist + 0.5)), ribbing)


def _dress(canvas: _Canvas) -> None:
    cloth = canvas.cloth(patterned=0.3)
    bust, waist = canvas.uniform(3.4, 4.4), canvas.uniform(2.6, 3.4)
    hem, bottom = canvas.uniform(4.0, 8.5), canvas.uniform(11.5, 13.3)
    waist_y = canvas.uniform(-4.5, -1.5)
    sleeved, reach = canvas.chance(0.35), canvas.uniform(1.5, 3.2)
    sleeves = canvas.mirrored([(bust - 1.2, -12.2), (bust + reach, -6.5), (bust - 0.8, -5.0)])
    canvas.fill(sleeves, cloth, visible=sleeved)
    body = canvas.mirrored(
        [(bust - 1.6, -13.2), (bust - 0.3, -12.6), (bust, -8.5), (waist, waist_y), (hem, bottom)]
    )
    canvas.fill(body, cloth)
    flare = 0.88 + 0.12 * np.cos(9.0 * canvas.x / (canvas.y + 16.0))
    canvas.shade(np.maximum(body, _column(waist_y) - canvas.y), flare)
    canvas.shade(canvas.stroke([(-5, waist_y), (5, waist_y)], 0.7), 0.7, canvas.chance(0.7))
    _neckline(canvas, canvas.uniform(1.2, 2.2), canvas.uniform(1.5, 4.5))


def _lapels(canvas: _Canvas, depth, spread, value) -> None:
    """A V-shaped opening of this half width at the top edge, with a collar on both sides."""
    opening = canvas.mirrored([(spread, -13.5), (0.05, -12.5 + depth)])
    canvas.fill(opening, 0.0)
    canvas.fill(np.abs(opening) - 0.6, value)
    canvas.shade(np.abs(opening - 1.1) - 0.3, 0.6)


def _coat(canvas: _Canvas) -> None:
    waist, bottom = canvas.uniform(5.4, 6.6), canvas.uniform(12.3, 13.4)
    cloth = canvas.cloth(0.25, 0.85, patterned=0.15)
    body = _top(canvas, cloth, waist=waist, hem=waist + canvas.uniform(0.3, 1.3), bottom=bottom,
                sleeve=canvas.uniform(0.95, 1.12))  # fmt: skip
    depth = canvas.uniform(4.0, 8.0)
    _lapels(canvas, depth, canvas.uniform(2.4, 3.4), cloth)
    apart = canvas.uniform(0.0, 1.1)  # an open coat shows a dark gap down the front
    front = canvas.mirrored([(0.35 + 0.2 * apart, -12.5 + depth), (0.45 + apart, bottom + 1)])
    canvas.shade(np.maximum(front, body), canvas.uniform(0.0, 0.35))
    pocket = np.minimum(*(canvas.stroke([(s * 2.6, 5.2), (s * 4.9, 4.4)], 0.8) for s in (1, -1)))
    canvas.shade(pocket, 0.55, visible=canvas.chance(0.8))


def _shirt(canvas: _Canvas) -> None:
    waist, bottom = canvas.uniform(4.9, 5.9), canvas.uniform(11.0, 12.8)
    cloth = canvas.cloth(0.45, 0.95, patterned=0.3)
    checked = _column(canvas.chance(0.4) * canvas.uniform(0.15, 0.35))
    pitch = _column(canvas.uniform(1.3, 2.0))
    cloth *= 1 - checked * ((np.sin(pitch * canvas.x) > 0) + (np.sin(pitch * canvas.y) > 0.0))
    long = canvas.chance(0.6)
    sleeve = long * canvas.uniform(0.85, 1.05) + (1 - long) * canvas.uniform(0.25, 0.45)
    body = _top(canvas, cloth, waist=waist, hem=waist + canvas.uniform(-0.2, 0.8), bottom=bottom,
                sleeve=sleeve)  # fmt: skip
    _lapels(canvas, canvas.uniform(1.5, 3.0), canvas.uniform(1.8, 2.6), cloth * 1.15)
    placket = canvas.stroke([(0.9, -10), (0.9, bottom)], 0.5)
    canvas.shade(np.maximum(placket, body), 0.7)
    buttons = np.hypot(canvas.x, (canvas.y + 0.5) % 3.2 - 1.6) - 0.55
    canvas.shade(np.maximum(buttons, np.abs(canvas.y - 1.5) - 9), 0.35)


def _sandal(canvas: _Canvas) -> None:
    tone, sole_tone = canvas.uniform(0.35, 0.95), canvas.uniform(0.4, 0.9)
    heel, thick = canvas.chance(0.4) * canvas.uniform(4.0, 9.0), canvas.uniform(1.1, 2.2)
    ground = canvas.uniform(4.5, 6.0) + 0.45 * heel
    instep, back = ground - 0.5 * heel, ground - heel
    ball = ground - thick
    peak_x, peak = canvas.uniform(-3.5, -0.5), instep - thick - canvas.uniform(2.5, 4.5)
    width, end = canvas.uniform(1.0, 2.4), (4.0, instep - thick)
    round_toe = [(-9.5, ball), (-7.5, 0.6 * peak + 0.4 * ball), (peak_x, peak), end]
    canvas.fill(canvas.stroke(round_toe, width), tone)
    crossing = [(-5.5, ball), (-4.0, 0.3 * peak + 0.7 * ball), (1.5, peak + 0.3), end]
    canvas.fill(canvas.stroke(crossing, width), tone * 0.8, visible=canvas.chance(0.5))
    height = canvas.uniform(3.0, 6.0)
    ankle = [(peak_x, peak), (4.0, 0.5 * peak + 0.5 * (back - height)), (10.3, back - height),
             (11.8, back - thick)]  # fmt: skip
    canvas.fill(canvas.stroke(ankle, np.minimum(width, 1.4)), tone, visible=canvas.chance(0.65))
    top = [(-12.5, ball), (-4.5, ball), (3.0, instep - thick), (12.0, back - thick)]
    under = [(12.3, back), (3.5, instep), (-4.0, ground), (-12.0, ground)]
    canvas.fill(canvas.polygon(top + under), sole_tone)
    slim = 1 - canvas.chance(0.35)  # a slim heel, or a wedge under the whole arch
    post_x = -3.0 + 13.0 * slim
    post_top = ground + (back - ground) * (post_x + 4.0) / 16.3
    post = [(12.3, back - 0.5), (12.0, ground), (post_x + 0.6 * slim, ground), (post_x, post_top)]
    canvas.fill(canvas.polygon(post), sole_tone, visible=heel > 0)


def _sneaker(canvas: _Canvas) -> None:
    cloth = canvas.cloth(0.35, 0.95, patterned=0.1)
    ground, thick = canvas.uniform(5.0, 6.0), canvas.uniform(1.3, 2.4)
    toe, collar = canvas.uniform(2.2, 3.6), canvas.uniform(6.5, 8.5)
    base = ground - thick
    upper = [(-12.6, base), (-12.0, base - toe * 0.7), (-9.0, base - toe), (-4.5, base - toe - 0.8),
             (1.5, base - collar + 0.3), (4.0, base - collar), (7.0, base - collar + 2.4),
             (11.0, base - collar + 0.4), (12.2, base - collar + 2.0), (12.4, base)]  # fmt: skip
    canvas.fill(canvas.polygon(upper), cloth)
    sole = canvas.polygon(
        [(-13.0, base - 0.4), (13.0, base - 0.4), (12.4, ground), (-12.0, ground)]
    )
    canvas.fill(sole, canvas.uniform(0.5, 1.0))
    canvas.shade(canvas.stroke([(-12.5, base - 0.4), (12.5, base - 0.4)], 0.7), 0.45)
    for k in range(3):  # laces across the instep
        x, y = -4.2 + 2.0 * k, base - toe - 0.2 - k * (collar - toe) / 3.4
        canvas.shade(canvas.stroke([(x, y), (x + 1.3, y + 1.6)], 0.6), 0.45)
    bend = canvas.uniform(-1.5, 1.5)
    mark = canvas.stroke([(-1.0, base - 1.2), (3.0 + bend, base - 2.6), (7.5, base - 3.4)], 1.1)
    canvas.shade(mark, canvas.uniform(0.4, 0.8), visible=canvas.chance(0.6))


def _bag(canvas: _Canvas) -> None:
    cloth = canvas.cloth(0.3, 0.9, patterned=0.15)
    half, narrow = canvas.uniform(8.5, 12.8), canvas.uniform(0.0, 2.5)
    top, bottom = canvas.uniform(-4.5, -1.0), canvas.uniform(8.0, 11.5)
    reach = canvas.uniform(3.5, 6.5)
    peak = np.maximum(top - canvas.uniform(4.5, 9.0), -12.5)
    arc = [(reach, top + 0.5), (reach * 0.9, (top + 2 * peak) / 3), (reach * 0.5, peak)]
    handle = canvas.stroke(arc + [(-x, y) for x, y in reversed(arc)], canvas.uniform(0.9, 1.6))
    canvas.fill(handle, canvas.uniform(0.3, 0.9))
    body = canvas.mirrored(
        [(half - narrow - 0.7, top), (half - narrow, top + 0.8), (half, bottom - 1.2),
         (half - 1.0, bottom)]
    )  # fmt: skip
    canvas.fill(body, cloth)
    canvas.shade(np.abs(body + 1.0) - 0.3, 0.75)
    flap_y, flapped = top + (bottom - top) * canvas.uniform(0.3, 0.55), canvas.chance(0.55)
    edge = np.abs(canvas.y - _column(flap_y) - 0.02 * canvas.x**2 * 0.5) - 0.4
    canvas.shade(np.maximum(edge, body), 0.5, visible=flapped)
    clasp = canvas.mirrored([(1.1, flap_y - 1.0), (1.1, flap_y + 1.1)])
    canvas.fill(clasp, canvas.uniform(0.7, 1.0), visible=flapped)


def _ankle_boot(canvas: _Canvas) -> None:
    cloth = canvas.cloth(0.35, 0.95, patterned=0.05)
    ground, thick = canvas.uniform(9.5, 11.5), canvas.uniform(1.0, 2.0)
    heel = canvas.uniform(0.3, 3.2)
    top, toe = canvas.uniform(-11.5, -5.0), canvas.uniform(3.2, 4.6)
    base = ground - thick
    front = canvas.uniform(-0.5, 2.5)
    boot = [(-12.3, base), (-12.0, base - toe * 0.6), (-9.0, base - toe), (-4.0, base - toe - 2.2),
            (front, base - toe - 5.5), (front - 0.6, top), (10.8, top + canvas.uniform(-1, 1)),
            (11.2, 0.0), (12.0, base - heel - 1.5), (11.8, base - heel + 0.6),
            (4.5, base - 0.6 * heel), (-1.0, base)]  # fmt: skip
    canvas.fill(canvas.polygon(boot), cloth)
    sole = [(-12.6, base), (-1.0, base - 0.3), (4.5, base - 0.6 * heel), (12.0, base - heel),
            (12.0, ground), (6.6, ground), (5.6, ground - 0.8 * heel), (-1.0, ground),
            (-12.0, ground)]  # fmt: skip
    canvas.fill(canvas.polygon(sole), canvas.uniform(0.2, 0.8))
    slit = canvas.stroke([(front + 3.5, top), (front + 4.5, base - toe - 2.5)], 2.2)
    canvas.shade(slit, canvas.uniform(0.45, 0.7), visible=canvas.chance(0.4))
    canvas.shade(canvas.stroke([(-3.5, base - toe - 1.5), (-1.0, base - 0.5)], 0.6), 0.7)
    canvas.shade(canvas.stroke([(-3, top + 1.4), (13, top + 1.4)], 0.7), 0.75)


_DRAW = (
    _t_shirt, _trouser, _pullover, _dress, _coat, _sandal, _shirt, _sneaker, _bag, _ankle_boot,
)  # fmt: skip
