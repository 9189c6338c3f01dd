"""Replaces each video among a chunk's rows by its clips, or by one row that says why it gives none."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from curation.errors import CurationError, TimedOut, Unavailable
from curation.plan import Plan
from curation.record import SourceRow, Span
from curation.video.reader import VideoReader, on_disk

TOLD = 20
SIZES = ("width", "height", "original_width", "original_height")
SPLITTERS = ("probe", "shots", "clips")
"""Stages whose values are made while a video is split: where one changed, videos are split anew."""


@dataclass(frozen=True)
class Found:
    """What splitting learnt of one row: its file's hash and its video's facts; of a video that a time limit ended that
    alone."""

    sha256: str | None
    info: dict[str, Any]
    timed_out: bool = False


def split_rows(
    rows: Iterable[SourceRow], plan: Plan, reader: VideoReader, fetch: Callable[[str], bytes]
) -> Iterator[tuple[SourceRow, Found | None]]:
    """Rows with videos split; images pass. A video's seconds are all in some clip or in `cut_spans`.

    A clip that the source names and that cannot be one is a row with the reason as its error.
    """
    shots, clips = plan.named("shots"), plan.named("clips")
    for row in rows:
        if row.error or (row.media != "video" and row.clips is None):
            yield row, None
        elif row.media != "video":
            yield replace(row, error="its source names clips in it, and it is a picture"), None
        elif shots is None or clips is None:
            yield replace(row, error="it is a video: put `- shots` and `- clips` first under score:"), None
        else:
            yield from _clips(row, shots.params, clips.params, reader, fetch)


def _clips(
    row: SourceRow, shots: Any, clips: Any, reader: VideoReader, fetch: Callable[[str], bytes]
) -> Iterator[tuple[SourceRow, Found | None]]:
    given = None if row.clips is None else [(clip.start_s, clip.end_s) for clip in row.clips]
    try:
        with on_disk(row.uri, fetch) as (path, sha256):
            found = reader.scan(path, shots.method, shots.threshold, clips.model_dump(), given)
    except Unavailable:
        raise
    except CurationError as error:
        yield replace(row, error=str(error)), Found(None, {}, isinstance(error, TimedOut))
        return
    kept = [piece for piece in found["pieces"] if piece["reason"] is None]
    refused = [piece for piece in found["pieces"] if piece["reason"] is not None and piece["given"] is not None]
    if not kept and not refused:
        yield replace(row, error=f"no clip in it: {_reasons(found['pieces'])}"), Found(sha256, {})
    for number, piece in enumerate(kept):
        info = clip_info(found["probe"], sha256, _span(piece)) | {name: piece[name] for name in SIZES}
        info |= _shot(found, piece)
        info |= {"clip": number, "clips": len(kept), "shot_method": shots.method, "cut_spans": None, "cuts": None}
        if number == 0:
            left_out = [p for p in found["pieces"] if p["reason"] is not None and p["given"] is None]
            info["cut_spans"] = json.dumps([[p["start_s"], p["end_s"], p["reason"]] for p in left_out])
            info["cuts"] = json.dumps(found["cuts"])
        yield _of(row, piece), Found(sha256, info)
    for piece in refused:
        start_s, end_s = given[piece["given"]] if given else (0.0, 0.0)
        clip = replace(_of(row, piece), span=Span(piece["start_frame"], piece["end_frame"], start_s, end_s))
        yield replace(clip, error=f"the clip {start_s:g}-{end_s:g} s: {piece['reason']}"), Found(sha256, {})


def _span(piece: dict[str, Any]) -> Span:
    return Span(piece["start_frame"], piece["end_frame"], piece["start_s"], piece["end_s"])


def _of(row: SourceRow, piece: dict[str, Any]) -> SourceRow:
    """The clip's own row; a given clip's captions come before those of the whole video."""
    own = row.clips[piece["given"]].captions if row.clips and piece["given"] is not None else None
    return replace(row, span=_span(piece), captions=[*(own or ()), *row.captions])


def _shot(found: dict[str, Any], piece: dict[str, Any]) -> dict[str, Any]:
    names = ("shot_start_frame", "shot_end_frame", "shot_start_s", "shot_end_s")
    return {"shot": piece["shot"], **dict(zip(names, found["shots"][piece["shot"]], strict=True))}


def _reasons(pieces: list[dict[str, Any]]) -> str:
    """Every second of a video that gives no clip, with its reason; the first ones where there are many."""
    told = [f"{p['reason']} ({p['start_s']:.2f}-{p['end_s']:.2f} s)" for p in pieces]
    more = [f"and {len(told) - TOLD} more"] if len(told) > TOLD else []
    return "; ".join([*told[:TOLD], *more])


def clip_info(probe: dict[str, Any], sha256: str, span: Span) -> dict[str, Any]:
    """What `pixels.info` says of a clip: the names that a picture has, and its video's probe."""
    return {
        "format": probe["container"],
        "orientation": 1,
        "frames": span.end_frame - span.start_frame,
        # of the file and the span: a video's clips are no duplicates of each other
        "sha256": f"{sha256}:{span.start_frame}-{span.end_frame}",
        "video": probe,
        **{key: probe[key] for key in (*SIZES, "file_bytes")},
    }


def rows_of(table: pa.Table, rows: list[SourceRow]) -> list[SourceRow]:
    """The rows that an earlier split of the same source rows made, read from the chunk's table."""
    by_uri = {(row.key, row.uri): row for row in rows}
    out = []
    columns = ["source_key", "source_uri", "captions", "extra", "start_frame", "end_frame", "start_s", "end_s"]
    for old in table.select(columns).to_pylist():
        row = by_uri[old["source_key"], old["source_uri"]]  # several rows may name one video
        row = replace(row, captions=old["captions"], extra=json.loads(old["extra"] or "{}"))
        if old["start_frame"] is not None:
            span = Span(old["start_frame"], old["end_frame"], old["start_s"], old["end_s"])
            row = replace(row, span=span)
        out.append(row)
    return out
