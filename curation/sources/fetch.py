"""The bytes behind a record's `source_uri`, wherever they lie, and never more of them than was allowed."""

import re
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from curation.errors import CurationError
from curation.sources.files import file_info
from curation.stores.location import WEB, explain, locate, resolve, scheme_of

IN_RUN = "run:"
"""Begins a URI relative to the run directory, `run:_work/downloads/0.tar#offset=..`: a run can be moved."""

_SPAN = re.compile(r"(.*)#offset=(\d+)&size=(\d+)", re.DOTALL)
_CELL = re.compile(r"(.*)#row=(\d+)&column=([^#]+)", re.DOTALL)


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

    uri        a path, a URL, `<file>#offset=N&size=N`, `<parquet>#row=N&column=C`, or `run:` before one
    max_bytes  larger media are refused, before reading where the size is known
    private_addresses, timeout_s, retries  for http(s) URLs: see `curation.stores.net`
    run        the run directory, which a `run:` URI is relative to

    Raises CurationError with a sentence: missing, permission, too large, a refused address ...
    """
    if uri.startswith(IN_RUN):
        if run is None:
            raise CurationError(f"{uri} lies in a run directory, and none was given")
        uri = resolve(run, uri.removeprefix(IN_RUN))
    if "\0" in uri or not uri:
        raise CurationError(f"{uri!r} is not a path or URL")
    if cell := _CELL.fullmatch(uri):
        from curation.sources.parquet import media_bytes

        return media_bytes(cell[1], unquote(cell[3]), int(cell[2]), max_bytes)
    if span := _SPAN.fullmatch(uri):
        return _read(span[1], int(span[2]), int(span[3]), max_bytes)
    if scheme_of(uri) in WEB:
        from curation.stores.net import Guard, get

        guard = Guard(max_bytes=max_bytes, private_addresses=private_addresses, timeout_s=timeout_s)
        return get(uri, guard, retries)
    info = file_info(uri)
    if info.type != pafs.FileType.File:
        what = {pafs.FileType.NotFound: "does not exist", pafs.FileType.Directory: "is a folder"}
        raise CurationError(f"{uri} {what.get(info.type, 'is not a regular file')}")
    return _read(uri, 0, info.size, max_bytes)


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
