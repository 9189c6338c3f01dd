"""Perceptual hash: pictures that look alike have hashes that differ in few bits."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise

SIDE, KEPT = 32, 8


class PHash(Stage):
    """64-bit DCT hash (pHash, Zauner 2010): resizing and recompression change few bits, cropping many."""

    name = "phash"
    reads = ("pixels",)
    writes = {"phash": Column(pa.uint64(), "compare by Hamming distance: <= 6 of 64 bits is a near duplicate")}
    resources = Resources(milliseconds=0.5)

    def run(self, batch: Batch) -> Columns:
        return rowwise(["phash"], lambda picture: (phash(picture),), batch["pixels"])


def _basis() -> NDArray[np.float64]:
    """The lowest KEPT rows of the orthonormal DCT-II of length SIDE: [KEPT, SIDE]."""
    k, n = np.arange(KEPT)[:, None], np.arange(SIDE)[None, :]
    return np.cos(np.pi * (2 * n + 1) * k / (2 * SIDE)) * np.sqrt(2 / SIDE)


BASIS = _basis()
BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def phash(picture: Pixels) -> int:
    """Signs of the 8x8 lowest DCT coefficients of the 32x32 luma against their median; bit 0 is the DC's."""
    image = Image.fromarray(picture.rgb)
    grey = image.reduce(max(1, min(image.size) // (4 * SIDE))).convert("L")  # no full-size luma needed
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    low = (BASIS @ small @ BASIS.T).ravel()
    return int(BITS[low > np.median(low[1:])].sum())
