"""`table:` sources: jsonl, csv, tsv and Parquet files, one or many, cut into chunks as they are asked for."""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import xxhash

from curation.errors import CurationError, UsageError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources.base import VIDEO_BYTES, Chunk
from curation.sources.cells import RowError
from curation.sources.files import expand, file_info
from curation.sources.lines import open_text, read_lines
from curation.sources.parquet import open_parquet, parquet_chunks, read_parquet
from curation.sources.rows import Columns
from curation.sources.text import csv_rows, json_cells, read_text, text_chunks
from curation.stores.location import WEB, name, parent, resolve, scheme_of

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
SAMPLE_BYTES = 1 << 18
SAMPLE_ROWS = 100
SAMPLE_FILES = 8
UNKNOWN_BYTES = 4_000_000
"""Taken for a video behind a URL, or in a cell."""


@dataclass(frozen=True)
class Table:
    """A table or a pattern of tables; `media` is the column that names or holds the media."""

    pattern: str
    media: str
    caption: str | None
    key: str | None
    clips: str | None = None

    def chunks(self, rows_per_chunk: int, video_bytes: int = VIDEO_BYTES) -> Iterator[Chunk]:
        parts = self._parts(rows_per_chunk)
        if first := next(parts, None):
            fitting = _rows_of_videos(first, video_bytes)
            parts = self._parts(fitting) if fitting and fitting < rows_per_chunk else chain([first], parts)
        for number, chunk in enumerate(parts):
            yield replace(chunk, number=number)

    def _parts(self, rows: int) -> Iterator[Chunk]:
        for table in expand(self.pattern):
            header = read_header(table)
            if format_of(name(table)) == "parquet":
                parts = parquet_chunks(table, rows)
            else:
                parts = text_chunks(table, header, rows)
            for place, digest, count in parts:
                args = {"table": table, "place": place, "header": header, **self._columns()}
                yield Chunk(0, "table", args, fingerprint("table", args, digest), count)

    def estimate(self) -> int | None:
        """Rows: exact for a few Parquet or small text files, else from the first files' first rows."""
        tables = list(expand(self.pattern))
        counts = [_count(table) for table in tables[:SAMPLE_FILES]]
        return round(sum(counts) * len(tables) / len(counts))

    def check(self) -> None:
        """Raise UsageError for a column that the manifest names and no row at the first table's start has."""
        table = next(expand(self.pattern))
        known = known_columns(table)
        for word, column in self._columns().items():
            if column and known and column not in known:
                close = difflib.get_close_matches(column, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                there = ", ".join(known[:30])
                raise UsageError(f"source: {word}: {table} has no column {column!r}, it has {there}{hint}")

    def _columns(self) -> dict[str, str | None]:
        return {"media": self.media, "caption": self.caption, "key": self.key, "clips": self.clips}


def open_table(section: SourceSection, base: str, pattern: str) -> Table:
    """Raises UsageError for a missing `media:`, a column that is not there, or a format that is not read."""
    table = Table(resolve(base, pattern), section.media or "", section.caption, section.key, section.clips)
    format_of(name(pattern))
    if not section.media:
        known = ", ".join(known_columns(next(expand(table.pattern)))[:30])
        raise UsageError(f"source: say which column of {pattern} is `media:`; it has {known}")
    table.check()
    return table


def read_table(args: dict[str, Any]) -> Iterator[SourceRow]:
    """The rows of a chunk, on a worker."""
    columns = Columns(args["media"], args["caption"], args["key"], args["table"], parent(args["table"]), args["clips"])
    if format_of(name(args["table"])) == "parquet":
        return read_parquet(args["place"], columns)
    return read_text(args["place"], columns, args["header"])


def _rows_of_videos(chunk: Chunk, video_bytes: int) -> int | None:
    """How many rows have so many bytes of videos, as the chunk's first rows say; None where these have no video.

    The videos themselves are not read.
    """
    found = [row for row in islice(read_table(chunk.args), SAMPLE_FILES) if row.media == "video" and not row.error]
    sizes = [_size(row.uri) or UNKNOWN_BYTES for row in found]
    return max(1, int(video_bytes * len(sizes) / sum(sizes))) if sizes else None


def _size(uri: str) -> int | None:
    try:
        return None if "#" in uri or scheme_of(uri) in WEB else file_info(uri).size
    except CurationError:
        return None


def fingerprint(kind: str, args: dict[str, Any], digest: str) -> str:
    """Hash of where a chunk lies, how it is read, and what its rows say."""
    return xxhash.xxh3_128(json.dumps([kind, args, digest], sort_keys=True).encode()).hexdigest()


def format_of(filename: str) -> str:
    """`jsonl`, `csv` or `parquet`. Raises UsageError for any other extension."""
    for extension, kind in FORMATS.items():
        if filename.lower().endswith(extension):
            return kind
    hint = "; unpack it first" if filename.lower().endswith((".gz", ".zst", ".bz2", ".zip")) else ""
    raise UsageError(f"source: table: {filename} is not one of {', '.join(FORMATS)}{hint}")


def read_header(table: str) -> list[str] | None:
    """The column names of a csv or tsv file, None for other formats."""
    if format_of(name(table)) != "csv":
        return None
    with open_text(table) as stream:
        tabs = name(table).lower().endswith(".tsv")
        _, values = next(csv_rows(read_lines(stream, 0, 1), "\t" if tabs else ","), ([], []))
    if isinstance(values, str) or not values:
        raise UsageError(f"source: table: {table} has no header line: {values or 'it is empty'}")
    if len(set(values)) != len(values):
        raise UsageError(f"source: table: {table} names a column twice: {', '.join(values)}")
    return values


def known_columns(table: str) -> list[str]:
    """Column names as they stand; of a jsonl file those of its first rows, [] where none can be read."""
    if format_of(name(table)) == "parquet":
        with open_parquet(table) as file:
            return list(file.schema_arrow.names)
    header = read_header(table)
    if header is not None:
        return header
    known: dict[str, None] = {}
    with open_text(table) as stream:
        for line in islice(read_lines(stream, 0, 1, SAMPLE_BYTES), SAMPLE_ROWS):
            try:
                known.update(dict.fromkeys(json_cells(line)))
            except RowError:
                continue
    return list(known)


def _count(table: str) -> int:
    if format_of(name(table)) == "parquet":
        with open_parquet(table) as file:
            return int(file.metadata.num_rows)
    header = read_header(table)
    size = max(0, file_info(table).size or 0)
    rows = read = 0
    for place, _, count in text_chunks(table, header, 100):
        rows, read = rows + count, place["offset"] + place["size"]
        if read > SAMPLE_BYTES:
            break
    else:
        return rows
    return round(rows * size / read)
