"""A folder on a disk or in an object store, in which a file is there whole or not at all."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs

from curation.errors import CurationError
from curation.stores.location import explain, locate, resolve, scheme_of
from curation.stores.scratch import scratch

TEMPORARY = ".tmp-"
"""How uncommitted local files are named: `.tmp-<random>-<name>~`, so that no search by suffix finds them."""


@dataclass(frozen=True)
class Entry:
    """A committed file: its name relative to the store, its size in bytes, and when it was changed last, in ns."""

    name: str
    size: int
    changed_ns: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Store:
    """A folder: a local path, or a URL such as `s3://bucket/run?endpoint_override=..&region=..`.

    Names are relative, with `/` between folders. Folders come into being with their first file. A store can
    be sent to other processes and machines. Everything raises CurationError with a sentence.
    """

    root: str

    def __post_init__(self) -> None:
        if not scheme_of(self.root):
            object.__setattr__(self, "root", str(Path(self.root).absolute()))

    @property
    def filesystem(self) -> pafs.FileSystem:
        return locate(self.root)[0]

    @property
    def local(self) -> Path | None:
        """The folder on this machine's disk, None for an object store."""
        filesystem, path = locate(self.root)
        return Path(path) if isinstance(filesystem, pafs.LocalFileSystem) else None

    def child(self, name: str) -> "Store":
        return Store(resolve(self.root, check_name(name)))

    def path(self, name: str = "") -> str:
        """The path of a file on `.filesystem`, for pyarrow.dataset and pyarrow.parquet."""
        top = locate(self.root)[1]
        return f"{top.rstrip('/')}/{check_name(name)}" if name else top

    def uri(self, name: str) -> str:
        """The file as a path or URL, as `curation.sources.fetch.fetch` takes it."""
        return resolve(self.root, check_name(name))

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            try:
                return bytes(file.read())
            except OSError as error:
                raise explain(error, self.uri(name), "read") from error

    def open(self, name: str) -> pa.NativeFile:
        """A seekable file, to be closed by the caller."""
        filesystem, path = self.filesystem, self.path(check_name(name))
        try:
            return filesystem.open_input_file(path)
        except Exception as error:
            raise explain(error, self.uri(name), "read") from error

    def write(self, name: str, data: bytes) -> None:
        """Commit `data`, replacing what was there: a reader sees the old or the new file, never a part."""
        if self.local:
            self._commit(name, lambda file: file.write(data))
        else:
            self._upload(name, pa.py_buffer(data))

    def put(self, name: str, local: Path) -> None:
        """Commit a local file of any size under `name`; the local file stays."""
        if self.local:
            with local.open("rb") as source:
                self._commit(name, lambda file: shutil.copyfileobj(source, file, 1 << 20))
        elif local.stat().st_size == 0:
            self._upload(name, pa.py_buffer(b""))
        else:
            with pa.memory_map(str(local)) as source:
                self._upload(name, source.read_buffer())

    def exists(self, name: str) -> bool:
        return self._info(name).type == pafs.FileType.File

    def size(self, name: str) -> int:
        info = self._info(name)
        if info.type != pafs.FileType.File:
            raise CurationError(f"{self.uri(name)} does not exist")
        return int(info.size)

    def list(self, folder: str = "") -> list[Entry]:
        """Every committed file below `folder`, at any depth, sorted; none where there is no such folder."""
        top = self.path(folder)
        selector = pafs.FileSelector(top, recursive=True, allow_not_found=True)
        try:
            infos = self.filesystem.get_file_info(selector)
        except NotADirectoryError:
            return []
        except OSError as error:
            raise explain(error, f"{self.root}/{folder}", "listed") from error
        skip = len(self.path().strip("/")) + 1
        files = (Entry(i.path.strip("/")[skip:], i.size, i.mtime_ns) for i in infos if i.type == pafs.FileType.File)
        return sorted((f for f in files if TEMPORARY not in f.name), key=lambda f: f.name)

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        try:
            self.filesystem.delete_file(self.path(check_name(name)))
        except FileNotFoundError:
            return
        except OSError as error:
            if self.exists(name):
                raise explain(error, self.uri(name), "deleted") from error

    def move(self, name: str, to: str) -> None:
        """Give a committed file another name, replacing what had it: a rename, or a copy and a deletion."""
        source, target = self.path(check_name(name)), self.path(check_name(to))
        try:
            if self.local:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(source).replace(target)
                _flush_folder(Path(target).parent)
            else:
                self.filesystem.copy_file(source, target)
                self.filesystem.delete_file(source)
        except OSError as error:
            raise explain(error, self.uri(to), "written") from error

    def sweep(self) -> None:
        """Remove what a killed run was writing. Only for the holder of the run's lock."""
        if self.local:
            for left in list(self.local.rglob(f"{TEMPORARY}*~")):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A local folder for files on their way here: hidden, removed at the end, swept after a kill."""
        if not self.local:
            with scratch() as folder:
                yield folder
            return
        self.local.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory("-workspace~", TEMPORARY, self.local) as here:
            yield Path(here)

    def _info(self, name: str) -> pafs.FileInfo:
        filesystem, path = self.filesystem, self.path(check_name(name))
        try:
            return filesystem.get_file_info(path)
        except Exception as error:
            raise explain(error, self.uri(name), "read") from error

    def _commit(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """Fill a temporary in the same directory, flush it to the disk, give it its name."""
        final = Path(self.path(check_name(name)))
        temporary = final.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{final.name[:200]}~")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    fill(file)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(final)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
            _flush_folder(final.parent)
        except OSError as error:
            raise explain(error, str(final), "written") from error

    def _upload(self, name: str, data: pa.Buffer) -> None:
        """One upload, complete or without effect.

        The data go down in a single call, so that nothing of ours can fail between its parts: closing the
        stream would publish what had been sent until then, and pyarrow cannot abort an upload.
        """
        try:
            with self.filesystem.open_output_stream(self.path(check_name(name))) as stream:
                stream.write(data)
        except OSError as error:
            raise explain(error, self.uri(name), "written") from error


def _flush_folder(folder: Path) -> None:
    """A rename outlives a power cut only when its folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_name(name: str) -> str:
    """Raise CurationError unless `name` is relative and stays inside its folder."""
    parts = name.split("/")
    if not name or "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise CurationError(
            f"{name!r} is not a name inside a run directory: it must be relative, without empty parts or `..`"
        )
    return name
