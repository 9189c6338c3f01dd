"""Duplicates across runs: what another run kept counts as already there."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.manifest import DuplicatesSection
from curation.neighbours import hamming_pairs
from curation.storage import Store
from curation.table import COMPARED, Scores, unit_vectors


def already_there(
    scores: Scores,
    alive: NDArray[np.bool_],
    section: DuplicatesSection,
    threshold: float,
    other: Store,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Alive rows that match a record which `other` kept, and their distance or cosine.

    Raises CurationError when the other run lacks the column or its decision.
    """
    column = COMPARED[section.on]
    theirs = kept_column(other, column)
    rows = np.flatnonzero(alive)
    mine = scores[column].take(pa.array(rows))
    if section.on in ("bytes", "pixels"):
        hit = pc.and_(pc.is_valid(mine), pc.is_in(mine, value_set=theirs.drop_null())).to_numpy()
        return rows[hit], np.zeros(int(hit.sum()))
    found = (
        _hamming(mine, theirs, int(threshold)) if section.on == "phash" else _cosine(mine, theirs, threshold)
    )
    positions = np.array(sorted(found), dtype=np.int64)
    return rows[positions], np.array([found[int(p)] for p in positions], dtype=np.float64)


def kept_column(other: Store, column: str) -> pa.Array:
    """The column's values of the records that another run kept."""
    from curation import rundir

    selection = rundir.read_selection(other)
    kept = selection.filter(pc.equal(selection["decision"], "kept"))["id"].combine_chunks()
    theirs = Scores(other)
    if column not in theirs.known:
        raise CurationError(
            f"{other.root} has no column '{column}' in its scores: run the stage there that writes it"
        )
    values = theirs[column].filter(pc.is_in(theirs["id"], value_set=kept))
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _hamming(mine: pa.ChunkedArray, theirs: pa.Array, threshold: int) -> dict[int, float]:
    valid = np.flatnonzero(pc.is_valid(mine).to_numpy())
    own = mine.drop_null().to_numpy().astype(np.uint64)
    known = np.unique(theirs.drop_null().to_numpy(zero_copy_only=False).astype(np.uint64))
    values, codes = np.unique(own, return_inverse=True)
    found: dict[int, float] = {int(v): 0.0 for v in np.flatnonzero(np.isin(values, known))}
    both = np.concatenate([values, known])
    pairs = hamming_pairs(both, threshold)
    for left, right, distance in zip(pairs.left, pairs.right, pairs.value, strict=True):
        if left < len(values) <= right:
            found[int(left)] = min(found.get(int(left), np.inf), float(distance))
    return {int(valid[i]): found[int(code)] for i, code in enumerate(codes) if int(code) in found}


def _cosine(mine: pa.ChunkedArray, theirs: pa.Array, threshold: float) -> dict[int, float]:
    import faiss

    rows, own = unit_vectors(mine, np.arange(len(mine)))
    _, known = unit_vectors(theirs, np.arange(len(theirs)))
    if not len(own) or not len(known):
        return {}
    if own.shape[1] != known.shape[1]:
        raise CurationError(
            f"embeddings of {own.shape[1]} and {known.shape[1]} dimensions cannot be compared: the runs used different models"
        )
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(known.shape[1])
    index.add(known)
    cosine, _ = index.search(own, 1)
    near = np.round(cosine[:, 0].astype(np.float64), 6) >= threshold
    return {int(rows[i]): float(cosine[i, 0]) for i in np.flatnonzero(near)}
