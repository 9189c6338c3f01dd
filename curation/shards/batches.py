"""Batches of one bucket: which samples they hold and in which order, from the index, a seed and the epoch alone."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError, UsageError

Numbers = NDArray[np.int64]
SETTINGS = ("batch_size", "shuffle", "seed", "drop_last", "world_size", "shuffle_shards", "shards")


def sample_order(shards: Sequence[tuple[int, int]], window: int, rng: np.random.Generator) -> Numbers:
    """All sample numbers of a bucket, shuffled so that a reader holds few shards open.

    Shards, (first number, samples) each, are shuffled, then the samples among `window` shards that follow each other.
    """
    mixed = [shards[i] for i in rng.permutation(len(shards))]
    windows = [mixed[i : i + window] for i in range(0, len(mixed), window)]
    numbers = (np.concatenate([np.arange(first, first + n) for first, n in part]) for part in windows)
    return np.concatenate([rng.permutation(part) for part in numbers])


def batch_order(counts: Sequence[int], rng: np.random.Generator | None) -> tuple[Numbers, Numbers]:
    """In which order the batches of several buckets come: the bucket of each, and which of its batches it is.

    counts  batches of each bucket
    rng     None: one bucket after the other
    """
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = labels if rng is None else rng.permutation(labels)
    turns = np.empty_like(labels)
    for which in range(len(counts)):
        mine = labels == which
        turns[mine] = np.arange(int(mine.sum()))
    return labels, turns


class SampleIndex(int):
    """A sample's number, with the epoch that it is drawn for and the place of its batch in that epoch, from 1."""

    epoch: int
    step: int

    @classmethod
    def of(cls, number: int, epoch: int, step: int) -> "SampleIndex":
        index = cls(number)
        index.epoch, index.step = epoch, step
        return index


@dataclass
class _Bucket:
    """The shards of one T x H x W as (first sample's number, samples), and the steps that they are cut into.

    batch  samples in a batch of one worker
    cuts   samples in each step, over all workers
    """

    name: str
    batch: int
    shards: list[tuple[int, int]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)

    @property
    def samples(self) -> int:
        return sum(samples for _, samples in self.shards)

    @property
    def left(self) -> int:
        """Samples that are in no step of this bucket."""
        return self.samples - sum(self.cuts)

    def cut(self, world: int, drop_last: bool) -> None:
        """Full steps, then the rest: as a step of its own where each worker gets some of it.

        A rest of fewer samples than workers shares the last two steps evenly with the full one before it. Where there
        is none, it is left over.
        """
        size = self.batch * world
        full, rest = divmod(self.samples, size)
        self.cuts = [size] * full
        if rest and not drop_last:
            if rest >= world:
                self.cuts.append(rest)
            elif full and size + rest >= 2 * world:
                half = (size + rest) // 2
                self.cuts[-1:] = [size + rest - half, half]


class HasEntries(Protocol):
    """What an index says of its shards, as `Shards` has it."""

    @property
    def entries(self) -> list[dict[str, Any]]: ...


class BucketBatchSampler:
    """Batches of one bucket for a torch DataLoader: `DataLoader(data, batch_sampler=..., collate_fn=collate)`.

    data            a LatentDataset, or the Shards of one
    batch_size      samples in a batch of one worker; or a mapping, the name of a bucket to its own
    shuffle         the samples of a bucket, and the order of batches; False: in the order of the index
    seed            what the order depends on, beside the epoch
    drop_last       leave out samples that do not fill a batch on every worker: others in each epoch
    rank            this worker's number, from 0 to world_size - 1
    world_size      how many workers train together: each gets as many batches, and those of a step have one bucket
    shuffle_shards  samples are mixed among so many shards, so that few are read at a time

    Without `drop_last` each sample comes once in an epoch, on one of the workers; some batches are then smaller.
    Samples of a bucket that has fewer of them than there are workers share steps with other buckets. Only where all
    that can be shared gives some workers nothing do samples come twice.

    Each pass over it is an epoch, and the next one has another order. `state_dict` and `load_state_dict` go on in the
    middle of an epoch, with the same batches. Raises UsageError for arguments that make no sense and CurationError
    where no batch can be made.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int | Mapping[str, int],
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        shuffle_shards: int = 16,
    ) -> None:
        shards: HasEntries = getattr(data, "shards", data)
        if not 0 <= rank < world_size:
            raise UsageError(f"rank {rank} of world_size {world_size}: a worker's rank is 0 to world_size - 1")
        self.batch_size = batch_size if isinstance(batch_size, int) else dict(batch_size)
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.rank, self.world_size, self.shuffle_shards = rank, world_size, max(1, shuffle_shards)
        self.epoch = 0
        self._start, self._done = 0, 0
        known = [[entry[key] for key in ("path", "bucket", "samples", "sha256")] for entry in shards.entries]
        self.shards = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        self._buckets = self._found(shards.entries)
        self._shared = 0 if drop_last else self._share_steps()
        if not len(self):
            sizes = ", ".join(f"{b.name} has {b.samples} of {b.batch * world_size}" for b in self._buckets)
            raise CurationError(f"no bucket fills a batch: {sizes or 'there are no samples'}; lower batch_size")

    def _found(self, entries: Sequence[Mapping[str, Any]]) -> list[_Bucket]:
        buckets: dict[str, _Bucket] = {}
        first = 0
        for entry in entries:
            name, samples = entry["bucket"], entry["samples"]
            if samples:
                buckets.setdefault(name, _Bucket(name, self._size(name))).shards.append((first, samples))
            first += samples
        for bucket in buckets.values():
            bucket.cut(self.world_size, self.drop_last)
        return [buckets[name] for name in sorted(buckets)]

    def _size(self, bucket: str) -> int:
        size = self.batch_size if isinstance(self.batch_size, int) else self.batch_size.get(bucket)
        if size is None or size < 1:
            raise UsageError(f"batch_size of the bucket {bucket} is {size}: say how many samples, 1 or more")
        return size

    def _share_steps(self) -> int:
        """How many steps the samples take that are left over.

        Where they are too few for every worker, the largest step of a bucket is cut up with them.
        """
        while True:
            steps = -(-sum(-(-bucket.left // bucket.batch) for bucket in self._buckets) // self.world_size)
            lenders = [bucket for bucket in self._buckets if bucket.cuts and bucket.batch > 1]
            if sum(bucket.left for bucket in self._buckets) >= steps * self.world_size or not lenders:
                return steps
            max(lenders, key=lambda bucket: bucket.cuts[0]).cuts.pop(0)

    def __len__(self) -> int:
        """Batches of an epoch on each worker."""
        return sum(len(bucket.cuts) for bucket in self._buckets) + self._shared

    def set_epoch(self, epoch: int) -> None:
        """The next pass begins this epoch anew."""
        self.epoch, self._start, self._done = epoch, 0, 0

    def __iter__(self) -> Iterator[list[int]]:
        """This worker's batches of the current epoch; behind what `load_state_dict` says was done already."""
        start, self._start = self._start, 0
        return self._batches(self.epoch, start)

    def _batches(self, epoch: int, start: int) -> Iterator[list[int]]:
        orders = [self._order(number, epoch) for number in range(len(self._buckets))]
        ends = [np.cumsum([0, *bucket.cuts]) for bucket in self._buckets]
        shared = self._shared_batches([order[end[-1] :] for order, end in zip(orders, ends, strict=True)])
        counts = [*(len(bucket.cuts) for bucket in self._buckets), self._shared]
        rng = np.random.default_rng([self.seed, 1, 0, epoch]) if self.shuffle else None
        for step, (which, turn) in enumerate(zip(*batch_order(counts, rng), strict=True), start=1):
            if step > start:
                if which == len(orders):
                    mine = shared[int(turn) * self.world_size + self.rank]
                else:
                    numbers = orders[which][ends[which][turn] : ends[which][turn + 1]]
                    mine = np.array_split(numbers, self.world_size)[self.rank]
                self._done = step
                yield [SampleIndex.of(int(number), epoch, step) for number in mine]
        self.epoch, self._done = epoch + 1, 0

    def _order(self, number: int, epoch: int) -> Numbers:
        shards = self._buckets[number].shards
        if not self.shuffle:
            return np.concatenate([np.arange(first, first + n) for first, n in shards])
        return sample_order(shards, self.shuffle_shards, np.random.default_rng([self.seed, 2, number, epoch]))

    def _shared_batches(self, left: Sequence[Numbers]) -> list[Numbers]:
        """Samples that are left over as batches of one bucket each, as many as `_shared` steps take."""
        wanted = self._shared * self.world_size
        pairs = zip(left, self._buckets, strict=True) if wanted else ()
        batches = [piece for numbers, bucket in pairs if len(numbers) for piece in _pieces(numbers, bucket.batch)]
        while len(batches) < wanted:
            longest = max(range(len(batches)), key=lambda i: len(batches[i]))
            batches[longest : longest + 1] = (
                np.array_split(batches[longest], 2) if len(batches[longest]) > 1 else [batches[longest]] * 2
            )
        return batches

    def state_dict(self, batch: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Where training stands, JSON-able; the same on every worker.

        batch  the last batch that was trained on, as `collate` gives it. A DataLoader with workers reads ahead: without
               `batch`, what it has only read counts as done.
        """
        epoch, step = (self.epoch, self._done) if batch is None else (batch["epoch"], batch["step"])
        return {"epoch": epoch, "step": step} | {name: getattr(self, name) for name in SETTINGS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batch that `state_dict` was told of. Raises CurationError for a state of other batches."""
        other = [name for name in SETTINGS if state.get(name) != getattr(self, name)]
        if other:
            raise CurationError(f"the state of the sampler has another {', '.join(other)}: its batches are not these")
        ended = state["step"] >= len(self)
        self.set_epoch(state["epoch"] + ended)
        self._start = self._done = 0 if ended else state["step"]


def _pieces(numbers: Numbers, size: int) -> list[Numbers]:
    """As even as they can be, none longer than `size`."""
    return np.array_split(numbers, -(-len(numbers) // size))
