"""How a model's front reaches its network: in this process, or by the service that this process was given."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from curation.inference.network import Row, Spec
from curation.inference.runner import Answer, Runner


class Service(Protocol):
    """Networks elsewhere: in a server of this process, of its parent, or of a cluster.

    Both methods raise CurationError; a lost server is replaced and asked again behind them.
    """

    def facts(self, spec: Spec) -> dict[str, Any]: ...

    def run(self, spec: Spec, call: str, rows: Sequence[Row]) -> list[Answer]: ...


_service: Service | None = None
_here: dict[Spec, Runner] = {}
_opening = threading.RLock()
_waited: defaultdict[str, float] = defaultdict(float)


@dataclass(frozen=True)
class Connection:
    """A network as its front sees it."""

    spec: Spec

    @property
    def facts(self) -> dict[str, Any]:
        """What the network says about itself. Loads it where it lives."""
        if service := _elsewhere(self.spec):
            return service.facts(self.spec)
        return dict(runner_here(self.spec).network.facts)

    def run(self, call: str, rows: Sequence[Row]) -> list[Answer]:
        """An answer per row, in order: the arrays that `Network.infer` returns, without the batch axis."""
        if not rows:
            return []
        if service := _elsewhere(self.spec):
            started = time.perf_counter()
            try:
                return service.run(self.spec, call, rows)
            finally:
                _waited[self.spec.title] += time.perf_counter() - started
        return runner_here(self.spec).run(call, rows)


def connect(spec: Spec) -> Connection:
    """A connection to a network. Nothing is loaded before it is used."""
    return Connection(spec)


def _elsewhere(spec: Spec) -> Service | None:
    return _service if spec.device != "cpu" else None


def runner_here(spec: Spec) -> Runner:
    """The network in this process, opened once. Raises CurationError."""
    with _opening:
        if spec not in _here:
            _here[spec] = Runner(spec.open(), spec.title)
        return _here[spec]


@contextmanager
def service(used: Service) -> Iterator[None]:
    """Inside, networks on a GPU are asked for through `used`."""
    global _service
    before, _service = _service, used
    try:
        yield
    finally:
        _service = before


def waited() -> dict[str, float]:
    """Seconds that this process has waited for each network since it was last asked."""
    seconds = dict(_waited)
    _waited.clear()
    return seconds
