"""The only file that knows Ray: work items through pools of actors, as one Ray Data pipeline per wave.

One item is one block, all the way: names, commits and resume then do not depend on how Ray schedules.
"""

import contextlib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import CurationError, UsageError
from curation.threads import one_core
from curation.work import Pool, Worker, item, value_of

WAVE = 2048
"""Items per Ray Data execution: what the driver holds at once, however many records there are."""
ACTOR_RESTARTS = 20
TASK_RETRIES = 20
TRAIN_RESTARTS = 3
"""A dying worker is bounded here and, per chunk and record, by `curation.scoring.chunkfile.Attempt`."""
SPARE_CPUS = 0.5
"""Left free of actors, so that Ray's own tasks always find room (a full cluster hangs for ever)."""


@dataclass(frozen=True)
class Layout:
    """How many workers a pool has and what each reserves."""

    workers: int
    cpus: float


def lay_out(nodes: Sequence[float], wanted: int | None, pools: int = 1) -> Layout:
    """Workers per pool for nodes with so many CPUs each, such that the loss of the largest node still leaves room.

    One worker per core unless `wanted` says otherwise; each reserves a share of what is left after the spare
    and, with several nodes, after the largest is gone. Raises UsageError where nothing fits.
    """
    total = sum(nodes)
    workers = wanted or max(1, int(total) // pools)
    safe = total - (max(nodes) if len(nodes) > 1 else 0.0) - SPARE_CPUS
    if safe <= 0:
        raise UsageError(
            f"this plan would hang: {total:g} CPUs leave no room for workers beside Ray's own tasks ({SPARE_CPUS} CPU)"
        )
    cpus = min(1.0, safe / (workers * pools))
    if cpus < 0.01:
        raise UsageError(
            f"this plan would hang: {workers} workers in {pools} pools do not fit {safe:g} CPUs; lower engine.workers"
        )
    return Layout(workers, int(cpus * 100) / 100)


@contextlib.contextmanager
def _silent_start() -> Iterator[None]:
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
    """What Ray holds in an actor: a pool's worker, made on first use."""

    def __init__(self, pool: Pool) -> None:
        self._core = contextlib.ExitStack()
        self._core.enter_context(one_core())
        self.worker: Worker = pool.make()

    def __call__(self, block: pa.Table) -> pa.Table:
        return self.worker(block)


def _short(error: Exception) -> str:
    """The last words of a Ray error: the exception of the worker, without its terminal colours and frames."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return text if len(text) <= 600 else f"{text[:150]} ... {text[-450:]}"


class RayEngine:
    """A local Ray, or a running cluster joined by its address.

    cpus     for a local Ray: how many cores it may use, None for all
    workers  per pool; None for one per core
    """

    def __init__(self, address: str | None = None, workers: int | None = None, cpus: int | None = None) -> None:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray

        os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._ray = ray
        self._mine = not ray.is_initialized()
        self._workers = workers
        if self._mine:
            address = address or os.environ.get("RAY_ADDRESS")
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            options |= {"address": address} if address else {"num_cpus": cpus, "include_dashboard": False}
            try:
                with _silent_start():
                    ray.init(**options)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise CurationError(f"cannot reach Ray at {address or 'a new local cluster'}: {error}") from error
        self._quiet()

    def _quiet(self) -> None:
        """Ray Data tells much; the program has its own progress and errors."""
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

    def nodes(self) -> list[float]:
        """CPUs of each live node."""
        return [node["Resources"].get("CPU", 0.0) for node in self._ray.nodes() if node["Alive"]]

    def describe(self) -> str:
        nodes = self.nodes()
        return f"Ray, {sum(nodes):g} CPUs on {len(nodes)} node{'s' if len(nodes) > 1 else ''}"

    def map(self, pools: Sequence[Pool], payloads: Iterable[Any]) -> Iterator[Any]:
        """Send each payload through all pools; yields results as they come. Raises CurationError when Ray gives up."""
        payloads = iter(payloads)
        while wave := list(islice(payloads, WAVE)):
            yield from self._wave(pools, wave)

    def _wave(self, pools: Sequence[Pool], wave: list[Any]) -> Iterator[Any]:
        import ray.data
        from ray.data import ActorPoolStrategy

        layout = lay_out(self.nodes(), self._workers, len(pools))
        workers = min(layout.workers, len(wave))
        dataset: Any = ray.data.from_arrow([item(payload) for payload in wave])
        for pool in pools:
            dataset = dataset.map_batches(
                _Actor,
                fn_constructor_args=(pool,),
                batch_size=None,
                batch_format="pyarrow",
                zero_copy_batch=True,
                compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
                num_cpus=layout.cpus,
                num_gpus=pool.gpus or None,
                ray_remote_args_fn=_actor_options,
            )
        try:
            for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                for row in range(block.num_rows):
                    yield value_of(block.slice(row, 1))
        except self._ray.exceptions.RayError as error:
            raise CurationError(
                f"Ray gave up: {_short(error)}; what was committed stays, run again to continue"
            ) from error

    def close(self) -> None:
        """Shut down the local Ray that this engine started; leave a joined cluster."""
        if self._mine:
            self._ray.shutdown()


def train_workers(
    work: Callable[[dict[str, Any]], None],
    job: dict[str, Any],
    workers: int,
    gpu: bool,
    address: str | None = None,
    restarts: int = TRAIN_RESTARTS,
) -> None:
    """Run `work(job)` in as many processes of one torch.distributed group, by Ray Train.

    A worker that dies has all of them started again; `work` goes on from its own checkpoints. Raises
    CurationError with the worker's own sentence, or Ray's when it gives up.
    """
    os.environ.setdefault("RAY_TRAIN_ENABLE_CONSOLE_LOGGING", "0")
    engine = RayEngine(address, cpus=None if address else max(workers + 1, os.cpu_count() or 1))
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        gpu = gpu and engine._ray.cluster_resources().get("GPU", 0) >= workers
        with tempfile.TemporaryDirectory(prefix="curate-train-") as folder:
            failure = FailureConfig(max_failures=restarts)
            trainer = TorchTrainer(
                _Told(work),
                train_loop_config=job,
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
                run_config=RunConfig(name="train", storage_path=folder, failure_config=failure),
            )
            with _silent_start():
                trainer.fit()
    except Exception as error:
        raise _sentence(error) from error
    finally:
        engine.close()


class _Told:
    """A worker's function, whose own errors are marked, so that the driver finds the sentence in Ray's report."""

    def __init__(self, work: Callable[[dict[str, Any]], None]) -> None:
        self.work = work

    def __call__(self, job: dict[str, Any]) -> None:
        try:
            self.work(job)
        except CurationError as error:
            raise CurationError(f"{_MARK}{error}{_MARK}") from error


_MARK = "\N{INVISIBLE SEPARATOR}"


def _sentence(error: Exception) -> CurationError:
    parts = str(error).split(_MARK)
    if len(parts) > 1:
        return CurationError(parts[1])
    return CurationError(f"training stopped: {_short(error)}; run again to continue")
