"""Makes ids unique over chunks: rows that share key, content and captions are numbered through the whole run."""


import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation import chunkfile
from curation.record import record_id
from curation.storage import Store


def make_unique(store: Store, files: list[str]) -> int:
    """Renumber repeated ids in chunk order, rewrite only the files concerned; returns how many rows changed.

    Memory: 8 bytes a record (the first half of each id) on the caller.
    """
    hashes = [_hashes(store, file) for file in files]
    every = np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)
    repeated = np.unique(every[1:][every[1:] == every[:-1]])
    if not len(repeated):
        return 0
    used: set[str] = set()
    changed = 0
    for file, own in zip(files, hashes, strict=True):
        if np.isin(own, repeated).any():
            changed += _renumber(store, file, used, {int(h) for h in repeated})
    return changed


def _hashes(store: Store, file: str) -> NDArray[np.uint64]:
    ids = chunkfile.read(store, file, ["id"])["id"].to_pylist()
    return np.array([int(i[:16], 16) for i in ids], dtype=np.uint64)


def _renumber(store: Store, file: str, used: set[str], repeated: set[int]) -> int:
    table = chunkfile.read(store, file)
    ids = table["id"].to_pylist()
    changed = 0
    for i, identity in enumerate(ids):
        if int(identity[:16], 16) not in repeated:
            continue
        occurrence = 0
        while identity in used:
            occurrence += 1
            row = table.slice(i, 1).select(["source_key", "content_sha256", "captions"]).to_pylist()[0]
            identity = record_id(row["source_key"], row["content_sha256"] or "", row["captions"], occurrence)
        used.add(identity)
        changed += identity != ids[i]
        ids[i] = identity
    if changed:
        position = table.schema.get_field_index("id")
        table = table.set_column(position, table.schema.field(position), pa.array(ids, pa.string()))
        chunkfile.write(store, file, table)
    return changed
