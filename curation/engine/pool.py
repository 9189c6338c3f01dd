"""What an engine is given: workers of one kind, and payloads for them."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa


class Worker(Protocol):
    """Lives in one process; called with one Arrow block at a time."""

    def __call__(self, block: pa.Table) -> pa.Table: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Pool:
    """Workers of one kind: how to make one (picklable), the memory of each, and whether they use networks on GPUs."""

    name: str
    make: Callable[[], Worker]
    memory_mb: int = 1000
    on_gpu: bool = False


class Engine(Protocol):
    """Sends payloads through a pool of workers."""

    def map(self, pool: Pool, payloads: Iterable[Any]) -> Iterator[Any]:
        """Results as they come, in any order. Raises CurationError when the engine gives up."""
        ...

    def describe(self) -> str:
        """What it runs on, for run.json."""
        ...

    def gpus(self) -> int:
        """GPUs that servers of networks can have."""
        ...

    def servers(self) -> "list[dict[str, Any]]":
        """What the servers of networks report (`curation.inference.server.Server.report`); none, an empty list."""
        ...

    def close(self) -> None: ...


def item(value: Any) -> pa.Table:
    """A JSON-able payload as a one-row block."""
    return pa.table({"json": [json.dumps(value)]})


def value_of(block: pa.Table) -> Any:
    """The payload of a one-row block."""
    return json.loads(block["json"][0].as_py())
