"""What a source is to the engine: chunks, made lazily, each giving the same rows wherever it is read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from curation.record import SourceRow

T = TypeVar("T")
VIDEO_BYTES = 16_000_000
"""Of videos in a chunk, unless the manifest says otherwise: minutes of work, which are all that a crash costs."""


@dataclass(frozen=True)
class Chunk:
    """A bounded part of a source: small enough to score as one unit and to commit as one file.

    number       dense from 0 in the source's own order; names the file in scores/
    kind, args   which reader gives the rows, and its JSON-able arguments (file, byte range, row range ...)
    fingerprint  hash of what the rows say (captions, paths, positions); a chunk is scored anew if it changes
    rows         how many rows the reader will give
    """

    number: int
    kind: str
    args: dict[str, Any] = field(hash=False)
    fingerprint: str
    rows: int


@dataclass(frozen=True)
class Count:
    """How many records a source has; an estimate from its first ones where it is not exact."""

    records: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.records:,}" if self.exact else f"about {self.records:,}"


def total_of(counts: Iterable[Count | None]) -> Count | None:
    """The sum of several sources' counts, None where one is not known."""
    total = Count(0, exact=True)
    for count in counts:
        if count is None:
            return None
        total = Count(total.records + count.records, total.exact and count.exact)
    return total


class Source(Protocol):
    """Opened from a manifest's `source:`; lives on the driver, holds nothing that grows with the records."""

    def chunks(self, rows_per_chunk: int, video_bytes: int = VIDEO_BYTES) -> Iterator[Chunk]:
        """The chunks in order, made as they are asked for: of so many rows, or fewer where videos make it large."""
        ...

    def estimate(self) -> Count | None:
        """How many records there are, cheaply (a few reads), None where that needs a full pass."""
        ...


class Reader(Protocol):
    """Gives a chunk's rows on a worker. Raises CurationError when the source itself is gone."""

    def __call__(self, args: dict[str, Any]) -> Iterator[SourceRow]: ...


def portions(items: Iterable[T], video_size: Callable[[T], int], rows: int, video_bytes: int) -> Iterator[list[T]]:
    """Items in order, `rows` at a time, or fewer: the videos among them have `video_bytes` at most, or it is one."""
    portion: list[T] = []
    total = 0
    for item in items:
        size = video_size(item)
        if len(portion) == rows or (total and total + size > video_bytes):
            yield portion
            portion, total = [], 0
        portion.append(item)
        total += size
    if portion:
        yield portion
