"""A sample's members as a record: the picture, the captions, and everything else that lies beside it."""

import json
from dataclasses import dataclass
from typing import Any

from curation.record import GivenClip, SourceRow
from curation.sources.cells import RowError, captions_of, clean, clips_of
from curation.sources.rows import bounded, broken, row_key
from curation.sources.tar import Archive, Member, Sample

# fmt: off
IMAGES = frozenset(
    (
        "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff",
        "avif", "avifs", "heic", "heif", "jxl", "jp2", "j2k", "jpx", "ppm", "pgm", "pbm", "pnm",
        "ico", "icns", "cur", "tga", "pcx", "sgi", "ras", "xbm", "xpm", "qoi", "dds", "psd", "xcf", "eps", "svg",
        "exr", "hdr", "mpo", "jps", "fli", "flc", "jxr", "dng", "cr2", "nef", "arw", "raw",
    )
)
VIDEOS = frozenset(
    (
        "mp4", "webm", "mkv", "mov", "avi", "m4v", "ogv", "ts", "mpg", "mpeg", "wmv", "flv",
    )
)
TEXTS = frozenset(
    (
        "txt", "text", "caption", "json", "cls", "cls2", "index", "inx", "id", "csv", "tsv", "html",
        "xml", "yaml", "yml", "md", "url",
    )
)
# fmt: on
CAPTION_MEMBERS = ("txt", "text", "caption")
CAPTION_FIELDS = ("caption", "captions")
MAX_TEXT = 8 << 20


@dataclass(frozen=True)
class Fields:
    """Fields of a sample's JSON that the manifest names; None for the usual ones."""

    caption: str | None
    key: str | None
    clips: str | None = None


def sample_row(archive: Archive, sample: Sample, fields: Fields) -> SourceRow:
    """The record; a row with an error where the sample has none, or two, or members elsewhere."""
    try:
        if sample.error:
            raise RowError(sample.error)
        if sample.again:
            raise RowError(f"members of {sample.key!r} are not adjacent: the key came before in this archive")
        media = media_member([member.extension for member in sample.members])
        if media is None:
            raise RowError(f"no picture or video among {', '.join(m.name for m in sample.members)[:300]}")
        picture = sample.members[media]
        texts = {m.extension: _text(archive, m) for m in sample.members if _is_text(m) and m is not picture}
        meta = json_object(texts.pop("json", "{}"))
        others = [m for m in sample.members if not _is_text(m) and m is not picture]
        places = {m.extension: {"offset": m.offset, "size": m.size} for m in others}
        captions, clips, used = words_in(texts, meta, fields)
        rest = {**meta, **texts, **places}
        return SourceRow(
            key=row_key(meta, fields.key, sample.key),
            uri=f"{archive.location}#offset={picture.offset}&size={picture.size}",
            media="video" if picture.extension.rpartition(".")[2] in VIDEOS else "image",
            captions=captions,
            clips=clips,
            extra=bounded({field: value for field, value in rest.items() if field not in used}),
        )
    except RowError as error:
        return broken(sample.key, f"{archive.location}, byte {sample.offset}: {error}")


def media_member(extensions: list[str]) -> int | None:
    """Which member is the record's media: one whose whole extension says so, else the last part of one's."""
    media = IMAGES | VIDEOS
    whole = [i for i, extension in enumerate(extensions) if extension in media]
    return next(iter(whole + [i for i, e in enumerate(extensions) if e.rpartition(".")[2] in media]), None)


def words_in(
    texts: dict[str, str], meta: dict[str, Any], fields: Fields
) -> tuple[list[str], tuple[GivenClip, ...] | None, set[str]]:
    """Captions, each once, the clips that a field names, and the names of the members and fields all these are from."""
    names = (fields.caption,) if fields.caption else (*CAPTION_MEMBERS, *CAPTION_FIELDS)
    cells = {name: cell for name in names if (cell := texts.get(name, meta.get(name))) is not None}
    used, clips = set(cells), None
    if fields.clips:
        lists = (name for name, cell in cells.items() if isinstance(cell, list))
        field = next(lists, None)
        clips = clips_of(meta.get(fields.clips), fields.clips, cells.get(field) if field else None, field)
        used.add(fields.clips)
        if clips and any(clip.captions is not None for clip in clips):
            del cells[str(field)]
    found: list[str] = []
    for name, cell in cells.items():
        found += captions_of(cell.rstrip("\r\n") if isinstance(cell, str) else cell, name)
    return list(dict.fromkeys(found)), clips, used


def _is_text(member: Member) -> bool:
    return member.extension.rpartition(".")[2] in TEXTS


def _text(archive: Archive, member: Member) -> str:
    if member.size > MAX_TEXT:
        raise RowError(f"{member.name} has {member.size} bytes of text; at most {MAX_TEXT} are read")
    return text_of(archive.data.read_at(member.size, member.offset), member.name)


def text_of(data: bytes, name: str) -> str:
    """A text member or sidecar. Raises RowError when it is not UTF-8."""
    try:
        return clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RowError(f"{name} is not UTF-8 (byte {error.start})") from error


def json_object(text: str) -> dict[str, Any]:
    """The fields of a JSON member or sidecar; what is not an object stands under `json`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(f"its json member is not JSON: {error}") from error
    return found if isinstance(found, dict) else {"json": found}
