"""Finds uniform borders (letterbox, pillarbox, frames) and the box of the content inside them."""

import numpy as np
from numpy.typing import NDArray

from curation.pixels import Pixels

Box = tuple[int, int, int, int]
TOLERANCE = 12.0
"""Luma levels that a border may wander by: what JPEG does to a flat area."""
MIN_SHARE = 0.02
"""A border thinner than this share of its side is left: it may be the picture's own edge."""
MAX_SHARE = 0.45
STEP = 10.0
"""Luma step at the border's inner edge: without one it is a dark or bright scene, not a border."""
STEP_SHARE = 0.35
"""Share of the inner edge's length on which that step must show."""


def content_box(pixels: Pixels) -> Box | None:
    """Left, top, right, bottom of the content in upright px, None where there is no border.

    A border runs along a whole side in one colour, is at least 2 % of the picture deep, and ends in an edge.
    Only opposite pairs count (letterbox, pillarbox), alike in colour: a sky or a studio ground is no border.
    """
    return pixels.memo("content_box", _content_box)


def _content_box(pixels: Pixels) -> Box | None:
    rgb = pixels.rgb
    top, bottom = _pair(rgb)
    left, right = _pair(rgb[top : rgb.shape[0] - bottom].swapaxes(0, 1))
    if not (top or left):
        return None
    return (left, top, pixels.width - right, pixels.height - bottom)


def _pair(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    """Depths of the first and last rows' borders; (0, 0) unless both are there, in one colour."""
    first, first_colour = _depth(rgb)
    last, last_colour = _depth(rgb[::-1])
    if not first or not last or np.abs(first_colour - last_colour).max() > TOLERANCE:
        return 0, 0
    return (first, last) if max(first, last) <= 3 * min(first, last) else (0, 0)


def _depth(rgb: NDArray[np.uint8]) -> tuple[int, NDArray[np.float64]]:
    """How many rows from the first on are one colour, and that colour; 0 where they end without an edge."""
    rows = rgb.shape[0]
    every = max(1, rgb.shape[1] // 256)
    sample = rgb[: int(rows * MAX_SHARE) + 2, ::every].astype(np.float32)
    colour = np.median(sample[0], axis=0)
    off = np.abs(sample - colour).max(2)
    uniform = (off > TOLERANCE).mean(1) <= 0.01
    depth = int(np.argmin(uniform)) if not uniform.all() else len(uniform)
    none = 0, colour.astype(np.float64)
    if depth < max(2, MIN_SHARE * rows) or depth >= len(uniform) - 1 or depth > MAX_SHARE * rows:
        return none
    inner = np.abs(sample[min(depth + 1, len(sample) - 1)] - colour).max(1)
    if (inner > STEP).mean() < STEP_SHARE:
        return none
    return depth, colour.astype(np.float64)
