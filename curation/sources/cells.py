"""What a cell of a source says: text, captions, and a video's clips."""

import math
import re
from dataclasses import dataclass
from typing import Any

from curation.record import GivenClip
from curation.stores import jsontext

MAX_CLIPS = 10_000
MAX_TEXT = 1 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:[.,]\d+)?)")


@dataclass(frozen=True)
class Unread:
    """Stands for a cell that was not read; `why` follows on "the cell in the column x"."""

    why: str

    def __str__(self) -> str:
        return f"(not read: it {self.why})"


class RowError(ValueError):
    """A row says something that no record can be made of; the message becomes the record's error."""


def clean(text: str) -> str:
    """Lone surrogates, which no file format can store, become U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def is_missing(cell: Any) -> bool:
    """Whether a cell says that there is no value: null, or NaN, which pandas writes for it."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def captions_of(cell: Any, column: str | None) -> list[str]:
    """A caption or a list of captions, without empty and missing ones. Raises RowError for any other type."""
    captions = cell if isinstance(cell, list) else [cell]
    captions = [caption for caption in captions if not is_missing(caption)]
    for caption in captions:
        if not isinstance(caption, str):
            raise RowError(f"the caption column {column!r} holds {type(caption).__name__}, not text")
    return [clean(caption) for caption in captions if caption and caption.strip()]


def clips_of(cell: Any, column: str, captions: Any, caption_column: str | None) -> tuple[GivenClip, ...] | None:
    """A video's clips (video2dataset's `clip_col`); None where the cell is empty: then it is cut by its shots.

    cell      a list of [start, end], or such a list as JSON text (a csv knows no lists)
    captions  the caption cell: where it is a list with one item a clip (text, a list of texts, or null), each clip
              has its own; anything else holds for every clip

    Raises RowError for spans that are none.
    """
    if isinstance(cell, str):
        cell = _parsed(cell, column)
    if is_missing(cell):
        return None
    if not isinstance(cell, list) or not cell:
        raise RowError(f"the clips column {column!r} holds {_shown(cell)}, not a list of [start, end]")
    if len(cell) > MAX_CLIPS:
        raise RowError(f"the clips column {column!r} has {len(cell)} clips; at most {MAX_CLIPS} are read")
    own = captions if isinstance(captions, list) and len(captions) == len(cell) else None
    return tuple(
        GivenClip(*_span(item, column), None if own is None else tuple(captions_of(own[i], caption_column)))
        for i, item in enumerate(cell)
    )


def _parsed(text: str, column: str) -> Any:
    """JSON, or with single quotes as pandas writes a list."""
    if not text.strip():
        return None
    try:
        return jsontext.parse(text[:MAX_TEXT].replace("'", '"'))
    except ValueError as error:
        raise RowError(f"the clips column {column!r} holds {_shown(text)}, not a list of [start, end]") from error


def _span(item: Any, column: str) -> tuple[float, float]:
    """(start, end) in seconds."""
    ends = [seconds_of(end) for end in item] if isinstance(item, list) else []
    start, end = ends if len(ends) == 2 else (None, None)
    if start is None or end is None or not 0 <= start < end:
        what = 'not [start, end] in seconds or "HH:MM:SS.mmm"'
        raise RowError(f"the clips column {column!r} holds {_shown(item)}, {what}")
    return start, end


def seconds_of(value: Any) -> float | None:
    """Seconds from a number, a number as text, or `HH:MM:SS.mmm` (hours may be left out); None for anything else."""
    if isinstance(value, str):
        if clock := _CLOCK.fullmatch(value.strip()):
            hours, minutes, seconds = clock.groups()
            return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _shown(value: Any) -> str:
    return repr(value)[:80]
