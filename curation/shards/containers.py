"""The containers by their name in the manifest."""

import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from curation.errors import CurationError
from curation.shards.parquet import ParquetShard
from curation.shards.parquet import write as write_parquet
from curation.shards.sample import Sample
from curation.shards.webdataset import TarShard
from curation.shards.webdataset import write as write_tar
from curation.stores.storage import Store


class ShardFile(Protocol):
    """An open shard: its samples in order, or by position from 0. Raises CurationError where damaged."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def __getitem__(self, position: int) -> Sample: ...


@dataclass(frozen=True)
class Container:
    """How samples lie in a file: `open` takes the file's bytes and the name that errors give it."""

    suffix: str
    write: Callable[[Path, Iterable[Sample]], None]
    open: Callable[[pa.Buffer, str], ShardFile]


CONTAINERS = {
    "webdataset": Container(".tar", write_tar, TarShard),
    "parquet": Container(".parquet", write_parquet, ParquetShard),
}


def container_of(path: str) -> Container:
    """The container that a shard's file name says. Raises CurationError for a foreign file."""
    for container in CONTAINERS.values():
        if path.endswith(container.suffix):
            return container
    raise CurationError(f"{path} is no latent shard: they end in .tar or .parquet")


def bytes_of(store: Store, path: str) -> pa.Buffer:
    """A shard's bytes, mapped; those of an object store from a file of their own, gone with the last reference."""
    if not store.local:
        with tempfile.TemporaryFile() as copy:  # without a name: a kill leaves nothing
            with store.open(path) as source:
                shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            if not copy.tell():
                return pa.py_buffer(b"")
            return pa.py_buffer(mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ))
    return _mapped(store.path(path)) if store.size(path) else pa.py_buffer(b"")


def _mapped(path: str) -> pa.Buffer:
    with pa.memory_map(path) as file:
        return file.read_buffer()


def open_shard(store: Store, path: str) -> ShardFile:
    """A shard by its path in `store`, its hash not looked at. Raises CurationError."""
    return container_of(path).open(bytes_of(store, path), store.uri(path))
