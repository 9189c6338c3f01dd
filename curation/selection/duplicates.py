"""Keeps the best record of a group of duplicates; the others store its id in `duplicate_of`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.selection.neighbours import Ints, Pairs

Find = Callable[[Ints], Iterator[Pairs]]
"""Pairs among `rows`, as places in `rows`: a method `pairs` of curation.selection.neighbours."""
Confirm = Callable[[int, int], bool]
"""Whether two rows are the same, where being near only says that they may be."""
MOST_PAIRS = 20_000_000
MOST_CONFIRMED = 16
"""So many rows, nearest first, is a row compared with by `Confirm`: where all are near, the cost stays bounded."""
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


def best_first(find: Find, order: Ints, most_pairs: int = MOST_PAIRS, confirm: Confirm | None = None) -> Dropped:
    """Go through `order`, best first: a row with a kept row near it falls to the nearest of these.

    Unlike connected components, no chain A~B~C drops a C that is not near A. Where there are more pairs than
    memory should hold, the better half is decided first, and only what it leaves is looked at again. With `confirm` a
    row falls to the nearest that is confirmed.
    """
    held = _held(find(order), most_pairs if len(order) > _SMALL else None)
    if held is not None:
        return _resolve(order, held, confirm)
    half = len(order) // 2
    better = best_first(find, order[:half], most_pairs, confirm)
    kept = order[:half][~np.isin(order[:half], better.rows)]
    dropped = duplicates_of(find, kept, order[half:], confirm)
    rest = order[half:][~np.isin(order[half:], dropped.rows)]
    return Dropped.join([better, dropped, best_first(find, rest, most_pairs, confirm)])


def duplicates_of(find: Find, kept: Ints, rows: Ints, confirm: Confirm | None = None) -> Dropped:
    """The `rows` that are near one of `kept`, each with the nearest (that is confirmed); of equals the first."""
    most = 1 if confirm is None else MOST_CONFIRMED
    high, low = np.empty(0, np.int64), np.empty(0, np.int64)
    near = np.empty(0)
    for pairs in find(np.concatenate([kept, rows])):
        lower, higher = np.minimum(pairs.left, pairs.right), np.maximum(pairs.left, pairs.right) - len(kept)
        across = (lower < len(kept)) & (higher >= 0)
        high, low = np.concatenate([high, higher[across]]), np.concatenate([low, lower[across]])
        near = np.concatenate([near, pairs.distance[across]])
        best = _nearest_first(high, near, low, most)
        high, low, near = high[best], low[best], near[best]
    taken: dict[int, int] = {}
    for i, (row, other) in enumerate(zip(high.tolist(), low.tolist(), strict=True)):
        if row not in taken and (confirm is None or confirm(int(rows[row]), int(kept[other]))):
            taken[row] = i
    at = np.array(list(taken.values()), np.int64)
    return Dropped(rows[high[at]], kept[low[at]], near[at])


def _nearest_first(high: Ints, near: NDArray[np.float64], low: Ints, most: int) -> Ints:
    """Places in order of `high`, then nearest first, of equals the first; at most so many of each, none twice."""
    order = np.lexsort((low, near, high))
    again = (np.diff(high[order], prepend=-1) == 0) & (np.diff(low[order], prepend=-1) == 0)
    order = order[~again]
    heads = np.flatnonzero(np.diff(high[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(heads, np.diff(heads, append=len(order)))
    return order[place < most]


def _held(blocks: Iterable[Pairs], most: int | None) -> list[Pairs] | None:
    """All blocks, or None when they are more than `most` pairs."""
    held, total = [], 0
    for block in blocks:
        held.append(block)
        total += len(block.left)
        if most is not None and total > most:
            return None
    return held


def _resolve(order: Ints, held: list[Pairs], confirm: Confirm | None = None) -> Dropped:
    """Decide the worse row of each pair, in their order: places in `order` are ranks."""
    if not held:
        return Dropped(order[:0], order[:0], np.empty(0))
    left, right = np.concatenate([p.left for p in held]), np.concatenate([p.right for p in held])
    distance = np.concatenate([p.distance for p in held])
    low, high = np.minimum(left, right), np.maximum(left, right)
    by_rank = np.lexsort((low, distance, high))
    dropped, asked = bytearray(len(order)), bytearray(len(order))
    taken: list[int] = []
    last = (-1, -1)
    for block in np.array_split(by_rank, len(by_rank) // _BLOCK + 1):
        for i, better, worse in zip(block.tolist(), low[block].tolist(), high[block].tolist(), strict=True):
            if dropped[worse] or dropped[better] or asked[worse] == MOST_CONFIRMED or (better, worse) == last:
                continue
            if confirm is not None:
                asked[worse] += 1
                last = better, worse
                if not confirm(int(order[worse]), int(order[better])):
                    continue
            dropped[worse] = 1
            taken.append(i)
    at = np.array(taken, np.int64)
    return Dropped(order[high[at]], order[low[at]], distance[at])


def equal_first(find: Find, codes: Ints, order: Ints) -> Dropped:
    """`best_first` where rows of equal codes (int64, one a row) are alike: these share the fate of their best, so that
    what is frequent costs nothing quadratic. The same rows fall; one of equals may name another kept row than its very
    nearest."""
    same = equal(codes, order)
    is_head = np.ones(len(codes), bool)
    is_head[same.rows] = False
    heads = order[is_head[order]]
    near = best_first(find, heads)
    fate = np.arange(len(codes))
    fate[near.rows] = near.kept
    distance = np.zeros(len(codes))
    distance[near.rows] = near.distance
    return Dropped.join([near, Dropped(same.rows, fate[same.kept], distance[same.kept])])
