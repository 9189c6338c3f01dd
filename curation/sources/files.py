"""`*` patterns and `{000..099}` ranges: which files a source consists of."""

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.fs as pafs

from curation.errors import CurationError
from curation.stores.location import explain, locate, resolve, scheme_of, split_options

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(pattern: str) -> Iterator[str]:
    """Files that a pattern names, in order; a range is counted without looking, `*` lists one folder.

    A file whose name really has these signs stands for itself. Raises CurationError where `*` finds nothing.
    """
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


def file_info(location: str) -> pafs.FileInfo:
    filesystem, path = locate(location)
    try:
        return filesystem.get_file_info(path)
    except OSError as error:
        raise explain(error, location, "read") from error
    except pa.ArrowInvalid as error:  # such as `a//b`, which is the name of an object and no path
        raise CurationError(f"{location} cannot be read: {error}") from error


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
