"""A sample's members as a record: the picture, the captions, and everything else that lies beside it.

Captions come from `txt`, `text` and `caption` members or sidecars in this order, then from the fields `caption` and
`captions` of `json`; where several of a kind match one picture, the closer name comes first. Each counts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.record import GivenClip, SourceRow
from curation.sources.cells import RowError, captions_of, clean, clips_of
from curation.sources.kinds import TEXTS, VIDEOS
from curation.sources.rows import bounded, broken, row_key
from curation.sources.tar import Archive, Member, Sample
from curation.stores import jsontext

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
    """The record; a row with an error where the sample is none."""
    try:
        if sample.again:
            raise RowError(f"members of {sample.stem[:300]!r} are not adjacent: the name came before in this archive")
        if sample.error or sample.medium is None:
            raise RowError(sample.error or "no picture or video")
        picture = sample.medium
        named = [(label or member.name.rpartition("/")[2], member) for label, member in sample.beside]
        texts = [(label, _text(archive, member)) for label, member in named if _is_text(member)]
        places = {label: {"offset": m.offset, "size": m.size} for label, m in reversed(named) if not _is_text(m)}
        words = words_in(texts, fields)
        return SourceRow(
            key=row_key(words.meta, fields.key, sample.key),
            uri=f"{archive.location}#offset={picture.offset}&size={picture.size}",
            media="video" if picture.extension in VIDEOS else "image",
            captions=words.captions,
            clips=words.clips,
            extra=bounded({**words.rest, **places}),
        )
    except RowError as error:
        return broken(sample.key, f"{archive.location}, byte {sample.offset}: {error}")


@dataclass(frozen=True)
class Words:
    """What the texts beside a picture say: `meta` is the fields of its JSON, `rest` what is no caption and no clip."""

    captions: list[str]
    clips: tuple[GivenClip, ...] | None
    meta: dict[str, Any]
    rest: dict[str, Any]


def words_in(texts: Sequence[tuple[str, str]], fields: Fields) -> Words:
    """Captions, each once, and everything else in (label, text) pairs, of which the first of a label comes first."""
    metas = [json_object(text) for label, text in texts if label == "json"]
    plain = [(label, text) for label, text in texts if label != "json"]
    meta = {field: value for one in reversed(metas) for field, value in one.items()}
    names = (fields.caption,) if fields.caption else (*CAPTION_MEMBERS, *CAPTION_FIELDS)
    cells: list[tuple[str, Any]] = []
    for name in names:
        cells += [(name, text.rstrip("\r\n")) for label, text in plain if label == name]
        cells += [(name, one[name]) for one in metas if one.get(name) is not None]
    used, clips = {name for name, _ in cells}, None
    if fields.clips:
        first = next((i for i, (_, cell) in enumerate(cells) if isinstance(cell, list)), None)
        field, cell = (None, None) if first is None else cells[first]
        clips = clips_of(meta.get(fields.clips), fields.clips, cell, field)
        used.add(fields.clips)
        if first is not None and clips and any(clip.captions is not None for clip in clips):
            del cells[first]
    captions = [caption for name, cell in cells for caption in captions_of(cell, name)]
    rest = {field: value for field, value in {**meta, **dict(reversed(plain))}.items() if field not in used}
    return Words(list(dict.fromkeys(captions)), clips, meta, rest)


def _is_text(member: Member) -> bool:
    return member.extension in TEXTS


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
        found = jsontext.parse(text)
    except ValueError as error:
        raise RowError(f"its json member is not JSON: {error}") from error
    return found if isinstance(found, dict) else {"json": found}
