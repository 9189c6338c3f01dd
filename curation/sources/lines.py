"""Lines of a text file, local or remote, read in order with bounded memory."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow.fs as pafs

from curation.stores.holes import check_whole
from curation.stores.location import explain, locate

MAX_LINE = 8 << 20
"""Longer lines are not read: they become rows with an error."""
BLOCK = 1 << 18


@dataclass(frozen=True)
class Line:
    """`offset` and `size` in bytes, newline included; `data` is cut when the line is longer than MAX_LINE."""

    number: int
    offset: int
    size: int
    data: bytes

    @property
    def too_long(self) -> bool:
        return self.size > len(self.data)

    @property
    def blank(self) -> bool:
        return not self.too_long and not self.data.strip()


@contextmanager
def open_text(location: str, offset: int = 0, size: int = BLOCK) -> Iterator[io.BufferedReader]:
    """A file opened for reading from `offset` on, in blocks of 256 kB, or of `size` bytes where no more are wanted."""
    filesystem, path = locate(location)
    if isinstance(filesystem, pafs.LocalFileSystem):
        check_whole(path)
    try:
        with filesystem.open_input_file(path) as file, io.BufferedReader(file, max(1, min(BLOCK, size))) as stream:
            stream.seek(offset)
            yield stream
    except OSError as error:
        raise explain(error, location, "read") from error


def read_lines(stream: io.BufferedReader, offset: int, number: int, end: int | None = None) -> Iterator[Line]:
    """Lines from the stream's place, `offset` and line `number`, up to byte `end` or the file's end."""
    while end is None or offset < end:
        data = stream.readline(MAX_LINE)
        if not data:
            return
        size = len(data)
        last = data
        while len(last) == MAX_LINE and not last.endswith(b"\n"):
            last = stream.readline(MAX_LINE)
            size += len(last)
        yield Line(number, offset, size, data)
        offset += size
        number += 1
