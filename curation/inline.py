"""The same work in this process, one item after another: for debugging, and as the engine's baseline."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from curation.threads import one_core
from curation.work import Pool, item, value_of


class InlineEngine:
    """Runs pools as plain function calls."""

    def map(self, pools: Sequence[Pool], payloads: Iterable[Any]) -> Iterator[Any]:
        """Send each payload through all pools; yields results in order."""
        with one_core():
            workers = [pool.make() for pool in pools]
            for payload in payloads:
                block = item(payload)
                for worker in workers:
                    block = worker(block)
                yield value_of(block)

    def describe(self) -> str:
        return "inline, one process"

    def close(self) -> None:
        """Nothing to stop."""
