"""`folder:` sources: every picture and video below a folder, with the .txt and .json files beside it.

`cat.jpg` takes its caption from `cat.txt`, and captions and other fields from `cat.json`. Hidden files and
those of other kinds are no records. Symbolic links to folders or to the outside are rows with an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import xxhash

from curation.errors import CurationError
from curation.record import SourceRow
from curation.sources.base import VIDEO_BYTES, Chunk, Count, portions
from curation.sources.cells import RowError, clean
from curation.sources.fetch import fetch, file_uri
from curation.sources.files import file_info
from curation.sources.rows import bounded, broken, media_kind, row_key
from curation.sources.samples import IMAGES, MAX_TEXT, VIDEOS, Fields, json_object, text_of, words_in
from curation.sources.table import fingerprint
from curation.stores.location import explain, locate, resolve

SIDECARS = ("txt", "json")


@dataclass(frozen=True)
class Found:
    """A picture or video: its path from the root, the extensions of its sidecars, why it is refused, its bytes."""

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
            raise CurationError(f"source: folder: {self.root} is not a folder, or does not exist")

    def chunks(self, rows_per_chunk: int, video_bytes: int = VIDEO_BYTES) -> Iterator[Chunk]:
        sized = map(self._sized, walk(self.root))
        parts = portions(sized, lambda found: found.video_size, rows_per_chunk, video_bytes)
        for number, portion in enumerate(parts):
            listed = [[found.path, list(found.sidecars), found.error] for found in portion]
            args = {"root": self.root, "files": listed, "caption": self.caption, "key": self.key, "clips": self.clips}
            digest = xxhash.xxh3_128("\n".join(self._states(portion)).encode()).hexdigest()
            yield Chunk(number, "folder", args, fingerprint("folder", args, digest), len(portion))

    def estimate(self) -> Count | None:
        """None: counting would be a walk through all of it."""
        return None

    def _sized(self, found: Found) -> Found:
        return found if found.error else replace(found, size=file_info(resolve(self.root, found.path)).size)

    def _states(self, portion: list[Found]) -> Iterator[str]:
        """What changes when a picture or a sidecar does: sizes, and when a sidecar was written."""
        for found in portion:
            yield f"{found.path} {found.error or found.size}"
            for extension in found.sidecars:
                sidecar = file_info(resolve(self.root, _beside(found.path, extension)))
                yield f"{extension} {sidecar.size} {sidecar.mtime_ns}"


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
    texts = {extension: _sidecar(args["root"], _beside(path, extension)) for extension in sidecars}
    meta = json_object(texts.pop("json", "{}"))
    captions, clips, used = words_in(texts, meta, Fields(args["caption"], args["key"], args["clips"]))
    return SourceRow(
        key=row_key(meta, args["key"], path),
        uri=file_uri(resolve(args["root"], path)),
        media=media_kind(path),
        captions=captions,
        clips=clips,
        extra=bounded({field: value for field, value in meta.items() if field not in used}),
    )


def _sidecar(root: str, path: str) -> str:
    try:
        return text_of(fetch(file_uri(resolve(root, path)), max_bytes=MAX_TEXT), path)
    except CurationError as error:
        raise RowError(str(error)) from error


def _beside(path: str, extension: str) -> str:
    return f"{path.rpartition('.')[0]}.{extension}"


def walk(root: str) -> Iterator[Found]:
    """Pictures and videos in order: a folder's own files by name, then its folders by name, one at a time."""
    filesystem, top = locate(root)
    local = isinstance(filesystem, pafs.LocalFileSystem)
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        names, folders, refused = _list_disk(Path(top), folder) if local else _list(root, folder)
        sidecars = {name for name in names if name.rpartition(".")[2] in SIDECARS}
        for name in sorted([*names, *refused]):
            if name in refused:
                yield Found(clean(folder + name), error=refused[name])
            elif name.rpartition(".")[2].lower() in IMAGES | VIDEOS:
                beside = tuple(extension for extension in SIDECARS if _beside(name, extension) in sidecars)
                yield Found(folder + name, beside)
        waiting += [f"{folder}{name}/" for name in sorted(folders, reverse=True)]


def _list_disk(root: Path, folder: str) -> tuple[list[str], list[str], dict[str, str]]:
    """A local folder's files, folders, and entries that are refused, with the reason."""
    names: list[str] = []
    folders: list[str] = []
    refused: dict[str, str] = {}
    try:
        for entry in (root / folder).iterdir():
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and entry.is_dir():
                refused[entry.name] = "it is a symbolic link to a folder; links to folders are not followed"
            elif entry.is_dir():
                folders.append(entry.name)
            elif entry.is_symlink() and not entry.resolve().is_relative_to(root.resolve()):
                refused[entry.name] = "it is a symbolic link that leads outside the source's folder"
            elif clean(entry.name) != entry.name:
                refused[entry.name] = "its name is not UTF-8"
            else:
                names.append(entry.name)
    except OSError as error:
        raise explain(error, str(root / folder), "listed") from error
    return names, folders, refused


def _list(root: str, folder: str) -> tuple[list[str], list[str], dict[str, str]]:
    filesystem, top = locate(resolve(root, folder) if folder else root)
    try:
        infos = filesystem.get_file_info(pafs.FileSelector(top))
    except OSError as error:
        raise explain(error, f"{root}/{folder}", "listed") from error
    shown = [info for info in infos if not info.base_name.startswith(".")]
    files = [info.base_name for info in shown if info.type == pafs.FileType.File]
    folders = [info for info in shown if info.type == pafs.FileType.Directory]
    inner = [info.base_name for info in folders if info.path.strip("/") != top.strip("/")]
    return files, inner, _without_a_path(filesystem, top) if len(inner) < len(folders) else {}


def _without_a_path(filesystem: pafs.FileSystem, top: str) -> dict[str, str]:
    """Objects below a folder whose names have an empty part (`a//b.jpg`): they are listed, but nothing opens them."""
    infos = filesystem.get_file_info(pafs.FileSelector(top, recursive=True))
    paths = [info.path[len(top) + 1 :] for info in infos if info.type == pafs.FileType.File]
    why = "its name has an empty part (//), which no path can have; rename the object"
    return {path: why for path in paths if path.startswith("/") and _is_media(path)}


def _is_media(path: str) -> bool:
    return path.rpartition(".")[2].lower() in IMAGES | VIDEOS
