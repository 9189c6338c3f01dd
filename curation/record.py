"""A record's identity and the columns that every row of scores/ has, whatever stages ran."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import xxhash

BASE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source_key", pa.string()),
        ("source_uri", pa.string()),
        ("media", pa.string()),
        ("content_sha256", pa.string()),  # of the media's bytes as read, null where they could not be
        ("caption", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("caption_sources", pa.list_(pa.string())),  # of `captions`, then of the generated caption where there is one
        ("extra", pa.string()),  # JSON object: the source's other columns and members
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("scored", pa.list_(pa.string())),  # names of the stages whose cells this row has
        ("error_stage", pa.string()),  # where the record was quarantined, null for a sound one
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class SourceRow:
    """One record as its source gives it, before anything was read or decoded.

    key       the source's own name for it (path, URL, archive key or the `key:` column)
    uri       where `curation.sources.fetch.fetch` finds the bytes again, on any worker, in any phase
    captions  every caption in the source's order, [] where there is none
    extra     other columns (tables) or members (archives), JSON-able
    clips     a video's clips where the source names them, None to cut it by its shots
    span      a clip's place in its video, None for a whole file
    error     why the source itself could not give it (a failed download, a malformed row); it is quarantined
    """

    key: str
    uri: str
    media: str = "image"
    captions: Sequence[str] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    clips: "tuple[GivenClip, ...] | None" = None
    span: "Span | None" = None


@dataclass(frozen=True)
class Span:
    """A clip's place: frames [start_frame, end_frame), seconds [start_s, end_s) from the video's start."""

    start_frame: int
    end_frame: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class GivenClip:
    """A clip that the source names, in seconds of its video; `captions` None where the video's hold for it."""

    start_s: float
    end_s: float
    captions: tuple[str, ...] | None = None


def record_id(
    key: str, content: str, captions: Sequence[str], occurrence: int = 0, span: tuple[int, int] | None = None
) -> str:
    """32 hex digits, the same on every machine, for every order of the input.

    key         the row's source key
    content     sha256 of the media's bytes, "" where they could not be read
    captions    tell rows that share key and content apart
    span        a clip's first frame and the one after its last
    occurrence  tells rows apart that share all of these; any numbering gives the same set of ids
    """
    digest = xxhash.xxh3_128()
    place = () if span is None else (f"frames {span[0]}-{span[1]}",)
    for part in (key, content, *captions, *place, str(occurrence)):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()
