"""Duplicates among clips by their hashes over time: copies, parts of longer clips, one shot used twice.

No pair of clips is compared unless one frame of each has nearly the same hash. Such frames are found by
multi-index hashing over the distinct hashes of all clips; what follows is bounded for each clip, so that the cost
grows as sorting does: 100,000 clips of 6 s (2.4 million hashes) took 18 s of one core and 390 MB, so a million take
about 4 minutes and 4 GB.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from curation.selection.duplicates import Dropped
from curation.selection.neighbours import HammingNeighbours
from curation.selection.sequences import Sequences

Ints = NDArray[np.int64]
RADIUS = 4
"""Bits in which the frames that bring two clips together may differ: one such pair is enough."""
REACH = 64
"""In a sorted band a hash is compared with so many after it. Where more are alike (one studio, one intro) most of
their clips are duplicates, fall, and make room: rounds are repeated until none falls."""
MOST_HOLDERS, MOST_COMPARED = 64, 64
"""Clips remembered for a hash, best first; clips that one clip is compared with, most frames in common first."""
FEW = 4
"""Clips with fewer telling hashes (a second of pictures) are no one's duplicates: titles and fades."""


def repeated(clips: Sequences, order: Ints, threshold: int, share: float) -> Dropped:
    """Which clips of `order`, best first, fall. `distance` is the share of their hashes that is NOT in the other.

    A clip that shows `share` of another, while this shows `share` of it, falls where it is the worse. Then a
    clip of which a longer one shows `share` falls to that, better or not: the longer one has more to tell.
    """
    parts: list[Dropped] = []
    while True:
        search = Search(clips, order, threshold, share)
        parts.append(search.fall(order, mutual=True))
        left = order[~np.isin(order, parts[-1].rows)]
        by_length = left[np.argsort(-clips.counts[left], kind="stable")]
        parts.append(search.fall(by_length))
        if not len(parts[-1].rows) + len(parts[-2].rows):
            return Dropped.join(parts)
        order = left[~np.isin(left, parts[-1].rows)]


def already_shown(clips: Sequences, known: Ints, rows: Ints, threshold: int, share: float) -> Dropped:
    """The `rows` of which a clip of `known` shows `share`."""
    return Search(clips, np.concatenate([known, rows]), threshold, share).fall(rows, known)


class Search:
    """Finds, for one clip after another, the kept clip that shows most of it."""

    def __init__(self, clips: Sequences, rows: Ints, threshold: int, share: float) -> None:
        self.clips, self.threshold, self.share = clips, threshold, share
        self.counts = clips.counts
        rows = np.sort(rows[self.counts[rows] >= FEW])
        rows = np.concatenate([rows, rows + clips.mirrors]) if clips.mirrors else rows
        owners = np.repeat(rows, self.counts[rows])
        hashes, codes = np.unique(clips.of_clips(rows), return_inverse=True)
        held = np.unique(owners * len(hashes) + codes)
        owners, codes = held // max(len(hashes), 1), held % max(len(hashes), 1)
        left, right = _links(hashes, codes, owners, min(RADIUS, threshold))
        linked = np.bincount(codes, minlength=len(hashes)) > 1
        linked[left] = True  # what no other clip has anything near to is never looked up
        self._near_starts = np.searchsorted(left, np.arange(len(hashes) + 1))
        self._near = right
        owners, codes = owners[linked[codes]], codes[linked[codes]]
        self._code_starts = np.searchsorted(owners, np.arange(len(self.counts) + 1))
        self._codes = codes

    def fall(self, order: Ints, known: Ints | None = None, mutual: bool = False) -> Dropped:
        """Go through `order`: a clip falls to the one before it that shows most of it, of equals the first, where
        that is at least the share. With `known` clips it falls to these alone. `mutual`: only where it shows the
        share of that one, too."""
        kept = _Kept()
        for row in known.tolist() if known is not None else ():
            kept.add(row, self._codes_of(row))
        rows, others, distance = [], [], []
        for row in order.tolist():
            shares = [
                (self._shown(way, other, mutual), -kept.ranks[other], other)
                for way in self.clips.ways(row)
                for other in self._met(self._codes_of(way), kept)
            ]
            share, _, other = max(shares, default=(0.0, 0, row))
            if share >= self.share:
                rows.append(row)
                others.append(other)
                distance.append(round(1 - share, 6))
            elif known is None:
                kept.add(row, self._codes_of(row))
        return Dropped(np.array(rows, np.int64), np.array(others, np.int64), np.array(distance, np.float64))

    def _codes_of(self, row: int) -> list[int]:
        return self._codes[self._code_starts[row] : self._code_starts[row + 1]].tolist()

    def _met(self, codes: list[int], kept: "_Kept") -> list[int]:
        """Kept clips with hashes near these, those with most of them first."""
        votes: Counter[int] = Counter()
        for code in codes:
            near = self._near[self._near_starts[code] : self._near_starts[code + 1]].tolist()
            votes.update({row for each in (code, *near) for row in kept.holders.get(each, ())})
        return [row for row, _ in votes.most_common(MOST_COMPARED)]

    def _shown(self, row: int, other: int, mutual: bool) -> float:
        """Share of a clip's hashes that are in the other; 0 where too little of the other is in it."""
        both = (int(self.counts[row]), int(self.counts[other]))
        if mutual and min(both) < self.share * max(both):
            return 0.0
        matched = self.clips.shared(row, other, self.threshold)
        return matched / both[0] if not mutual or matched >= self.share * max(both) else 0.0


class _Kept:
    """Clips that stay, in the order in which that was decided, and who holds which hash."""

    def __init__(self) -> None:
        self.ranks: dict[int, int] = {}
        self.holders: dict[int, list[int]] = {}

    def add(self, row: int, codes: list[int]) -> None:
        self.ranks[row] = len(self.ranks)
        for code in codes:
            holders = self.holders.setdefault(code, [])
            if len(holders) < MOST_HOLDERS:
                holders.append(row)


def _links(hashes: NDArray[np.uint64], codes: Ints, owners: Ints, radius: int) -> tuple[Ints, Ints]:
    """Pairs of near hashes, both ways round and sorted, but for those that one clip alone holds."""
    first = np.full(len(hashes), -1, np.int64)
    first[codes[::-1]] = owners[::-1]
    several = np.bincount(codes, minlength=len(hashes)) > 1
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for pairs in HammingNeighbours(hashes, radius, REACH).pairs(np.arange(len(hashes))):
        a, b = pairs.left, pairs.right
        apart = (first[a] != first[b]) | several[a] | several[b]
        left += [a[apart], b[apart]]
        right += [b[apart], a[apart]]
    one, other = np.concatenate(left), np.concatenate(right)
    order = np.lexsort((other, one))
    return one[order], other[order]
