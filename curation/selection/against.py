"""Duplicates across runs: what another run kept counts as already there."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import rundir
from curation.errors import CurationError
from curation.manifest import DuplicatesSection
from curation.selection import hashed
from curation.selection.duplicates import fallen_to
from curation.selection.hashed import Fallen
from curation.selection.neighbours import CosineNeighbours
from curation.selection.table import COMPARED, Scores, room
from curation.stores.storage import Store

Ints = NDArray[np.int64]


def already_there(
    mine: Scores, rows: Ints, section: DuplicatesSection, threshold: float, seed: int, other: Store
) -> Iterator[Fallen]:
    """Those of `rows` that match a record which the run `other` kept.

    Raises CurationError where the other run made no decision, or its embeddings come from another model;
    UsageError where it lacks the column.
    """
    column = COMPARED[section.on]
    theirs, kept = kept_rows(other, column)
    if section.on == "phash":
        yield from hashed.already_there(mine, rows, theirs, kept, int(threshold), section.share)
    elif section.on == "embedding":
        met, distance = _embeddings(mine, rows, theirs, kept, section.method, threshold, seed)
        yield Fallen.elsewhere(section.on, met, np.round(1 - distance, 6), threshold)
    else:
        own, known = mine[column].take(pa.array(rows)), theirs[column].take(pa.array(kept)).drop_null()
        is_there = pc.index_in(own, value_set=known, skip_nulls=True).is_valid().to_numpy(zero_copy_only=False)
        yield Fallen.elsewhere(section.on, rows[is_there], np.zeros(int(is_there.sum())), threshold)


def kept_rows(other: Store, column: str) -> tuple[Scores, Ints]:
    """Another run's scores, and the rows that it kept."""
    selection = rundir.read_selection(other)
    kept = selection.filter(pc.equal(selection["decision"], "kept"))["id"].combine_chunks()
    theirs = Scores(other, [column], optional=["phash_frames"] if column == "phash" else ())
    return theirs, np.flatnonzero(pc.is_in(theirs.ids, value_set=kept).to_numpy(zero_copy_only=False))


def _embeddings(
    mine: Scores, rows: Ints, theirs: Scores, kept: Ints, method: str, threshold: float, seed: int
) -> tuple[Ints, NDArray[np.float64]]:
    """Rows that the other run already has, and their distance from what it has."""
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
    find = CosineNeighbours(both, threshold, method, seed).pairs
    fallen = fallen_to(find, np.arange(len(known)), np.arange(len(known), len(both)))
    return some[fallen.rows - len(known)], fallen.distance
