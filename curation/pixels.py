"""One decoded picture, and what several stages derive from it, computed once."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass
class Pixels:
    """A picture as every stage sees it: upright (EXIF applied), RGB over white, first frame.

    rgb    uint8 [H, W, 3]
    info   what the decoder learnt: see `curation.media.decode.Info` (format, mode, original size, frames, hashes)
    frames a clip's sampled frames in order, `rgb` being the middle one; empty for a picture
    pairs  luma of a clip's sampled frames and of the frames right after them, small: uint8 [H, W] two by two
    """

    rgb: NDArray[np.uint8]
    info: dict[str, Any] = field(default_factory=dict)
    frames: "tuple[Pixels, ...]" = ()
    pairs: "tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], ...]" = ()
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, rgb: NDArray[np.uint8], **info: Any) -> "Pixels":
        """Wrap an array uint8 [H, W, 3]; for tests and callers without a decoder."""
        height, width = rgb.shape[:2]
        return cls(np.ascontiguousarray(rgb, dtype=np.uint8), {"width": width, "height": height, **info})

    @classmethod
    def clip(cls, arrays: Sequence[NDArray[np.uint8]], sampled: int, info: dict[str, Any]) -> "Pixels":
        """A clip of `sampled` frames; what follows them in `arrays` are its pairs, first, next, first, next ..."""
        frames = tuple(cls(array, info) for array in arrays[:sampled])
        rest = arrays[sampled:]
        return cls(arrays[sampled // 2], info, frames, tuple(zip(rest[::2], rest[1::2], strict=True)))

    def arrays(self) -> list[NDArray[np.uint8]]:
        """What `clip` took, for a clip; otherwise the picture alone."""
        return [frame.rgb for frame in self.frames] + [a for pair in self.pairs for a in pair] or [self.rgb]

    @property
    def stills(self) -> "tuple[Pixels, ...]":
        """The frames that a stage for pictures looks at: a clip's sampled ones, a picture's only one."""
        return self.frames or (self,)

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


def arrays_in(data: bytes | bytearray, shapes: Iterable[Sequence[int]]) -> list[NDArray[np.uint8]]:
    """Arrays of these shapes that lie one behind another in `data`: views, not copies."""
    arrays, at = [], 0
    for shape in shapes:
        size = math.prod(shape)
        arrays.append(np.frombuffer(data, np.uint8, size, at).reshape(shape))
        at += size
    return arrays


def over_stills(
    pictures: "Sequence[Pixels]", score: Callable[[list[Pixels]], Sequence[T]], pool: Callable[[list[T]], T]
) -> list[T]:
    """`score` every still of all records in one call, then `pool` those of each clip; a picture's value stays."""
    values = iter(score([still for picture in pictures for still in picture.stills]))
    rows = [[next(values) for _ in picture.stills] for picture in pictures]
    return [row[0] if len(row) == 1 else pool(row) for row in rows]


def mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))
