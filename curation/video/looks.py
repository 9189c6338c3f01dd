"""What a frame looks like beside the one before it: a black one, a still one. A few bytes a frame are kept."""

from array import array

import cv2
import numpy as np
from numpy.typing import NDArray

BLACK, STILL = 20, 0.35
"""Luma (0-255) that all of a black frame stays below; mean absolute difference of still frames at SIZE."""
SIZE = (64, 36)


class Looks:
    """AcceptedSizes a video's frames in order."""

    def __init__(self) -> None:
        self._black, self._still = array("B"), array("B")
        self._last: NDArray[np.uint8] | None = None

    def add(self, rgb: NDArray[np.uint8]) -> None:
        """The next frame, small: [H, W, 3]."""
        grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), SIZE, interpolation=cv2.INTER_AREA)
        self._black.append(int(grey.max()) < BLACK)
        moved = STILL if self._last is None else cv2.norm(grey, self._last, cv2.NORM_L1) / grey.size
        self._still.append(moved < STILL)
        self._last = np.asarray(grey, np.uint8)

    @property
    def black(self) -> NDArray[np.bool_]:
        """[frames]: has no picture."""
        return np.array(self._black, bool)

    @property
    def still(self) -> NDArray[np.bool_]:
        """[frames]: is the same as the one before."""
        return np.array(self._still, bool)
