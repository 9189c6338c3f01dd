"""Pictures that look alike: by the hash, by the hash of the mirror image, and by their colours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.selection.neighbours import HammingNeighbours, Ints, Pairs

GRID = 4
SHIFT = 10.0
"""So far the colours of a whole copy may have moved (white balance, saturation), in levels of Cr and Cb."""
OFF_COLOUR, OFF_LUMA = 16.0, 64.0
"""Levels by which any cell of the grid may differ further. Measured on 99 photos: JPEG, resizing, blur, noise,
text and watermarks move no cell's colour by more than 6, random changes of brightness, contrast, saturation and white
balance 12 at most in nine of ten; one drawing in blue and in violet differs by 33."""

_BLOCK = 1 << 16


@dataclass(frozen=True)
class Looks:
    """What `phash` stores of N pictures; rows without it have `known` False and are never asked for.

    hashes, mirrored  uint64 [N]: of the picture and of its mirror image
    colours           uint8 [N, 4, 4, 3]: luma, Cr, Cb of a grid
    """

    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    colours: NDArray[np.uint8]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, hashes: pa.Array, looks: pa.Array) -> "Looks":
        """From the columns `phash` (integers) and `phash_look` (binary)."""
        known = hashes.is_valid().to_numpy(zero_copy_only=False) & looks.is_valid().to_numpy(zero_copy_only=False)
        values = hashes.cast(pa.uint64()).fill_null(0).to_numpy(zero_copy_only=False)
        packed = _bytes_of(looks)
        mirrored = np.ascontiguousarray(packed[:, :8]).view("<u8")[:, 0].astype(np.uint64, copy=False)
        return cls(values, mirrored, packed[:, 8:].reshape(-1, GRID, GRID, 3), known)

    def codes(self, rows: Ints) -> Ints:
        """Equal for rows of equal hashes and nearly equal colours, -1 for all that are not in `rows`: what shares a
        code is alike by any threshold."""
        codes = np.full(len(self.hashes), -1, np.int64)
        if len(rows):
            _, inverse, counts = np.unique(self.hashes[rows], return_inverse=True, return_counts=True)
            codes[rows] = inverse
            several = rows[counts[inverse] > 1]
            if len(several):
                colours = self.colours[several].reshape(len(several), -1) >> 3
                packed = np.concatenate([self.hashes[several, None].view(np.uint8), colours], axis=1)
                whole = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))[:, 0]
                codes[several] = len(counts) + np.unique(whole, return_inverse=True)[1]
        return codes

    def neighbours(self, threshold: int) -> "LookNeighbours":
        return LookNeighbours(self, threshold)


def _bytes_of(looks: pa.Array) -> NDArray[np.uint8]:
    """uint8 [N, 56], the same memory where the type says that all are as long; anything where it is null."""
    size = 8 + 3 * GRID * GRID
    if looks.type == pa.binary(size):
        return np.frombuffer(looks.buffers()[1], np.uint8, size * len(looks), size * looks.offset).reshape(-1, size)
    packed = np.zeros((len(looks), size), np.uint8)
    there = np.flatnonzero(looks.is_valid().to_numpy(zero_copy_only=False))
    packed[there] = np.frombuffer(b"".join(looks.drop_null().to_pylist()), np.uint8).reshape(len(there), size)
    return packed


@dataclass(frozen=True)
class LookNeighbours:
    """Pairs of pictures of which one's hash is within `threshold` bits of the other's, or of the other's mirror
    image's, while their colours agree. Raises UsageError where HammingNeighbours does."""

    looks: Looks
    threshold: int

    def pairs(self, rows: Ints) -> Iterator[Pairs]:
        count, looks = len(rows), self.looks
        both = np.concatenate([looks.hashes[rows], looks.mirrored[rows]])
        for found in HammingNeighbours(both, self.threshold).pairs(np.arange(2 * count)):
            # of two mirror images the pair is known as that of the pictures; none is paired with its own
            some = (np.minimum(found.left, found.right) < count) & (found.left % count != found.right % count)
            left, right, distance = found.left[some], found.right[some], found.distance[some]
            turned = (left >= count) | (right >= count)
            left, right = left % count, right % count
            alike = self._alike(rows[left], rows[right], turned)
            yield Pairs(left[alike], right[alike], distance[alike])

    def _alike(self, left: Ints, right: Ints, turned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether colours agree, `turned`: with those of the mirror image."""
        agree = np.zeros(len(left), bool)
        for start in range(0, len(left), _BLOCK):
            some = slice(start, start + _BLOCK)
            one, other = self.looks.colours[left[some]], self.looks.colours[right[some]]
            agree[some] = colours_agree(one, np.where(turned[some, None, None, None], other[:, :, ::-1], other))
        return agree


def colours_agree(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """For each of N pairs of grids uint8 [N, 4, 4, 3] whether no cell differs much once a common shift is taken off."""
    off = one.astype(np.float32) - other
    colour = off[..., 1:]
    shift = np.clip(np.median(colour.reshape(len(off), GRID * GRID, 2), axis=1), -SHIFT, SHIFT)
    apart = np.linalg.norm(colour - shift[:, None, None, :], axis=-1)
    close = (apart <= OFF_COLOUR) & (np.abs(off[..., 0]) <= OFF_LUMA)
    return np.asarray(close.all(axis=(1, 2)))
