"""Paths and URLs as one thing: where a name leads, and which pyarrow filesystem opens it."""

import errno
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from posixpath import basename, dirname, normpath

import pyarrow as pa
import pyarrow.fs as pafs

from curation.errors import CurationError, Denied, UsageError
from curation.stores.reach import Contacts, survived

WEB = ("http", "https")
_DENIED = re.compile(
    r"ACCESS_DENIED|AccessDenied|Forbidden|HTTP (?:status|response code) 40[13]|PERMISSION_DENIED", re.I
)
"""What object stores and their clients say of a request that they do not allow."""
RETRY_S = 20
"""How long pyarrow tries again to reach Google Cloud Storage; by itself 15 minutes for each request."""
_SILENT = re.compile(r"UNAVAILABLE|DEADLINE_EXCEEDED|NETWORK_CONNECTION|[Cc]ould not connect|[Tt]imed out")
"""What clients say when nobody answers, or nobody is there."""
_TRY = "import sys, pyarrow.fs as f; s, p = f.FileSystem.from_uri(sys.argv[1]); s.get_file_info(p or '/')"
"""Clients of Azure and Hadoop may end their process where they find no credentials or no Java: a child tries first."""
_contacts: Contacts[tuple[pafs.FileSystem, str]] = Contacts(64)
_OPTIONS = re.compile(r"(?:[\w.-]+=[^&?]*(?:&[\w.-]+=[^&?]*)*)?")


def scheme_of(location: str) -> str:
    """`s3` of `s3://bucket/x`, "" of a plain path."""
    head, mark, _ = location.partition("://")
    return head.lower() if mark and head.replace("+", "").replace("-", "").isalnum() else ""


def trimmed_url(text: str) -> str:
    """A URL without the blanks, control characters and characters of no width round it; a path as it stands."""
    start, end = 0, len(text)
    while start < end and _is_margin(text[start]):
        start += 1
    while end > start and _is_margin(text[end - 1]):
        end -= 1
    return text[start:end] if scheme_of(text[start:end]) else text


def _is_margin(sign: str) -> bool:
    return sign.isspace() or unicodedata.category(sign) in ("Cc", "Cf", "Zs", "Zl", "Zp")


def split_options(location: str) -> tuple[str, str]:
    """An address without its options, and these with their `?` ("" where there are none).

    The names of objects may hold `?`, so the options begin at the last one, and only where what follows reads
    `name=value&name=value`. `resolve` ends a name with a `?` of its own with a bare `?`: no options follow.
    The options of http(s) addresses, which people write by the rules of URLs, begin at the first `?`.
    """
    scheme = scheme_of(location)
    if not scheme:
        return location, ""
    if scheme in WEB:
        head, mark, query = location.partition("?")
        return head, mark + query
    head, mark, query = location.rpartition("?")
    return (head, mark + query) if mark and _OPTIONS.fullmatch(query) else (location, "")


def resolve(base: str, path: str) -> str:
    """`path` as seen from the folder `base`: URLs and absolute paths stand for themselves.

    A relative path is a name, whatever signs it has: `resolve("s3://b/d?region=x", "what?.jpg")` is
    `s3://b/d/what?.jpg?region=x`, with the options of `base`. A `..` in `path` is followed: tables are the user's own.
    """
    if scheme_of(path) or path.startswith("/"):
        return path
    if not scheme_of(base):
        return normpath(str(Path(base).absolute() / path))
    head, options = split_options(base)
    scheme, _, place = head.partition("://")
    joined = f"{scheme}://{_normal(place.rstrip('/'), path)}"
    if scheme.lower() not in WEB:
        options = options if options != "?" else ""
        options = options or ("?" if "?" in joined else "")
    return joined + options


def _normal(place: str, path: str) -> str:
    """`path` below `place`, without `.` and `..`; empty parts stay, for `a//b` names another object than `a/b`."""
    parts = place.split("/") if place else []
    for part in path.rstrip("/").split("/"):
        if part == "..":
            parts = parts[:-1] if len(parts) > 1 else parts
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def parent(location: str) -> str:
    """The folder that a file lies in; a URL keeps its options."""
    if not scheme_of(location):
        return dirname(str(Path(location).absolute()))
    head, options = split_options(location)
    return head.rstrip("/").rpartition("/")[0] + options


def name(location: str) -> str:
    """The last part of a path or URL, without its options."""
    return basename(split_options(location)[0].rstrip("/"))


def locate(location: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem and the path on it. Raises CurationError for an address that nothing here opens."""
    scheme = scheme_of(location)
    if not scheme:
        return _local(), str(Path(location).absolute())
    if scheme == "file":
        try:
            return _local(), pafs.FileSystem.from_uri(location)[1]
        except (ValueError, OSError, pa.ArrowException) as error:
            raise CurationError(f"{location} cannot be opened: {error}") from error
    if scheme in WEB:
        return _remote(scheme, location.partition("://")[2].partition("/")[0], "")[0], location
    head, options = split_options(location)
    place, _, rest = head.partition("://")[2].partition("/")
    if not place and scheme in ("s3", "gs", "gcs"):
        raise UsageError(f"{location} names no bucket; say {scheme}://BUCKET/PATH")
    filesystem, top = _remote(scheme, place, options[1:])
    return filesystem, "/".join(part for part in (top.rstrip("/"), rest.strip("/")) if part)


@lru_cache(maxsize=1)
def _local() -> pafs.LocalFileSystem:
    return pafs.LocalFileSystem()


def _remote(scheme: str, place: str, query: str) -> tuple[pafs.FileSystem, str]:
    """A filesystem per bucket and options; the paths below it are never parsed as URLs (`#`, `%`, `?`, blanks)."""
    top = f"{scheme}://{place}" + (f"?{query}" if query else "")
    try:
        return _contacts.get((scheme, place, query), lambda: _contact(scheme, place, query))
    except Exception as error:  # the packages behind fsspec raise what they like
        what = " ".join(str(error).split())[:400]
        known = not isinstance(error, ValueError | ImportError)  # else no such scheme, or its package is missing
        raise (CurationError if known else UsageError)(
            f"{top} cannot be opened: {what}. Paths may be local, s3://, gs://, or any scheme whose fsspec "
            "package is installed"
        ) from error


def _contact(scheme: str, place: str, query: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem, once it has given some answer: its own bounds for silence are hours, or none."""
    if scheme in ("gs", "gcs") and "retry_limit_seconds=" not in query:
        query += f"{'&' if query else ''}retry_limit_seconds={RETRY_S}"
    top = f"{scheme}://{place}" + (f"?{query}" if query else "")
    if scheme in ("hdfs", "abfs", "abfss"):
        survived(_TRY, top)
    if scheme in ("s3", "gs", "gcs", "hdfs", "abfs", "abfss"):
        filesystem, path = pafs.FileSystem.from_uri(top)
    else:
        import fsspec

        handler, path = fsspec.core.url_to_fs(top)
        filesystem, path = pafs.PyFileSystem(pafs.FSSpecHandler(handler)), "" if scheme in WEB else path.strip("/")
    if scheme not in ("memory", *WEB):
        try:
            filesystem.get_file_info(path or "/")
        except Exception as error:
            if _SILENT.search(str(error)):
                raise TimeoutError(error) from error
    return filesystem, path


def explain(error: Exception, location: str, doing: str) -> CurationError:
    """An operating system's or object store's error as a sentence that names the place.

    The packages behind fsspec raise errors of their own, which are no OSError.
    """
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, FileNotFoundError):
        return CurationError(f"{location} does not exist")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return UsageError(f"{location} cannot be {doing}: a file lies where a folder is needed; name another folder")
    if isinstance(error, PermissionError) or code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Denied(f"{location} cannot be {doing}: permission denied")
    if _DENIED.search(str(error)):
        what = " ".join(str(error).split())[:400]
        return Denied(f"{location} cannot be {doing}: access denied; check the credentials and the policy ({what})")
    if code in (errno.ENOSPC, errno.EDQUOT):
        return CurationError(
            f"{location} cannot be {doing}: the disk is full. What was committed before is sound: free some "
            "space and run the same command again"
        )
    return CurationError(f"{location} cannot be {doing}: {' '.join(str(error).split())[:400]}")
