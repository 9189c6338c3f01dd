"""Makes ids unique over chunks: rows that share key, content and captions are numbered through the whole run."""

from itertools import count

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.identities import first_halves
from curation.record import record_id
from curation.scoring import chunkfile
from curation.stores.ahead import read_ahead
from curation.stores.storage import Store

PARTS = ["source_key", "content_sha256", "captions", "start_frame", "end_frame"]


def make_unique(store: Store, files: list[str]) -> int:
    """Renumber repeated ids in chunk order, rewrite only the files concerned; returns how many rows changed.

    The first row with an id keeps it; another gets the smallest free number, so that k equal rows always end with
    the same k ids. Memory: 8 bytes a record (the first half of each id) on the caller.
    """
    halves = list(read_ahead(lambda file: _halves(store, file), files))
    every = np.sort(np.concatenate(halves)) if halves else np.empty(0, np.uint64)
    repeated = np.unique(every[1:][every[1:] == every[:-1]])
    if not len(repeated):
        return 0
    taken = _Taken(every)
    seen: set[str] = set()
    wanted = {int(half) for half in repeated}
    concerned = [file for file, own in zip(files, halves, strict=True) if _among(own, repeated)]
    return sum(_renumber(store, file, wanted, seen, taken) for file in concerned)


class _Taken:
    """All ids of the run, by their first halves, and those given out since."""

    def __init__(self, every: NDArray[np.uint64]) -> None:
        self.every, self.new = every, set[int]()

    def __contains__(self, identity: str) -> bool:
        half = int(identity[:16], 16)
        at = int(np.searchsorted(self.every, np.uint64(half)))
        return half in self.new or (at < len(self.every) and int(self.every[at]) == half)

    def add(self, identity: str) -> None:
        self.new.add(int(identity[:16], 16))


def _halves(store: Store, file: str) -> NDArray[np.uint64]:
    ids = chunkfile.read(store, file, ["id"])["id"].combine_chunks()
    halves = first_halves(ids)
    assert halves is not None
    return halves


def _among(own: NDArray[np.uint64], ascending: NDArray[np.uint64]) -> bool:
    """Whether any of `own` is among the others: by binary search, since there are as many calls as files."""
    at = np.minimum(np.searchsorted(ascending, own), len(ascending) - 1)
    return bool((ascending[at] == own).any())


def _renumber(store: Store, file: str, wanted: set[int], seen: set[str], taken: _Taken) -> int:
    table = chunkfile.read(store, file)
    ids = table["id"].to_pylist()
    changed = 0
    for i, identity in enumerate(ids):
        if int(identity[:16], 16) not in wanted:
            continue
        if identity not in seen:
            seen.add(identity)
            continue
        row = table.slice(i, 1).select(PARTS).to_pylist()[0]
        span = None if row["start_frame"] is None else (row["start_frame"], row["end_frame"])
        parts = row["source_key"], row["content_sha256"] or "", row["captions"]
        numbered = (record_id(*parts, n, span) for n in count(1))
        ids[i] = next(candidate for candidate in numbered if candidate not in taken)
        taken.add(ids[i])
        changed += 1
    if changed:
        position = table.schema.get_field_index("id")
        table = table.set_column(position, table.schema.field(position), pa.array(ids, pa.string()))
        chunkfile.write(store, file, table)
    return changed
