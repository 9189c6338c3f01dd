"""Duplicates across runs: what another run kept counts as already there."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import rundir
from curation.errors import CurationError, UsageError
from curation.manifest import COMPARED, DuplicatesSection
from curation.scoring import chunkfile
from curation.selection import hashed
from curation.selection.alignment import same
from curation.selection.duplicates import Confirm, duplicates_of
from curation.selection.hashed import FoundDuplicates
from curation.selection.neighbours import CosineNeighbours
from curation.selection.table import IDENTITIES, Packed, Scores, room
from curation.stores.storage import Store

Ints = NDArray[np.int64]


def already_there(
    mine: Scores, rows: Ints, section: DuplicatesSection, threshold: float, seed: int, other: Store
) -> Iterator[FoundDuplicates]:
    """Those of `rows` that match a record which the run `other` kept.

    Raises CurationError where the other run made no decision, or its vectors come from another model;
    UsageError where it lacks a column.
    """
    columns = COMPARED[section.on]
    _refuse_itself(mine.store, other)
    if section.on == "embedding":
        _refuse_other_models(mine.store, other)
    theirs, kept = kept_rows(other, columns)
    if section.on == "phash":
        yield from hashed.already_there(mine, rows, theirs, kept, int(threshold), section.share)
    elif section.on in ("embedding", "copy"):
        met, distance = _vectors(mine, rows, theirs, kept, section, threshold, seed)
        yield FoundDuplicates.elsewhere(section.on, met, np.round(1 - distance, 6), threshold)
    else:
        name = IDENTITIES[columns[0]]
        own, known = mine[name].take(pa.array(rows)), theirs[name].take(pa.array(kept)).drop_null()
        is_there = pc.index_in(own, value_set=known, skip_nulls=True).is_valid().to_numpy(zero_copy_only=False)
        yield FoundDuplicates.elsewhere(section.on, rows[is_there], np.zeros(int(is_there.sum())), threshold)


def _refuse_itself(mine: Store, other: Store) -> None:
    """Every record is its own duplicate: a run against itself would keep nothing."""
    one, two = (os.path.realpath(store.root) if Path(store.root).exists() else store.root for store in (mine, other))
    if one == two:
        raise UsageError(
            f"select.duplicates: against: {other.root} is this run itself, and all its records would be dropped; "
            "name the directory of another run"
        )


def _refuse_other_models(mine: Store, other: Store) -> None:
    """Vectors of two models mean nothing to each other, also where they are of one length."""
    ours, theirs = (embedding_models(store) for store in (mine, other))
    if ours and theirs and ours != theirs:
        raise CurationError(
            f"{other.root} holds embeddings of {', '.join(sorted(theirs))}, this run of {', '.join(sorted(ours))}: "
            "vectors of different models cannot be compared; score one of them with the other's model"
        )


def embedding_models(store: Store) -> set[str]:
    """The models that made a run's embeddings, as its chunk files name them; empty where they name none."""
    found = set()
    for file in rundir.score_files(store)[:1]:  # all files of a run are of one plan
        _, known = chunkfile.footer(store, file)
        found |= {model for stage, model in known.get("models", {}).items() if stage == "embedding"}
    return found


def kept_rows(other: Store, columns: Sequence[str]) -> tuple[Scores, Ints]:
    """Another run's scores, and the rows that it kept. Raises UsageError where it was made without the columns."""
    selection = rundir.read_selection(other)
    kept = selection.filter(pc.equal(selection["decision"], "kept"))["id"].cast(pa.large_string())
    optional = ("phash_frames", "phash_frames_mirrored") if "phash" in columns else ()
    try:
        theirs = Scores(other, [IDENTITIES.get(name, name) for name in columns], optional=optional)
    except UsageError as error:
        raise UsageError(
            f"records cannot be compared with those of {other.root}, which lacks what this version compares: {error}. "
            f"`curate run` with its manifest, with the stages that write {' and '.join(columns)}, brings it up to date"
        ) from error
    return theirs, np.flatnonzero(pc.is_in(theirs.ids, value_set=kept).to_numpy(zero_copy_only=False))


def copies(packed: Packed, rows: Ints) -> Confirm:
    """Whether the thumbnails of two places in `rows` show the same; without one of them they do not."""

    def confirm(one: int, other: int) -> bool:
        a, b = int(rows[one]), int(rows[other])
        return a in packed and b in packed and same(packed[b], packed[a])

    return confirm


def _copies_across(ours: Packed, own: Ints, theirs: Packed, known: Ints) -> Confirm:
    """As `copies`, for places among the other run's rows and then this one's."""

    def confirm(one: int, other: int) -> bool:
        a, b = int(own[one - len(known)]), int(known[other])
        return a in ours and b in theirs and same(theirs[b], ours[a])

    return confirm


def _vectors(
    mine: Scores, rows: Ints, theirs: Scores, kept: Ints, section: DuplicatesSection, threshold: float, seed: int
) -> tuple[Ints, NDArray[np.float64]]:
    """Rows that the other run already has, and their distance from what it has."""
    some, own = mine.vectors(section.on, rows)
    there, known = theirs.vectors(section.on, kept)
    if not len(own) or not len(known):
        return rows[:0], np.empty(0)
    if own.shape[1] != known.shape[1]:
        raise CurationError(
            f"{theirs.store.root} holds vectors '{section.on}' of {known.shape[1]} dimensions, this run of "
            f"{own.shape[1]}: they came from different models and cannot be compared"
        )
    both = room(len(known) + len(own), own.shape[1])
    both[: len(known)], both[len(known) :] = known, own
    find = CosineNeighbours(both, threshold, section.method, seed).pairs
    confirm = (
        _copies_across(mine.thumbnails(some), some, theirs.thumbnails(there), there) if section.on == "copy" else None
    )
    dropped = duplicates_of(find, np.arange(len(known)), np.arange(len(known), len(both)), confirm)
    return some[dropped.rows - len(known)], dropped.distance
