"""Paths and URLs as one thing: where a name leads, and which pyarrow filesystem opens it."""

import errno
from functools import lru_cache
from pathlib import Path
from posixpath import basename, dirname, normpath
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from curation.errors import CurationError

WEB = ("http", "https")


def scheme_of(location: str) -> str:
    """`s3` of `s3://bucket/x`, "" of a plain path."""
    head, mark, _ = location.partition("://")
    return head.lower() if mark and head.replace("+", "").replace("-", "").isalnum() else ""


def resolve(base: str, path: str) -> str:
    """`path` as seen from the folder `base`: URLs and absolute paths stand for themselves.

    The query of a URL base (`?endpoint_override=..`) is kept: `resolve("s3://b/d?region=x", "a.jpg")` is
    `s3://b/d/a.jpg?region=x`. A `..` in `path` is followed: tables are the user's own.
    """
    if scheme_of(path) or path.startswith("/"):
        return path
    if not scheme_of(base):
        return normpath(str(Path(base).absolute() / path))
    head, mark, query = base.partition("?")
    scheme, _, place = head.partition("://")
    joined = f"{scheme}://{normpath(f'{place}/{path}')}" if place.strip("/") else f"{scheme}://{path}"
    return joined + mark + query


def parent(location: str) -> str:
    """The folder that a file lies in; a URL keeps its query."""
    if not scheme_of(location):
        return dirname(str(Path(location).absolute()))
    head, mark, query = location.partition("?")
    return head.rstrip("/").rpartition("/")[0] + mark + query


def name(location: str) -> str:
    """The last part of a path or URL, without its query."""
    return basename((location.partition("?")[0] if scheme_of(location) else location).rstrip("/"))


def locate(location: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem and the path on it. Raises CurationError for a scheme that nothing here opens."""
    scheme = scheme_of(location)
    if not scheme:
        return _local(), str(Path(location).absolute())
    if scheme == "file":
        return _local(), pafs.FileSystem.from_uri(location)[1]
    head, _, query = location.partition("?")
    if scheme in WEB:
        head, query = location, ""
    place = urlsplit(head).netloc
    filesystem, top = _remote(scheme, place, query)
    rest = head.partition("://")[2][len(place) :].strip("/") if scheme not in WEB else ""
    return filesystem, head if scheme in WEB else "/".join(part for part in (top.rstrip("/"), rest) if part)


@lru_cache(maxsize=1)
def _local() -> pafs.LocalFileSystem:
    return pafs.LocalFileSystem()


@lru_cache(maxsize=64)
def _remote(scheme: str, place: str, query: str) -> tuple[pafs.FileSystem, str]:
    """A filesystem per bucket and options; the paths below it are never parsed as URLs (`#`, `%`, blanks)."""
    top = f"{scheme}://{place}" + (f"?{query}" if query else "")
    try:
        if scheme in ("s3", "gs", "gcs", "hdfs", "abfs", "abfss"):
            return pafs.FileSystem.from_uri(top)  # type: ignore[no-any-return]
        import fsspec

        handler, path = fsspec.core.url_to_fs(top)
        return pafs.PyFileSystem(pafs.FSSpecHandler(handler)), "" if scheme in WEB else path.strip("/")
    except (ValueError, ImportError, OSError, pa.ArrowException) as error:
        raise CurationError(
            f"{top} cannot be opened: {error}. Paths may be local, s3://, gs://, or any scheme whose fsspec "
            "package is installed"
        ) from error


def explain(error: OSError, location: str, doing: str) -> CurationError:
    """An operating system's or object store's error as a sentence that names the place."""
    if isinstance(error, FileNotFoundError):
        return CurationError(f"{location} does not exist")
    if isinstance(error, PermissionError) or error.errno in (errno.EACCES, errno.EPERM):
        return CurationError(f"{location} cannot be {doing}: permission denied")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CurationError(
            f"{location} cannot be {doing}: the disk is full. What was committed before is sound: free some "
            "space and run the same command again"
        )
    return CurationError(f"{location} cannot be {doing}: {' '.join(str(error).split())[:400]}")
