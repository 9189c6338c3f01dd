"""A chunk between two pools (CPU stages, then a GPU's): one Arrow block that holds its cells and its pictures."""

import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from curation.pixels import Pixels, arrays_in
from curation.plan import Plan
from curation.scoring.cells import Cells
from curation.scoring.chunkfile import Attempt, ChunkTask
from curation.scoring.score import InWork
from curation.sources.base import Chunk


def to_block(work: InWork) -> pa.Table:
    """The chunk as a table of its rows; pixels of rows still alive as bytes beside their shape."""
    table = work.cells.table({})
    pictures = [work.pixels.get(i) for i in range(work.cells.size)]
    table = table.append_column("_alive", pa.array(work.cells.alive, pa.bool_()))
    table = table.append_column(
        "_rgb",
        pa.array([b"".join(a.tobytes() for a in p.arrays()) if p else None for p in pictures], pa.large_binary()),
    )
    table = table.append_column(
        "_shape", pa.array([[len(p.frames), *_sizes(p)] if p else None for p in pictures], pa.list_(pa.int32()))
    )
    table = table.append_column("_info", pa.array([json.dumps(p.info) if p else None for p in pictures], pa.string()))
    state = {
        "task": {"chunk": asdict(work.task.chunk), "base": work.task.base},
        "attempt": asdict(work.attempt),
        "seconds": work.seconds,
        "computed": work.computed,
    }
    return table.replace_schema_metadata({"work": json.dumps(state)})


def from_block(table: pa.Table, plan: Plan) -> InWork:
    """What `to_block` packed."""
    state: dict[str, Any] = json.loads((table.schema.metadata or {})[b"work"])
    task = ChunkTask(Chunk(**state["task"]["chunk"]), state["task"]["base"])
    hidden = ("_alive", "_rgb", "_shape", "_info")
    cells = Cells.stored(table.drop_columns(list(hidden)), plan.stages)
    cells.alive = table["_alive"].to_pylist()
    work = InWork(task, cells, Attempt(**state["attempt"]))
    work.seconds.update(state["seconds"])
    work.computed.update(state["computed"])
    for i, (rgb, shape, info) in enumerate(zip(*(table[name].to_pylist() for name in hidden[1:]), strict=True)):
        if rgb is not None:
            work.pixels[i] = _unpacked(rgb, shape, json.loads(info))
    return work


def _sizes(picture: Pixels) -> list[int]:
    """Height and width of each array, one after another."""
    return [side for array in picture.arrays() for side in array.shape[:2]]


def _unpacked(data: bytes, shape: list[int], info: dict[str, Any]) -> Pixels:
    """What `_rgb` and `_shape` hold: the number of sampled frames (0 for a picture), then the arrays' sizes."""
    sides = zip(shape[1::2], shape[2::2], strict=True)
    coloured = max(1, shape[0])  # the pairs behind them are luma
    arrays = arrays_in(data, [(*side, 3) if i < coloured else side for i, side in enumerate(sides)])
    return Pixels.clip(arrays, shape[0], info) if shape[0] else Pixels(arrays[0], info)
