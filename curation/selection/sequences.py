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
CLOSE, CHANGING, IN_STEP = 1.5, 10.0, 1 / 3
"""Mean bits by which frames of the same moments may differ in copies; mean bits between frames of any two moments
from which on a clip changes enough for the order of its frames to tell; and the share of these bits that frames of the
same moments may have. Measured on the corpus's 10 clips of one person before one wall and on copies of all clips (half
the size, 15 frames/s, 4 % faster, the first quarter cut off, all an eighth of a second off): two takes have 1.7 bits or
more and a share of 0.44 or more; of 250 pairs of copies two, cut and off, have 1.8 and 2.0 bits and are missed."""


@dataclass(frozen=True)
class Sequences:
    """The hashes of many clips, one after another, without those of frames that tell nothing.

    starts   int64 [N + 1]: the hashes of clip i are values[starts[i] : starts[i + 1]]
    follows  bool: whether a hash is the one right after the hash before it
    mirrors  with mirrors, clip i + mirrors is the mirror image of clip i, for i < mirrors; 0: there are none
    """

    starts: Ints
    values: Hashes
    follows: NDArray[np.bool_]
    mirrors: int = 0

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

    def with_mirrors(self, mirrored: "Sequences") -> "Sequences":
        """These clips, and behind them their mirror images, one for each."""
        starts = np.concatenate([self.starts, self.starts[-1] + mirrored.starts[1:]])
        values, follows = ([self.values, mirrored.values], [self.follows, mirrored.follows])
        return Sequences(starts, np.concatenate(values), np.concatenate(follows), len(self.starts) - 1)

    def ways(self, clip: int) -> tuple[int, ...]:
        """The clip, and its mirror image where there is one."""
        return (clip, clip + self.mirrors) if self.mirrors else (clip,)

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
        """How many hashes of the clip with fewer of them are matched in order in the other (`in_order`); none where
        both hardly change and not in step (`in_step`)."""
        if self.starts[one + 1] - self.starts[one] > self.starts[other + 1] - self.starts[other]:
            one, other = other, one
        a, b = (slice(*self.starts[i : i + 2].tolist()) for i in (one, other))
        bits = distances(self.values[a], self.values[b], self.follows[b])
        return in_order(bits, threshold) if in_step(bits) else 0


def distances(short: Hashes, long: Hashes, follows: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bits in which each of `short` differs from each of `long`: uint8 [n, m].

    From a pair of neighbours in `long` it differs in the bits in which it differs from both, where these are fewer:
    what moves changes bit after bit, so a frame taken between two others has each bit from one of them.
    """
    differ = short[:, None] ^ long
    bits = np.bitwise_count(differ)
    joined = follows[1:] & (np.bitwise_count(long[1:] ^ long[:-1]) <= MOST_CHANGE)
    between = np.where(joined, np.bitwise_count(differ[:, 1:] & differ[:, :-1]), 64).astype(np.uint8)
    bits[:, 1:] = np.minimum(bits[:, 1:], between)
    bits[:, :-1] = np.minimum(bits[:, :-1], between)
    return bits


def in_order(bits: NDArray[np.uint8], threshold: int) -> int:
    """How many rows are matched within `threshold` bits, each by a column of its own and in the same order."""
    return longest_chain(bits <= threshold)


def in_step(bits: NDArray[np.uint8]) -> bool:
    """Whether two clips can be one. A fixed camera's takes match frame by frame, whatever happens in them: where all
    frames are about alike, a copy's must be nearer to those of the same moment than to others."""
    rows, columns = bits.shape
    shifts = range(-1, columns - rows + 2) if rows > 1 else range(columns)
    means = [float(np.diagonal(bits, shift).mean()) for shift in shifts]
    shift = shifts[int(np.argmin(means))]
    beside = bits[:, max(0, shift) : shift + rows].mean()
    return min(means) < CLOSE or beside > CHANGING or min(means) <= IN_STEP * beside


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
