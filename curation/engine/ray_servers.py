"""Servers of networks as Ray actors, one per GPU, and how a worker anywhere in the cluster asks them."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from curation.errors import CurationError, Unavailable
from curation.inference.network import DeviceFault, Row, Spec
from curation.inference.runner import Answer
from curation.inference.server import HANG_S, Server

SERVER_RESTARTS = 8
"""How often Ray starts a server again whose device failed or hung."""
TRIES = 8
"""How often a request is sent again after the server that had it was lost."""
START_S = 120.0
ANSWER_S = 1200.0
"""Longer than loading the largest model and a hanging batch together: then the server itself hangs."""
CALLS_AT_ONCE = 256


class ServerActor:
    """What Ray holds for a GPU. A fault of the device ends the process; Ray starts another."""

    def __init__(self, hang_s: float = HANG_S) -> None:
        self.server = Server(on_fault=_end, hang_s=hang_s)

    def facts(self, spec: Spec) -> tuple[dict[str, Any], int]:
        return self.server.facts(spec), self.server.load

    def run(self, spec: Spec, call: str, rows: Sequence[Row]) -> tuple[list[Answer], int]:
        """Answers, and the rows that wait behind them."""
        return self.server.run(spec, call, rows), self.server.load

    def report(self) -> dict[str, Any]:
        return self.server.report()

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


def _end(reason: str) -> None:
    os._exit(70)  # a process whose CUDA context failed cannot be used again


@dataclass
class Place:
    """A server as a worker sees it: its actor and node, its load when last heard of, and when it was last lost."""

    actor: Any
    node: str
    load: int = 0
    mine: int = 0
    lost: float = 0.0


def start_servers(count: int, hang_s: float = HANG_S) -> list[tuple[Any, str]]:
    """A server on each of `count` GPUs, with the node it runs on. Raises Unavailable where none starts in time."""
    remote: Any = ray.remote(ServerActor)
    options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0, "max_restarts": SERVER_RESTARTS, "max_task_retries": 0}
    options |= {"max_concurrency": CALLS_AT_ONCE, "scheduling_strategy": "SPREAD"}
    actors = [remote.options(**options).remote(hang_s) for _ in range(count)]
    asked = {actor.node.remote(): actor for actor in actors}
    ready, late = ray.wait(list(asked), num_returns=count, timeout=START_S)
    for one in late:  # its GPU is in use by somebody else
        ray.kill(asked[one])
    places = [(asked[one], str(ray.get(one))) for one in ready]
    if not places:
        raise Unavailable(
            f"none of the cluster's {count} GPUs became free within {START_S:g} s; free one, or say `device: cpu`"
        )
    return places


@dataclass
class RayService:
    """Asks the servers of a cluster: one on this worker's node first, otherwise the one with least to do."""

    places: Sequence[tuple[Any, str]]
    answer_s: float = ANSWER_S
    _known: list[Place] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        here = str(ray.get_runtime_context().get_node_id())
        own = [place for place in self.places if place[1] == here]
        self._known = [Place(actor, node) for actor, node in own or self.places]
        self._others = [Place(actor, node) for actor, node in self.places if own and node != here]

    def facts(self, spec: Spec) -> dict[str, Any]:
        facts: dict[str, Any] = self._ask("facts", spec)
        return facts

    def run(self, spec: Spec, call: str, rows: Sequence[Row]) -> list[Answer]:
        answers: list[Answer] = self._ask("run", spec, call, rows)
        return answers

    def _ask(self, method: str, *arguments: Any) -> Any:
        reason = ""
        for attempt in range(TRIES):
            place = self._choose()
            try:
                answer, place.load = ray.get(getattr(place.actor, method).remote(*arguments), timeout=self.answer_s)
                return answer
            except RayTaskError as error:
                cause = error.cause
                if isinstance(cause, CurationError):
                    raise cause from None
                if not isinstance(cause, DeviceFault):
                    raise Unavailable(f"a model's server failed: {cause}") from error
                reason = str(cause)
            except RayActorError:
                reason = reason or "its process ended"
            except GetTimeoutError:
                reason = f"it gave no answer within {self.answer_s:g} s"
                ray.kill(place.actor, no_restart=False)
            finally:
                with self._lock:
                    place.mine -= 1
            place.lost = time.monotonic()
            time.sleep(min(10.0, 0.25 * 2**attempt))
        raise Unavailable(
            f"the models' servers were lost {TRIES} times in a row ({reason}); what was committed stays: look at the "
            "GPU (nvidia-smi, dmesg), then run the same command again"
        )

    def _choose(self) -> Place:
        """The server with least to do, without those lost a moment ago; of another node when all of one's own were."""
        with self._lock:
            now = time.monotonic()
            sound = [place for place in self._known if now - place.lost > 10.0]
            sound = sound or [place for place in self._others if now - place.lost > 10.0]
            candidates = sound or [*self._known, *self._others]
            best = min(candidates, key=lambda place: (place.load + place.mine * 32, place.lost))
            best.mine += 1
            return best
