"""Walking through a tar's headers: samples as runs of members with one key, and where their bytes are."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from curation.sources.cells import clean
from curation.sources.rows import MAX_KEY
from curation.stores.location import explain, locate, name

BUFFER = 1 << 14
MAX_HEADER = 1 << 20
"""A longer extended header is an attack on memory, not a name."""


@dataclass(frozen=True)
class Member:
    """`extension` is what follows the name's first dot, in lower case; `offset` that of the data, bytes."""

    name: str
    extension: str
    offset: int
    size: int


@dataclass(frozen=True)
class Sample:
    """Adjacent members with one key, in bytes `offset` to `end`; `error` where they make no record."""

    key: str
    offset: int
    end: int
    members: tuple[Member, ...] = ()
    error: str | None = None
    again: bool = False

    def marked(self, again: bool) -> "Sample":
        return replace(self, again=again)

    def headers(self) -> str:
        return f"{self.key} {self.error} {[(m.name, m.offset, m.size) for m in self.members]}"


@dataclass(frozen=True)
class Archive:
    """A tar opened twice: `headers` is walked through from byte `start`, `data` read at places."""

    location: str
    headers: pa.NativeFile
    data: pa.NativeFile
    start: int

    @property
    def size(self) -> int:
        return int(self.data.size())


@contextmanager
def open_archive(location: str, start: int = 0) -> Iterator[Archive]:
    """A tar opened for a walk from byte `start`, where a header begins."""
    filesystem, path = locate(location)
    try:
        with filesystem.open_input_file(path) as headers, filesystem.open_input_file(path) as data:
            yield Archive(location, headers, data, start)
    except OSError as error:
        raise explain(error, location, "read") from error


def samples(archive: Archive, end: int | None = None) -> Iterator[Sample]:
    """The samples from the start up to byte `end`; the last is an error where the tar is cut or damaged."""
    run: list[_Entry] = []
    for entry in _walk(archive, end):
        same = bool(run) and entry.key == run[0].key
        if run and not same:
            yield _sample(run)
            run = []
        run.append(entry)
        if entry.problem:
            yield _sample(run)
            run = []
    if run:
        yield _sample(run)


@dataclass(frozen=True)
class _Entry:
    key: str
    offset: int
    end: int
    member: Member | None
    problem: str | None = None


def _sample(run: list[_Entry]) -> Sample:
    members = tuple(entry.member for entry in run if entry.member)
    error = run[-1].problem
    if not error and len({member.extension for member in members}) < len(members):
        error = f"two of its members have one name: {', '.join(member.name for member in members)[:300]}"
    return Sample(run[0].key, run[0].offset, run[-1].end, members, error)


class _Headers(io.BufferedReader):
    """The bytes between the data; refuses to read a header that would fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _walk(archive: Archive, end: int | None) -> Iterator[_Entry]:
    """Every member with a key, and one entry with a problem where the headers end too early."""
    stream = _Headers(archive.headers, BUFFER)  # type: ignore[arg-type]
    offset = archive.start
    try:
        stream.seek(offset)
        tar = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape")
        while (end is None or offset < end) and (info := tar.next()):
            tar.members.clear()  # type: ignore[attr-defined]  # or the archive's every header would stay in memory
            entry = _entry(archive, info, tar.offset)
            if entry.key or entry.problem:
                yield entry
            if entry.end <= offset or entry.end > archive.size:
                return
            offset = entry.end
        if (end is None or offset < end) and archive.data.read_at(512, tar.offset).strip(b"\0"):
            raise tarfile.ReadError("no header where one belongs")
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
        if archive.size > 0:
            why = f"the archive is damaged or cut at byte {offset} ({error}); nothing after it can be read"
            yield _Entry(f"{name(archive.location)}:{offset}", offset, archive.size, None, why)
    finally:
        stream.detach()


def _entry(archive: Archive, info: tarfile.TarInfo, after: int) -> _Entry:
    """What a header says; a name that leads outside, or anything but a plain file, is a problem."""
    path = clean(info.name)
    while path.startswith("./"):
        path = path[2:]
    folder, slash, base = path.rpartition("/")
    stem, _, extension = base.partition(".")
    key = "" if info.isdir() or not stem else folder + slash + stem
    problem = None
    if path.startswith("/") or "\\" in path or ".." in path.split("/"):
        key, problem = path, "its name leads outside the archive"
    elif key and (not info.isreg() or info.issparse()):
        problem = "it is a link, a device or a sparse file, not plain data"
    elif info.size < 0 or after <= info.offset or len(key) > MAX_KEY:
        problem = "its header makes no sense"
    elif after > archive.size:
        key, problem = key or path, f"the archive is cut at byte {archive.size}, before the end of its data"
    member = None if problem or not key else Member(path, extension.lower(), info.offset_data, info.size)
    return _Entry(key[:MAX_KEY], info.offset, after, member, problem and f"member {path[:200]!r}: {problem}")
