"""Pairs that are near each other: 64-bit hashes by Hamming distance, embeddings by cosine.

Both searches take `rows`, positions in what they were made of, and yield blocks of pairs of places in `rows`.
A pair may come twice. Memory is bounded by the block, not by the number of pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from math import comb, log2

import numpy as np
from numpy.typing import NDArray

from curation.errors import UsageError
from curation.selection.clusters import Clusters

Ints = NDArray[np.int64]
MAX_HAMMING = 16
FLAT_ROWS = 20_000
"""Up to here the join of all pairs of embeddings; beyond it k-means first."""
_MARGIN = 1e-3
"""A float32 product that misses the threshold by less is computed again, in float64."""
_BLOCK = 1 << 22
"""Numbers in one block of distances."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of places in `rows`, in any order; `distance` is in bits, or 1 - cosine rounded to 6 digits."""

    left: Ints
    right: Ints
    distance: NDArray[np.float64]


@dataclass(frozen=True)
class HammingNeighbours:
    """Exact search among hashes uint64 [N]. Raises UsageError beyond 16 bits, where near means nothing.

    The 64 bits are cut into `threshold + k` bands: hashes within the threshold agree on at least k of them,
    so sorting by every choice of k bands brings them side by side (multi-index hashing, Norouzi et al. 2012).
    With a `reach`, no hash is compared with more than so many behind it in a sorted band: where many are alike,
    most pairs among them are left out.
    """

    hashes: NDArray[np.uint64]
    threshold: int
    reach: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= MAX_HAMMING:
            raise UsageError(
                f"a Hamming threshold lies between 0 and {MAX_HAMMING} of 64 bits, not at {self.threshold}"
            )

    def pairs(self, rows: Ints) -> Iterator[Pairs]:
        hashes = self.hashes[rows]
        agree = cheapest_bands(len(rows), self.threshold)
        if agree == 0:
            yield from self._every(hashes)
            return
        bands = cut(self.threshold + agree)
        for choice in combinations(range(len(bands)), agree):
            yield from self._agreeing(hashes, bands, choice)

    def _every(self, hashes: NDArray[np.uint64]) -> Iterator[Pairs]:
        step = max(1, _BLOCK // max(len(hashes), 1))
        for start in range(0, len(hashes), step):
            distance = np.bitwise_count(hashes[start : start + step, None] ^ hashes[None, start + 1 :])
            left, right = np.nonzero(distance <= self.threshold)
            upper = right >= left
            left, right = left[upper], right[upper]
            yield Pairs(left + start, right + start + 1, distance[left, right].astype(np.float64))

    def _agreeing(self, hashes: NDArray[np.uint64], bands: list[np.uint64], choice: tuple[int, ...]) -> Iterator[Pairs]:
        """Pairs that agree on the chosen bands; one that a choice before this one met is left out."""
        keys = _key(hashes, [bands[i] for i in choice])
        order = np.argsort(keys, kind="stable")
        keys, sorted_hashes = keys[order], hashes[order]
        earlier = [bands[i] for i in range(choice[-1]) if i not in choice]
        at, step = np.arange(len(keys)), 1
        while len(at := at[: np.searchsorted(at, len(keys) - step)]):
            at = at[keys[at] == keys[at + step]]
            differ = sorted_hashes[at] ^ sorted_hashes[at + step]
            distance = np.bitwise_count(differ)
            near = distance <= self.threshold
            for mask in earlier:
                near &= (differ & mask) != 0
            if near.any():
                left, right = order[at[near]], order[at[near] + step]
                yield Pairs(left, right, distance[near].astype(np.float64))
            if step == self.reach:
                return
            step += 1


def nearest_of(
    hashes: NDArray[np.uint64], among: NDArray[np.uint64], threshold: int
) -> tuple[Ints, NDArray[np.float64]]:
    """For each of `hashes` the place of the nearest of `among` within the threshold (-1: none; of equals the first),
    and their distance in bits. Both must be without repeats; the cost has no product of the two lengths in it."""
    nearest, distance = np.full(len(hashes), -1, np.int64), np.full(len(hashes), np.inf)
    agree = max(1, cheapest_bands(len(hashes) + len(among), threshold))
    bands = cut(threshold + agree)
    for choice in combinations(range(len(bands)), agree):
        masks = [bands[i] for i in choice]
        order = np.argsort(keys := _key(among, masks), kind="stable")
        wanted = _key(hashes, masks)
        low, high = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
        for some in _bounded_blocks(high - low):
            counts = (high - low)[some]
            left = np.repeat(some, counts)
            right = order[np.arange(len(left)) + np.repeat(low[some] - np.cumsum(counts) + counts, counts)]
            bits = np.bitwise_count(hashes[left] ^ among[right]).astype(np.float64)
            best = np.lexsort((right, bits, left))
            best = best[(np.diff(left[best], prepend=-1) != 0) & (bits[best] <= threshold)]
            left, right, bits = left[best], right[best], bits[best]
            better = (bits < distance[left]) | ((bits == distance[left]) & (right < nearest[left]))
            nearest[left[better]], distance[left[better]] = right[better], bits[better]
    return nearest, distance


def _bounded_blocks(counts: Ints) -> Iterator[Ints]:
    """Places in order, cut so that the counts of a block add up to about _BLOCK."""
    total = np.cumsum(counts)
    for block in range(int(total[-1]) // _BLOCK + 1 if len(total) else 0):
        yield np.flatnonzero((total // _BLOCK == block) & (counts > 0))


def cheapest_bands(rows: int, threshold: int) -> int:
    """How many bands to agree on, by the work expected for evenly spread hashes; 0: compare every pair."""
    costs = {0: rows**2 / 2}
    for agree in range(1, 6):
        bits = 64 * agree / (threshold + agree)
        tables = comb(threshold + agree, agree)
        costs[agree] = tables * rows * (20 + 3 * log2(max(rows, 2)) + rows / 2**bits)
    return min(costs, key=costs.__getitem__)


def cut(count: int) -> list[np.uint64]:
    """Masks of `count` bands that together cover 64 bits."""
    edges = [round(64 * i / count) for i in range(count + 1)]
    return [np.uint64((1 << high) - (1 << low)) for low, high in pairwise(edges)]


def _key(hashes: NDArray[np.uint64], masks: list[np.uint64]) -> NDArray[np.unsignedinteger]:
    """The masked bits side by side, in the smallest type: 16-bit keys are sorted by radix."""
    key, width = np.zeros(len(hashes), np.uint64), 0
    for mask in masks:
        low = int(mask) & -int(mask)
        key |= ((hashes & mask) >> np.uint64(low.bit_length() - 1)) << np.uint64(width)
        width += int(mask).bit_count()
    return key.astype(np.uint16 if width <= 16 else np.uint32 if width <= 32 else np.uint64)


@dataclass(frozen=True)
class CosineNeighbours:
    """Search among embeddings, float16 or float32 [N, D] of any length but zero.

    method  `flat` joins every pair, exactly; `clustered` compares a row with those of its nearest clusters
            (curation.selection.clusters) and finds nearly all; `auto` is flat up to 20,000 rows
    """

    vectors: NDArray[np.floating]
    threshold: float
    method: str = "auto"
    seed: int = 0

    @cached_property
    def clusters(self) -> Clusters | None:
        few = FLAT_ROWS if self.method == "auto" else 1
        flat = self.method == "flat" or len(self.vectors) <= few
        return None if flat else Clusters.fit(self.vectors, self._inverse, self.threshold, self.seed)

    @property
    def recall(self) -> float:
        """Share of planted pairs that the search finds; 1 where every pair is compared."""
        return 1.0 if self.clusters is None else self.clusters.recall

    def pairs(self, rows: Ints) -> Iterator[Pairs]:
        if self.clusters is None:
            places = np.arange(len(rows))
            yield from self._compare(rows, places, places)
            return
        for queries, members in self.clusters.lists(rows):
            yield from self._compare(rows, queries, members)

    @cached_property
    def _inverse(self) -> NDArray[np.float64]:
        """1 / length of each vector."""
        lengths = [
            np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
            for block in np.array_split(self.vectors, max(1, len(self.vectors) // 4096))
        ]
        return 1 / np.concatenate(lengths)

    def _unit(self, rows: Ints) -> NDArray[np.float32]:
        return self.vectors[rows].astype(np.float32) * self._inverse[rows, None].astype(np.float32)

    def _compare(self, rows: Ints, queries: Ints, members: Ints) -> Iterator[Pairs]:
        """Pairs of a query and a member, in blocks of both."""
        for some in _blocks(members, 8192):
            right = self._unit(rows[some])
            for few in _blocks(queries, _BLOCK // 8192):
                product = self._unit(rows[few]) @ right.T
                i, j = np.nonzero(product >= self.threshold - _MARGIN)
                left, other = few[i], some[j]
                once = left < other if queries is members else left != other
                yield self._exact(rows, left[once], other[once])

    def _exact(self, rows: Ints, left: Ints, right: Ints) -> Pairs:
        """The pairs whose cosine reaches the threshold, computed alike for every block and thread count."""
        cosine = np.empty(len(left))
        for some in _blocks(np.arange(len(left)), 4096):
            a, b = rows[left[some]], rows[right[some]]
            product = np.einsum("nd,nd->n", self.vectors[a], self.vectors[b], dtype=np.float64)
            cosine[some] = product * (self._inverse[a] * self._inverse[b])
        cosine = np.round(cosine, 6)
        near = cosine >= self.threshold
        return Pairs(left[near], right[near], np.round(1 - cosine[near], 6))


def _blocks(places: Ints, size: int) -> Iterator[Ints]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
