"""Of records that are the same, the best stays and each other one names it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.neighbours import Ints, Pairs, hamming_pairs


@dataclass(frozen=True)
class Dropped:
    """Rows that fall, the kept row that each falls to, and their distance or cosine."""

    rows: Ints
    kept: Ints
    value: NDArray[np.float64]


def best_first(rank: Ints, pairs: Pairs) -> Dropped:
    """Go through the rows from best to worst; one with a kept neighbour falls to the best of these.

    rank  0 is best, no two equal. Unlike connected components, no chain A~B~C drops a C that is not near A.
    """
    better_left = rank[pairs.left] < rank[pairs.right]
    better = np.where(better_left, pairs.left, pairs.right)
    worse = np.where(better_left, pairs.right, pairs.left)
    order = np.lexsort((rank[better], rank[worse]))
    fallen: dict[int, tuple[int, float]] = {}
    for i in order:
        low, high = int(worse[i]), int(better[i])
        if low not in fallen and high not in fallen:
            fallen[low] = (high, float(pairs.value[i]))
    return _dropped(fallen)


def equal_groups(codes: Ints, rank: Ints) -> Dropped:
    """Rows that share a code (>= 0; negative: no value) fall to the best of them; value 0."""
    rows = np.flatnonzero(codes >= 0)
    order = rows[np.lexsort((rank[rows], codes[rows]))]
    sorted_codes = codes[order]
    first = np.r_[True, sorted_codes[1:] != sorted_codes[:-1]] if len(order) else np.empty(0, bool)
    leader = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))] if len(order) else order
    return Dropped(order[~first], leader[~first], np.zeros(int((~first).sum())))


def near_hashes(hashes: NDArray[np.uint64], valid: NDArray[np.bool_], rank: Ints, threshold: int) -> Dropped:
    """Perceptual duplicates: equal hashes are one group first, so that a common hash costs nothing quadratic."""
    rows = np.flatnonzero(valid)
    values, codes = np.unique(hashes[rows], return_inverse=True)
    all_codes = np.full(len(hashes), -1, np.int64)
    all_codes[rows] = codes
    equal = equal_groups(all_codes, rank)
    leader = np.full(len(values), -1, np.int64)
    heads = np.setdiff1d(rows, equal.rows)
    leader[all_codes[heads]] = heads
    near = (
        best_first(rank[leader], hamming_pairs(values, threshold))
        if threshold
        else Dropped(heads[:0], heads[:0], np.empty(0))
    )
    fate = {
        int(leader[row]): (int(leader[kept]), float(value))
        for row, kept, value in zip(near.rows, near.kept, near.value, strict=True)
    }
    fallen = dict(fate)
    for row, head in zip(equal.rows, equal.kept, strict=True):
        fallen[int(row)] = fate.get(int(head), (int(head), 0.0))
    return _dropped(fallen)


def _dropped(fallen: dict[int, tuple[int, float]]) -> Dropped:
    rows = np.array(sorted(fallen), dtype=np.int64)
    kept = np.array([fallen[int(row)][0] for row in rows], dtype=np.int64)
    return Dropped(rows, kept, np.array([fallen[int(row)][1] for row in rows], dtype=np.float64))


def ranking(columns: Sequence[tuple[NDArray[np.float64], bool]], ids: NDArray[np.object_]) -> Ints:
    """Rank of each row, 0 the best: by the columns in order (True: more is better; NaN is worst), then by id."""
    keys: list[NDArray[np.generic]] = [np.argsort(np.argsort(ids, kind="stable"), kind="stable")]
    for values, more_is_better in reversed(columns):
        signed = -values if more_is_better else values
        keys.append(np.where(np.isnan(signed), np.inf, signed))
    rank = np.empty(len(ids), np.int64)
    rank[np.lexsort(keys)] = np.arange(len(ids))
    return rank
