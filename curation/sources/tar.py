"""Walking through a tar's headers: which members make records, and where their bytes are.

Adjacent members are looked at together while their names agree up to the first dot, as WebDataset does it; which of
them make records is `curation.sources.pairing`'s to say.
"""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from curation.sources.cells import clean
from curation.sources.kinds import extension_of, stem_of
from curation.sources.pairing import Paired, fold, pair
from curation.sources.rows import MAX_KEY
from curation.stores.location import explain, locate, name

BUFFER = 1 << 14
WINDOW = 1 << 20
BLOCK = 512
MOST_ZEROS = 1 << 30
"""Of the padding between tars that were joined, and behind them."""
MAX_HEADER = 1 << 20
"""A longer extended header is an attack on memory, not a name."""
RUN = 512
"""Members that are looked at together; a longer run is cut where the names begin to differ before their extensions."""


@dataclass(frozen=True)
class Member:
    """`offset` and `size` of the data, bytes; `problem` where they are not to be read."""

    name: str
    offset: int
    size: int
    problem: str | None = None

    @property
    def extension(self) -> str:
        return extension_of(self.name)

    @property
    def stem(self) -> str:
        return stem_of(self.name)


@dataclass(frozen=True)
class Sample:
    """A record to be, number `index` of the run of members in bytes `offset` to `end`.

    medium  the picture or video, None where there is none
    beside  (label, member) of what belongs to it, best match first (`curation.sources.pairing.Paired`)
    stem    the medium's name without its extension: members of one stem have to be adjacent
    error   why it makes no record
    archive number of the archive: tars that were joined end to end are several
    """

    key: str
    offset: int
    end: int
    index: int = 0
    medium: Member | None = None
    beside: tuple[tuple[str, Member], ...] = ()
    stem: str = ""
    error: str | None = None
    again: bool = False
    archive: int = 0

    def marked(self, again: bool) -> "Sample":
        return replace(self, again=again)

    def headers(self) -> str:
        members = [self.medium, *(member for _, member in self.beside)]
        return f"{self.key} {self.error} {[(m.name, m.offset, m.size) for m in members if m]}"


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
        if run and (entry.run != run[0].run or entry.archive != run[0].archive or _is_full(run, entry)):
            yield from _samples(run)
            run = []
        run.append(entry)
    if run:
        yield from _samples(run)


@dataclass(frozen=True)
class _Entry:
    """A member, or with none in it the place where the headers end too early."""

    run: str
    key: str
    offset: int
    end: int
    member: Member | None
    problem: str | None = None
    archive: int = 0


def _is_full(run: list[_Entry], entry: _Entry) -> bool:
    if len(run) < RUN or not (last := run[-1].member) or not entry.member:
        return False
    one, other = sorted((fold(last.stem), fold(entry.member.stem)), key=len)
    related = other == one or other.startswith(f"{one}.")
    return len(run) >= 4 * RUN or not related


def _samples(run: list[_Entry]) -> Iterator[Sample]:
    """A run's media in their order, each with what lies beside it, then what makes no record."""
    whole = Sample(run[0].key, run[0].offset, run[-1].end, archive=run[0].archive)
    made = list(_records(whole, run)) + list(_refused(whole, run))
    for index, sample in enumerate(made):
        yield replace(sample, index=index)


def _records(whole: Sample, run: list[_Entry]) -> Iterator[Sample]:
    members = list({entry.member.name: entry.member for entry in reversed(run) if entry.member}.values())[::-1]
    paired, alone = pair([member.name for member in members], dotted=True)
    stems = [members[one.medium].stem for one in paired]
    for one in paired:
        yield _record(whole, members, one, stems)
    lonely: dict[str, list[Member]] = {}
    for i in alone:
        lonely.setdefault(members[i].stem if paired else "", []).append(members[i])
    for stem, group in lonely.items():
        problems = [member.problem for member in group if member.problem]
        error = problems[0] if problems else f"no picture or video among {_names(group)}"
        yield replace(whole, key=stem[:MAX_KEY] or whole.key, stem=stem or group[0].stem, error=error)


def _record(whole: Sample, members: list[Member], one: Paired, stems: list[str]) -> Sample:
    """A medium of a stem of its own has it as key, others their whole names."""
    medium = members[one.medium]
    beside = tuple((label, members[i]) for label, i in one.beside)
    problems = [member.problem for member in (medium, *(member for _, member in beside)) if member.problem]
    key = medium.stem if stems.count(medium.stem) == 1 else medium.name
    error = problems[0] if problems else None
    return replace(whole, key=key[:MAX_KEY], medium=medium, beside=beside, stem=medium.stem, error=error)


def _refused(whole: Sample, run: list[_Entry]) -> Iterator[Sample]:
    """The second members of one name, and where the headers end too early."""
    seen: set[str] = set()
    for entry in run:
        if entry.member is None:
            yield replace(whole, key=entry.key, error=entry.problem)
        elif entry.member.name in seen:
            error = f"two of its members have one name: {entry.member.name[:300]}; the first one counts"
            yield replace(whole, key=entry.member.stem[:MAX_KEY], error=error)
        else:
            seen.add(entry.member.name)


def _names(members: list[Member]) -> str:
    return ", ".join(member.name for member in members)[:300]


class _Headers(io.BufferedReader):
    """The bytes between the data; refuses to read a header that would fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _walk(archive: Archive, end: int | None) -> Iterator[_Entry]:
    """Every member that is not hidden, and one entry without a member where the headers end too early.

    Tars that were joined end to end are read to the last.
    """
    stream = _Headers(archive.headers, BUFFER)  # type: ignore[arg-type]
    start: int | None = archive.start
    offset = marker = archive.start
    number = 0
    try:
        while start is not None:
            offset = start
            stream.seek(offset)
            tar = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape")
            while (end is None or offset < end) and (info := tar.next()):
                tar.members.clear()  # type: ignore[attr-defined]  # or every header would stay in memory
                entry = _entry(archive, info, tar.offset)
                if entry.run:
                    yield replace(entry, archive=number)
                if entry.end <= offset or entry.end > archive.size:
                    return
                offset = entry.end
            if end is not None and offset >= end:
                return
            if archive.data.read_at(BLOCK, tar.offset).strip(b"\0"):
                raise tarfile.ReadError("no header where one belongs")
            marker = tar.offset
            start = _behind_zeros(archive, marker)
            number += 1
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
        if archive.size > 0:
            behind = number > 0 and offset == start
            place = f"{name(archive.location)}:{offset}"
            why = _why(archive, offset, behind, error)
            yield _Entry(place, place, marker if behind else offset, archive.size, None, why, number)
    finally:
        stream.detach()


def _behind_zeros(archive: Archive, at: int) -> int | None:
    """The block with the first byte that is not zero, from byte `at`; None where there is none.

    Raises ReadError where there is none in a GB: a sparse file may have terabytes of zeros.
    """
    begin = at
    while data := archive.data.read_at(WINDOW, at):
        if at - begin > MOST_ZEROS:
            raise tarfile.ReadError(f"more than {MOST_ZEROS:,} zeros follow")
        if rest := data.lstrip(b"\0"):
            return int(at + (len(data) - len(rest)) // BLOCK * BLOCK)
        at += len(data)
    return None


def _why(archive: Archive, offset: int, behind: bool, error: Exception) -> str:
    """Why nothing can be read from byte `offset` on, `behind` the end of an archive or at a damaged header."""
    if behind:
        return (
            f"bytes {offset} to {archive.size} follow the end of the archive and are no tar: nothing is read from them"
        )
    if archive.data.read_at(4, 0).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")):
        return "the archive is compressed; unpack it first: samples are read by their place"
    return f"the archive is damaged or cut at byte {offset} ({error}); nothing after it can be read"


def _entry(archive: Archive, info: tarfile.TarInfo, after: int) -> _Entry:
    """What a header says; a name that leads outside, or anything but a plain file, is a problem."""
    path = clean(info.name)
    while path.startswith("./"):
        path = path[2:]
    folder, slash, base = path.rpartition("/")
    first = base.partition(".")[0]
    key = "" if info.isdir() or not first else folder + slash + first
    run, problem = fold(key), None
    if path.startswith("/") or "\\" in path or ".." in path.split("/"):
        key, problem = path, "its name leads outside the archive"
        run = f"outside {path}"
    elif key and (not info.isreg() or info.issparse()):
        problem = "it is a link, a device or a sparse file, not plain data"
    elif info.size < 0 or after <= info.offset or len(key) > MAX_KEY:
        run, problem = run or path, "its header makes no sense"
    elif after > archive.size:
        run, key = run or path, key or path
        problem = f"the archive is cut at byte {archive.size}, before the end of its data"
    why = problem and f"member {path[:200]!r}: {problem}"
    return _Entry(run, key[:MAX_KEY], info.offset, after, Member(path, info.offset_data, info.size, why))
