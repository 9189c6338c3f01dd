"""`*` patterns and `{000..099}` ranges: which files a source consists of."""

import os
import re
from collections.abc import Iterator
from math import prod
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from curation.errors import CurationError
from curation.sources.cells import clean
from curation.stores.location import WEB, explain, locate, resolve, scheme_of, split_options

_RANGE = re.compile(r"\{(\d{1,12})\.\.(\d{1,12})\}")
MOST = 1_000_000
"""Files that ranges may name."""


def expand(pattern: str) -> Iterator[str]:
    """Files that a pattern names, in order; a range is counted without looking, `*` lists one folder.

    A file whose name really has these signs stands for itself. Raises CurationError where `*` finds nothing, and for
    ranges of more than a million files.
    """
    named = prod(int(last) - int(first) + 1 for first, last in _RANGE.findall(pattern))
    if named > MOST:
        raise CurationError(f"{pattern} names {named:,} files; a range names {MOST:,} at most")
    span = _RANGE.search(pattern)
    if (span or "*" in pattern) and file_info(pattern).type == pafs.FileType.File:
        yield pattern
    elif span:
        first, last = span.groups()
        for number in range(int(first), int(last) + 1):
            yield from expand(f"{pattern[: span.start()]}{number:0{len(first)}d}{pattern[span.end() :]}")
    elif "*" in pattern:
        yield from _glob(pattern)
    else:
        yield pattern


def is_folder(location: str) -> bool:
    """Whether a location is a folder: patterns and http(s) addresses are none."""
    if "*" in location or "{" in location or scheme_of(location) in WEB:
        return False
    return bool(file_info(location).type == pafs.FileType.Directory)


def files_below(folder: str) -> list[str]:
    """Paths of the files below a folder, as seen from it, sorted.

    None has a part that is hidden or begins with `_`, as writers name what is not data.
    """
    filesystem, top = locate(folder)
    try:
        local = isinstance(filesystem, pafs.LocalFileSystem)
        names = _names_on_disk(top) if local else _names_in_store(filesystem, top)
        return sorted(path for path in names if not any(part[:1] in ("_", ".") for part in path.split("/")))
    except OSError as error:
        raise explain(error, folder, "listed") from error


def _names_on_disk(top: str) -> Iterator[str]:
    """Names that are not UTF-8, at which pyarrow's listing fails, with U+FFFD for what is not."""
    for folder, _, names in os.walk(top, onerror=_raise):
        for path in (Path(folder) / name for name in names):
            if path.is_file():
                yield clean(str(path.relative_to(top)))


def _raise(error: OSError) -> None:
    raise error


def _names_in_store(filesystem: pafs.FileSystem, top: str) -> Iterator[str]:
    for info in filesystem.get_file_info(pafs.FileSelector(top, recursive=True)):
        if info.type == pafs.FileType.File:
            yield info.path[len(top) :].strip("/")


def file_info(location: str) -> pafs.FileInfo:
    filesystem, path = locate(location)
    try:
        return filesystem.get_file_info(path)
    except OSError as error:
        raise explain(error, location, "read") from error
    except pa.ArrowException as error:  # such as `a//b`, which is the name of an object and no path
        raise CurationError(f"{location} cannot be read: {error}") from error
    except Exception as error:  # the packages behind fsspec raise what they like
        raise explain(error, location, "read") from error


def _glob(pattern: str) -> Iterator[str]:
    """Files that match, sorted; `*` stays within a folder's name, `**` crosses folders."""
    filesystem, path = locate(pattern)
    fixed = path[: path.index("*")].rpartition("/")[0]
    deep = "*" in path.rpartition("/")[0]
    try:
        infos = filesystem.get_file_info(pafs.FileSelector(fixed, recursive=deep))
    except OSError as error:
        raise explain(error, pattern, "listed") from error
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    tokens = re.split(r"(\*\*/|\*\*|\*)", path)
    match = re.compile("".join(parts.get(token) or re.escape(token) for token in tokens)).fullmatch
    found = sorted(info.path for info in infos if info.type == pafs.FileType.File and match(info.path))
    if not found:
        raise CurationError(f"{pattern} matches no file")
    head, options = split_options(pattern)
    base = head[: head.index("*")].rpartition("/")[0] + options if scheme_of(pattern) else ""
    for one in found:
        yield resolve(base, one[len(fixed) + 1 :]) if base else one
