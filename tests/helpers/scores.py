"""Scores as `curate run` leaves them, without running anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.record import BASE_SCHEMA
from curation.scoring import chunkfile
from curation.stores.storage import Store

TYPES = {
    "phash": pa.uint64(), "phash_frames": pa.list_(pa.uint64()), "phash_look": pa.binary(),
    "width": pa.int32(), "height": pa.int32(), "min_side": pa.int32(),
    "aesthetic": pa.float32(), "similarity": pa.float32(), "sha256": pa.string(), "pixel_sha256": pa.string(),
}  # fmt: skip


def write_scores(folder: Path, files: int = 1, order: Sequence[int] | None = None, **columns: Any) -> Store:
    """A run directory with scores/ only: rows cut into `files`, first brought into `order`.

    Ids are r000, r001 ... unless given; every row has the cells of the stages a and b unless `scored` is given.
    """
    rows = len(next(iter(columns.values())))
    if "phash" in columns and "phash_look" not in columns:  # grey pictures that are their own mirror images
        hashes = columns["phash"]
        columns["phash_look"] = [None if h is None else int(h).to_bytes(8, "little") + bytes(48) for h in hashes]
    columns = {"id": [f"r{i:03d}" for i in range(rows)], "scored": [["a", "b"]] * rows} | columns
    table = pa.table({name: _array(name, values) for name, values in columns.items()})
    table = table.take(pa.array(order if order is not None else range(rows)))
    for field in BASE_SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(rows, field.type))
    store = Store(str(folder))
    for number, part in enumerate(np.array_split(np.arange(rows), files)):
        chunkfile.write(store, f"{number:06d}-{'0' * 16}.parquet", table.take(pa.array(part)))
    return store


def _array(name: str, values: Any) -> pa.Array:
    if name == "embedding":
        kind = pa.list_(pa.float16(), next(len(value) for value in values if value is not None))
        return pa.array([v if v is None else np.asarray(v, np.float16) for v in values], kind)
    kinds: Mapping[str, pa.DataType] = {field.name: field.type for field in BASE_SCHEMA} | TYPES
    return pa.array(values, kinds.get(name))
