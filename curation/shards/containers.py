"""The containers by their name in the manifest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from curation.errors import CurationError
from curation.shards import parquet, webdataset
from curation.shards.sample import Sample


@dataclass(frozen=True)
class Container:
    suffix: str
    write: Callable[[Path, Iterable[Sample]], None]
    read: Callable[[BinaryIO | bytes, str], Iterator[Sample]]


CONTAINERS = {
    "webdataset": Container(webdataset.SUFFIX, webdataset.write, webdataset.read),
    "parquet": Container(parquet.SUFFIX, parquet.write, parquet.read),
}


def container_of(path: str) -> Container:
    """The container that a shard's file name says. Raises CurationError for a foreign file."""
    for container in CONTAINERS.values():
        if path.endswith(container.suffix):
            return container
    raise CurationError(f"{path} is no latent shard: they end in .tar or .parquet")
