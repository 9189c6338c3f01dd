"""What a picture shows, measured: coloured regions by hue, their middles, and the shape that each fits best.

Nothing here is fitted to samples, or to anything: thresholds are stated, and real pictures show what they cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.demo.drawing import COLORS, SHAPES, Thing, mask

COLORFUL = 40
"""Least difference between a pixel's largest and smallest channel for it to have a hue."""
COVERED = 0.5
"""Least share of a pixel that its colour covers: blurred edges are cut where they were drawn."""
LEAST = 40
"""Pixels of the smallest region that counts."""
FIT = 0.7
"""Least overlap (intersection over union) with a shape for a region to be one."""
CLEAR = 4.0
"""Least distance of two middles, and least way of a moving one, px."""


@dataclass(frozen=True)
class Region:
    """The largest connected region of a colour: its centre of gravity, px, and how well each shape fits it, 0-1."""

    x: float
    y: float
    pixels: int
    fits: Mapping[str, float]

    @property
    def shape(self) -> str | None:
        return best(self.fits)


def best(fits: Mapping[str, float]) -> str | None:
    """The shape that fits best, None where none does."""
    shape = max(fits, key=lambda shape: fits[shape])
    return shape if fits[shape] >= FIT else None


def colors(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which of COLORS (in their order) covers each pixel, by its hue; -1 for none: int64 [H, W].

    How much it covers is told by how far the pixel has gone from the background (the median of the border) to it.
    """
    palette = np.array(list(COLORS.values()), np.uint8)
    hue, wanted = (_hue(rgb).astype(int) for rgb in (picture, palette[None]))
    apart = np.abs(hue[..., None] - wanted)
    nearest = np.minimum(apart, 180 - apart).argmin(axis=-1)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    behind = np.median(border, axis=0)
    way = palette - behind
    share = ((picture - behind) @ way.T) / np.square(way).sum(axis=1)
    covered = np.take_along_axis(share, nearest[..., None], axis=-1)[..., 0] >= COVERED
    spread = picture.max(axis=-1).astype(int) - picture.min(axis=-1)
    return np.where(covered & (spread >= COLORFUL), nearest, -1)


def _hue(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0-179."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 0])


def regions(picture: NDArray[np.uint8]) -> dict[str, Region]:
    """The largest region of each colour that a picture (uint8 [64, 64, 3]) shows."""
    labels, found = colors(picture), {}
    for number, color in enumerate(COLORS):
        count, parts, stats, middles = cv2.connectedComponentsWithStats((labels == number).astype(np.uint8))
        sizes = stats[1:, cv2.CC_STAT_AREA]
        if count < 2 or sizes.max() < LEAST:
            continue
        at = 1 + int(sizes.argmax())
        left, top, width, height = (int(value) for value in stats[at, :4])
        x, y = (float(value) for value in middles[at])
        found[color] = Region(x, y, int(sizes.max()), fitted(parts == at, (left, top, width, height)))
    return found


def fitted(region: NDArray[np.bool_], box: tuple[int, int, int, int]) -> dict[str, float]:
    """Overlap (intersection over union) of a region with each shape of its bounding box: left, top, width, height."""
    left, top, width, height = box
    overlaps = {}
    for shape in SHAPES:
        whole = mask(Thing(shape, "red", left + width / 2, top + height / 2, max(width, height))) >= 0.5
        overlaps[shape] = float((whole & region).sum() / (whole | region).sum())
    return overlaps


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
