"""Measures of a picture's technical quality, shared by stages and computed once per picture.

All work on a grey or RGB thumbnail whose longer side is at most 512 px, so that they cost alike for every
picture and a value means the same for a phone photo and its web copy.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.pixels import Pixels

Floats = NDArray[np.float32]
SIDE = 512


def thumbnail(pixels: Pixels) -> NDArray[np.uint8]:
    """RGB, longer side at most 512 px, antialiased: uint8 [h, w, 3]."""
    return pixels.memo("thumbnail", _thumbnail)


def _thumbnail(pixels: Pixels) -> NDArray[np.uint8]:
    scale = SIDE / max(pixels.width, pixels.height)
    if scale >= 1:
        return pixels.rgb
    size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
    return np.asarray(Image.fromarray(pixels.rgb).resize(size, Image.Resampling.BOX, reducing_gap=2.0))


def grey(pixels: Pixels) -> NDArray[np.uint8]:
    """Luma (ITU-R BT.601) of the thumbnail in whole levels: uint8 [h, w]."""
    return pixels.memo("grey", lambda p: np.asarray(cv2.cvtColor(thumbnail(p), cv2.COLOR_RGB2GRAY), np.uint8))


def sharpness(pixels: Pixels) -> float:
    """Variance of the Laplacian of the thumbnail's luma (Pech-Pacheco et al. 2000).

    Below ~50 blurred, above ~500 sharp; 0 for a picture thinner than 3 px.
    """
    return pixels.memo(
        "sharpness", lambda p: _mean_and_deviation(_laplacian(p))[1] ** 2 if min(grey(p).shape) > 2 else 0.0
    )


def _laplacian(pixels: Pixels) -> NDArray[np.int16]:
    """4-neighbour Laplacian of the interior: [h - 2, w - 2]."""
    return np.asarray(cv2.Laplacian(grey(pixels), cv2.CV_16S), np.int16)[1:-1, 1:-1]


def _mean_and_deviation(values: NDArray[np.uint8] | NDArray[np.int16]) -> tuple[float, float]:
    mean, deviation = cv2.meanStdDev(values)
    return mean.item(), deviation.item()


def exposure(pixels: Pixels) -> float:
    """Mean luma, 0 black to 1 white: below 0.1 underexposed, above 0.9 overexposed."""
    return pixels.memo("exposure", lambda p: _mean_and_deviation(grey(p))[0] / 255)


def clipped(pixels: Pixels) -> float:
    """Share of the thumbnail's pixels that are nearly black (luma <= 4) or nearly white (>= 251), 0-1."""
    return pixels.memo("clipped", lambda p: float(((grey(p) <= 4) | (grey(p) >= 251)).mean()))


def contrast(pixels: Pixels) -> float:
    """RMS contrast: standard deviation of luma / 255, 0-0.5; below 0.05 hazy or flat."""
    return pixels.memo("contrast", lambda p: _mean_and_deviation(grey(p))[1] / 255)


def colourfulness(pixels: Pixels) -> float:
    """Hasler and Suesstrunk 2003, M3: 0 grey, 33 moderate, 59 quite, 109 extremely colourful."""
    return pixels.memo("colourfulness", _colourfulness)


def _colourfulness(pixels: Pixels) -> float:
    red, green, blue = (channel.astype(np.int16) for channel in cv2.split(thumbnail(pixels)))
    (rg, rg_spread), (yb, yb_spread) = (_mean_and_deviation(c) for c in (red - green, red + green - 2 * blue))
    return math.hypot(rg_spread, yb_spread / 2) + 0.3 * math.hypot(rg, yb / 2)


def entropy(pixels: Pixels) -> float:
    """Shannon entropy of the luma histogram, bits 0-8; a single colour has 0."""
    return pixels.memo("entropy", _entropy)


def _entropy(pixels: Pixels) -> float:
    counts = cv2.calcHist([grey(pixels)], [0], None, [256], [0, 256]).ravel()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def flat(pixels: Pixels) -> float:
    """Share of 16x16 tiles of the thumbnail without structure (luma range below 6): 1 for a single colour."""
    return pixels.memo("flat", _flat)


def _flat(pixels: Pixels) -> float:
    values = grey(pixels)
    height, width = values.shape
    tile = min(16, height, width)
    bands = values[: height // tile * tile, : width // tile * tile].reshape(height // tile, tile, -1)
    most, least = bands.max(1), bands.min(1)  # of whole lines first: four times as fast as of a tile's both sides
    columns = (height // tile, width // tile, tile)
    return float((most.reshape(columns).max(2) - least.reshape(columns).min(2) < 6).mean())


def mscn(values: Floats) -> Floats:
    """Mean-subtracted contrast-normalised luma (Ruderman 1994; BRISQUE), 7x7 box window: [h - 6, w - 6]."""
    mean, deviation = (cv2.blur(of, (7, 7)) for of in (values, values * values))
    deviation = np.sqrt(np.maximum(deviation - mean * mean, 0))
    field: Floats = (values - mean) / (deviation + 1)
    return field[3:-3, 3:-3]


def naturalness_features(pixels: Pixels) -> NDArray[np.float64]:
    """Spread, kurtosis and neighbour correlations of the MSCN field at 1/1 and 1/2 size: [8]."""
    return pixels.memo("nss", _naturalness)


def _naturalness(pixels: Pixels) -> NDArray[np.float64]:
    values, out = grey(pixels).astype(np.float32), []
    for _ in range(2):
        if min(values.shape) < 16:
            out += [0.0, 0.0, 0.0, 0.0]
            continue
        field = mscn(values)
        squares = field * field
        variance = float(squares.mean()) + 1e-9
        right, down = float((field[:, 1:] * field[:, :-1]).mean()), float((field[1:] * field[:-1]).mean())
        out += [
            math.sqrt(variance),
            float((squares * squares).mean()) / variance**2,
            right / variance,
            down / variance,
        ]
        values = _half(values)
    return np.array(out)


def _half(values: Floats) -> Floats:
    """Means of 2x2 pixels."""
    height, width = (side // 2 for side in values.shape)
    half = cv2.resize(values[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(half, np.float32)


NATURAL = np.array([0.70, 3.84, 0.43, 0.36, 0.69, 3.85, 0.51, 0.42])
NATURAL_SPREAD = np.array([0.09, 0.69, 0.13, 0.13, 0.09, 1.07, 0.11, 0.14])
"""Median and standard deviation of those features over 141 captioned web photos (COCO), measured here."""


def brisque(pixels: Pixels) -> float:
    """Distance of the naturalness features from those of good photos, 0 natural to 100.

    BRISQUE's idea (Mittal et al. 2012) with fixed statistics in place of a trained regressor. Of those photos
    90 % lie below 28.
    """
    return pixels.memo(
        "brisque",
        lambda p: float(min(100.0, 20 * np.abs((naturalness_features(p) - NATURAL) / NATURAL_SPREAD).mean())),
    )


def blockiness(pixels: Pixels) -> float:
    """How much steeper luma steps are on JPEG's 8 px grid than between: 1 none, above ~1.3 visible blocks.

    Measured at full size on the central 512 px, since scaling hides the grid."""
    return pixels.memo("blockiness", _blockiness)


def _blockiness(pixels: Pixels) -> float:
    top = max(0, (pixels.height - SIDE) // 2) // 8 * 8
    left = max(0, (pixels.width - SIDE) // 2) // 8 * 8
    green = np.ascontiguousarray(pixels.rgb[top : top + SIDE, left : left + SIDE, 1])
    if min(green.shape) < 24:
        return 1.0
    ratios = []
    across = cv2.absdiff(green[:, 1:], green[:, :-1])
    down = cv2.absdiff(green[1:], green[:-1])
    for steps in (across.mean(0, np.float32), down.mean(1, np.float32)):
        on = steps[7::8].mean()
        off = np.delete(steps, np.arange(7, len(steps), 8)).mean()
        ratios.append((on + 0.5) / (off + 0.5))
    return float(sum(ratios) / 2)
