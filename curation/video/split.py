"""Replaces each video among a chunk's rows by its clips, or by one row that says why it gives none."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from curation.errors import CurationError
from curation.plan import Plan
from curation.record import SourceRow, Span
from curation.video.reader import VideoReader, on_disk

SPLITTERS = ("probe", "shots", "clips")
"""Stages whose values are made while a video is split: where one changed, videos are split anew."""


@dataclass(frozen=True)
class Found:
    """What splitting learnt of one row: its file's hash and its video's facts."""

    sha256: str
    info: dict[str, Any]


def split_rows(
    rows: Iterable[SourceRow], plan: Plan, reader: VideoReader, fetch: Callable[[str], bytes]
) -> Iterator[tuple[SourceRow, Found | None]]:
    """Rows with videos split; images pass. A video's seconds are all in some clip or in `cut_spans`."""
    shots, clips = plan.named("shots"), plan.named("clips")
    for row in rows:
        if row.media != "video" or row.error:
            yield row, None
        elif shots is None or clips is None:
            yield replace(row, error="it is a video: put `- shots` and `- clips` first under score:"), None
        else:
            yield from _clips(row, shots.params, clips.params, reader, fetch)


def _clips(
    row: SourceRow, shots: Any, clips: Any, reader: VideoReader, fetch: Callable[[str], bytes]
) -> Iterator[tuple[SourceRow, Found | None]]:
    try:
        with on_disk(row.uri, fetch) as (path, sha256):
            rules = clips.model_dump()
            found = reader.scan(path, shots.method, shots.threshold, rules)
    except CurationError as error:
        yield replace(row, error=str(error)), None
        return
    pieces = found["pieces"]
    kept = [piece for piece in pieces if piece["reason"] is None]
    left_out = [[p["start_s"], p["end_s"], p["reason"]] for p in pieces if p["reason"] is not None]
    if not kept:
        reasons = sorted({piece["reason"] for piece in pieces})
        yield replace(row, error=f"no clip in it: {'; '.join(reasons)}"), Found(sha256, {})
        return
    for number, piece in enumerate(kept):
        span = Span(piece["start_frame"], piece["end_frame"], piece["start_s"], piece["end_s"])
        info = clip_info(found["probe"], sha256, span)
        info |= {"shot": piece["shot"], "clip": number, "clips": len(kept), "shot_method": shots.method}
        info["cut_spans"] = json.dumps(left_out) if number == 0 else None
        yield replace(row, span=span), Found(sha256, info)


def clip_info(probe: dict[str, Any], sha256: str, span: Span) -> dict[str, Any]:
    """What `pixels.info` says of a clip: the names that a picture has, and its video's probe."""
    return {
        "format": probe["container"],
        "mode": probe["pixel_format"],
        "orientation": 1,
        "frames": span.end_frame - span.start_frame,
        "file_bytes": None,
        # of the file and the span: a video's clips are no duplicates of each other
        "sha256": f"{sha256}:{span.start_frame}-{span.end_frame}",
        "video": probe,
        **{key: probe[key] for key in ("width", "height", "original_width", "original_height")},
    }


def rows_of(table: pa.Table, rows: list[SourceRow]) -> list[SourceRow]:
    """The rows that an earlier split of the same source rows made, read from the chunk's table."""
    by_uri = {(row.key, row.uri): row for row in rows}
    out = []
    columns = ["source_key", "source_uri", "start_frame", "end_frame", "start_s", "end_s"]
    for old in table.select(columns).to_pylist():
        row = by_uri[old["source_key"], old["source_uri"]]
        if old["start_frame"] is not None:
            row = replace(row, span=Span(old["start_frame"], old["end_frame"], old["start_s"], old["end_s"]))
        out.append(row)
    return out
