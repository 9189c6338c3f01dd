"""Training in several processes, by Ray Train."""

import os
from collections.abc import Callable
from typing import Any

from curation.engine.ray_engine import RayEngine, short, silent_start
from curation.errors import CurationError
from curation.stores.scratch import scratch

TRAIN_RESTARTS = 3
START_S = 600
"""Seconds that the workers may take to start. On a busy machine importing torch alone takes longer than Ray Train's own
limit of 60, after which it would start them all again."""
_MARK = "\N{INVISIBLE SEPARATOR}"
"""Stands around a worker's own sentence, so that the driver finds it in Ray's report."""


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
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_S))
    engine = RayEngine(address, cpus=None if address else max(workers + 1, os.cpu_count() or 1))
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        gpu = gpu and engine.gpus() >= workers
        with scratch() as folder:
            failure = FailureConfig(max_failures=restarts)
            trainer = TorchTrainer(
                _Marking(work),
                train_loop_config=job,
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
                run_config=RunConfig(name="train", storage_path=str(folder), failure_config=failure),
            )
            with silent_start():
                trainer.fit()
    except Exception as error:
        raise _sentence(error) from error
    finally:
        engine.close()


class _Marking:
    """A worker's function, whose own errors are marked."""

    def __init__(self, work: Callable[[dict[str, Any]], None]) -> None:
        self.work = work

    def __call__(self, job: dict[str, Any]) -> None:
        try:
            self.work(job)
        except CurationError as error:
            raise CurationError(f"{_MARK}{error}{_MARK}") from error


def _sentence(error: Exception) -> CurationError:
    parts = str(error).split(_MARK)
    if len(parts) > 1:
        return CurationError(parts[1])
    return CurationError(f"training stopped: {short(error)}; run again to continue")
