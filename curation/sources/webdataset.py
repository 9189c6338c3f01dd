"""`webdataset:` sources: tars whose adjacent members with one key make a record. Nothing is extracted.

Decisions: a member that leads outside the archive (`../x`, `/x`), a link, a device or a sparse file is a row
with an error, its name no more than text. Members that come back to a key seen before in the archive are a
row with an error; the first of its members keep their own row. Names that begin with a dot have no key and
are no records. A cut or damaged archive gives the rows before that place, and one row with the error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import xxhash

from curation.errors import UsageError
from curation.record import SourceRow
from curation.sources.base import VIDEO_BYTES, Chunk, Count, portions
from curation.sources.files import expand, file_info
from curation.sources.samples import VIDEOS, Fields, sample_row
from curation.sources.table import fingerprint
from curation.sources.tar import Sample, open_archive, samples
from curation.stores.location import name

MAX_KEYS = 1_000_000
"""Keys remembered per archive to find members that are not adjacent, 8 bytes of hash each."""
SAMPLE_FILES = 8
SAMPLE_ROWS = 200


@dataclass(frozen=True)
class WebDataset:
    """A tar or a pattern of tars; `caption`, `key` and `clips` name fields of the samples' JSON members."""

    pattern: str
    caption: str | None = None
    key: str | None = None
    clips: str | None = None

    def __post_init__(self) -> None:
        if not name(self.pattern).lower().endswith(".tar"):
            hint = "; unpack it first: samples are read by their place" if ".tar." in name(self.pattern) else ""
            raise UsageError(f"source: webdataset: {self.pattern} is not a .tar{hint}")

    def chunks(self, rows_per_chunk: int, video_bytes: int = VIDEO_BYTES) -> Iterator[Chunk]:
        number = 0
        for tar in expand(self.pattern):
            for found in portions(_marked(tar), _video_size, rows_per_chunk, video_bytes):
                place = {
                    "offset": found[0].offset,
                    "end": found[-1].end,
                    "again": [i for i, sample in enumerate(found) if sample.again],
                }
                args = {"tar": tar, "place": place, "caption": self.caption, "key": self.key, "clips": self.clips}
                digest = xxhash.xxh3_128("\n".join(sample.headers() for sample in found).encode()).hexdigest()
                yield Chunk(number, "webdataset", args, fingerprint("webdataset", args, digest), len(found))
                number += 1

    def estimate(self) -> Count | None:
        """Samples, from the bytes that the first ones of a few archives take."""
        tars = list(expand(self.pattern))
        total, exact = 0.0, len(tars) <= SAMPLE_FILES
        for tar in tars[:SAMPLE_FILES]:
            found = list(islice(_marked(tar), SAMPLE_ROWS))
            size = file_info(tar).size or 0
            whole = len(found) < SAMPLE_ROWS
            exact = exact and whole
            total += len(found) if whole else len(found) * size / max(1, found[-1].end)
        return Count(round(total * len(tars) / max(1, min(len(tars), SAMPLE_FILES))), exact)


def _marked(tar: str) -> Iterator[Sample]:
    """An archive's samples; those that come back to an earlier key are marked."""
    seen: set[int] = set()
    with open_archive(tar) as archive:
        for sample in samples(archive):
            mark = xxhash.xxh3_64_intdigest(sample.key.encode())
            yield sample.marked(again=sample.error is None and mark in seen)
            if len(seen) < MAX_KEYS:
                seen.add(mark)


def _video_size(sample: Sample) -> int:
    return sum(member.size for member in sample.members if member.extension in VIDEOS)


def read_webdataset(args: dict[str, Any]) -> Iterator[SourceRow]:
    """The rows of a chunk, on a worker: the headers once more, and the text members."""
    place, fields = args["place"], Fields(args["caption"], args["key"], args["clips"])
    with open_archive(args["tar"], place["offset"]) as archive:
        for i, sample in enumerate(samples(archive, place["end"])):
            yield sample_row(archive, sample.marked(again=i in place["again"]), fields)
