"""The servers of this process's GPUs as one service."""

from collections.abc import Sequence
from typing import Any

from curation.errors import Unavailable
from curation.inference.network import DeviceFault, Row, Spec
from curation.inference.runner import Answer
from curation.inference.server import Server


class Shared:
    """A server for each GPU of this process; a request goes to the one with least to do.

    A device that failed is left out. When none is left, requests raise Unavailable: a process whose CUDA context
    failed cannot open another, so the run has to be started again.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = list(servers)

    def facts(self, spec: Spec) -> dict[str, Any]:
        return self._ask(lambda server: server.facts(spec))  # type: ignore[no-any-return]

    def run(self, spec: Spec, call: str, rows: Sequence[Row]) -> list[Answer]:
        return self._ask(lambda server: server.run(spec, call, rows))  # type: ignore[no-any-return]

    def _ask(self, question: Any) -> Any:
        reason = "there is no GPU"
        while sound := [server for server in self._servers if not server.broken]:
            try:
                return question(min(sound, key=lambda server: server.load))
            except DeviceFault as error:
                reason = str(error)
        raise Unavailable(f"the GPU can no longer be used: {reason}; run the same command again to continue")

    def reports(self) -> list[dict[str, Any]]:
        return [server.report() for server in self._servers]

    def close(self) -> None:
        for server in self._servers:
            server.close()
