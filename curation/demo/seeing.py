"""What a picture shows, measured: coloured regions by hue, their middles, and the shape that each fits best.

Nothing here is fitted to samples, or to anything: thresholds are stated, and real pictures show what they cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.demo.drawing import COLORS, SHAPES, Thing, mask

COLORFUL = 90
"""Least difference between a pixel's largest and smallest channel for it to count: half of what COLORS have, so that
blurred edges are cut where they were drawn."""
LEAST = 40
"""Pixels of the smallest region that counts."""
FIT = 0.7
"""Least overlap (intersection over union) with the ideal shape in the region's bounding box."""
CLEAR = 4.0
"""Least distance of two middles, and least way of a moving one, px."""


@dataclass(frozen=True)
class Region:
    """The largest connected region of a colour: its centre of gravity, px; its shape, None where none fits."""

    x: float
    y: float
    pixels: int
    shape: str | None


def hues(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which of COLORS (in their order) each pixel is nearest to in hue, -1 where it is grey: int64 [H, W]."""
    hue = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 0].astype(int)
    palette = np.array([list(COLORS.values())], np.uint8)
    wanted = cv2.cvtColor(palette, cv2.COLOR_RGB2HSV)[0, :, 0].astype(int)
    apart = np.abs(hue[..., None] - wanted)
    nearest = np.minimum(apart, 180 - apart).argmin(axis=-1)
    spread = picture.max(axis=-1).astype(int) - picture.min(axis=-1)
    return np.where(spread >= COLORFUL, nearest, -1)


def regions(picture: NDArray[np.uint8]) -> dict[str, Region]:
    """The largest region of each colour that a picture (uint8 [64, 64, 3]) shows."""
    labels, found = hues(picture), {}
    for number, color in enumerate(COLORS):
        count, parts, stats, middles = cv2.connectedComponentsWithStats((labels == number).astype(np.uint8))
        sizes = stats[1:, cv2.CC_STAT_AREA]
        if count < 2 or sizes.max() < LEAST:
            continue
        at = 1 + int(sizes.argmax())
        left, top, width, height = (int(value) for value in stats[at, :4])
        x, y = (float(value) for value in middles[at])
        shape = fitted(parts == at, left + width / 2, top + height / 2, width, height)
        found[color] = Region(x, y, int(sizes.max()), shape)
    return found


def fitted(region: NDArray[np.bool_], x: float, y: float, width: float, height: float) -> str | None:
    """The shape of the same bounding box that overlaps most with a region; None below FIT, or where it is oblong."""
    if not 0.7 <= width / height <= 1 / 0.7:
        return None
    overlaps = {}
    for shape in SHAPES:
        ideal = mask(Thing(shape, "red", x, y, (width + height) / 2)) >= 0.5
        overlaps[shape] = (ideal & region).sum() / max(1, (ideal | region).sum())
    best = max(overlaps, key=lambda shape: overlaps[shape])
    return best if overlaps[best] >= FIT else None


def relation(first: Region, second: Region) -> str | None:
    """How the first lies to the second: left of, right of, above, below; None where they are not clearly apart."""
    across, down = second.x - first.x, second.y - first.y
    if max(abs(across), abs(down)) < CLEAR:
        return None
    if abs(across) >= abs(down):
        return "left of" if across > 0 else "right of"
    return "above" if down > 0 else "below"


def direction(path: Sequence[Region]) -> str | None:
    """Where a region goes: right, left, up or down from the first third of a clip to the last; None: nowhere."""
    if len(path) < 3:
        return None
    third = len(path) // 3
    across, down = (
        float(np.mean([getattr(r, axis) for r in path[-third:]]) - np.mean([getattr(r, axis) for r in path[:third]]))
        for axis in ("x", "y")
    )
    if max(abs(across), abs(down)) < CLEAR:
        return None
    if abs(across) >= abs(down):
        return "right" if across > 0 else "left"
    return "down" if down > 0 else "up"
