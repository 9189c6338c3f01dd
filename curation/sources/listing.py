"""What lies in one folder: its files, the folders in it, and what is refused, on a disk or in an object store."""

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow.fs as pafs

from curation.sources.cells import clean
from curation.sources.kinds import MEDIA, extension_of
from curation.stores.location import explain, locate, resolve

OUTSIDE = "it is a symbolic link that leads outside the source's folder"


@dataclass
class Listing:
    """Names of files and folders, in no order, without hidden ones.

    refused, closed  files and folders that are not read, with the reason
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)


def list_folder(root: str, folder: str) -> Listing:
    """What lies in `folder` ("" or "a/b/") below `root`. Raises CurationError where it cannot be listed."""
    filesystem, top = locate(root)
    if isinstance(filesystem, pafs.LocalFileSystem):
        return _on_disk(Path(top), folder)
    return _in_store(root, folder)


def _on_disk(root: Path, folder: str) -> Listing:
    listing = Listing()
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    _sort(listing, entry, root)
    except OSError as error:
        raise explain(error, str(root / folder), "listed") from error
    return listing


def _sort(listing: Listing, entry: os.DirEntry[str], root: Path) -> None:
    link, inner = entry.is_symlink(), _is_folder(entry)
    if clean(entry.name) != entry.name:
        (listing.closed if inner else listing.refused)[entry.name] = "its name is not UTF-8"
    elif inner and link:
        listing.closed[entry.name] = "it is a symbolic link to a folder; links to folders are not followed"
    elif inner:
        listing.folders.append(entry.name)
    elif link and (why := _refusal(Path(entry.path), root)):
        listing.refused[entry.name] = why
    else:
        listing.files.append(entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _refusal(link: Path, root: Path) -> str | None:
    """Why a symbolic link is not read; None where it stays below the root, or among the files of its hub repository."""
    try:
        target = link.resolve()
    except (OSError, RuntimeError):
        return "it is a symbolic link that leads to itself"
    top, blobs = _allowed(root)
    return None if target.is_relative_to(top) or (blobs and target.parent == blobs) else OUTSIDE


@lru_cache(maxsize=16)
def _allowed(root: Path) -> tuple[Path, Path | None]:
    """Where links may lead: below the root, and into `blobs` of a huggingface_hub cache that the root is a snapshot of.

    Such a cache has `blobs/<hash>` and `snapshots/<revision>/<path>`, links to these. The folder's own place decides,
    never what a link says, and a `blobs` that is itself a link allows nothing.
    """
    top = root.resolve()
    for place in (top, *top.parents):
        if place.parent.name == "snapshots":
            return top, place.parent.parent / "blobs"
    return top, None


def _in_store(root: str, folder: str) -> Listing:
    filesystem, top = locate(resolve(root, folder) if folder else root)
    try:
        infos = filesystem.get_file_info(pafs.FileSelector(top))
    except OSError as error:
        raise explain(error, f"{root}/{folder}", "listed") from error
    shown = [info for info in infos if not info.base_name.startswith(".")]
    files = [info.base_name for info in shown if info.type == pafs.FileType.File]
    folders = [info for info in shown if info.type == pafs.FileType.Directory]
    inner = [info.base_name for info in folders if info.path.strip("/") != top.strip("/")]
    return Listing(files, inner, _without_a_path(filesystem, top) if len(inner) < len(folders) else {})


def _without_a_path(filesystem: pafs.FileSystem, top: str) -> dict[str, str]:
    """Objects below a folder whose names have an empty part (`a//b.jpg`): they are listed, but nothing opens them."""
    infos = filesystem.get_file_info(pafs.FileSelector(top, recursive=True))
    paths = [info.path[len(top) + 1 :] for info in infos if info.type == pafs.FileType.File]
    why = "its name has an empty part (//), which no path can have; rename the object"
    return {path: why for path in paths if path.startswith("/") and extension_of(path) in MEDIA}
