"""Tables made of lines: jsonl, csv, tsv. A chunk is a byte range; a malformed line is a row with an error."""

import csv
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import xxhash

from curation.record import SourceRow
from curation.sources.cells import RowError
from curation.sources.lines import MAX_LINE, Line, open_text, read_lines
from curation.sources.rows import Columns, broken, table_row
from curation.stores.location import name

MAX_RECORD_LINES = 200
"""A quoted CSV field with more lines than this is taken for a quote that somebody forgot to close."""


@dataclass(frozen=True)
class Record:
    """The lines that one row consists of, and its cells; `cells` raises RowError for a malformed one."""

    lines: list[Line]
    cells: Callable[[], dict[str, Any]] = field(repr=False)

    @property
    def end(self) -> int:
        return self.lines[-1].offset + self.lines[-1].size


def text_chunks(table: str, header: list[str] | None, rows: int) -> Iterator[tuple[dict[str, Any], str, int]]:
    """(place, digest of the raw rows, number of rows) of each chunk, reading no further than it must."""
    digest, count, first = xxhash.xxh3_128(), 0, None
    with open_text(table) as stream:
        for record in records(read_lines(stream, 0, 1), table, header):
            first = first or record.lines[0]
            for line in record.lines:
                digest.update(line.data)
            count += 1
            if count == rows:
                yield _place(first, record), digest.hexdigest(), count
                digest, count, first = xxhash.xxh3_128(), 0, None
    if first:
        yield _place(first, record), digest.hexdigest(), count


def _place(first: Line, last: Record) -> dict[str, Any]:
    return {"offset": first.offset, "size": last.end - first.offset, "line": first.number}


def read_text(place: dict[str, Any], columns: Columns, header: list[str] | None) -> Iterator[SourceRow]:
    """The rows of a chunk that `text_chunks` described."""
    with open_text(columns.table, place["offset"], place["size"]) as stream:
        lines = read_lines(stream, place["offset"], place["line"], place["offset"] + place["size"])
        for record in records(lines, columns.table, header):
            try:
                yield table_row(record.cells(), columns)
            except RowError as error:
                key = f"{name(columns.table)}:{record.lines[0].number}"
                yield broken(key, f"{columns.table}, line {record.lines[0].number}: {error}")


def records(lines: Iterator[Line], table: str, header: list[str] | None) -> Iterator[Record]:
    """Records of a jsonl file (`header` None) or of a csv or tsv file, whose own header line is left out."""
    if header is None:
        for line in lines:
            if not line.blank:
                yield Record([line], lambda line=line: json_cells(line))  # type: ignore[misc]
        return
    tabs = name(table).lower().endswith(".tsv")
    for taken, values in csv_rows(lines, "\t" if tabs else ","):
        if taken[0].offset > 0:
            yield Record(taken, lambda values=values: csv_cells(values, header))  # type: ignore[misc]


def json_cells(line: Line) -> dict[str, Any]:
    """The object that a line of JSON holds."""
    if line.too_long:
        raise RowError(f"the line has {line.size} bytes; at most {MAX_LINE} are read")
    try:
        cells = json.loads(line.data.decode("utf-8-sig" if line.offset == 0 else "utf-8"))
    except UnicodeDecodeError as error:
        raise RowError(f"the line is not UTF-8 (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise RowError(f"the line is not JSON: {error}") from error
    if not isinstance(cells, dict):
        raise RowError(f"the line holds a JSON {type(cells).__name__} where an object belongs")
    return cells


def csv_rows(lines: Iterator[Line], delimiter: str) -> Iterator[tuple[list[Line], list[str] | str]]:
    """Every record's lines, and its values or the reason why it has none. Quoted fields may span lines.

    Where quotes do not add up, only the line at fault is lost: the lines after it are read afresh.
    """
    csv.field_size_limit(MAX_LINE)
    waiting: deque[Line] = deque()
    while (first := waiting.popleft() if waiting else next(lines, None)) is not None:
        if first.blank:
            continue
        taken: list[Line] = []
        try:
            values: list[str] | str = next(
                csv.reader(_feed(first, lines, waiting, taken), delimiter=delimiter, strict=True)
            )
        except csv.Error as error:
            waiting.extendleft(reversed(taken[1:]))
            taken, values = [first], f"the line is not well-formed CSV: {error}"
            if delimiter == "\t" and not first.too_long:  # most tsv files are written without any quoting
                values = _decode(first).rstrip("\r\n").split("\t")
        if first.too_long:
            values = f"the line has {first.size} bytes; at most {MAX_LINE} are read"
        yield taken, values


def _feed(first: Line, lines: Iterator[Line], waiting: deque[Line], taken: list[Line]) -> Iterator[str]:
    """Lines for one CSV record as its reader asks for them; what it took is noted in `taken`."""
    line: Line | None = first
    while line is not None and len(taken) < MAX_RECORD_LINES:
        taken.append(line)
        yield _decode(line)
        line = waiting.popleft() if waiting else next(lines, None)
    if line is not None:
        waiting.appendleft(line)


def _decode(line: Line) -> str:
    return line.data.decode("utf-8-sig" if line.offset == 0 else "utf-8", "surrogateescape")


def csv_cells(values: list[str] | str, header: list[str]) -> dict[str, str]:
    """The cells by column name. Raises RowError for the wrong number of them, or bytes that are not UTF-8."""
    if isinstance(values, str):
        raise RowError(values)
    if any("\udc80" <= sign <= "\udcff" for value in values if not value.isascii() for sign in value):
        raise RowError("the line is not UTF-8")
    if len(values) != len(header):
        raise RowError(f"the line has {len(values)} values, the header {len(header)}")
    return dict(zip(header, values, strict=True))
