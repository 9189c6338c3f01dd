"""The bytes behind a record's `source_uri`, wherever they lie, and never more of them than was allowed."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs as pafs

from curation.errors import CurationError
from curation.sources.access import Forbidden, permitted
from curation.sources.files import file_info
from curation.stores.location import WEB, explain, locate, resolve, scheme_of, trimmed_url
from curation.stores.net import Guard, get

IN_RUN = "run:"
"""Begins a URI relative to the run directory, `run:_work/downloads/0.tar#offset=..`: a run can be moved."""

_POINTER = re.compile(r"(.*)#(?:offset=(\d+)&size=(\d+)|row=(\d+)&column=([^#]+)|file)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """What a URI points at: a whole file or URL, or with `size` a part of one, or with `column` a Parquet cell."""

    location: str
    offset: int = 0
    size: int | None = None
    row: int = 0
    column: str | None = None

    @property
    def whole(self) -> bool:
        return self.size is None and self.column is None


def place_of(uri: str) -> Place:
    """The place that a source's URI names."""
    found = _POINTER.fullmatch(uri)
    if not found:
        return Place(uri)
    location, offset, size, row, column = found.groups()
    if column is not None:
        return Place(location, row=int(row), column=unquote(column))
    return Place(location) if size is None else Place(location, int(offset), int(size))


def file_uri(location: str) -> str:
    """The URI of a whole file or URL. A name that ends as a pointer does, `#row=0&column=x`, gets `#file` behind it."""
    return f"{location}#file" if _POINTER.fullmatch(location) else location


def cell_uri(table: str, row: int, column: str) -> str:
    """The URI of a cell of a Parquet table."""
    return f"{table}#row={row}&column={quote(column)}"


def fetch(
    uri: str,
    *,
    max_bytes: int,
    private_addresses: bool = False,
    timeout_s: float = 20.0,
    retries: int = 1,
    run: str | None = None,
) -> bytes:
    """The media's bytes.

    uri        a path or URL, `<file>#offset=N&size=N`, `<parquet>#row=N&column=C`, `<file>#file`, or `run:` before one
    max_bytes  larger media are refused, before reading where the size is known
    private_addresses, timeout_s, retries  for http(s) URLs: see `curation.stores.net`
    run        the run directory, which a `run:` URI is relative to

    Raises CurationError with a sentence, whatever goes wrong: missing, permission, too large, a refused address ...
    """
    if uri.startswith(IN_RUN):
        if run is None:
            raise CurationError(f"{uri} lies in a run directory, and none was given")
        uri = resolve(run, uri.removeprefix(IN_RUN))
    if "\0" in uri or not uri:
        raise CurationError(f"{uri!r} is not a path or URL")
    guard = Guard(max_bytes=max_bytes, private_addresses=private_addresses, timeout_s=timeout_s)
    try:
        return _fetch(place_of(uri), guard, retries)
    except CurationError:
        raise
    except Exception as error:  # a filesystem's own package raises what it likes: it is this record's error alone
        what = " ".join(str(error).split())[:300]
        raise CurationError(f"{uri[:300]} cannot be read: {type(error).__name__}: {what}") from error


def _fetch(place: Place, guard: Guard, retries: int) -> bytes:
    if place.column is not None:
        from curation.sources.parquet import media_cell

        cell = media_cell(place.location, place.column, place.row, guard.max_bytes)
        if isinstance(cell, bytes):
            return cell
        # the cell names a file: never a pointer, so that no cell can lead back to itself
        try:
            return _fetch(Place(permitted(trimmed_url(cell), place.location)), guard, retries)
        except Forbidden as error:
            raise CurationError(str(error)) from error
    if place.size is not None:
        return _read(place.location, place.offset, place.size, guard.max_bytes)
    if scheme_of(place.location) in WEB:
        return get(place.location, guard, retries)
    info = file_info(place.location)
    if info.type != pafs.FileType.File:
        what = {pafs.FileType.NotFound: "does not exist", pafs.FileType.Directory: "is a folder"}
        raise CurationError(f"{place.location} {what.get(info.type, 'is not a regular file')}")
    return _read(place.location, 0, info.size, guard.max_bytes)


def _read(location: str, offset: int, size: int, max_bytes: int) -> bytes:
    if size > max_bytes:
        raise CurationError(f"{location} has {size} bytes; at most {max_bytes} are read (max_mb)")
    filesystem, path = locate(location)
    try:
        with filesystem.open_input_file(path) as file:
            data = bytes(file.read_at(size, offset))
    except pa.ArrowInvalid as error:
        raise CurationError(f"{location} ends before byte {offset + size}") from error
    except OSError as error:
        raise explain(error, location, "read") from error
    if len(data) != size:
        raise CurationError(f"{location} ends at byte {offset + len(data)}, before byte {offset + size}")
    return data
