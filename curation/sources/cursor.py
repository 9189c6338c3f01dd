"""Reading Parquet row by row: places in files that move forward through the row groups, with bounded memory."""

import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from curation.errors import CurationError, Malformed
from curation.sources.arrays import MAX_CELL, leaves
from curation.sources.files import file_info
from curation.sources.pages import Sizes, sizes_of
from curation.stores.location import explain, locate

MAX_CURSORS = 4
WINDOW_BATCHES = 64
WINDOW_BYTES = BATCH_BYTES = 64 << 20
BATCH_ROWS = 256
MAX_PAGE = 128 << 20
"""Uncompressed bytes of a page; it is decompressed whole for its first row. Larger ones are not, media excepted."""
MAX_MEDIA = 512 << 20
MAX_RATIO = 100
"""Media are compressed already: a column of more than MAX_MEDIA that shrinks more than so is not opened."""


@dataclass(frozen=True)
class Wanted:
    """A field to read: its position in the schema, and which Parquet columns of it. Media have pages of any size."""

    position: int
    leaves: tuple[int, ...]
    media: bool = False


@dataclass(frozen=True)
class Rows:
    """Adjacent rows: the arrays that were read by their fields' positions, and why others were not."""

    count: int
    arrays: dict[int, pa.Array]
    refused: dict[int, str]

    def slice(self, first: int, count: int) -> "Rows":
        arrays = {position: array.slice(first, count) for position, array in self.arrays.items()}
        return Rows(min(count, self.count - first), arrays, self.refused)

    @property
    def nbytes(self) -> int:
        return sum(int(array.nbytes) for array in self.arrays.values())


def open_parquet(table: str) -> pq.ParquetFile:
    """The file with its footer read. Raises Malformed when it is not Parquet, CurationError when it is gone."""
    filesystem, path = locate(table)
    try:
        file = pq.ParquetFile(filesystem.open_input_file(path), buffer_size=1 << 20, pre_buffer=False)
        columns = leaf_starts(file.schema_arrow)[-1]
    except FileNotFoundError as error:
        raise explain(error, table, "read") from error
    except (pa.ArrowException, OSError) as error:
        if in_reach(table):
            what = " ".join(str(error).split())[:300]
            raise Malformed(f"{table} is not a Parquet file, or a damaged one: {what}") from error
        raise CurationError(f"{table} cannot be read: {error}") from error
    if columns != file.metadata.num_columns:
        raise Malformed(f"{table} says that it has {columns} columns, and has {file.metadata.num_columns}")
    return file


def in_reach(table: str) -> bool:
    """Whether the file's bytes can be read at all: then what Arrow says of them is due to what they hold."""
    filesystem, path = locate(table)
    try:
        with filesystem.open_input_file(path) as file:
            file.read_at(1, max(0, file.size() - 1))
    except (pa.ArrowException, OSError):
        return False
    return True


def leaf_starts(schema: pa.Schema) -> list[int]:
    """The number of each field's first Parquet column, and behind them how many there are."""
    return list(accumulate((sum(1 for _ in leaves(field.type)) for field in schema), initial=0))


class Cursor:
    """A place in a Parquet file that moves forward cheaply; back it starts again at a row group.

    Row groups have up to a million rows, and Parquet cannot skip within them: reading each chunk for itself
    would decode a row group once per chunk. The last batches are kept: threads ask out of order.
    """

    def __init__(self, table: str, wanted: tuple[Wanted, ...]) -> None:
        self.table, self.wanted = table, wanted
        self.file = open_parquet(table)
        self.local = isinstance(locate(table)[0], pafs.LocalFileSystem)
        footer = self.file.metadata
        counts = (footer.row_group(group).num_rows for group in range(footer.num_row_groups))
        self.starts = list(accumulate(counts, initial=0))
        self.group = -1
        self.batches: Iterator[Rows] = iter(())
        self.window: deque[tuple[int, Rows]] = deque()
        self.damaged: dict[int, int] = {}
        self.position = self.starts[-1]

    def take(self, first: int, count: int) -> list[Rows]:
        """Rows first .. first + count - 1, in one or more parts."""
        end = first + count
        if end > self.starts[-1]:
            raise CurationError(f"{self.table} has {self.starts[-1]} rows, {end} or more were expected")
        taken: list[Rows] = []
        while first < end:
            start, rows = self._holding(first)
            taken.append(rows.slice(first - start, end - first))
            first += taken[-1].count
        return taken

    def _holding(self, row: int) -> tuple[int, Rows]:
        for start, rows in self.window:
            if start <= row < start + rows.count:
                return start, rows
        group = bisect_right(self.starts, row) - 1
        if row >= self.damaged.get(group, row + 1):
            raise Malformed(f"{self.table}, row {row} cannot be decoded: the file is damaged before it")
        if row < self.position or self.position < self.starts[group]:
            self.window.clear()
            self._start(group)
        while self.position <= row:
            self._forward(row)
        return self.window[-1]

    def _forward(self, row: int) -> None:
        rows = next(self.batches, None)
        if rows is None:
            if self.position < self.starts[self.group + 1]:
                raise Malformed(f"{self.table} ends before row {row}, its footer says otherwise")
            self._start(bisect_right(self.starts, self.position) - 1)
            return
        self.window.append((self.position, rows))
        self.position += rows.count
        while len(self.window) > WINDOW_BATCHES or sum(b.nbytes for _, b in self.window) > WINDOW_BYTES:
            if len(self.window) == 1:
                break
            self.window.popleft()

    def note_damage(self) -> None:
        """After an error that comes again: rows of this group from here on cannot be read."""
        self.damaged[self.group] = min(self.position, self.damaged.get(self.group, self.position))
        self.window.clear()
        self.position = self.starts[-1]

    def _start(self, group: int) -> None:
        self.group, self.position = group, self.starts[group]
        self.batches = self._read(group)

    def _read(self, group: int) -> Iterator[Rows]:
        """A row group's rows, so few at a time that as many of its largest possible cells fit the memory."""
        total = self.starts[group + 1] - self.starts[group]
        refused = {one.position: why for one in self.wanted if (why := self._refusal(group, one))}
        reading = [one for one in self.wanted if one.position not in refused and one.leaves]
        columns = [leaf for one in reading for leaf in one.leaves]
        if not columns:
            yield Rows(total, {}, refused)
            return
        footer = self.file.metadata.row_group(group)
        largest = max(footer.column(leaf).total_uncompressed_size for leaf in columns)
        size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, largest)))
        for batch in self.file.reader.iter_batches(size, [group], columns, False):
            if batch.num_columns != len(reading):
                raise pa.ArrowInvalid(f"{batch.num_columns} columns were read, {len(reading)} were asked for")
            arrays = {one.position: batch.column(i) for i, one in enumerate(reading)}
            yield Rows(batch.num_rows, arrays, refused)

    def _refusal(self, group: int, one: Wanted) -> str | None:
        """Why a field of a row group is not read; from page headers, before anything is unpacked.

        What the footer says of sizes is believed of a remote file alone, where each header would be a request.
        """
        for leaf in one.leaves:
            chunk = self.file.metadata.row_group(group).column(leaf)
            size, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
            if size <= MAX_PAGE and not self.local:
                continue
            try:
                sizes = self._sizes(chunk)
            except (ValueError, EOFError, OSError) as error:
                if size <= MAX_PAGE or one.media:
                    continue  # Arrow reads the same headers, and says what is damaged
                return f"cannot be read: {error}"
            size = max(size, sizes.page)
            if one.media and size > MAX_MEDIA and size > MAX_RATIO * packed:
                return f"lies in {packed} bytes that unpack to {size}; media do not shrink so, and these are not opened"
            if not one.media and sizes.value > MAX_CELL:
                return f"has {sizes.value} bytes or more; at most {MAX_CELL} are read"
            if not one.media and sizes.page > MAX_PAGE:
                return f"lies in a page of {sizes.page} bytes; at most {MAX_PAGE} are read (write smaller pages)"
        return None

    def _sizes(self, chunk: pq.ColumnChunkMetaData) -> Sizes:
        begin = min(place for place in (chunk.dictionary_page_offset, chunk.data_page_offset) if place)
        filesystem, path = locate(self.table)
        with filesystem.open_input_file(path) as file:
            return sizes_of(file, begin, chunk.total_compressed_size)


_lock = threading.RLock()
_cursors: "OrderedDict[tuple[str, tuple[Wanted, ...], int, int], Cursor]" = OrderedDict()


def rows_of(table: str, wanted: tuple[Wanted, ...], first: int, count: int) -> list[Rows]:
    """`count` rows from row `first` on, by a cursor that stays open for the next ones.

    Raises Malformed for what cannot be decoded, CurationError for a file that is shorter than it was, or gone.
    """
    with _lock:
        cursor = _cursor(table, wanted)
        try:
            return cursor.take(first, count)
        except (pa.ArrowException, OSError):  # once more, for a network may have failed
            cursor.window.clear()
            cursor.position = cursor.starts[-1]
        try:
            return cursor.take(first, count)
        except (pa.ArrowException, OSError) as error:
            place = f"{table}, rows {first} to {first + count - 1}"
            if not in_reach(table):
                _forget(table)
                raise CurationError(f"{place} cannot be read: {error}") from error
            cursor.note_damage()
            raise Malformed(f"{place}: {' '.join(str(error).split())[:300]}") from error


def schema_of(table: str) -> pa.Schema:
    """The Arrow schema of a Parquet file; the last ones are kept."""
    info = file_info(table)
    return _schema(table, info.size, info.mtime_ns)


@lru_cache(maxsize=16)
def _schema(table: str, _size: int, _mtime_ns: int) -> pa.Schema:
    with open_parquet(table) as file:
        return file.schema_arrow


def _cursor(table: str, wanted: tuple[Wanted, ...]) -> Cursor:
    """The open cursor for these columns of this version of the file."""
    info = file_info(table)
    key = (table, wanted, info.size, info.mtime_ns)
    if key not in _cursors:
        _cursors[key] = Cursor(table, wanted)
    _cursors.move_to_end(key)
    while len(_cursors) > MAX_CURSORS:
        _cursors.popitem(last=False)[1].file.close()
    return _cursors[key]


def _forget(table: str) -> None:
    for key in [key for key in _cursors if key[0] == table]:
        _cursors.pop(key).file.close()
