"""Of records that are the same, the best stays and each other one names it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.selection.neighbours import Ints, Pairs

Find = Callable[[Ints], Iterator[Pairs]]
"""Pairs among `rows`, as places in `rows`: a method `pairs` of curation.selection.neighbours."""
MOST_PAIRS = 20_000_000
_SMALL = 4096
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Dropped:
    """Rows that fall, the row that each falls to, and their distance."""

    rows: Ints
    kept: Ints
    distance: NDArray[np.float64]

    @classmethod
    def join(cls, parts: Sequence["Dropped"]) -> "Dropped":
        rows, kept = (np.concatenate([getattr(p, name) for p in parts]) for name in ("rows", "kept"))
        return cls(rows, kept, np.concatenate([p.distance for p in parts]))


def equal(codes: Ints, order: Ints) -> Dropped:
    """Rows that share a code (negative: none) fall to the first of them in `order`, at distance 0."""
    rows = order[codes[order] >= 0]
    grouped = rows[np.argsort(codes[rows], kind="stable")]
    first = np.ones(len(grouped), bool)
    first[1:] = codes[grouped[1:]] != codes[grouped[:-1]]
    head = grouped[np.maximum.accumulate(np.where(first, np.arange(len(grouped)), 0))]
    return Dropped(grouped[~first], head[~first], np.zeros(int((~first).sum())))


def best_first(find: Find, order: Ints, most_pairs: int = MOST_PAIRS) -> Dropped:
    """Go through `order`, best first: a row with a kept row near it falls to the nearest of these.

    Unlike connected components, no chain A~B~C drops a C that is not near A. Where there are more pairs than
    memory should hold, the better half is decided first, and only what it leaves is looked at again.
    """
    held = _held(find(order), most_pairs if len(order) > _SMALL else None)
    if held is not None:
        return _resolve(order, held)
    half = len(order) // 2
    better = best_first(find, order[:half], most_pairs)
    kept = order[:half][~np.isin(order[:half], better.rows)]
    fallen = fallen_to(find, kept, order[half:])
    rest = order[half:][~np.isin(order[half:], fallen.rows)]
    return Dropped.join([better, fallen, best_first(find, rest, most_pairs)])


def fallen_to(find: Find, kept: Ints, rows: Ints) -> Dropped:
    """The `rows` that are near one of `kept`, each with the nearest; of equals the first."""
    nearest = np.full(len(rows), -1, np.int64)
    distance = np.full(len(rows), np.inf)
    for pairs in find(np.concatenate([kept, rows])):
        low, high = np.minimum(pairs.left, pairs.right), np.maximum(pairs.left, pairs.right) - len(kept)
        across = (low < len(kept)) & (high >= 0)
        low, high, near = low[across], high[across], pairs.distance[across]
        best = np.lexsort((low, near, high))
        best = best[np.diff(high[best], prepend=-1) != 0]
        low, high, near = low[best], high[best], near[best]
        closer = (near < distance[high]) | ((near == distance[high]) & (low < nearest[high]))
        nearest[high[closer]], distance[high[closer]] = low[closer], near[closer]
    found = nearest >= 0
    return Dropped(rows[found], kept[nearest[found]], distance[found])


def _held(blocks: Iterable[Pairs], most: int | None) -> list[Pairs] | None:
    """All blocks, or None when they are more than `most` pairs."""
    held, total = [], 0
    for block in blocks:
        held.append(block)
        total += len(block.left)
        if most is not None and total > most:
            return None
    return held


def _resolve(order: Ints, held: list[Pairs]) -> Dropped:
    """Decide the worse row of each pair, in their order: places in `order` are ranks."""
    if not held:
        return Dropped(order[:0], order[:0], np.empty(0))
    left, right = np.concatenate([p.left for p in held]), np.concatenate([p.right for p in held])
    distance = np.concatenate([p.distance for p in held])
    low, high = np.minimum(left, right), np.maximum(left, right)
    by_rank = np.lexsort((low, distance, high))
    fallen = bytearray(len(order))
    taken: list[int] = []
    for block in np.array_split(by_rank, len(by_rank) // _BLOCK + 1):
        for i, better, worse in zip(block.tolist(), low[block].tolist(), high[block].tolist(), strict=True):
            if not fallen[worse] and not fallen[better]:
                fallen[worse] = 1
                taken.append(i)
    at = np.array(taken, np.int64)
    return Dropped(order[high[at]], order[low[at]], distance[at])


def hashes_first(find: Find, hashes: NDArray[np.uint64], order: Ints) -> Dropped:
    """`best_first` for hashes: equal ones share the fate of their best, so that a frequent hash costs nothing
    quadratic. The same rows fall; one of equals may name another kept row than its very nearest."""
    codes = np.full(len(hashes), -1, np.int64)
    codes[order] = np.unique(hashes[order], return_inverse=True)[1]
    same = equal(codes, order)
    is_head = np.ones(len(hashes), bool)
    is_head[same.rows] = False
    heads = order[is_head[order]]
    near = best_first(find, heads)
    fate = np.arange(len(hashes))
    fate[near.rows] = near.kept
    distance = np.zeros(len(hashes))
    distance[near.rows] = near.distance
    return Dropped.join([near, Dropped(same.rows, fate[same.kept], distance[same.kept])])
