"""The 64-bit perceptual hash of a thumbnail, whether it tells anything, and the colours that it knows nothing of."""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE, KEPT, GRID = 32, 8, 4
CLEAR = 2.0
"""Levels (of 255, times the orthonormal DCT's gain of 1) by which a sign stands clear of a codec's noise."""
TELLING = 40
"""So many of the 64 signs must be clear. Frames of real footage have 45 or more; black, flat colours, gradients
and two-tone cards 33 or less: there noise draws the other bits, and equal noise would call them equal."""


def _basis() -> NDArray[np.float64]:
    """The lowest KEPT rows of the orthonormal DCT-II of length SIDE: [KEPT, SIDE]."""
    k, n = np.arange(KEPT)[:, None], np.arange(SIDE)[None, :]
    return np.cos(np.pi * (2 * n + 1) * k / (2 * SIDE)) * np.sqrt(2 / SIDE)


BASIS = _basis()
BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def hash_of(luma: NDArray[np.uint8]) -> int:
    """Signs of the 8x8 lowest DCT coefficients of `luma` [32, 32] against their median (pHash, Zauner 2010);
    bit 0 is the DC's."""
    return int(_bits(_above_median(luma[None]))[0])


def telling_hashes(lumas: NDArray[np.uint8]) -> list[int | None]:
    """`hash_of` each of [N, 32, 32], None where a picture has so little in it that noise would draw most bits."""
    above = _above_median(lumas)
    clear = (np.abs(above) > CLEAR).sum(1)
    values = zip(_bits(above).tolist(), (clear >= TELLING).tolist(), strict=True)
    return [value if telling else None for value, telling in values]


def colours_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mean luma, blue and red difference of each cell of a 4x4 grid over `rgb` [32, 32, 3]: uint8 [4, 4, 3]."""
    ycc = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2YCrCb).astype(np.float64)
    cells = ycc.reshape(GRID, SIDE // GRID, GRID, SIDE // GRID, 3).mean((1, 3))
    return np.round(cells).astype(np.uint8)


def _above_median(lumas: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[N, 64]: the coefficients less the median of all but the DC."""
    low = (BASIS @ lumas.astype(np.float64) @ BASIS.T).reshape(len(lumas), KEPT * KEPT)
    return np.asarray(low - np.median(low[:, 1:], axis=1, keepdims=True))


def _bits(above: NDArray[np.float64]) -> NDArray[np.uint64]:
    return np.asarray(np.where(above > 0, BITS, np.uint64(0)).sum(1, dtype=np.uint64))
