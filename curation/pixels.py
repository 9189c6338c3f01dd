"""One decoded picture, and what several stages derive from it, computed once."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass
class Pixels:
    """A picture as every stage sees it: upright (EXIF applied), RGB over white, first frame.

    rgb    uint8 [H, W, 3]
    info   what the decoder learnt: see `curation.decode.Info` (format, mode, original size, frames, hashes)
    """

    rgb: NDArray[np.uint8]
    info: dict[str, Any] = field(default_factory=dict)
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, rgb: NDArray[np.uint8], **info: Any) -> "Pixels":
        """Wrap an array uint8 [H, W, 3]; for tests and callers without a decoder."""
        height, width = rgb.shape[:2]
        return cls(np.ascontiguousarray(rgb, dtype=np.uint8), {"width": width, "height": height, **info})

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    def memo(self, key: Hashable, compute: Callable[["Pixels"], T]) -> T:
        """`compute(self)`, remembered under `key`: grey values, thumbnails, backbone features ..."""
        if key not in self._memo:
            self._memo[key] = compute(self)
        return self._memo[key]  # type: ignore[no-any-return]
