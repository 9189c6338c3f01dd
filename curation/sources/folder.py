"""`folder:` sources: every picture and video below a folder, with the texts beside it.

`cat.jpg` takes its captions from `cat.txt`, `cat.jpg.txt`, `CAT.Txt`, `cat.text` and `cat.caption`, and captions and
other fields from `cat.json`. Hidden files and those of other kinds are no records. Symbolic links to folders, and
those of pictures or their texts to the outside, are rows with an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.fs as pafs
import xxhash

from curation.errors import CurationError, UsageError
from curation.record import SourceRow
from curation.sources.base import VIDEO_BYTES, Chunk, Count, portions
from curation.sources.cells import RowError, clean
from curation.sources.fetch import fetch, file_uri
from curation.sources.files import file_info
from curation.sources.kinds import MEDIA, extension_of
from curation.sources.listing import Listing, list_folder
from curation.sources.pairing import pair
from curation.sources.rows import bounded, broken, media_kind, row_key
from curation.sources.samples import CAPTION_MEMBERS, MAX_TEXT, Fields, text_of, words_in
from curation.sources.table import fingerprint
from curation.stores.location import resolve

SIDECARS = (*CAPTION_MEMBERS, "json")
NEEDED = MEDIA | frozenset(SIDECARS)
MOST_COUNTED = 20_000
"""So many pictures and videos are counted for the plan; of a larger folder the number is not known before."""


@dataclass(frozen=True)
class Found:
    """A picture or video: its path from the root, the names of its sidecars, why it is refused, its bytes."""

    path: str
    sidecars: tuple[str, ...] = ()
    error: str | None = None
    size: int | None = None

    @property
    def video_size(self) -> int:
        return (self.size or 0) if media_kind(self.path) == "video" else 0


@dataclass(frozen=True)
class Folder:
    """A folder on a disk or in an object store; `caption`, `key` and `clips` name fields of the .json files."""

    root: str
    caption: str | None = None
    key: str | None = None
    clips: str | None = None

    def __post_init__(self) -> None:
        if file_info(self.root).type != pafs.FileType.Directory:
            raise UsageError(f"source: folder: {self.root} is not a folder, or does not exist")

    def chunks(self, rows_per_chunk: int, video_bytes: int = VIDEO_BYTES) -> Iterator[Chunk]:
        sized = map(self._sized, walk(self.root))
        parts = portions(sized, lambda found: found.video_size, rows_per_chunk, video_bytes)
        for number, portion in enumerate(parts):
            listed = [[found.path, list(found.sidecars), found.error] for found in portion]
            args = {"root": self.root, "files": listed, "caption": self.caption, "key": self.key, "clips": self.clips}
            digest = xxhash.xxh3_128("\n".join(self._states(portion)).encode()).hexdigest()
            yield Chunk(number, "folder", args, fingerprint("folder", args, digest), len(portion))

    def estimate(self) -> Count | None:
        """Exact; None where counting would be a walk through very many files."""
        found = 0
        for _, listing in _listings(self.root):
            found += _records_of(listing)
            if found > MOST_COUNTED:
                return None
        return Count(found, exact=True)

    def is_empty(self) -> bool:
        """Whether there is no picture or video below it, not even one that is refused."""
        return not any(_records_of(listing) for _, listing in _listings(self.root))

    def _sized(self, found: Found) -> Found:
        return found if found.error else replace(found, size=file_info(resolve(self.root, found.path)).size)

    def _states(self, portion: list[Found]) -> Iterator[str]:
        """What changes when a picture or a sidecar does: sizes, and when a sidecar was written."""
        for found in portion:
            yield f"{found.path} {found.error or found.size}"
            for name in found.sidecars:
                sidecar = file_info(resolve(self.root, _beside(found.path, name)))
                yield f"{name} {sidecar.size} {sidecar.mtime_ns}"


def read_folder(args: dict[str, Any]) -> Iterator[SourceRow]:
    """The rows of a chunk, on a worker; nothing is listed again."""
    for path, sidecars, error in args["files"]:
        try:
            if error:
                raise RowError(error)
            yield _row(args, path, sidecars)
        except RowError as problem:
            yield broken(path, f"{path}: {problem}")


def _row(args: dict[str, Any], path: str, sidecars: list[str]) -> SourceRow:
    texts = [(extension_of(name), _sidecar(args["root"], _beside(path, name))) for name in sidecars]
    words = words_in(texts, Fields(args["caption"], args["key"], args["clips"]))
    return SourceRow(
        key=row_key(words.meta, args["key"], path),
        uri=file_uri(resolve(args["root"], path)),
        media=media_kind(path),
        captions=words.captions,
        clips=words.clips,
        extra=bounded({field: value for field, value in words.rest.items() if field in words.meta}),
    )


def _sidecar(root: str, path: str) -> str:
    try:
        return text_of(fetch(file_uri(resolve(root, path)), max_bytes=MAX_TEXT), path)
    except CurationError as error:
        raise RowError(str(error)) from error


def _beside(path: str, name: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return folder + slash + name


def walk(root: str) -> Iterator[Found]:
    """Pictures and videos in order: a folder's own files by name, then its folders by name, one at a time."""
    for folder, listing in _listings(root):
        yield from _records(folder, listing)


def _listings(root: str) -> Iterator[tuple[str, Listing]]:
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        listing = list_folder(root, folder)
        yield folder, listing
        waiting += [f"{folder}{name}/" for name in sorted(listing.folders, reverse=True)]


def _records_of(listing: Listing) -> int:
    """How many records a listing gives."""
    return len(listing.closed) + sum(extension_of(name) in MEDIA for name in (*listing.files, *listing.refused))


def _records(folder: str, listing: Listing) -> Iterator[Found]:
    """A folder's media, and folders that are not entered, by name; a refused text is an error of its media."""
    refused = listing.refused
    names = sorted(name for name in {*listing.files, *refused} if extension_of(name) in NEEDED)
    paired, _ = pair(names, dotted=False)
    found = {names[one.medium]: [names[i] for _, i in one.beside] for one in paired}
    for name in sorted([*found, *listing.closed]):
        if name in listing.closed:
            yield Found(clean(folder + name), error=listing.closed[name])
            continue
        texts = [f"{text} beside it cannot be read: {refused[text]}" for text in found[name] if text in refused]
        error = refused.get(name) or next(iter(texts), None)
        yield Found(clean(folder + name), () if error else tuple(found[name]), error)
