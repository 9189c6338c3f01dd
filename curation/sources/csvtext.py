"""The records of csv and tsv files, with and without quoting; a malformed line costs itself alone.

Many tsv files are written without any quoting: a `"` in them is a sign like any other, and two lone ones, lines apart,
would read as one long quoted field that swallows the rows between them. So a quoted field over several lines is
believed only where these lines are not rows of their own, complete and with a media file's name in the right place.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curation.errors import Malformed
from curation.sources.cells import RowError
from curation.sources.kinds import IMAGES, VIDEOS
from curation.sources.lines import MAX_LINE, Line, open_text, read_lines
from curation.stores.location import name, scheme_of

MAX_RECORD_LINES = 200
"""A quoted field with more lines than this is taken for a quotation mark that somebody forgot to close."""
SAMPLE_BYTES = 1 << 18
SAMPLE_ROWS = 100
_ESCAPED = re.compile(r'\\(["\\])')
_OPEN = "a quotation mark in it is not closed; where fields hold such marks, each is written twice"


@dataclass(frozen=True)
class Layout:
    """How a csv or tsv file is written, as its first rows tell.

    header, start, line  names of the columns; byte and number of the line where the rows begin
    delimiter            comma or tab
    quoted               tsv: the header, or every cell of some column, is in quotation marks that are not text
    media                position of the media column
    named                the media column's cells are URLs or names with the extension of a picture or video
    """

    header: list[str]
    start: int
    line: int
    delimiter: str
    quoted: bool = False
    media: int = 0
    named: bool = True

    def as_args(self) -> dict[str, Any]:
        return asdict(self)


class _Ahead:
    """Lines in order; some may be put back, to be read again."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self.lines, self.waiting = lines, deque[Line]()

    def take(self) -> Line | None:
        return self.waiting.popleft() if self.waiting else next(self.lines, None)

    def put_back(self, lines: Sequence[Line]) -> None:
        self.waiting.extendleft(reversed(lines))


def read_layout(table: str, media: str | None = None) -> Layout:
    """The layout of a csv or tsv file. Raises Malformed for a header line that is missing or names a column twice."""
    delimiter = "\t" if name(table).lower().endswith(".tsv") else ","
    with open_text(table) as stream:
        ahead = _Ahead(read_lines(stream, 0, 1, SAMPLE_BYTES))
        taken, header = _header(table, ahead, delimiter)
        last = taken[-1]
        start, line = last.offset + last.size, last.number + 1
        rows = [_cells(_decode(line), delimiter) for line in _some(ahead)]
    rows = [row for row in rows if len(row) == len(header)]
    at = header.index(media) if media in header else 0
    return Layout(
        header,
        start,
        line,
        delimiter,
        quoted=_quoted_throughout(_cells(_decode(taken[0]), delimiter), rows),
        media=at,
        named=2 * sum(_is_named(row[at]) for row in rows) >= len(rows),
    )


def _header(table: str, ahead: _Ahead, delimiter: str) -> tuple[list[Line], list[str]]:
    while (first := ahead.take()) is not None and _blank(first):
        continue
    if first is None:
        raise Malformed(f"{table} has no header line: it is empty")
    text = _decode(first)
    if first.too_long or "\0" in text or "\r" in text.rstrip("\r\n") or _undecodable(text):
        why = "is too long" if first.too_long else "is not UTF-8 text with lines that end in a newline"
        raise Malformed(f"{table} has no header line: its first line {why}")
    taken, values = _parse(first, ahead, delimiter)
    if values is None:
        if delimiter == ",":
            raise Malformed(f"{table} has no header line: in its first line, {_OPEN}")
        taken, values = [first], _cells(text, delimiter)
    if len(set(values)) != len(values):
        raise Malformed(f"{table} names a column twice: {', '.join(values)}")
    return taken, values


def _some(ahead: _Ahead) -> Iterator[Line]:
    for _ in range(SAMPLE_ROWS):
        line = ahead.take()
        if line is None:
            return
        if not _blank(line) and not line.too_long:
            yield line


def _cells(text: str, delimiter: str) -> list[str]:
    return text.rstrip("\r\n").split(delimiter)


def _quoted_throughout(header: list[str], rows: list[list[str]]) -> bool:
    """Whether quotation marks belong to the format: round the names of columns, or round every cell of a column."""
    if any(_is_quoted(cell) for cell in header):
        return True
    columns = [[cell for cell in column if cell] for column in zip(*rows, strict=True)]
    return any(len(column) >= 3 and all(map(_is_quoted, column)) for column in columns)


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _is_named(cell: str) -> bool:
    """Whether a cell is a URL, or a name with the extension of a picture or video."""
    cell = cell.strip().strip('"')
    return bool(scheme_of(cell)) or cell.rpartition(".")[2].lower() in IMAGES | VIDEOS


def csv_rows(lines: Iterator[Line], layout: Layout) -> Iterator[tuple[list[Line], list[str] | str]]:
    """Every record's lines, and its values or the reason why it has none. Quoted fields may span lines."""
    ahead = _Ahead(lines)
    while (first := ahead.take()) is not None:
        if _blank(first):
            continue
        if first.too_long:
            yield [first], f"the line has {first.size} bytes; at most {MAX_LINE} are read"
        elif '"' in (text := _decode(first)):
            yield _with_quotes(first, text, ahead, layout)
        else:
            yield [first], _cells(text, layout.delimiter)


def _blank(line: Line) -> bool:
    """Not a line of tabs alone: it is a row of empty cells."""
    return not line.too_long and not line.data.strip(b" \r\n")


def _with_quotes(first: Line, text: str, ahead: _Ahead, layout: Layout) -> tuple[list[Line], list[str] | str]:
    width = len(layout.header)
    raw = _cells(text, layout.delimiter)
    if layout.delimiter == "\t" and not layout.quoted and len(raw) == width and not any(map(_needs_quotes, raw)):
        taken, values = _parse(first, ahead, "\t")
        if len(taken) > 1 and values is not None and len(values) == width and not _are_rows(taken, layout):
            return taken, values
        ahead.put_back(taken[1:])
        return [first], ["" if cell == '""' else cell for cell in raw]
    alone: list[str] | None = None
    for escaped in (False, True):
        taken, values = _parse(first, ahead, layout.delimiter, escaped)
        if values is not None and len(values) == width and not _are_rows(taken, layout):
            return taken, values
        ahead.put_back(taken[1:])
        alone = alone or (values if len(taken) == 1 else None)
        if not any(b'\\"' in line.data for line in taken):
            break
    if layout.delimiter == "\t":
        return [first], alone if alone and len(raw) != width else raw
    return [first], alone or f"the line is not well-formed CSV: {_OPEN}"


def _needs_quotes(cell: str) -> bool:
    """Whether a quoted cell holds what is written only so: marks that stand twice, or a carriage return."""
    return _is_quoted(cell) and ('""' in cell[1:-1] or "\r" in cell)


def _are_rows(taken: Sequence[Line], layout: Layout) -> bool:
    """Whether the lines of a quoted field are really rows: the first and the last, or two between them, are complete.

    Of a field that really spans lines, one end of its record has no media of its own: the field cuts it in two.
    """
    if len(taken) == 1:
        return False
    first, *between, last = (_is_row(_decode(line), layout) for line in taken)
    return (first and last) or sum(between) > 1


def _is_row(text: str, layout: Layout) -> bool:
    cells = _cells(text, layout.delimiter)
    if len(cells) != len(layout.header):
        try:
            cells = next(csv.reader([text], delimiter=layout.delimiter, strict=True), [])
        except csv.Error:
            return False
    if len(cells) != len(layout.header):
        return False
    cell = cells[layout.media].strip().strip('"')
    if layout.named:
        return _is_named(cell)
    return bool(cell) and not re.search(r"\s", cell) and (layout.delimiter == "\t" or bool(re.search(r"[\d/]", cell)))


def _parse(first: Line, ahead: _Ahead, delimiter: str, escaped: bool = False) -> tuple[list[Line], list[str] | None]:
    """The lines of a record and its values by the rules of RFC 4180, None where they break these.

    escaped  a quotation mark inside a field is written `\\"`, as MySQL and Spark do
    """
    taken: list[Line] = []

    def feed() -> Iterator[str]:
        line: Line | None = first
        while line is not None:
            taken.append(line)
            text = _decode(line)
            yield _ESCAPED.sub(lambda sign: '""' if sign[1] == '"' else "\\", text) if escaped else text
            line = ahead.take() if len(taken) < MAX_RECORD_LINES else None

    csv.field_size_limit(MAX_LINE)
    try:
        return taken, next(csv.reader(feed(), delimiter=delimiter, strict=True))
    except csv.Error:
        return taken, None


def _decode(line: Line) -> str:
    return line.data.decode("utf-8-sig" if line.offset == 0 else "utf-8", "surrogateescape")


def _undecodable(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= sign <= "\udcff" for sign in text)


def csv_cells(values: list[str] | str, header: list[str]) -> dict[str, str]:
    """The cells by column name. Raises RowError for the wrong number of them, or bytes that are not UTF-8."""
    if isinstance(values, str):
        raise RowError(values)
    if any(map(_undecodable, values)):
        raise RowError("the line is not UTF-8")
    if len(values) != len(header):
        raise RowError(f"the line has {len(values)} values, the header {len(header)}")
    return dict(zip(header, values, strict=True))
