"""One row of a table, from whatever format, as a SourceRow."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.record import SourceRow
from curation.sources.cells import RowError, captions_of, clean, clips_of
from curation.stores.location import name, resolve

MAX_KEY = 1000
MAX_VALUE = 8_000
MAX_EXTRA = 64_000
_VIDEO = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".ogv", ".ts", ".mpg", ".mpeg", ".wmv", ".flv")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what; `table` is the file's path or URL, `base` the folder it lies in."""

    media: str
    caption: str | None
    key: str | None
    table: str
    base: str
    clips: str | None = None


def broken(key: str, why: str, uri: str = "") -> SourceRow:
    """A row that the source could not give, kept with the reason."""
    return SourceRow(key=clean(key)[:MAX_KEY], uri=uri, error=clean(why)[:500])


def media_kind(path: str) -> str:
    """`video` or `image`, by the extension."""
    return "video" if name(path).lower().endswith(_VIDEO) else "image"


def table_row(values: Mapping[str, Any], columns: Columns) -> SourceRow:
    """A record from a table's row. Raises RowError where a needed cell is missing or of the wrong type."""
    cell = values.get(columns.media)
    if cell is None or cell == "":
        raise RowError(f"the row has no value in the media column {columns.media!r}")
    if not isinstance(cell, str):
        raise RowError(f"the media column {columns.media!r} holds {type(cell).__name__}, not a path or URL")
    path = clean(cell)
    return SourceRow(
        key=row_key(values, columns.key, path),
        uri=resolve(columns.base, path),
        media=media_kind(path),
        **described(values, columns),
    )


def described(values: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """What a row says of its media: `captions`, `clips` and `extra` of a SourceRow."""
    captions = values.get(columns.caption) if columns.caption else None
    clips = clips_of(values.get(columns.clips), columns.clips, captions, columns.caption) if columns.clips else None
    nested = clips is not None and any(clip.captions is not None for clip in clips)
    return {
        "captions": [] if nested else captions_of(captions, columns.caption),
        "clips": clips,
        "extra": other_columns(values, columns),
    }


def row_key(values: Mapping[str, Any], column: str | None, default: str) -> str:
    """The cell of the `key:` column, `default` where none is named."""
    value = values.get(column) if column else default
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowError(f"the key column {column!r} holds {str(value)[:80]!r}, not a name or number")
    if len(str(value)) > MAX_KEY:
        raise RowError(f"the key has {len(str(value))} characters; at most {MAX_KEY} are allowed")
    return clean(str(value))


def other_columns(values: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The cells that are neither media, caption nor key, bounded."""
    named = (columns.media, columns.caption, columns.key, columns.clips)
    return bounded({column: value for column, value in values.items() if column not in named})


def bounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as JSON-able data of bounded size: long ones are cut, what comes after 64 kB is left out."""
    kept: dict[str, Any] = {}
    size = 0
    for key, value in values.items():
        plain = _plain(value)
        text = json.dumps(plain, ensure_ascii=False)
        if len(text) > MAX_VALUE:
            plain = (plain if isinstance(plain, str) else text)[:MAX_VALUE] + "…"
        size += len(key) + min(len(text), MAX_VALUE)
        if size > MAX_EXTRA:
            break
        kept[clean(str(key))] = plain
    return kept


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > 20:
        return "…"
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {clean(str(k)): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, depth + 1) for v in value]
    return f"{len(value)} bytes" if isinstance(value, bytes) else clean(str(value))
