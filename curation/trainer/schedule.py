"""Which samples a step takes: a pure function of the shards' index, the seed and the step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from curation.errors import CurationError
from curation.shards.batches import Numbers, batch_order, sample_order


@dataclass(frozen=True)
class Bucket:
    """All shards of one T x H x W.

    name, shape  `17x256x256`, and its latents' (C, T, h, w)
    shards       (first sample's number, samples) of each, in the order of the index
    batch        samples of a global batch
    """

    name: str
    shape: tuple[int, int, int, int]
    shards: tuple[tuple[int, int], ...]
    batch: int

    @property
    def samples(self) -> int:
        return sum(samples for _, samples in self.shards)

    @property
    def batches(self) -> int:
        """Of one epoch; what does not fill a last batch waits for another epoch's order."""
        return self.samples // self.batch

    @property
    def image(self) -> bool:
        return self.name.startswith("1x")


def buckets_of(
    entries: Sequence[Mapping[str, Any]],
    shapes: Sequence[tuple[int, int, int, int]],
    batch: int,
    tokens: int | None = None,
    patch: tuple[int, int] = (1, 1),
) -> list[Bucket]:
    """The index' shards by bucket; `tokens` is the patches of a global batch, and then decides instead of `batch`.

    Raises CurationError for a shard without samples, and where a patch does not divide a bucket's latents.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    shape_of, first = {}, 0
    for entry, shape in zip(entries, shapes, strict=True):
        if not entry["samples"]:
            raise CurationError(f"{entry['path']} of the bucket {entry['bucket']} has no samples: encode again")
        found.setdefault(entry["bucket"], []).append((first, entry["samples"]))
        shape_of[entry["bucket"]] = shape
        first += entry["samples"]
    sizes = {
        name: batch if tokens is None else max(1, tokens // patches(shape_of[name], patch, name)) for name in found
    }
    for name, shape in shape_of.items():
        patches(shape, patch, name)
    return [Bucket(name, shape_of[name], tuple(found[name]), sizes[name]) for name in sorted(found)]


def patches(shape: tuple[int, int, int, int], patch: tuple[int, int], name: str) -> int:
    """Tokens of one sample. Raises CurationError where the patch does not divide."""
    (_, t, h, w), (pt, p) = shape, patch
    if h % p or w % p:
        raise CurationError(
            f"the bucket {name} has latents of {h}x{w}, which patches of {p}x{p} do not divide: choose another "
            f"train.model patch, or encode.buckets in multiples of it"
        )
    return -(-t // pt) * (h // p) * (w // p)


@dataclass(frozen=True)
class Place:
    """A step's bucket, its samples' numbers (in the order of the index), and how many epochs lie behind it."""

    bucket: Bucket
    numbers: Numbers
    epoch: int


class Schedule:
    """A never-ending sequence of global batches, each of one bucket, by their step.

    In an epoch each sample comes at most once. Shards of a bucket are shuffled, then samples among `window`
    shards, so that a reader holds few of them open; batches of the buckets come in a shuffled order.

    images  share of steps on images; None: images and clips in one sequence, as often as there are
    """

    def __init__(self, buckets: Sequence[Bucket], seed: int, window: int = 16, images: float | None = None) -> None:
        self.buckets, self.seed, self.window, self.images = list(buckets), seed, window, images
        usable = [bucket for bucket in self.buckets if bucket.batches]
        if not usable:
            raise CurationError(f"no bucket fills a batch: {self._sizes()}; lower train.batch, or curate more of them")
        if images is None:
            self._streams = [usable]
        else:
            self._streams = [[b for b in usable if not b.image], [b for b in usable if b.image]]
            for share, stream, what in ((1 - images, 0, "videos"), (images, 1, "images")):
                if share and not self._streams[stream]:
                    raise CurationError(
                        f"train.images is {images:g}, but no bucket of {what} fills a batch: {self._sizes()}"
                    )
        self._plan = lru_cache(maxsize=4)(self._planned)
        self._order = lru_cache(maxsize=2 * len(usable))(self._ordered)

    def _sizes(self) -> str:
        return ", ".join(f"{b.name} has {b.samples} of {b.batch}" for b in self.buckets) or "there are no shards"

    @property
    def epoch_steps(self) -> int:
        """Steps in which each sample that is used comes once."""
        return sum(bucket.batches for stream in self._streams for bucket in stream)

    def epochs(self, step: int) -> float:
        """How often each sample has come on average before a step, of those that are used."""
        if self.images is None:
            return step / self.epoch_steps
        pictures = int(step * self.images + 1e-9)
        drawn = total = 0.0
        for stream, share, taken in zip(
            self._streams, (1 - self.images, self.images), (step - pictures, pictures), strict=True
        ):
            if share:
                samples = sum(bucket.batches * bucket.batch for bucket in stream)
                drawn += taken / sum(bucket.batches for bucket in stream) * samples
                total += samples
        return drawn / total

    def lost(self) -> Iterator[tuple[Bucket, int]]:
        """Buckets too small for one batch, and the samples that this costs."""
        return ((bucket, bucket.samples) for bucket in self.buckets if not bucket.batches)

    def __getitem__(self, step: int) -> Place:
        """The batch of a step, from 0."""
        stream, at = 0, step
        if self.images is not None:
            before, through = int(step * self.images + 1e-9), int((step + 1) * self.images + 1e-9)
            stream, at = (1, before) if through > before else (0, step - before)
        buckets = self._streams[stream]
        epoch, position = divmod(at, sum(bucket.batches for bucket in buckets))
        which, turn = (row[position] for row in self._plan(stream, epoch))
        bucket = buckets[which]
        order = self._order(bucket.name, epoch)
        return Place(bucket, order[turn * bucket.batch : (turn + 1) * bucket.batch], epoch)

    def _planned(self, stream: int, epoch: int) -> tuple[Numbers, Numbers]:
        """Of an epoch's steps: the bucket of each, and how many batches of that bucket came before."""
        counts = [bucket.batches for bucket in self._streams[stream]]
        return batch_order(counts, np.random.default_rng([self.seed, 1, stream, epoch]))

    def _ordered(self, name: str, epoch: int) -> Numbers:
        bucket = next(bucket for bucket in self.buckets if bucket.name == name)
        rng = np.random.default_rng([self.seed, 2, self.buckets.index(bucket), epoch])
        return sample_order(bucket.shards, self.window, rng)
