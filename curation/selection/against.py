"""Duplicates across runs: what another run kept counts as already there."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import rundir
from curation.errors import CurationError
from curation.manifest import DuplicatesSection
from curation.selection.duplicates import Find, fallen_to
from curation.selection.neighbours import CosineNeighbours, HammingNeighbours
from curation.selection.table import COMPARED, Scores, room
from curation.stores.storage import Store

Ints = NDArray[np.int64]
Met = tuple[Ints, NDArray[np.float64]]
"""Rows that the other run already has, and their distance from what it has."""


def already_there(
    mine: Scores, rows: Ints, section: DuplicatesSection, threshold: float, seed: int, other: Store
) -> Met:
    """Those of `rows` that match a record which the run `other` kept.

    Raises CurationError where the other run made no decision, or its embeddings come from another model;
    UsageError where it lacks the column.
    """
    column = COMPARED[section.on]
    theirs, kept = kept_rows(other, column)
    if section.on == "embedding":
        return _embeddings(mine, rows, theirs, kept, section.method, threshold, seed)
    own, known = mine[column].take(pa.array(rows)), theirs[column].take(pa.array(kept)).drop_null()
    if section.on == "phash":
        return _hashes(own, known, rows, int(threshold))
    met = pc.index_in(own, value_set=known, skip_nulls=True).is_valid().to_numpy(zero_copy_only=False)
    return rows[met], np.zeros(int(met.sum()))


def kept_rows(other: Store, column: str) -> tuple[Scores, Ints]:
    """Another run's scores, and the rows that it kept."""
    selection = rundir.read_selection(other)
    kept = selection.filter(pc.equal(selection["decision"], "kept"))["id"].combine_chunks()
    theirs = Scores(other, [column])
    return theirs, np.flatnonzero(pc.is_in(theirs.ids, value_set=kept).to_numpy(zero_copy_only=False))


def _hashes(own: pa.Array, known: pa.Array, rows: Ints, threshold: int) -> Met:
    there = own.is_valid().to_numpy(zero_copy_only=False)
    theirs = np.unique(known.cast(pa.uint64()).to_numpy(zero_copy_only=False))
    mine, codes = np.unique(own.drop_null().cast(pa.uint64()).to_numpy(zero_copy_only=False), return_inverse=True)
    near = HammingNeighbours(np.concatenate([theirs, mine]), threshold).pairs
    met, distance = _met(near, len(theirs), len(mine))
    return rows[there][met[codes]], distance[codes][met[codes]]


def _embeddings(mine: Scores, rows: Ints, theirs: Scores, kept: Ints, method: str, threshold: float, seed: int) -> Met:
    some, own = mine.embeddings(rows)
    _, known = theirs.embeddings(kept)
    if not len(own) or not len(known):
        return rows[:0], np.empty(0)
    if own.shape[1] != known.shape[1]:
        raise CurationError(
            f"{theirs.store.root} holds embeddings of {known.shape[1]} dimensions, this run of "
            f"{own.shape[1]}: they came from different models and cannot be compared"
        )
    both = room(len(known) + len(own), own.shape[1])
    both[: len(known)], both[len(known) :] = known, own
    met, distance = _met(CosineNeighbours(both, threshold, method, seed).pairs, len(known), len(own))
    return some[met], distance[met]


def _met(near: Find, known: int, own: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which of `own` items, behind `known` ones, are near one of these; and how near."""
    fallen = fallen_to(near, np.arange(known), np.arange(known, known + own))
    met, distance = np.zeros(own, bool), np.zeros(own)
    met[fallen.rows - known], distance[fallen.rows - known] = True, fallen.distance
    return met, distance
