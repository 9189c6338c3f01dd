"""Parquet tables: row ranges from the footer, read by cursors that move forward through the row groups."""

import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import accumulate
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curation.errors import CurationError
from curation.record import SourceRow
from curation.sources.cells import RowError, clean
from curation.sources.files import file_info
from curation.sources.rows import Columns, broken, described, media_kind, row_key, table_row
from curation.stores.location import explain, locate, name, parent, resolve

MAX_CURSORS = 4
WINDOW_BATCHES = 8
WINDOW_BYTES = 64 << 20


def open_parquet(table: str) -> pq.ParquetFile:
    """The file with its footer read. Raises CurationError when it is not Parquet."""
    filesystem, path = locate(table)
    try:
        return pq.ParquetFile(filesystem.open_input_file(path), buffer_size=1 << 20, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise CurationError(f"{table} is not a Parquet file: {error}") from error
    except OSError as error:
        raise explain(error, table, "read") from error


def parquet_chunks(table: str, rows: int) -> Iterator[tuple[dict[str, Any], str, int]]:
    """(arguments of the reader, digest, number of rows) for each chunk, from the footer alone."""
    info = file_info(table)
    with open_parquet(table) as file:
        total = file.metadata.num_rows
    for first in range(0, total, rows):
        count = min(rows, total - first)
        digest = xxhash.xxh3_128(f"{info.size} {info.mtime_ns} {first} {count}".encode()).hexdigest()
        yield {"first": first, "count": count}, digest, count


def read_parquet(place: dict[str, Any], columns: Columns) -> Iterator[SourceRow]:
    """The rows of a chunk. Cells that hold media are not read: their rows point at them."""
    with open_parquet(columns.table) as file:
        schema = file.schema_arrow
    kind = schema.field(columns.media).type if columns.media in schema.names else pa.null()
    media = media_cell(columns.media, kind)
    wanted = [f.name for f in schema if not _binary(f.type) and not (f.name == columns.media and media)]
    if pa.types.is_struct(kind) and "path" in [f.name for f in kind]:
        wanted.append(f"{columns.media}.path")
    rows = cells(columns.table, wanted, place["first"], place["count"])
    for number, values in enumerate(rows, place["first"]):
        try:
            yield _row(values, columns, media, number)
        except RowError as error:
            yield broken(f"{name(columns.table)}:{number}", f"{columns.table}, row {number}: {error}")


def media_cell(column: str, kind: pa.DataType) -> str | None:
    """The Parquet column with the media's bytes; None where the media column holds a path or URL."""
    if _binary(kind):
        return column
    if pa.types.is_struct(kind) and any(f.name == "bytes" and _binary(f.type) for f in kind):
        return f"{column}.bytes"
    return None


def _binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _row(values: dict[str, Any], columns: Columns, media: str | None, number: int) -> SourceRow:
    if media is None:
        return table_row(values, columns)
    path = (values.get(columns.media) or {}).get("path")
    words = described(values, columns)
    return SourceRow(
        key=row_key(values, columns.key, clean(path) if path else name(columns.table)),
        uri=f"{columns.table}#row={number}&column={quote(media)}",
        media="video" if words["clips"] else media_kind(path or ""),
        **words,
    )


def cells(table: str, columns: list[str], first: int, count: int) -> Iterator[dict[str, Any]]:
    """`count` rows from row `first` on. Raises CurationError for a file that is shorter, broken or gone."""
    try:
        with _lock:
            batches = _cursor(table, tuple(columns)).take(first, count)
    except pa.ArrowException as error:
        _cursors.clear()
        raise CurationError(f"{table}, rows {first} to {first + count - 1}: {error}") from error
    except OSError as error:
        _cursors.clear()
        raise explain(error, table, "read") from error
    for batch in batches:
        yield from batch.to_pylist()


def media_bytes(table: str, column: str, row: int, max_bytes: int) -> bytes:
    """The bytes in a media cell, or of the file its `path` names. Raises CurationError without either."""
    from curation.sources.fetch import fetch

    (values,) = cells(table, [column], row, 1)
    cell = values[column.partition(".")[0]]
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None and column.endswith(".bytes"):
        (values,) = cells(table, [column.removesuffix("bytes") + "path"], row, 1)
        path = (values[column.partition(".")[0]] or {}).get("path")
        if path:
            return fetch(resolve(parent(table), path), max_bytes=max_bytes)
    if data is None:
        raise CurationError(f"{table}, row {row}: the media column is empty")
    if len(data) > max_bytes:
        raise CurationError(f"{table}, row {row}: {len(data)} bytes; at most {max_bytes} are read (max_mb)")
    return bytes(data)


class Cursor:
    """A place in a Parquet file that moves forward cheaply; back it starts again at a row group.

    Row groups have up to a million rows, and Parquet cannot skip within them: reading each chunk for itself
    would decode a row group once per chunk. The last batches are kept: threads ask out of order.
    """

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self.table, self.columns = table, list(columns)
        self.file = open_parquet(table)
        footer = self.file.metadata
        counts = (footer.row_group(group).num_rows for group in range(footer.num_row_groups))
        self.starts = list(accumulate(counts, initial=0))
        self.batches: Iterator[pa.RecordBatch] = iter(())
        self.window: deque[tuple[int, pa.RecordBatch]] = deque()
        self.position = footer.num_rows

    def take(self, first: int, count: int) -> list[pa.RecordBatch]:
        """Batches that hold rows first .. first + count - 1."""
        end = first + count
        if end > self.starts[-1]:
            raise CurationError(f"{self.table} has {self.starts[-1]} rows, {end} or more were expected")
        group = bisect_right(self.starts, first) - 1
        oldest = self.window[0][0] if self.window else self.position
        if first < oldest or self.position < self.starts[group]:
            self._start(group)
        taken: list[pa.RecordBatch] = []
        while first < end:
            start, batch = self._holding(first)
            taken.append(batch.slice(first - start, end - first))
            first += taken[-1].num_rows
        return taken

    def _holding(self, row: int) -> tuple[int, pa.RecordBatch]:
        for start, batch in self.window:
            if start <= row < start + batch.num_rows:
                return start, batch
        while self.position <= row:
            batch = next(self.batches, None)
            if batch is None:
                raise CurationError(f"{self.table} ends before row {row}, its footer says otherwise")
            self.window.append((self.position, batch))
            self.position += batch.num_rows
            while len(self.window) > WINDOW_BATCHES or sum(b.nbytes for _, b in self.window) > WINDOW_BYTES:
                if len(self.window) == 1:
                    break
                self.window.popleft()
        return self.window[-1]

    def _start(self, group: int) -> None:
        self.window.clear()
        self.position = self.starts[group]
        kinds = [self.file.schema_arrow.field(column.partition(".")[0]).type for column in self.columns]
        rows = 8 if any(_binary(kind) or pa.types.is_struct(kind) for kind in kinds) else 256
        groups = range(group, len(self.starts) - 1)
        self.batches = self.file.iter_batches(rows, groups, self.columns, use_threads=False)


_lock = threading.RLock()
_cursors: "OrderedDict[tuple[Any, ...], Cursor]" = OrderedDict()


def _cursor(table: str, columns: tuple[str, ...]) -> Cursor:
    """The open cursor for these columns of this version of the file."""
    info = file_info(table)
    key = (table, columns, info.size, info.mtime_ns)
    if key not in _cursors:
        _cursors[key] = Cursor(table, columns)
    _cursors.move_to_end(key)
    while len(_cursors) > MAX_CURSORS:
        _cursors.popitem(last=False)[1].file.close()
    return _cursors[key]
