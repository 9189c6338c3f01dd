"""Coloured shapes on a grey slope, with smooth edges: what the corpora `shapes` and `moving` are drawn with."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
FINE = 4
"""Pixels are drawn so many times finer per side, then averaged."""
COLORS = {"red": (222, 45, 45), "green": (60, 225, 90), "blue": (60, 90, 240), "yellow": (238, 205, 35)}
SHAPES = ("circle", "square", "triangle")
GREY = (35.0, 85.0)
"""Of the background's middle; the embedded autoencoders' latents of paler ones lie outside their usual range."""


@dataclass(frozen=True)
class Thing:
    """One shape: `x`, `y` the middle of its bounding box and `size` the side of it, px."""

    shape: str
    color: str
    x: float
    y: float
    size: float

    @property
    def name(self) -> str:
        """`red circle`."""
        return f"{self.color} {self.shape}"


def background(rng: np.random.Generator) -> NDArray[np.float32]:
    """Grey that rises in one direction, float32 [64, 64, 3]."""
    angle, ramp = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, SIDE, dtype=np.float32)
    slope = np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None]
    grey = (rng.uniform(*GREY) + 25 * slope).astype(np.float32)
    return np.repeat(grey[..., None], 3, axis=2)


def mask(thing: Thing) -> NDArray[np.float32]:
    """How much of each pixel a shape covers, float32 [64, 64] in 0-1."""
    fine = np.zeros((SIDE * FINE, SIDE * FINE), np.uint8)
    cx, cy, half = thing.x * FINE, thing.y * FINE, thing.size * FINE / 2
    corners = {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1), (1, 1), (-1, 1)],
    }
    if thing.shape == "circle":
        cv2.circle(fine, (round(cx), round(cy)), round(half), 255, -1)
    else:
        points = [(round(cx + dx * half), round(cy + dy * half)) for dx, dy in corners[thing.shape]]
        cv2.fillPoly(fine, [np.array(points, np.int32)], 255)
    small = cv2.resize(fine, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small / np.float32(255), np.float32)


def draw(behind: NDArray[np.float32], things: Sequence[Thing]) -> NDArray[np.uint8]:
    """Things over a background, RGB uint8 [64, 64, 3]."""
    picture = behind
    for thing in things:
        covered = mask(thing)[..., None]
        picture = picture * (1 - covered) + covered * np.array(COLORS[thing.color], np.float32)
    return np.round(picture).clip(0, 255).astype(np.uint8)
