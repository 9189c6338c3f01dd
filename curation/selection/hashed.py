"""Duplicates by perceptual hash: clips by their hashes over time, pictures by a clip's, pictures by each other's."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.selection.clips import already_shown, repeated
from curation.selection.duplicates import hashes_first
from curation.selection.neighbours import HammingNeighbours, nearest_of
from curation.selection.sequences import Sequences
from curation.selection.table import Scores

Ints = NDArray[np.int64]
CLIPS, STILLS, PICTURES = "phash of frames", "phash of a frame", "phash"
"""What the ledger says of a clip that fell to a clip, a picture to a clip, a picture to a picture."""


@dataclass(frozen=True)
class Fallen:
    """Rows that fall as duplicates, for the ledger; `kept` is -1 where what stays is another run's."""

    reason: str
    rows: Ints
    kept: Ints
    value: NDArray[np.float64]
    threshold: float

    @classmethod
    def elsewhere(cls, reason: str, rows: Ints, value: NDArray[np.float64], threshold: float) -> "Fallen":
        """To what another run kept."""
        return cls(reason, rows, np.full(len(rows), -1), value, threshold)


@dataclass(frozen=True)
class _Hashed:
    """The rows of `order` that have hashes, by kind, and these; places count in the columns given."""

    pictures: Ints
    hashes: NDArray[np.uint64]
    clips: Ints
    frames: Sequences

    @classmethod
    def of(cls, hashes: pa.Array, frames: pa.Array, order: Ints) -> "_Hashed":
        is_clip = frames.is_valid().to_numpy(zero_copy_only=False)
        hashed = hashes.is_valid().to_numpy(zero_copy_only=False) & ~is_clip
        values = hashes.cast(pa.uint64()).fill_null(0).to_numpy(zero_copy_only=False)
        return cls(order[hashed[order]], values, order[is_clip[order]], Sequences.of(frames))

    def stills(self, pictures: Ints, clips: Ints, threshold: int) -> tuple[Ints, Ints, NDArray[np.float64]]:
        """Those `pictures` that are near a frame of `clips`, the first clip with the nearest frame, and the bits."""
        owners = np.repeat(clips, self.frames.counts[clips])
        ranks = np.repeat(np.arange(len(clips)), self.frames.counts[clips])
        values = self.frames.of_clips(clips)
        if not len(values) or not len(pictures):
            return pictures[:0], pictures[:0], np.empty(0)
        order = np.lexsort((ranks, values))
        order = order[np.append(True, values[order][1:] != values[order][:-1])]  # of equal hashes the best clip's
        order = order[np.argsort(ranks[order], kind="stable")]
        mine, codes = np.unique(self.hashes[pictures], return_inverse=True)
        nearest, distance = nearest_of(mine, values[order], threshold)
        found = nearest[codes] >= 0
        return pictures[found], owners[order[nearest[codes[found]]]], distance[codes[found]]


def duplicates(scores: Scores, order: Ints, threshold: int, share: float) -> Iterator[Fallen]:
    """Which rows of `order`, best first, fall: clips, then pictures that a clip left shows, then pictures."""
    mine = _Hashed.of(scores["phash"], _frames(scores), order)
    fell = repeated(mine.frames, mine.clips, threshold, share)
    yield Fallen(CLIPS, fell.rows, fell.kept, 1 - fell.distance, share)
    clips = mine.clips[~np.isin(mine.clips, fell.rows)]
    rows, kept, bits = mine.stills(mine.pictures, clips, threshold)
    yield Fallen(STILLS, rows, kept, bits, threshold)
    left = mine.pictures[~np.isin(mine.pictures, rows)]
    near = hashes_first(HammingNeighbours(mine.hashes, threshold).pairs, mine.hashes, left)
    yield Fallen(PICTURES, near.rows, near.kept, near.distance, threshold)


def already_there(
    scores: Scores, rows: Ints, theirs: Scores, kept: Ints, threshold: int, share: float
) -> Iterator[Fallen]:
    """Which `rows` another run shows in what it `kept`."""
    parts = ((theirs, pa.array(kept)), (scores, pa.array(rows)))
    hashes = pa.concat_arrays([part["phash"].take(taken).cast(pa.uint64()) for part, taken in parts])
    frames = pa.concat_arrays([_frames(part).take(taken) for part, taken in parts])
    both = _Hashed.of(hashes, frames, np.arange(len(hashes)))
    known_clips, clips = (both.clips[where] for where in (both.clips < len(kept), both.clips >= len(kept)))
    known, pictures = (both.pictures[where] for where in (both.pictures < len(kept), both.pictures >= len(kept)))
    fell = already_shown(both.frames, known_clips, clips, threshold, share)
    yield Fallen.elsewhere(CLIPS, rows[fell.rows - len(kept)], 1 - fell.distance, share)
    stills, _, bits = both.stills(pictures, known_clips, threshold)
    yield Fallen.elsewhere(STILLS, rows[stills - len(kept)], bits, threshold)
    left = pictures[~np.isin(pictures, stills)]
    mine, codes = np.unique(both.hashes[left], return_inverse=True)
    nearest, distance = nearest_of(mine, np.unique(both.hashes[known]), threshold)
    met = nearest[codes] >= 0
    yield Fallen.elsewhere(PICTURES, rows[left[met] - len(kept)], distance[codes[met]], threshold)


def _frames(scores: Scores) -> pa.Array:
    """Hashes over time; none where the scores are older than these."""
    kind = pa.list_(pa.uint64())
    return scores["phash_frames"].cast(kind) if "phash_frames" in scores.known else pa.nulls(scores.rows, kind)
