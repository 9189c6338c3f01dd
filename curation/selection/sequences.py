"""Clips as sequences of frame hashes: how much of one is shown, in the same order, in another."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
MOST_CHANGE = 24
"""Two hashes a quarter of a second apart that differ in more bits lie on both sides of a cut."""


@dataclass(frozen=True)
class Sequences:
    """The hashes of many clips, one after another, without those of frames that tell nothing.

    starts   int64 [N + 1]: the hashes of clip i are values[starts[i] : starts[i + 1]]
    follows  bool: whether a hash is the one right after the hash before it
    """

    starts: Ints
    values: Hashes
    follows: NDArray[np.bool_]

    @classmethod
    def of(cls, column: pa.Array) -> "Sequences":
        """From `phash_frames`, list<uint64>; null elements are frames that tell nothing, null rows have none."""
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = column.drop_null().flatten().cast(pa.uint64())
        telling = flat.is_valid().to_numpy(zero_copy_only=False)
        edges = np.concatenate([[0], np.cumsum(lengths)])
        follows = np.concatenate([[False], telling[:-1]]) if len(telling) else telling
        follows[edges[:-1][lengths > 0]] = False
        starts = np.concatenate([[0], np.cumsum(telling)])[edges].astype(np.int64)
        values = flat.drop_null().to_numpy(zero_copy_only=False)
        return cls(starts, values, follows[telling])

    @property
    def counts(self) -> Ints:
        """Hashes of each clip."""
        return np.diff(self.starts)

    def of_clips(self, clips: Ints) -> Hashes:
        """The hashes of some clips, one clip after another."""
        counts = self.counts[clips]
        before = np.cumsum(counts) - counts
        return self.values[np.arange(int(counts.sum())) + np.repeat(self.starts[clips] - before, counts)]

    def shared(self, one: int, other: int, threshold: int) -> int:
        """How many hashes of the clip with fewer of them are matched in order in the other: see `in_order`."""
        if self.starts[one + 1] - self.starts[one] > self.starts[other + 1] - self.starts[other]:
            one, other = other, one
        a, b = (slice(*self.starts[i : i + 2].tolist()) for i in (one, other))
        return in_order(self.values[a], self.values[b], self.follows[b], threshold)


def in_order(short: Hashes, long: Hashes, follows: NDArray[np.bool_], threshold: int) -> int:
    """How many of `short`'s hashes are matched, each by one of its own and in the same order, by those of `long`.

    Two hashes match within `threshold` bits. A hash also matches a pair of neighbours in `long` that it lies
    between: what moves changes bit after bit, so a frame taken between two others has each bit from one of
    them. Bits in which it differs from both are counted.
    """
    differ = short[:, None] ^ long
    near = np.bitwise_count(differ) <= threshold
    joined = follows[1:] & (np.bitwise_count(long[1:] ^ long[:-1]) <= MOST_CHANGE)
    between = (np.bitwise_count(differ[:, 1:] & differ[:, :-1]) <= threshold) & joined
    near[:, 1:] |= between
    near[:, :-1] |= between
    return longest_chain(near)


def longest_chain(near: NDArray[np.bool_]) -> int:
    """The most cells that are true and go down and right from one to the next: the length of the longest common
    subsequence of rows and columns, a row at a time in the bits of a number (Hyyrö 2004)."""
    columns = near.shape[1]
    every = (1 << columns) - 1
    row = every
    for packed in np.packbits(near, axis=1, bitorder="little"):
        hit = row & int.from_bytes(packed.tobytes(), "little")
        row = (row + hit | row - hit) & every
    return columns - row.bit_count()
