"""Made-up scores of a whole run, in the files that a run writes: select and encode are measured on them.

The columns are those of probe, resolution, quality, phash and embedding. Pictures are of random sizes, a share of them
are copies of others (by bytes, by pixels, by a few bits of the hash), and one record in a thousand failed.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.load import load
from curation.plan import Plan, make_plan
from curation.record import BASE_SCHEMA
from curation.scoring import chunkfile
from curation.sources.base import Chunk
from curation.stores.storage import Store

MANIFEST = """\
name: scale
source: {{table: {table}, media: file, caption: caption}}
score:
  - resolution: {{keep: "min_side >= 128"}}
  - quality: {{keep: "sharpness >= 1"}}
  - phash
{embedding}select:
  keep: ["sharpness >= p5", "brisque <= p99"]
  duplicates: [{{on: bytes}}, {{on: pixels}}, {{on: phash, prefer: [sharpness]}}]
encode: {{size: 256, buckets: aspect, vae: embedded, text: embedded, shards: {{samples: 1000}}, reconstructions: 0}}
"""
COPIES = {"bytes": 0.02, "pixels": 0.02, "phash": 0.03}
"""Share of a block's rows that repeat an earlier row of the same block."""
THUMBNAIL = 48 * 48 + 2 * 12 * 12
BLOCK = 65_536
"""Rows made at once; copies lie in the same block as what they repeat, in another chunk."""


def plan_of(folder: Path, dimensions: int) -> Plan:
    """A checked plan whose scores these are; `dimensions` of the embedding, 0 for a run without."""
    (folder / "captions.jsonl").write_text('{"file": "a.jpg", "caption": "a"}\n')
    path = folder / "manifest.yaml"
    embedding = "  - embedding\n" if dimensions else ""
    path.write_text(MANIFEST.format(table=folder / "captions.jsonl", embedding=embedding))
    return make_plan(load(str(path)))


def write_scores(store: Store, plan: Plan, records: int, chunk: int, dimensions: int, seed: int = 0) -> int:
    """Write the chunk files of `records` rows, `chunk` rows each; returns how many files there are."""
    number = 0
    with ThreadPoolExecutor(8) as writers:
        for table in _blocks(plan, records, dimensions, seed):
            parts = [table.slice(at, chunk) for at in range(0, table.num_rows, chunk)]
            list(writers.map(lambda pair: _write(store, plan, *pair), enumerate(parts, number)))
            number += len(parts)
    return number


def _write(store: Store, plan: Plan, number: int, part: pa.Table) -> None:
    chunk = Chunk(number, "made-up", {}, f"{number:x}", part.num_rows)
    noted = {"curation": json.dumps(chunkfile.metadata(chunk, plan), sort_keys=True)}
    chunkfile.write(store, chunkfile.name(chunk, plan), part.replace_schema_metadata(noted))


def _blocks(plan: Plan, records: int, dimensions: int, seed: int) -> Iterator[pa.Table]:
    fields = list(BASE_SCHEMA)
    fields += [pa.field(name, column.type) for stage in plan.stages for name, column in stage.writes.items()]
    schema = pa.schema(fields)
    for start in range(0, records, BLOCK):
        rows = min(BLOCK, records - start)
        columns = _columns(np.random.default_rng([seed, start]), plan, start, rows, dimensions)
        arrays = [_typed(columns.get(field.name), field.type, rows) for field in schema]
        yield pa.table(arrays, schema=schema)


def _typed(values: Any, kind: pa.DataType, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, kind)
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _columns(rng: np.random.Generator, plan: Plan, start: int, rows: int, dimensions: int) -> dict[str, Any]:
    contents, pixels, hashes = _copied(rng, rows)
    width, height = (rng.integers(120, 4000, rows) for _ in range(2))
    failed = rng.random(rows) < 0.001
    texts = [f"a made-up caption about things, number {i}" for i in rng.integers(0, 1 << 40, rows).tolist()]
    sha = pa.array(_hex(contents, 4))
    stages = [stage.name for stage in plan.stages]
    columns: dict[str, Any] = {
        "id": _hex(rng.integers(0, 1 << 64, (rows, 2), np.uint64), 2),
        "source_key": [f"{start + i:09d}" for i in range(rows)],
        "source_uri": [f"/data/pictures/{start + i:09d}.jpg" for i in range(rows)],
        "media": ["image"] * rows,
        "content_sha256": sha,
        "caption": texts,
        "captions": [[text] for text in texts],
        "caption_sources": [["source"]] * rows,
        "scored": [[] if bad else stages for bad in failed],
        "error_stage": ["decode" if bad else None for bad in failed],
        "error": ["not a picture: made up" if bad else None for bad in failed],
        **{name: pa.array(width) for name in ("width", "original_width")},
        **{name: pa.array(height) for name in ("height", "original_height")},
        "format": ["JPEG"] * rows,
        "mode": ["RGB"] * rows,
        "orientation": [1] * rows,
        "frames": [1] * rows,
        "file_bytes": rng.integers(20_000, 900_000, rows),
        "sha256": sha,
        "pixel_sha256": _hex(pixels, 4),
        "min_side": np.minimum(width, height),
        "max_side": np.maximum(width, height),
        "aspect": np.maximum(width, height) / np.minimum(width, height),
        "megapixels": width * height / 1e6,
        "border": np.zeros(rows),
        "phash": hashes[:, 0],
        "phash_look": _packed(hashes.view(np.uint8)[:, 8:]),
        "thumbnail": _packed(rng.integers(0, 256, (rows, THUMBNAIL), np.uint8)) if dimensions else None,
    }
    measures = ("sharpness", "exposure", "clipped", "contrast", "colourfulness", "entropy", "brisque", "blockiness")
    columns |= {name: rng.gamma(2.0, 50.0, rows).astype(np.float32) for name in (*measures, "flat")}
    for name, size in (("embedding", dimensions), ("copy", 64 if dimensions else 0)):
        if size:
            vectors = rng.standard_normal((rows, size), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * size)
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(vectors.astype(np.float16).ravel()))
    scored = {name for stage in plan.stages for name in stage.writes} & set(columns)
    return {name: _without(columns[name], failed, name in scored) for name in columns if columns[name] is not None}


def _without(values: Any, failed: NDArray[np.bool_], scored: bool) -> Any:
    """A failed record has no scores."""
    if not scored:
        return values
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array.take(pa.array(np.arange(len(failed)), mask=failed))


def _copied(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Hashes of bytes and of pixels, uint64 [rows, 4]; phash with its look, uint64 [rows, 8]."""
    contents, pixels = (rng.integers(0, 1 << 64, (rows, 4), np.uint64) for _ in range(2))
    looks = rng.integers(0, 1 << 64, (rows, 8), np.uint64)
    order, at = rng.permutation(rows), 0
    for kind, share in COPIES.items():
        count = int(rows * share)
        copy, original = order[at : at + count], order[at + count : at + 2 * count]
        at += 2 * count
        looks[copy] = looks[original]
        if kind == "phash":
            looks[copy, 0] ^= np.uint64(1) << rng.integers(0, 64, count, np.uint64)
        else:
            pixels[copy] = pixels[original]
        if kind == "bytes":
            contents[copy] = contents[original]
    return contents, pixels, np.ascontiguousarray(looks)


def _hex(values: NDArray[np.uint64], words: int) -> list[str]:
    raw = values.astype(">u8").tobytes().hex()
    size = 16 * words
    return [raw[i : i + size] for i in range(0, len(raw), size)]


def _packed(rows: NDArray[np.uint8]) -> pa.Array:
    """uint8 [rows, size] as binary."""
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    data = pa.py_buffer(np.ascontiguousarray(rows).tobytes())
    return pa.BinaryArray.from_buffers(pa.binary(), len(rows), [None, offsets.buffers()[1], data])
