"""Finds uniform borders (letterbox, pillarbox, frames) and the box of the content inside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.pixels import Pixels

Box = tuple[int, int, int, int]
TOLERANCE = 12
"""Luma levels (0-255) that JPEG may move a border's pixels by; a channel alone moves up to four times it."""
STRAY = 0.1
"""Share of a line's pixels that may wander further."""
RINGING = 18
"""Lines beside the content that JPEG may have smeared: one block of 16 px, and a little."""
MIN_SHARE, MAX_SHARE = 0.02, 0.45
"""A border's least and greatest depth as a share of the side; a thinner one may be the picture's own edge."""
STEP, CLEAR_STEP, EQUAL_STEP = 0.3, 0.5, 0.2
"""How much more of a line must leave the border's colour at the content's edge, which is straight and sudden:
a night sky or a studio ground ends in an outline. Two bars of equal depth need less, or one clear step."""
BLACK = 40
"""Levels up to which a border is black: bars of video are 0 or 16, and noisy."""
LEAST_BLACK, LEAST_FRAME = 0.35, 0.64
"""Share of the picture that a frame with bars on four sides fills at least: bars of a fifth of each side in black, of a
tenth in any other colour. What is smaller is a thing in the middle of a page."""
SAMPLES = 256
BLOCK = 32
"""Lines looked at in one go: most borders are short, most pictures have none."""


@dataclass(frozen=True)
class _Side:
    """One side's border: its colour, how many lines it is pure for, and the content's edge behind them."""

    colour: NDArray[np.int16]
    pure: int
    depth: int
    step: float


def content_box(pixels: Pixels) -> Box | None:
    """Left, top, right, bottom of the content in upright px, None where there is no border.

    Only opposite pairs of one colour count (letterbox, pillarbox, frame): a sky or a floor is no border.
    """
    return pixels.memo("content_box", _content_box)


def common_box(boxes: Sequence[Box | None]) -> Box | None:
    """What any frame shows is content: the hull of the frames' boxes, None where one has no border."""
    framed = [box for box in boxes if box]
    if not framed or len(framed) < len(boxes):
        return None
    left, top, right, bottom = zip(*framed, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _content_box(pixels: Pixels) -> Box | None:
    rgb = pixels.rgb
    top, bottom = _pair(rgb)
    left, right = _pair(rgb[top : pixels.height - bottom].swapaxes(0, 1))
    box = (left, top, pixels.width - right, pixels.height - bottom)
    return box if (top or left) and not _is_page(rgb, box) else None


def _is_page(rgb: NDArray[np.uint8], box: Box) -> bool:
    """Whether what is found is a thing on a page of one colour, which is the picture itself, and no frame with bars.

    On four sides, a frame fills most of the picture: its bars are a mat, or the black of a video in a video. On two
    sides, it reaches the other two: where its own ends have the border's colour, it is a thing between four margins,
    two of which are not straight.
    """
    left, top, right, bottom = box
    height, width = rgb.shape[:2]
    edge = rgb[0] if top else rgb[:, 0]
    colour = np.median(edge, axis=0).astype(np.int16)
    black = colour.max() <= BLACK
    if top and left:
        return (right - left) * (bottom - top) < (LEAST_BLACK if black else LEAST_FRAME) * height * width
    content = rgb[top:bottom] if top else rgb[:, left:right].swapaxes(0, 1)
    strip = max(2, round(MIN_SHARE * content.shape[1]))
    ends = (float(_away(part.swapaxes(0, 1), colour).mean()) for part in (content[:, :strip], content[:, -strip:]))
    return all(away < STRAY for away in ends)


def _pair(lines: NDArray[np.uint8]) -> tuple[int, int]:
    """Depths of the borders at both ends of [lines, pixels, 3]; (0, 0) unless there are two of one colour."""
    first = _side(lines)
    last = _side(lines[::-1]) if first else None
    if first is None or last is None or np.abs(first.colour - last.colour).max() > TOLERANCE:
        return 0, 0
    depths, weaker = (first.depth, last.depth), min(first.step, last.step)
    alike = abs(first.depth - last.depth) <= 2
    if weaker >= (EQUAL_STEP if alike else STEP) and max(depths) <= 3 * min(depths):
        return depths
    clear, other = sorted((first, last), key=lambda side: side.step, reverse=True)
    if clear.step >= CLEAR_STEP and other.pure >= clear.depth - RINGING:
        return clear.depth, clear.depth  # the other edge is hidden by content of the border's own colour
    return 0, 0


def _side(lines: NDArray[np.uint8]) -> _Side | None:
    """The border that begins with the first line; None where the first lines are not of one colour."""
    least = max(2, math.ceil(MIN_SHARE * len(lines)))
    sample = lines[: int(MAX_SHARE * len(lines)) + 3, :: max(1, lines.shape[1] // SAMPLES)]
    if len(sample) <= least + 3:
        return None
    colour = np.median(sample[0], axis=0).astype(np.int16)
    if max(_away(sample[[0, least // 2]], colour)) > STRAY:
        return None
    pure, away = _border(sample, colour)
    ahead = np.convolve(away, np.ones(2) / 2, "valid")  # mean of a line and the next
    near = range(max(least, pure - 1), min(pure + RINGING, len(sample) - 2))
    steps = {line: float(ahead[line] - away[line - 2 : line].mean()) for line in near if line >= 2}
    if not steps:
        return None
    depth = max(steps, key=lambda line: steps[line])
    return _Side(colour, pure, depth, steps[depth])


def _border(lines: NDArray[np.uint8], colour: NDArray[np.int16]) -> tuple[int, NDArray[np.float64]]:
    """How many lines are of the colour, and `_away` of these and of the next ones that may be their edge."""
    away = np.empty(0)
    while len(away) < len(lines):
        away = np.concatenate([away, _away(lines[len(away) : len(away) + BLOCK], colour)])
        if (away > STRAY).any() and int(np.argmax(away > STRAY)) + RINGING + 2 <= len(away):
            return int(np.argmax(away > STRAY)), away
    return int(np.argmax(away > STRAY)) if (away > STRAY).any() else len(away), away


def _away(lines: NDArray[np.uint8], colour: NDArray[np.int16]) -> NDArray[np.float64]:
    """Share of each line's pixels that are not of the colour.

    Luma (here red + 2 green + blue) tells first: JPEG stores it in full, but smears colour over 16 px.
    """
    off = lines.astype(np.int16) - colour
    luma = np.abs(off[..., 0] + 2 * off[..., 1] + off[..., 2]) > 4 * TOLERANCE
    share: NDArray[np.float64] = (luma | (np.abs(off).max(2) > 4 * TOLERANCE)).mean(1)
    return share
