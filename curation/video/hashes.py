"""Perceptual hashes of a clip over time, made while the clip is decoded anyway.

Hashes are taken at fixed times, 4 a second from the clip's start, and not at shares of its length: a copy trimmed
by a third, or cut at other shots, still shows the same pictures at the same pace. Its own times may lie up to 1/8 s
beside the original's; what moves too fast for that is caught by comparing with the two hashes around it
(`curation.selection.sequences`). Measured on the corpus at that worst shift: 2 a second lose a third of the frames
of a fast action film, 4 a second a fifth, 8 a second cost twice the room for a tenth.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.media.borders import common_box, content_box
from curation.media.phash import SIDE, telling_hashes
from curation.pixels import Pixels
from curation.video.container import Video, luma_of

PER_SECOND = 4
MOST = 1024
"""A clip of more than 4 minutes is hashed no further."""
THUMBNAIL = 4 * SIDE
BOXED = 8
"""So many frames are searched for bars."""
Luma = NDArray[np.uint8]


class FrameHashes:
    """Collects thumbnails of the frames on show at the grid's times."""

    def __init__(self, video: Video, start_s: float, end_s: float) -> None:
        self._video = video
        self._thumbnails: list[Luma] = []
        self._start_s, self._end_s = start_s, end_s

    def show(self, frame: Any, until_s: float) -> None:
        """`frame` is on show from where the one before it ended until `until_s`, seconds from the video's start."""
        until_s, luma = min(until_s, self._end_s) - 1e-6, None
        while self._start_s + len(self._thumbnails) / PER_SECOND < until_s and len(self._thumbnails) < MOST:
            luma = luma_of(self._video, frame, (THUMBNAIL, THUMBNAIL)) if luma is None else luma
            self._thumbnails.append(luma)

    def values(self) -> tuple[list[int | None], list[int | None]]:
        """One hash a time, and those of the mirror images, None where the frame shows next to nothing; of what lies
        inside a letterbox."""
        whole = telling_hashes(_shrunk(self._thumbnails))
        telling = [luma for luma, value in zip(self._thumbnails, whole, strict=True) if value is not None]
        some = telling[:: max(1, len(telling) // BOXED)]
        box = common_box([content_box(Pixels.of(np.repeat(luma[..., None], 3, axis=2))) for luma in some])
        if box is None:
            return _both(self._thumbnails)
        left, top, right, bottom = box
        return _both([luma[top:bottom, left:right] for luma in self._thumbnails])


def _both(lumas: Sequence[Luma]) -> tuple[list[int | None], list[int | None]]:
    """The hashes of frames and of their mirror images; None in both where one of a frame's two tells nothing."""
    small = _shrunk(lumas)
    own, mirrored = telling_hashes(small), telling_hashes(small[:, :, ::-1])
    telling = [a is not None and b is not None for a, b in zip(own, mirrored, strict=True)]
    kept = [[v if t else None for v, t in zip(values, telling, strict=True)] for values in (own, mirrored)]
    return kept[0], kept[1]


def _shrunk(lumas: Sequence[Luma]) -> NDArray[np.uint8]:
    """[N, 32, 32] by area."""
    small = [cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for luma in lumas]
    return np.array(small, np.uint8).reshape(-1, SIDE, SIDE)
