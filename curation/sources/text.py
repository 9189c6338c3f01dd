"""Tables made of lines: jsonl, csv, tsv. A chunk is a byte range; a malformed line is a row with an error."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import xxhash

from curation.record import SourceRow
from curation.sources.cells import RowError
from curation.sources.csvtext import Layout, csv_cells, csv_rows
from curation.sources.lines import MAX_LINE, Line, open_text, read_lines
from curation.sources.rows import Columns, broken, table_row
from curation.stores import jsontext
from curation.stores.location import name


@dataclass(frozen=True)
class Record:
    """The lines that one row consists of, and its cells; `cells` raises RowError for a malformed one."""

    lines: list[Line]
    cells: Callable[[], dict[str, Any]] = field(repr=False)

    @property
    def end(self) -> int:
        return self.lines[-1].offset + self.lines[-1].size


def text_chunks(table: str, layout: Layout | None, rows: int) -> Iterator[tuple[dict[str, Any], str, int]]:
    """(place, digest of the raw rows, number of rows) of each chunk, reading no further than it must."""
    digest, count, first = xxhash.xxh3_128(), 0, None
    start, line = (layout.start, layout.line) if layout else (0, 1)
    with open_text(table, start) as stream:
        for record in records(read_lines(stream, start, line), layout):
            first = first or record.lines[0]
            for taken in record.lines:
                digest.update(taken.data)
            count += 1
            if count == rows:
                yield _place(first, record), digest.hexdigest(), count
                digest, count, first = xxhash.xxh3_128(), 0, None
    if first:
        yield _place(first, record), digest.hexdigest(), count


def _place(first: Line, last: Record) -> dict[str, Any]:
    return {"offset": first.offset, "size": last.end - first.offset, "line": first.number}


def read_text(place: dict[str, Any], columns: Columns, layout: Layout | None) -> Iterator[SourceRow]:
    """The rows of a chunk that `text_chunks` described."""
    offset, end = place["offset"], place["offset"] + place["size"]
    with open_text(columns.table, offset, place["size"]) as stream:
        for record in records(read_lines(stream, offset, place["line"], end), layout):
            number = record.lines[0].number
            try:
                yield table_row(record.cells(), columns)
            except RowError as error:
                yield broken(f"{name(columns.table)}:{number}", f"{columns.table}, line {number}: {error}")


def records(lines: Iterator[Line], layout: Layout | None) -> Iterator[Record]:
    """The records of a jsonl file, or below the header of a csv or tsv file of this layout."""
    if layout is None:
        for line in lines:
            if not line.blank:
                yield Record([line], lambda line=line: json_cells(line))  # type: ignore[misc]
        return
    for taken, values in csv_rows(lines, layout):
        yield Record(taken, lambda values=values: csv_cells(values, layout.header))  # type: ignore[misc]


def json_cells(line: Line) -> dict[str, Any]:
    """The object that a line of JSON holds."""
    if line.too_long:
        raise RowError(f"the line has {line.size} bytes; at most {MAX_LINE} are read")
    try:
        cells = jsontext.parse(line.data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RowError(f"the line is not UTF-8 (byte {error.start})") from error
    except ValueError as error:
        raise RowError(f"the line is not JSON: {error}") from error
    if not isinstance(cells, dict):
        raise RowError(f"the line holds a JSON {type(cells).__name__} where an object belongs")
    return cells
