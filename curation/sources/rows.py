"""One row of a table, from whatever format, as a SourceRow."""

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.record import SourceRow
from curation.sources.access import Forbidden, permitted
from curation.sources.cells import RowError, Unread, captions_of, clean, clips_of, is_missing
from curation.sources.fetch import file_uri
from curation.sources.kinds import VIDEOS, extension_of
from curation.stores.location import name, trimmed_url

MAX_KEY = 1000
MAX_VALUE = 8_000
MAX_EXTRA = 64_000


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what; `table` is the file's path or URL, `allow` see `curation.sources.access`."""

    media: str
    caption: str | None
    key: str | None
    table: str
    clips: str | None = None
    allow: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that the manifest names."""
        return tuple(column for column in (self.media, self.caption, self.key, self.clips) if column)


def broken(key: str, why: str, uri: str = "") -> SourceRow:
    """A row that the source could not give, kept with the reason."""
    return SourceRow(key=clean(key)[:MAX_KEY], uri=uri, error=clean(why)[:500])


def media_kind(path: str) -> str:
    """`video` or `image`, by the extension."""
    return "video" if extension_of(name(path)) in VIDEOS else "image"


def table_row(values: Mapping[str, Any], columns: Columns) -> SourceRow:
    """A record from a table's row. Raises RowError where a needed cell is missing, unread or of the wrong type."""
    check_read(values, columns)
    cell = values.get(columns.media)
    if is_missing(cell) or cell == "":
        raise RowError(f"the row has no value in the media column {columns.media!r}")
    if not isinstance(cell, str):
        raise RowError(f"the media column {columns.media!r} holds {type(cell).__name__}, not a path or URL")
    path = trimmed_url(clean(cell))
    try:
        place = permitted(path, columns.table, columns.allow)
    except Forbidden as error:
        raise RowError(str(error)) from error
    return SourceRow(
        key=row_key(values, columns.key, path),
        uri=file_uri(place),
        media=media_kind(path),
        **described(values, columns),
    )


def check_read(values: Mapping[str, Any], columns: Columns) -> None:
    """Raise RowError where the table's reader refused a cell that the manifest names."""
    for column in columns.named:
        if isinstance(cell := values.get(column), Unread):
            raise RowError(f"the cell in the column {column!r} {cell.why}")


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
    if isinstance(value, float) and value.is_integer():  # pandas makes floats of a column with a missing number
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowError(f"the key column {column!r} holds {str(value)[:80]!r}, not a name or number")
    if len(str(value)) > MAX_KEY:
        raise RowError(f"the key has {len(str(value))} characters; at most {MAX_KEY} are allowed")
    return clean(str(value))


def other_columns(values: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The cells that are neither media, caption nor key, bounded."""
    return bounded({column: value for column, value in values.items() if column not in columns.named})


def bounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as JSON-able data of bounded size: long ones are cut, what comes after 64 kB is left out."""
    kept: dict[str, Any] = {}
    size = 0
    for key, value in values.items():
        plain = _plain(value[: MAX_VALUE + 1] if isinstance(value, str) else value)
        text = json.dumps(plain, ensure_ascii=False)
        if len(text) > MAX_VALUE:
            plain = (plain if isinstance(plain, str) else text)[:MAX_VALUE] + "…"
        size += len(key) + min(len(text), MAX_VALUE)
        if size > MAX_EXTRA:
            break
        kept[clean(str(key))] = plain
    return kept


def _plain(value: Any, depth: int = 0) -> Any:
    """JSON-able: numbers, flags and nested values stay what they are; times, decimals and others become text."""
    if depth > 20:
        return "…"
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, numbers.Real):  # a half float, too
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean(str(k)): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, depth + 1) for v in value]
    return f"{len(value)} bytes" if isinstance(value, bytes) else clean(str(value))
