"""`table:` sources: jsonl, csv, tsv and Parquet files, one or many, cut into chunks as they are asked for."""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import pyarrow.fs as pafs
import xxhash

from curation.errors import CurationError, Malformed, UsageError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources.base import VIDEO_BYTES, Chunk, Count
from curation.sources.cells import RowError
from curation.sources.csvtext import SAMPLE_BYTES, SAMPLE_ROWS, Layout, read_layout
from curation.sources.fetch import place_of
from curation.sources.files import expand, file_info, files_below, is_folder
from curation.sources.lines import open_text, read_lines
from curation.sources.parquet import number_of_rows, parquet_chunks, parquet_names, read_parquet
from curation.sources.rows import Columns, broken
from curation.sources.text import json_cells, read_text, text_chunks
from curation.stores.location import WEB, name, resolve, scheme_of

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
SAMPLE_FILES = 8
EMPTY_FILES = 1000
"""So many files of a folder or pattern are looked through for the first row."""
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
    allow: tuple[str, ...] = ()

    def chunks(self, rows_per_chunk: int, video_bytes: int = VIDEO_BYTES) -> Iterator[Chunk]:
        parts = self._parts(rows_per_chunk)
        if first := next(parts, None):
            fitting = _rows_of_videos(first, video_bytes)
            parts = self._parts(fitting) if fitting and fitting < rows_per_chunk else chain([first], parts)
        for number, chunk in enumerate(parts):
            yield replace(chunk, number=number)

    def _parts(self, rows: int) -> Iterator[Chunk]:
        for table in table_files(self.pattern):
            for layout, place, digest, count in self._places(table, rows):
                args: dict[str, Any] = {"table": table, "place": place, "layout": layout, **self._columns()}
                args |= {"allow": list(self.allow)} if self.allow else {}
                yield Chunk(0, "table", args, fingerprint("table", args, digest), count)

    def _places(self, table: str, rows: int) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any], str, int]]:
        """(layout, place, digest, rows) of each part. A file that is not what its name says is one row, its error."""
        try:
            if format_of(name(table)) == "parquet":
                for place, digest, count in parquet_chunks(table, rows):
                    yield None, place, digest, count
            else:
                layout = layout_of(table, self.media)
                for place, digest, count in text_chunks(table, layout, rows):
                    yield layout.as_args() if layout else None, place, digest, count
        except Malformed as error:
            if file_info(table).size:  # many writers leave empty parts
                yield None, {"error": str(error)}, str(error), 1

    def estimate(self) -> Count:
        """Rows: exact for up to eight Parquet or small text files, else from the first files' first rows."""
        tables = list(table_files(self.pattern))
        counts = [_count(table, self.media) for table in tables[:SAMPLE_FILES]]
        exact = len(tables) == len(counts) and all(count.exact for count in counts)
        return Count(round(sum(count.records for count in counts) * len(tables) / len(counts)), exact)

    def check(self) -> None:
        """Raise UsageError where there are no rows, or no row at the first table's start has a column that is named."""
        table = self._first_with_rows()
        known = known_columns(table)
        twice = sorted({column for column in known if known.count(column) > 1} & set(self._columns().values()))
        if twice:
            raise UsageError(f"source: {table} has two columns {twice[0]!r}; rename one of them")
        for word, column in self._columns().items():
            if column and known and column not in known:
                close = difflib.get_close_matches(column, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                there = ", ".join(known[:30])
                raise UsageError(f"source: {word}: {table} has no column {column!r}, it has {there}{hint}")

    def _first_with_rows(self) -> str:
        tables = list(islice(table_files(self.pattern), EMPTY_FILES))
        for table in tables:
            sound = len(tables) == 1 or not (file_info(table).size == 0 or _is_malformed(table))
            if sound and next(self._places(table, 1), None) is not None:
                return table
        what = "has no rows: it is empty" if len(tables) == 1 else "names tables that have no rows: they are empty"
        raise UsageError(f"source: table: {self.pattern} {what}")

    def _columns(self) -> dict[str, str | None]:
        return {"media": self.media, "caption": self.caption, "key": self.key, "clips": self.clips}


def open_table(section: SourceSection, base: str, pattern: str) -> Table:
    """Raises UsageError for a missing `media:`, a column that is not there, or a format that is not read."""
    table = Table(
        resolve(base, pattern), section.media or "", section.caption, section.key, section.clips, section.allow
    )
    if not section.media:
        known = ", ".join(known_columns(next(table_files(table.pattern)))[:30])
        raise UsageError(f"source: say which column of {pattern} is `media:`; it has {known}")
    table.check()
    return table


def table_files(pattern: str) -> Iterator[str]:
    """The tables that a path, pattern or folder names, in order.

    Of a folder: every file below it with a table's extension, but none with a part of its path that is hidden or
    begins with `_`, as writers name what is not data. Raises UsageError where it has none, or for another extension.
    """
    if not is_folder(pattern):
        for table in expand(pattern):
            format_of(name(table))
            if table == pattern and scheme_of(table) not in WEB and file_info(table).type == pafs.FileType.NotFound:
                raise UsageError(f"source: table: {table} does not exist")
            yield table
        return
    shown = files_below(pattern)
    tables = [path for path in shown if path.lower().endswith(tuple(FORMATS))]
    if not tables:
        what = f"it has {', '.join(shown[:5])}" if shown else "it is empty"
        raise UsageError(f"source: table: there is no table ({', '.join(FORMATS)}) in the folder {pattern}: {what}")
    yield from (resolve(pattern, path) for path in tables)


def read_table(args: dict[str, Any]) -> Iterator[SourceRow]:
    """The rows of a chunk, on a worker."""
    table, place = args["table"], args["place"]
    if "error" in place:
        return iter([broken(name(table), place["error"])])
    columns = Columns(args["media"], args["caption"], args["key"], table, args["clips"], tuple(args.get("allow", ())))
    if format_of(name(table)) == "parquet":
        return read_parquet(place, columns)
    return read_text(place, columns, Layout(**args["layout"]) if args["layout"] else None)


def _rows_of_videos(chunk: Chunk, video_bytes: int) -> int | None:
    """How many rows have so many bytes of videos, as the chunk's first rows say; None where these have no video.

    The videos themselves are not read.
    """
    found = [row for row in islice(read_table(chunk.args), SAMPLE_FILES) if row.media == "video" and not row.error]
    sizes = [_size(row.uri) or UNKNOWN_BYTES for row in found]
    return max(1, int(video_bytes * len(sizes) / sum(sizes))) if sizes else None


def _size(uri: str) -> int | None:
    try:
        place = place_of(uri)
        return file_info(place.location).size if place.whole and scheme_of(uri) not in WEB else None
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


def layout_of(table: str, media: str | None = None) -> Layout | None:
    """The layout of a csv or tsv file, None for other formats. Raises Malformed where it has no header line."""
    if format_of(name(table)) != "csv":
        return None
    info = file_info(table)
    return _layout(table, media, info.size, info.mtime_ns)


@lru_cache(maxsize=16)
def _layout(table: str, media: str | None, _size: int | None, _mtime_ns: int | None) -> Layout:
    return read_layout(table, media)


def _is_malformed(table: str) -> bool:
    try:
        known_columns(table)
    except Malformed:
        return True
    return False


def known_columns(table: str) -> list[str]:
    """Column names as they stand; of a jsonl file those of its first rows, [] where none can be read."""
    if format_of(name(table)) == "parquet":
        return parquet_names(table)
    if (layout := layout_of(table)) is not None:
        return list(layout.header)
    known: dict[str, None] = {}
    with open_text(table) as stream:
        for line in islice(read_lines(stream, 0, 1, SAMPLE_BYTES), SAMPLE_ROWS):
            try:
                known.update(dict.fromkeys(json_cells(line)))
            except RowError:
                continue
    return list(known)


def _count(table: str, media: str) -> Count:
    try:
        if format_of(name(table)) == "parquet":
            return Count(number_of_rows(table), exact=True)
        layout = layout_of(table, media)
    except Malformed:
        return Count(1 if file_info(table).size else 0, exact=True)
    start = layout.start if layout else 0
    size = max(0, file_info(table).size or 0) - start
    rows = 0
    for place, _, count in text_chunks(table, layout, 100):
        rows, read = rows + count, place["offset"] + place["size"] - start
        if read > SAMPLE_BYTES:
            return Count(round(rows * size / read), exact=False)
    return Count(rows, exact=True)
