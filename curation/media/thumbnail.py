"""Small copies of a picture, or of some frames of a clip, by which two records can be laid over each other."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.media.borders import common_box, content_box
from curation.pixels import Pixels

SIDE, COLOUR_SIDE = 48, 12
FRAME_BYTES = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE
FRAMES = 4
"""So many of a clip's sampled frames have one, evenly spread."""


def thumbnails(picture: Pixels) -> bytes:
    """FRAME_BYTES for a picture, as many for each of some frames of a clip: what lies inside uniform borders, squeezed
    to 48x48 luma, then 12x12 Cr and Cb, all uint8."""
    stills = picture.stills
    chosen = [stills[i] for i in sorted({(2 * i + 1) * len(stills) // (2 * FRAMES) for i in range(FRAMES)})]
    box = content_box(picture) if len(stills) == 1 else common_box([content_box(still) for still in chosen])
    left, top, right, bottom = box or (0, 0, picture.width, picture.height)
    return b"".join(_packed(still.rgb[top:bottom, left:right]) for still in chosen)


def _packed(rgb: NDArray[np.uint8]) -> bytes:
    step = max(1, min(rgb.shape[:2]) // (4 * SIDE))
    small = cv2.resize(np.ascontiguousarray(rgb[::step, ::step]), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    ycc = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)
    colour = cv2.resize(ycc[..., 1:], (COLOUR_SIDE, COLOUR_SIDE), interpolation=cv2.INTER_AREA)
    return ycc[..., 0].tobytes() + np.moveaxis(colour, 2, 0).tobytes()


def unpacked(packed: bytes) -> Sequence[NDArray[np.float32]]:
    """The frames as float32 [48, 48, 3], luma, Cr and Cb in levels; colours are enlarged. Raises ValueError on other
    lengths than whole frames."""
    whole = np.frombuffer(packed, np.uint8).reshape(-1, FRAME_BYTES)
    return [_unpacked(frame) for frame in whole]


def _unpacked(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    luma = frame[: SIDE * SIDE].reshape(SIDE, SIDE)
    colour = np.moveaxis(frame[SIDE * SIDE :].reshape(2, COLOUR_SIDE, COLOUR_SIDE), 0, 2)
    large = cv2.resize(np.ascontiguousarray(colour), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return np.dstack([luma, large]).astype(np.float32)
