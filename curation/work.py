"""The workers that an engine runs: one scores chunks, one encodes shards."""

from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa

from curation.encoding.encode import EncodeSettings, ShardEncoder
from curation.engine.pool import Pool, item, value_of
from curation.errors import CurationError
from curation.plan import Plan
from curation.scoring.chunkfile import ChunkTask
from curation.scoring.score import ChunkScorer, RunContext
from curation.sources.base import Chunk

WORKER_MB = 500
"""Of a worker beside its models: Python, Arrow, a micro-batch of pictures; its decoder's child is as large again."""


def task_item(task: ChunkTask) -> dict[str, Any]:
    return asdict(task)


class ScoreWorker:
    """Scores one chunk per call, from its source to its file.

    A chunk that fails as a whole (its source is gone, the disk is full) becomes a report with `failed`, so that
    the engine's other chunks go on and the run can say what happened.
    """

    def __init__(self, plan: Plan, context: RunContext) -> None:
        self.scorer = ChunkScorer(plan, context)

    def __call__(self, block: pa.Table) -> pa.Table:
        payload = value_of(block)
        try:
            return item(self.scorer.score(ChunkTask(**payload | {"chunk": Chunk(**payload["chunk"])})))
        except CurationError as error:
            return item({"failed": str(error)})

    def close(self) -> None:
        self.scorer.close()


class EncodeWorker:
    """Encodes one shard per call."""

    def __init__(self, settings: EncodeSettings) -> None:
        self.encoder = ShardEncoder(settings)

    def __call__(self, block: pa.Table) -> pa.Table:
        try:
            return item(self.encoder.encode_item(value_of(block)))
        except CurationError as error:
            return item({"failed": str(error)})

    def close(self) -> None:
        self.encoder.close()


def score_pool(plan: Plan, context: RunContext) -> Pool:
    """Workers that score whole chunks."""
    here = [stage for stage in plan.stages if stage.device == "cpu"]
    memory = 2 * WORKER_MB + sum(stage.resources.memory_mb for stage in here)
    return Pool("score", partial(ScoreWorker, plan, context), memory, len(here) < len(plan.stages))


def encode_pool(settings: EncodeSettings) -> Pool:
    """Workers that encode whole shards."""
    return Pool("encode", partial(EncodeWorker, settings), 4 * WORKER_MB, settings.on_gpu)
