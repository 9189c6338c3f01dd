"""`webdataset:` sources: tars whose adjacent members make records by their names. Nothing is extracted.

Each picture and video is a record of its own, with what lies beside it by its name (`curation.sources.pairing`).
Decisions: a member that leads outside the archive (`../x`, `/x`), a link, a device or a sparse file is a row
with an error, its name no more than text. Members that come back to a name seen before in the archive are a
row with an error; the first of its members keep their own row. Names that begin with a dot have no key and
are no records. A cut or damaged archive gives the rows before that place, and one row with the error. Tars that
were joined end to end are read to the last, and what follows their end and is no tar is a row with an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import xxhash

from curation.errors import UsageError
from curation.record import SourceRow
from curation.sources.base import VIDEO_BYTES, Chunk, Count, portions
from curation.sources.files import expand, file_info, files_below, is_folder
from curation.sources.kinds import VIDEOS
from curation.sources.rows import broken
from curation.sources.samples import Fields, sample_row
from curation.sources.table import fingerprint
from curation.sources.tar import Sample, open_archive, samples
from curation.stores.location import name, resolve

MAX_KEYS = 1_000_000
"""Keys remembered per archive to find members that are not adjacent, 8 bytes of hash each."""
SAMPLE_FILES = 8
SAMPLE_ROWS = 200
UNPACK = "; unpack it first: samples are read by their place"


COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.lz4")
EMPTY_TARS = 1000
"""So many tars are looked through for the first sample."""


@dataclass(frozen=True)
class WebDataset:
    """A tar, a folder or a pattern of tars; `caption`, `key` and `clips` name fields of the samples' JSON members."""

    pattern: str
    caption: str | None = None
    key: str | None = None
    clips: str | None = None

    def check(self) -> None:
        """Raise UsageError where there is no tar, or no sample in the first ones."""
        tars = list(islice(tar_files(self.pattern), EMPTY_TARS))
        if not any(is_compressed(tar) or next(_marked(tar), None) for tar in tars):
            what = "is a tar without samples" if tars == [self.pattern] else "has no samples in its tars"
            raise UsageError(f"source: webdataset: {self.pattern} {what}: it is empty")

    def chunks(self, rows_per_chunk: int, video_bytes: int = VIDEO_BYTES) -> Iterator[Chunk]:
        number = 0
        for tar in tar_files(self.pattern):
            for place, digest, rows in _places(tar, rows_per_chunk, video_bytes):
                args = {"tar": tar, "place": place, "caption": self.caption, "key": self.key, "clips": self.clips}
                yield Chunk(number, "webdataset", args, fingerprint("webdataset", args, digest), rows)
                number += 1

    def estimate(self) -> Count | None:
        """Samples, from the bytes that the first ones of a few archives take."""
        tars = list(tar_files(self.pattern))
        total, exact = 0.0, len(tars) <= SAMPLE_FILES
        for tar in tars[:SAMPLE_FILES]:
            found = [] if is_compressed(tar) else list(islice(_marked(tar), SAMPLE_ROWS))
            size = file_info(tar).size or 0
            whole = len(found) < SAMPLE_ROWS
            exact = exact and whole
            total += (len(found) or is_compressed(tar)) if whole else len(found) * size / max(1, found[-1].end)
        return Count(round(total * len(tars) / max(1, min(len(tars), SAMPLE_FILES))), exact)


def tar_files(pattern: str) -> Iterator[str]:
    """The tars that a path, pattern or folder names, in order; of a folder the compressed ones too.

    Raises UsageError for a file of another extension.
    """
    if is_folder(pattern):
        tars = (path for path in files_below(pattern) if path.lower().endswith((".tar", *COMPRESSED)))
        yield from (resolve(pattern, path) for path in tars)
        return
    if not name(pattern).lower().endswith(".tar"):
        hint = UNPACK if is_compressed(pattern) else " and no folder of them"
        raise UsageError(f"source: webdataset: {pattern} is not a .tar{hint}")
    yield from expand(pattern)


def is_compressed(location: str) -> bool:
    """Whether a file's name says that it is a compressed tar."""
    return name(location).lower().endswith(COMPRESSED)


def _places(tar: str, rows: int, video_bytes: int) -> Iterator[tuple[dict[str, Any], str, int]]:
    """(place, digest, rows) of each chunk of a tar."""
    if is_compressed(tar):
        yield {"error": f"{name(tar)} is compressed{UNPACK}"}, "compressed", 1
        return
    for found in portions(_marked(tar), _video_size, rows, video_bytes):
        place = {
            "offset": found[0].offset,
            "end": found[-1].end,
            "first": found[0].index,
            "rows": len(found),
            "again": [i for i, sample in enumerate(found) if sample.again],
        }
        yield place, xxhash.xxh3_128("\n".join(sample.headers() for sample in found).encode()).hexdigest(), len(found)


def _marked(tar: str) -> Iterator[Sample]:
    """An archive's samples; those that come back to a name of an earlier run of members are marked."""
    seen: set[int] = set()
    fresh: set[int] = set()
    archive_number, run = 0, 0
    with open_archive(tar) as archive:
        for sample in samples(archive):
            if sample.archive != archive_number:
                seen.clear()
                fresh.clear()
            elif sample.offset != run and len(seen) < MAX_KEYS:
                seen |= fresh
                fresh.clear()
            archive_number, run = sample.archive, sample.offset
            mark = xxhash.xxh3_64_intdigest(sample.stem.encode())
            is_one = sample.error is None or sample.medium is None
            yield sample.marked(again=bool(sample.stem) and is_one and mark in seen)
            fresh.add(mark)


def _video_size(sample: Sample) -> int:
    return sample.medium.size if sample.medium and sample.medium.extension in VIDEOS else 0


def read_webdataset(args: dict[str, Any]) -> Iterator[SourceRow]:
    """The rows of a chunk, on a worker: the headers once more, and the text members."""
    place, fields = args["place"], Fields(args["caption"], args["key"], args["clips"])
    if "error" in place:
        yield broken(name(args["tar"]), place["error"])
        return
    with open_archive(args["tar"], place["offset"]) as archive:
        mine = islice(samples(archive, place["end"]), place["first"], place["first"] + place["rows"])
        for i, sample in enumerate(mine):
            yield sample_row(archive, sample.marked(again=i in place["again"]), fields)
