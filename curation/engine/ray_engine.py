"""Work items through a pool of actors, as one Ray Data pipeline per wave.

One item is one block, all the way: names, commits and resume then do not depend on how Ray schedules. Networks on
GPUs live in actors of their own (`ray_servers`); the pool's workers need CPUs alone.
"""

import contextlib
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.devices import gpus_here
from curation.engine.layout import Node, lay_out
from curation.engine.pool import Pool, Worker, item, value_of
from curation.errors import CurationError
from curation.inference.client import Service, service
from curation.inference.server import HANG_S
from curation.threads import one_core

WAVE = 2048
"""Items per Ray Data execution: what the driver holds at once, however many records there are."""
ACTOR_RESTARTS = 20
TASK_RETRIES = 20
"""A dying worker is bounded here and, per chunk and record, by `curation.scoring.chunkfile.Attempt`."""
CONNECT_S, JOIN_S = 5, 60
"""Seconds that a cluster's port may take to accept a connection, and that it may take to let this process join."""
LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def silent_start() -> Iterator[None]:
    """Keep what Ray's C++ core prints while it starts off the terminal; its errors come as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _actor_options() -> dict[str, Any]:
    return {"max_restarts": ACTOR_RESTARTS, "max_task_retries": TASK_RETRIES, "scheduling_strategy": "SPREAD"}


class _Actor:
    """What Ray holds in an actor: a pool's worker, made on first use, with the cluster's servers at hand."""

    def __init__(self, pool: Pool, servers: list[tuple[Any, str]]) -> None:
        self._inside = contextlib.ExitStack()
        self._inside.enter_context(one_core())
        if servers:
            from curation.engine.ray_servers import RayService

            asked: Service = RayService(servers)
            self._inside.enter_context(service(asked))
        self.worker: Worker = pool.make()

    def __call__(self, block: pa.Table) -> pa.Table:
        return self.worker(block)


def short(error: Exception) -> str:
    """The last words of a Ray error: the exception of the worker, without its terminal colours and frames."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return text if len(text) <= 600 else f"{text[:150]} ... {text[-450:]}"


class RayEngine:
    """A local Ray of its own, or a running cluster joined by its address.

    address  `auto` for the cluster that runs on this machine, or HOST:PORT; the variable RAY_ADDRESS where it is None.
             Without either a new local Ray is started, whatever else runs here, and listens on loopback alone
    cpus     for a local Ray: how many cores it may use, None for all
    workers  None for one per core
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        cpus: int | None = None,
        hang_s: float = HANG_S,
    ) -> None:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray

        os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._ray = ray
        self._mine = not ray.is_initialized()
        self._workers, self._hang_s = workers, hang_s
        self._servers: list[tuple[Any, str]] = []
        if self._mine:
            self._start(address or os.environ.get("RAY_ADDRESS"), cpus)
        self._quiet()

    def _start(self, address: str | None, cpus: int | None) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address and address != "local":
            check_answers(address)
            options |= {"address": address}
        else:
            options |= {"address": "local", "num_cpus": cpus, "num_gpus": gpus_here()}
            options |= {"include_dashboard": False, "_node_ip_address": LOOPBACK}
            _own_token()
        try:
            with silent_start():
                self._ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise CurationError(f"cannot reach Ray at {address or 'a new local cluster'}: {error}") from error

    def _quiet(self) -> None:
        """Ray Data prints much; the program has its own progress and errors."""
        from ray.data import DataContext

        if hasattr(self._ray._private.worker, "print_to_stdstream"):
            # A private name: where it moves, the raylet's reports of dead workers show again, no more than that.
            self._ray._private.worker.print_to_stdstream = lambda *_, **__: None
        warnings.filterwarnings("ignore", category=self._ray.util.annotations.RayDeprecationWarning)
        for name in ("ray", "ray.data", "ray.data._internal"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = 8 << 30
        context.execution_options.preserve_order = False
        context.execution_options.verbose_progress = False

    def nodes(self) -> list[Node]:
        """The live nodes."""
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [Node(r.get("CPU", 0.0), r.get("GPU", 0.0), r["memory"] / 1e6 if "memory" in r else None) for r in alive]

    def gpus(self) -> int:
        return sum(int(node.gpus) for node in self.nodes())

    def describe(self) -> str:
        nodes = self.nodes()
        gpus = f" and {self.gpus()} GPUs" if self._servers else ""
        return (
            f"Ray, {sum(node.cpus for node in nodes):g} CPUs{gpus} on {len(nodes)} node{'s' if len(nodes) > 1 else ''}"
        )

    def servers(self) -> list[dict[str, Any]]:
        """What each server of networks reports; one that is being restarted is left out."""
        reports = []
        for actor, _ in self._servers:
            with contextlib.suppress(self._ray.exceptions.RayError):
                reports.append(self._ray.get(actor.report.remote(), timeout=10))
        return reports

    def map(self, pool: Pool, payloads: Iterable[Any]) -> Iterator[Any]:
        """Send each payload to a worker; yields results as they come. Raises CurationError when Ray gives up."""
        if pool.on_gpu and not self._servers:
            from curation.engine.ray_servers import start_servers

            self._servers = start_servers(self.gpus(), self._hang_s)
        payloads = iter(payloads)
        while wave := list(islice(payloads, WAVE)):
            yield from self._wave(pool, wave)

    def _wave(self, pool: Pool, wave: list[Any]) -> Iterator[Any]:
        import ray.data
        from ray.data import ActorPoolStrategy

        layout = lay_out(self.nodes(), self._workers, pool.memory_mb, pool.on_gpu)
        dataset: Any = ray.data.from_arrow([item(payload) for payload in wave])
        dataset = dataset.map_batches(
            _Actor,
            fn_constructor_args=(pool, self._servers if pool.on_gpu else []),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ActorPoolStrategy(size=min(layout.workers, len(wave)), max_tasks_in_flight_per_actor=2),
            num_cpus=layout.cpus,
            ray_remote_args_fn=_actor_options,
        )
        try:
            for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                for row in range(block.num_rows):
                    yield value_of(block.slice(row, 1))
        except self._ray.exceptions.RayError as error:
            raise CurationError(
                f"Ray gave up: {short(error)}; what was committed stays, run again to continue"
            ) from error

    def close(self) -> None:
        """End the servers; shut down the local Ray that this engine started; leave a joined cluster."""
        for actor, _ in self._servers:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)
        if self._mine:
            self._ray.shutdown()


def _own_token() -> None:
    """Give a local cluster a token of this process. Otherwise Ray writes one into the home folder, and every later
    `ray start` of the user would ask for it."""
    if not any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def check_answers(address: str) -> None:
    """Raise CurationError where no cluster answers there in time: joining a dead one would wait for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        except (OSError, OverflowError) as error:
            reason = "it does not answer" if isinstance(error, TimeoutError) else error
            raise CurationError(
                f"no Ray cluster can be reached at {address} ({reason}); correct --address or RAY_ADDRESS, or leave "
                "them out for a local run"
            ) from error
    program = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"
    command = [sys.executable, "-c", program, address]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=JOIN_S, check=False)
    except subprocess.TimeoutExpired:
        raise CurationError(
            f"no Ray cluster answers at {address} within {JOIN_S} s; start one (`ray start --head`), correct "
            "--address or RAY_ADDRESS, or leave them out for a local run"
        ) from None
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CurationError(f"cannot join the Ray cluster at {address}: {last[:300]}")
