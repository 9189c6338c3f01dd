"""Duplicates by perceptual hash: clips by their hashes over time, pictures by a clip's, pictures by each other's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.selection.clips import already_shown, repeated
from curation.selection.duplicates import duplicates_of, equal_first
from curation.selection.looks import LookNeighbours, Looks
from curation.selection.neighbours import nearest_of
from curation.selection.sequences import Sequences
from curation.selection.table import LOOK, Scores

Ints = NDArray[np.int64]
CLIPS, STILLS, PICTURES = "phash of frames", "phash of a frame", "phash"
"""What the ledger says of a clip that fell to a clip, a picture to a clip, a picture to a picture."""


@dataclass(frozen=True)
class FoundDuplicates:
    """Rows that fall as duplicates, for the ledger; `kept` is -1 where what stays is another run's."""

    reason: str
    rows: Ints
    kept: Ints
    value: NDArray[np.float64]
    threshold: float

    @classmethod
    def elsewhere(cls, reason: str, rows: Ints, value: NDArray[np.float64], threshold: float) -> "FoundDuplicates":
        """To what another run kept."""
        return cls(reason, rows, np.full(len(rows), -1), value, threshold)


@dataclass(frozen=True)
class _Hashed:
    """The rows of `order` that have hashes, by kind, and these; places count in the columns given."""

    pictures: Ints
    looks: Looks
    clips: Ints
    frames: Sequences

    @classmethod
    def of(cls, columns: Mapping[str, pa.Array], order: Ints) -> "_Hashed":
        frames = columns["phash_frames"]
        is_clip = frames.is_valid().to_numpy(zero_copy_only=False)
        looks = Looks.of(columns["phash"], columns["phash_look"])
        sequences = Sequences.of(frames).with_mirrors(Sequences.of(columns["phash_frames_mirrored"]))
        return cls(order[(looks.known & ~is_clip)[order]], looks, order[is_clip[order]], sequences)

    def stills(self, pictures: Ints, clips: Ints, threshold: int) -> tuple[Ints, Ints, NDArray[np.float64]]:
        """Those `pictures` that are near a frame of `clips`, mirrored or not, the first clip with the nearest frame,
        and the bits."""
        owners = np.repeat(clips, self.frames.counts[clips])
        ranks = np.repeat(np.arange(len(clips)), self.frames.counts[clips])
        values = self.frames.of_clips(clips)
        if not len(values) or not len(pictures):
            return pictures[:0], pictures[:0], np.empty(0)
        order = np.lexsort((ranks, values))
        order = order[np.append(True, values[order][1:] != values[order][:-1])]  # of equal hashes the best clip's
        order = order[np.argsort(ranks[order], kind="stable")]
        ways = []
        for hashes in (self.looks.hashes, self.looks.mirrored):
            mine, codes = np.unique(hashes[pictures], return_inverse=True)
            nearest, distance = nearest_of(mine, values[order], threshold)
            ways.append((nearest[codes], distance[codes]))
        (own, bits), (turned, turned_bits) = ways
        nearest, bits = np.where(turned_bits < bits, turned, own), np.minimum(bits, turned_bits)
        found = nearest >= 0
        return pictures[found], owners[order[nearest[found]]], bits[found]


def duplicates(scores: Scores, order: Ints, threshold: int, share: float) -> Iterator[FoundDuplicates]:
    """Which rows of `order`, best first, fall: clips, then pictures that a clip left shows, then pictures."""
    mine = _Hashed.of(_columns(scores), order)
    fell = repeated(mine.frames, mine.clips, threshold, share)
    yield FoundDuplicates(CLIPS, fell.rows, fell.kept, 1 - fell.distance, share)
    clips = mine.clips[~np.isin(mine.clips, fell.rows)]
    rows, kept, bits = mine.stills(mine.pictures, clips, threshold)
    yield FoundDuplicates(STILLS, rows, kept, bits, threshold)
    left = mine.pictures[~np.isin(mine.pictures, rows)]
    near = equal_first(LookNeighbours(mine.looks, threshold).pairs, mine.looks.codes(left), left)
    yield FoundDuplicates(PICTURES, near.rows, near.kept, near.distance, threshold)


def already_there(
    scores: Scores, rows: Ints, theirs: Scores, kept: Ints, threshold: int, share: float
) -> Iterator[FoundDuplicates]:
    """Which `rows` another run shows in what it `kept`."""
    parts = [(_columns(theirs), pa.array(kept)), (_columns(scores), pa.array(rows))]
    columns = {}
    for name in parts[0][0]:
        taken = [part[name].take(rows) for part, rows in parts]
        kind = taken[0].type if taken[0].type == taken[1].type else pa.binary()
        columns[name] = pa.concat_arrays([column.cast(kind) for column in taken])
    both = _Hashed.of(columns, np.arange(len(kept) + len(rows)))
    known_clips, clips = (both.clips[where] for where in (both.clips < len(kept), both.clips >= len(kept)))
    known, pictures = (both.pictures[where] for where in (both.pictures < len(kept), both.pictures >= len(kept)))
    fell = already_shown(both.frames, known_clips, clips, threshold, share)
    yield FoundDuplicates.elsewhere(CLIPS, rows[fell.rows - len(kept)], 1 - fell.distance, share)
    stills, _, bits = both.stills(pictures, known_clips, threshold)
    yield FoundDuplicates.elsewhere(STILLS, rows[stills - len(kept)], bits, threshold)
    left = pictures[~np.isin(pictures, stills)]
    near = duplicates_of(LookNeighbours(both.looks, threshold).pairs, known, left)
    yield FoundDuplicates.elsewhere(PICTURES, rows[near.rows - len(kept)], near.distance, threshold)


def _columns(scores: Scores) -> dict[str, pa.Array]:
    """What is compared, each column in one type; a run without clips has no hashes over time."""
    kinds = {"phash": pa.uint64(), "phash_look": LOOK if scores["phash_look"].type == LOOK else pa.binary()}
    kinds |= dict.fromkeys(("phash_frames", "phash_frames_mirrored"), pa.list_(pa.uint64()))
    return {
        name: scores[name].cast(kind) if name in scores.known else pa.nulls(scores.rows, kind)
        for name, kind in kinds.items()
    }
