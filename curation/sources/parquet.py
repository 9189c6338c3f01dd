"""Parquet tables: row ranges from the footer; cells that hold media are pointed at, and read when they are wanted."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curation.errors import CurationError, Malformed
from curation.record import SourceRow
from curation.sources.arrays import SHORT, is_binary, leaves, values_of
from curation.sources.cells import RowError, Unread, clean
from curation.sources.cursor import Rows, Wanted, leaf_starts, open_parquet, rows_of, schema_of
from curation.sources.fetch import cell_uri
from curation.sources.files import file_info
from curation.sources.rows import Columns, broken, check_read, described, media_kind, row_key, table_row
from curation.stores.location import name

DAMAGED = "cannot be decoded: its part of the file is damaged"


def parquet_chunks(table: str, rows: int) -> Iterator[tuple[dict[str, Any], str, int]]:
    """(arguments of the reader, digest, number of rows) for each chunk, from the footer alone."""
    info = file_info(table)
    with open_parquet(table) as file:
        total = file.metadata.num_rows
    for first in range(0, total, rows):
        count = min(rows, total - first)
        digest = xxhash.xxh3_128(f"{info.size} {info.mtime_ns} {first} {count}".encode()).hexdigest()
        yield {"first": first, "count": count}, digest, count


@dataclass(frozen=True)
class Media:
    """Where a table's media are: the field with bytes, or None; the field with paths, or None.

    In a struct (datasets' Image feature) both are the same field, in its flattened form they are two.
    """

    schema: pa.Schema
    starts: list[int]
    column: str
    data: Wanted | None
    path: Wanted | None

    @classmethod
    def of(cls, schema: pa.Schema, column: str) -> "Media":
        starts, position = leaf_starts(schema), _position(schema, column)
        if position is None and column.endswith(".bytes"):  # how earlier runs named the struct's member
            column = column.removesuffix(".bytes")
            position = _position(schema, column)
        data = path = None
        kind = pa.null() if position is None else schema.field(position).type
        if position is not None and is_binary(kind):
            data = Wanted(position, (starts[position],), media=True)
            beside = _position(schema, column.removesuffix("bytes") + "path") if column.endswith(".bytes") else None
            path = None if beside is None else Wanted(beside, (starts[beside],))
        elif position is not None and pa.types.is_struct(kind):
            data = _member(schema, starts, position, "bytes", media=True)
            path = _member(schema, starts, position, "path")
        return cls(schema, starts, column, data, path)

    def path_in(self, rows: Rows) -> list[str | None]:
        """The paths beside the media's bytes; None where there is none."""
        if self.path is None or self.path.position not in rows.arrays:
            return [None] * rows.count
        cells = values_of(rows.arrays[self.path.position], text=True)
        paths = [cell.get("path") if isinstance(cell, dict) else cell for cell in cells]
        return [clean(path) if isinstance(path, str) and path else None for path in paths]


def _position(schema: pa.Schema, column: str) -> int | None:
    return next((i for i, field in enumerate(schema) if field.name == column), None)


def _member(schema: pa.Schema, starts: list[int], position: int, member: str, media: bool = False) -> Wanted | None:
    """A member of a struct; None where it has none, or one that cannot be media or a path."""
    leaf = starts[position]
    for field in schema.field(position).type:
        if field.name == member and len(list(leaves(field.type))) == 1 and (not media or is_binary(field.type)):
            return Wanted(position, (leaf,), media)
        leaf += sum(1 for _ in leaves(field.type))
    return None


def read_parquet(place: dict[str, Any], columns: Columns) -> Iterator[SourceRow]:
    """The rows of a chunk. Cells that hold media are not read: their rows point at them."""
    schema = schema_of(columns.table)
    media = Media.of(schema, columns.media)
    wanted = _wanted(schema, columns, media)
    number = place["first"]
    for rows in _read(columns.table, tuple(wanted), number, place["count"]):
        cells = _columns(schema, rows, wanted, columns, media)
        paths = media.path_in(rows)
        for i in range(rows.count):
            values = {column: every[i] for column, every in cells.items()}
            try:
                yield _row(values, columns, media, paths[i], number)
            except RowError as error:
                yield broken(f"{name(columns.table)}:{number}", f"{columns.table}, row {number}: {error}")
            number += 1


def _wanted(schema: pa.Schema, columns: Columns, media: Media) -> list[Wanted]:
    """What is read of each field: no media, and no other bytes but short ones; a column that is named twice, once."""
    found: list[Wanted] = []
    seen: set[str] = set()
    for position, field in enumerate(schema):
        if field.name in seen:
            continue
        seen.add(field.name)
        if media.data and position == media.data.position:
            if media.path and media.path.position == position:
                found.append(media.path)
            continue
        kinds = list(leaves(field.type))
        numbers = range(media.starts[position], media.starts[position] + len(kinds))
        if field.name in columns.named:
            chosen = tuple(numbers)
        else:
            chosen = tuple(number for number, kind in zip(numbers, kinds, strict=True) if not _is_heavy(kind))
        if len(chosen) == len(kinds) or (chosen and _is_plain_struct(field.type)):
            found.append(Wanted(position, chosen))
    return found


def _is_heavy(kind: pa.DataType) -> bool:
    """Whether cells hold bytes that tell a reader of the record nothing."""
    return is_binary(kind) and not (pa.types.is_fixed_size_binary(kind) and kind.byte_width <= SHORT)


def _is_plain_struct(kind: pa.DataType) -> bool:
    """Structs can be read in part; Arrow reads maps and extension types whole."""
    if pa.types.is_struct(kind):
        return all(_is_plain_struct(field.type) or len(list(leaves(field.type))) == 1 for field in kind)
    return False


def _columns(
    schema: pa.Schema, rows: Rows, wanted: list[Wanted], columns: Columns, media: Media
) -> dict[str, list[Any]]:
    """The values of each column that was read, by its name; those that were refused say why."""
    cells: dict[str, list[Any]] = {}
    for one in wanted:
        column = schema.field(one.position).name
        if media.data and one.position == media.data.position:
            continue
        if one.position in rows.arrays:
            cells[column] = values_of(rows.arrays[one.position], text=column in columns.named)
        elif column in columns.named:
            cells[column] = [Unread(rows.refused.get(one.position, DAMAGED))] * rows.count
    return cells


def _row(values: dict[str, Any], columns: Columns, media: Media, path: str | None, number: int) -> SourceRow:
    if media.data is None:
        if media.path is not None:  # a struct with a path alone
            values = {**values, columns.media: path}
        return table_row(values, columns)
    check_read(values, columns)
    words = described(values, columns)
    return SourceRow(
        key=row_key(values, columns.key, path or name(columns.table)),
        uri=cell_uri(columns.table, number, media.column),
        media="video" if words["clips"] else media_kind(path or ""),
        **words,
    )


def _read(table: str, wanted: tuple[Wanted, ...], first: int, count: int) -> Iterator[Rows]:
    """The rows, whatever of them can be decoded; a damaged column is missing from its rows alone."""
    try:
        yield from rows_of(table, wanted, first, count)
    except Malformed:
        yield from _what_is_sound(table, wanted, first, count)


def _what_is_sound(table: str, wanted: tuple[Wanted, ...], first: int, count: int) -> Iterator[Rows]:
    """Row by row, each column by itself."""
    for number in range(first, first + count):
        arrays: dict[int, pa.Array] = {}
        refused: dict[int, str] = {}
        for one in wanted:
            try:
                (rows,) = rows_of(table, (one,), number, 1)
                arrays |= rows.arrays
                refused |= rows.refused
            except Malformed:
                refused[one.position] = DAMAGED
        yield Rows(1, arrays, refused)


def media_cell(table: str, column: str, row: int, max_bytes: int) -> bytes | str:
    """The bytes in a media cell, or where it has none, the path beside them. Raises CurationError without either."""
    media = Media.of(schema_of(table), column)
    if media.data is None:
        raise CurationError(f"{table} has no column {column!r} that holds the bytes of media")
    (rows,) = rows_of(table, (media.data,), row, 1)
    if media.data.position in rows.refused:
        raise CurationError(f"{table}, row {row}: the media {rows.refused[media.data.position]}")
    array = rows.arrays[media.data.position]
    if pa.types.is_struct(array.type):
        array = array.field(0) if array.is_valid()[0].as_py() else pa.nulls(1, pa.binary())
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_binary_view(array.type):
        array = array.cast(pa.large_binary())
    if array[0].is_valid:
        size = pc.binary_length(array)[0].as_py()
        if size > max_bytes:
            raise CurationError(f"{table}, row {row}: {size} bytes; at most {max_bytes} are read (max_mb)")
        return bytes(array[0].as_py())
    if media.path is not None:
        (rows,) = rows_of(table, (media.path,), row, 1)
        if (path := media.path_in(rows)[0]) is not None:
            return path
    raise CurationError(f"{table}, row {row}: the media column is empty")


def parquet_names(table: str) -> list[str]:
    """The names of a table's columns, as they stand."""
    with open_parquet(table) as file:
        return list(file.schema_arrow.names)


def number_of_rows(table: str) -> int:
    with open_parquet(table) as file:
        return int(file.metadata.num_rows)
