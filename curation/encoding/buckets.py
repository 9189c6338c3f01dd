"""Buckets: the few shapes that latents come in, and which of them a picture goes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.manifest import EncodeSection
from curation.media.standardize import Recipe

Ints = NDArray[np.int64]
_SURE = 1e-6
"""Logarithms of ratios that differ by more are told apart by any arithmetic."""
ASPECTS = (1 / 2, 9 / 16, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9, 2.0)
"""Width / height of the buckets of `buckets: aspect`."""


@dataclass(frozen=True, order=True)
class Bucket:
    """Frames and pixels that all samples of a shard share."""

    frames: int
    height: int
    width: int

    @property
    def name(self) -> str:
        """`1x256x256`: frames x height x width."""
        return f"{self.frames}x{self.height}x{self.width}"

    @classmethod
    def named(cls, name: str) -> "Bucket":
        """The bucket of a name such as `1x256x256`."""
        frames, height, width = (int(side) for side in name.split("x"))
        return cls(frames, height, width)


def table(encode: EncodeSection) -> tuple[Bucket, ...]:
    """All buckets of a manifest."""
    return _table(encode.size, encode.buckets, encode.multiple)


@lru_cache
def _table(size: int, buckets: str | tuple[str, ...], multiple: int) -> tuple[Bucket, ...]:
    if buckets == "square":
        return (Bucket(1, size, size),)
    if buckets == "aspect":
        sides = [[_round(side, multiple) for side in (size * aspect**0.5, size / aspect**0.5)] for aspect in ASPECTS]
        return tuple(sorted({Bucket(1, height, width) for width, height in sides}))
    return tuple(sorted({_listed(text) for text in buckets}))


def _round(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)


def _listed(text: str) -> Bucket:
    """`320x192` as a manifest says it, width first."""
    width, height = (int(side) for side in text.split("x"))
    return Bucket(1, height, width)


def content(width: int, height: int, box: list[int] | None, encode: EncodeSection) -> tuple[int, int, int, int]:
    """The part of a picture that is encoded, before it is cropped to its bucket: left, top, right, bottom."""
    if encode.remove_letterbox and box and box[2] - box[0] >= 8 and box[3] - box[1] >= 8:
        return (box[0], box[1], box[2], box[3])
    return (0, 0, width, height)


NEARLY = 0.01
"""Of a frame, by which a clip may be shorter than its bucket: seconds are stored rounded, as files round them."""


@dataclass(frozen=True)
class Clip:
    """How long a clip is, and the rate at which it is encoded in frames a second."""

    seconds: float
    fps: float

    @classmethod
    def of(cls, row: Mapping[str, Any], encode: EncodeSection) -> "Clip | None":
        """Of a row of scores/ with its span, `fps` and `fps_fraction`; None for a picture."""
        if row["start_s"] is None:
            return None
        own = row.get("fps_fraction") or row.get("fps") or 24.0
        return cls(row["end_s"] - row["start_s"], float(Fraction(own)) if encode.fps == "source" else encode.fps)


def length(clip: Clip | None, encode: EncodeSection) -> int:
    """Frames that a clip is encoded to: the longest of `encode.frames` that it fills.

    1 for a picture; 0 for a clip shorter than all of them.
    """
    if clip is None:
        return 1
    there = int(clip.seconds * clip.fps + NEARLY)
    return max((frames for frames in encode.frames if frames <= there), default=0)


def choose(width: int, height: int, box: list[int] | None, encode: EncodeSection, clip: Clip | None = None) -> Bucket:
    """The bucket whose aspect is nearest in ratio; of equals the larger. `clip`: None for a picture."""
    left, top, right, bottom = content(width, height, box, encode)
    aspect = (right - left) / (bottom - top)
    shape = min(table(encode), key=lambda b: (abs(_log_ratio(b.width / b.height, aspect)), -b.width * b.height))
    return Bucket(length(clip, encode), shape.height, shape.width)


def nearest_shapes(width: Ints, height: Ints, encode: EncodeSection) -> Ints:
    """For many pictures without a border at once: the place of `choose`'s bucket in `table`, -1 where two are so nearly
    alike that `choose` has to say which."""
    ratios = np.log([shape.width / shape.height for shape in table(encode)])
    places = np.zeros(len(width), np.int64)
    for start in range(0, len(width) if len(ratios) > 1 else 0, 1 << 16):
        some = slice(start, start + (1 << 16))
        off = np.abs(np.log(width[some] / height[some])[:, None] - ratios)
        nearest = np.partition(off, 1, axis=1)
        places[some] = np.where(nearest[:, 1] - nearest[:, 0] > _SURE, off.argmin(1), -1)
    return places


def _log_ratio(a: float, b: float) -> float:
    return round(log(a / b), 9)


def unencodable(
    width: int, height: int, box: list[int] | None, encode: EncodeSection, clip: Clip | None = None
) -> str | None:
    """Why a record cannot be encoded (too short, or only by enlarging it), None when it can."""
    if clip is not None and not length(clip, encode):
        return f"shorter than {min(encode.frames)} frames at {clip.fps:.6g} fps"
    if encode.upscale:
        return None
    bucket = choose(width, height, box, encode)
    left, top, right, bottom = content(width, height, box, encode)
    scale = max(bucket.width / (right - left), bucket.height / (bottom - top))
    return f"smaller than its bucket {bucket.name}" if scale > 1 else None


def recipe(width: int, height: int, box: list[int] | None, encode: EncodeSection) -> Recipe:
    """How a picture becomes its bucket's pixels."""
    bucket = choose(width, height, box, encode)
    return Recipe(bucket.width, bucket.height, encode.crop, content(width, height, box, encode), encode.filter)
