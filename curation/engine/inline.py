"""The same work without Ray: in this process, or in processes of its own when networks live on a GPU."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from curation.devices import gpus_here
from curation.engine.pool import Pool, item, value_of
from curation.engine.processes import Processes
from curation.inference.client import service
from curation.inference.server import Server
from curation.inference.sharing import Shared
from curation.threads import one_core


class InlineEngine:
    """One item after another as plain function calls; with `workers` above one, in as many child processes.

    Networks on GPUs live in this process, a server for each GPU, whichever process asks.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._shared: Shared | None = None

    def map(self, pool: Pool, payloads: Iterable[Any]) -> Iterator[Any]:
        """Send each payload to a worker; yields results, in order where there is one worker."""
        if pool.on_gpu and self._shared is None:
            self._shared = Shared([Server() for _ in range(max(1, self.gpus()))])
        if self.workers > 1:
            yield from Processes(pool, self.workers, self._shared if pool.on_gpu else None).map(payloads)
            return
        with ExitStack() as inside:
            inside.enter_context(one_core())
            if pool.on_gpu and self._shared:
                inside.enter_context(service(self._shared))
            worker = pool.make()
            inside.callback(worker.close)
            for payload in payloads:
                yield value_of(worker(item(payload)))

    def gpus(self) -> int:
        return gpus_here()

    def servers(self) -> list[dict[str, Any]]:
        return self._shared.reports() if self._shared else []

    def describe(self) -> str:
        gpus = f" and {self.gpus()} GPUs" if self._shared else ""
        return f"inline, {'one process' if self.workers == 1 else f'{self.workers} processes'}{gpus}"

    def close(self) -> None:
        """End the servers."""
        if self._shared:
            self._shared.close()
