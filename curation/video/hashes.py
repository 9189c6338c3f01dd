"""Perceptual hashes of a clip over time, made while the clip is decoded anyway.

Hashes are taken at fixed times, 4 a second from the clip's start, and not at shares of its length: a copy trimmed
by a third, or cut at other shots, still shows the same pictures at the same pace. Its own times may lie up to 1/8 s
beside the original's; what moves too fast for that is caught by comparing with the two hashes around it
(`curation.selection.sequences`). Measured on the corpus at that worst shift: 2 a second lose a third of the frames
of a fast action film, 4 a second a fifth, 8 a second cost twice the room for a tenth.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.media.phash import SIDE, telling_hashes
from curation.video.container import turn_of, values_of

PER_SECOND = 4
MOST = 4096
"""A clip of more than 17 minutes is hashed no further."""


class FrameHashes:
    """Collects thumbnails of the frames on show at the grid's times."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self._thumbnails: list[NDArray[np.uint8]] = []
        self._start_s, self._end_s = start_s, end_s

    def show(self, frame: Any, until_s: float) -> None:
        """`frame` is on show from where the one before it ended until `until_s`, seconds from the video's start."""
        until_s, luma = min(until_s, self._end_s) - 1e-6, None
        while self._start_s + len(self._thumbnails) / PER_SECOND < until_s and len(self._thumbnails) < MOST:
            luma = _luma(frame) if luma is None else luma
            self._thumbnails.append(luma)

    def values(self) -> list[int | None]:
        """One hash a time, None where the frame shows next to nothing."""
        return telling_hashes(np.stack(self._thumbnails)) if self._thumbnails else []


def _luma(frame: Any) -> NDArray[np.uint8]:
    """uint8 [32, 32], upright."""
    rgb = values_of(frame, 4 * SIDE, 4 * SIDE, "AREA")
    luma = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    swapped, across, down = turn_of(frame)
    return np.asarray(luma.T if swapped else luma, np.uint8)[::down, ::across]
