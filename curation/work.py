"""The units of work as an engine sees them: payload in, payload out, the same for every engine."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import pyarrow as pa

from curation.encoding.encode import EncodeSettings, ShardEncoder
from curation.errors import CurationError
from curation.plan import Plan, PlannedStage
from curation.scoring.chunkfile import ChunkTask
from curation.scoring.handover import from_block, to_block
from curation.scoring.score import ChunkScorer, RunContext
from curation.sources.base import Chunk


class Worker(Protocol):
    """Lives in one process; called with one Arrow block at a time."""

    def __call__(self, block: pa.Table) -> pa.Table: ...


@dataclass(frozen=True)
class Pool:
    """Workers of one kind: how to make one, and what each needs."""

    name: str
    make: Callable[[], Worker]
    gpus: float = 0.0
    memory_mb: int = 1000


def item(value: Any) -> pa.Table:
    """A JSON-able payload as a one-row block."""
    return pa.table({"json": [json.dumps(value)]})


def value_of(block: pa.Table) -> Any:
    """The payload of a one-row block."""
    return json.loads(block["json"][0].as_py())


def task_item(task: ChunkTask) -> dict[str, Any]:
    return {"chunk": asdict(task.chunk), "base": task.base}


class ScoreWorker:
    """One group of a plan's stages; the first begins a chunk, the last commits it.

    A chunk that fails as a whole (its source is gone, the disk is full) becomes a report with `failed`, so that
    the engine's other chunks go on and the run can say what happened.
    """

    def __init__(self, plan: Plan, context: RunContext, group: int) -> None:
        self.plan, self.group = plan, group
        self.scorer = ChunkScorer(plan, context, plan.groups[group])
        self.last = group == len(plan.groups) - 1

    def __call__(self, block: pa.Table) -> pa.Table:
        try:
            if self.group == 0:
                payload = value_of(block)
                work = self.scorer.begin(ChunkTask(Chunk(**payload["chunk"]), payload["base"]))
            elif "json" in block.column_names:  # the chunk failed in an earlier group
                return block
            else:
                work = from_block(block, self.plan)
            self.scorer.advance(work, keep_pixels=not self.last)
            return item(self.scorer.commit(work)) if self.last else to_block(work)
        except CurationError as error:
            return item({"failed": str(error)})


class EncodeWorker:
    """Encodes one shard per call."""

    def __init__(self, settings: EncodeSettings) -> None:
        self.encoder = ShardEncoder(settings)

    def __call__(self, block: pa.Table) -> pa.Table:
        try:
            return item(self.encoder.encode_item(value_of(block)))
        except CurationError as error:
            return item({"failed": str(error)})


def score_pools(plan: Plan, context: RunContext) -> list[Pool]:
    """One pool per group of the plan."""
    return [_score_pool(plan, context, number) for number in range(len(plan.groups))]


def _score_pool(plan: Plan, context: RunContext, number: int) -> Pool:
    group = plan.groups[number]
    gpus = max(stage.resources.gpus for stage in group)
    return Pool(_pool_name(group), lambda: ScoreWorker(plan, context, number), gpus, _memory(group))


def encode_pool(settings: EncodeSettings) -> Pool:
    """Workers that encode whole shards."""
    return Pool("encode", lambda: EncodeWorker(settings), 1.0 if settings.device != "cpu" else 0.0, 2000)


def _pool_name(group: tuple[PlannedStage, ...]) -> str:
    return "+".join(stage.name for stage in group)


def _memory(group: tuple[PlannedStage, ...]) -> int:
    return 500 + sum(stage.resources.memory_mb for stage in group)
