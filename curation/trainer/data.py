"""Global batches from shards: a pure function of (index, seed, step), of which every worker takes its slice."""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.errors import CurationError, UsageError
from curation.load import suggest
from curation.shards.dataset import drawn, padded, unit
from curation.shards.reader import Shards
from curation.shards.sample import Sample
from curation.trainer.config import TrainConfig
from curation.trainer.schedule import Place, Schedule, buckets_of

Batch = dict[str, Any]
AHEAD = 2
LOOKED_AT = 256
"""Steps that each loader thread reads ahead."""


class Batches:
    """`batches[step]` -> this worker's micro-batches of that step's global batch.

    Each is what `curation.shards.dataset.collate` gives, and
        noise  float32 like latents, standard normal
        u      float32 [B], uniform in [0, 1) and spread evenly over the global batch, for timesteps
        size   of the global batch

    A sample's caption, posterior draw, noise and u depend on the seed, the step and its position in the
    global batch: not on the worker, their number, or how the batch is cut.
    """

    def __init__(self, shards: Shards, config: TrainConfig, rank: int = 0, world: int = 1) -> None:
        self.shards, self.config, self.rank, self.world = shards, config, rank, world
        shapes = [shards.shape(i) for i in range(len(shards.entries))]
        buckets = buckets_of(shards.entries, shapes, config.batch, config.tokens, config.patch)
        self.schedule = Schedule(buckets, config.seed, config.shuffle_shards, config.images)
        check_captions(shards, config.captions)
        least = min(bucket.batch for bucket in buckets if bucket.batches)
        if least < world * config.accumulate:
            raise UsageError(
                f"a global batch of {least} cannot be cut for {world} workers x {config.accumulate} micro-batches"
            )
        self._null = shards.null_text()

    def __getitem__(self, step: int) -> list[Batch]:
        place = self.schedule[step]
        parts = np.array_split(np.arange(len(place.numbers)), self.world * self.config.accumulate)
        mine = parts[self.rank * self.config.accumulate : (self.rank + 1) * self.config.accumulate]
        return [self._batch(step, place, part) for part in mine]

    def counts(self, size: int) -> list[int]:
        """How many samples of a global batch each worker has."""
        each = [len(part) for part in np.array_split(np.arange(size), self.world * self.config.accumulate)]
        return [sum(each[i : i + self.config.accumulate]) for i in range(0, len(each), self.config.accumulate)]

    def _batch(self, step: int, place: Place, part: NDArray[np.int64]) -> Batch:
        """Samples are drawn straight into the batch: copies and fresh memory are most of a loader's time."""
        shape = (len(part), *place.bucket.shape)
        latents, noise, scratch = torch.empty(shape), torch.empty(shape), torch.empty(shape[1:])
        items = [
            self._drawn(step, place, int(position), (latents[i], noise[i], scratch)) for i, position in enumerate(part)
        ]
        if not math.isfinite(float(latents.sum())):
            wrong = next(item["id"] for item, x in zip(items, latents, strict=True) if not x.isfinite().all())
            raise CurationError(f"{self.shards.store.root}: the latents of {wrong} are NaN or infinite: encode again")
        text, mask = padded([item["text"] for item in items])
        return {
            "id": [item["id"] for item in items],
            "caption": [item["caption"] for item in items],
            "latents": latents,
            "noise": noise,
            "u": torch.tensor([item["u"] for item in items], dtype=torch.float32),
            "text": text,
            "text_mask": mask,
            "bucket": place.bucket.name,
            "size": len(place.numbers),
        }

    def _drawn(self, step: int, place: Place, position: int, into: tuple[Tensor, Tensor, Tensor]) -> Batch:
        """One sample: latents and noise are written to the first two of `into`, the third is overwritten."""
        latents, noise, scratch = into
        sample = self.shards[int(place.numbers[position])]
        rng = np.random.default_rng([self.config.seed, 3, step, position])
        u = min((position + rng.random()) / len(place.numbers), 1 - 1e-7)
        chosen = self._caption(sample, rng)
        # torch draws normal numbers in half of numpy's time
        normal = torch.Generator().manual_seed(int(rng.integers(2**32)))
        torch.randn(noise.shape, generator=normal, out=noise)
        if self.config.sample_posterior:
            torch.randn(noise.shape, generator=normal, out=scratch)
        unit(drawn(sample, scratch if self.config.sample_posterior else None), self.shards, out=latents)
        return {
            "id": sample.id,
            "text": torch.from_numpy((self._null if chosen is None else sample.texts[chosen]).copy()),
            "caption": "" if chosen is None else sample.meta["captions"][chosen],
            "u": u,
        }

    def _caption(self, sample: Sample, rng: np.random.Generator) -> int | None:
        """The number of one caption, None for the empty one. Draws the same numbers whatever the outcome."""
        dropped, at = rng.random() < self.config.caption_dropout, rng.random()
        weights = caption_weights(sample, self.config.captions)
        if dropped or not weights.sum():
            return None
        return int(np.searchsorted(np.cumsum(weights / weights.sum()), at, side="right").clip(max=len(weights) - 1))

    def report(self) -> list[str]:
        """Sentences: what an epoch is, and which buckets are too small."""
        total, steps = len(self.shards), self.schedule.epoch_steps
        lines = [f"{total:,} samples in {len(self.schedule.buckets)} buckets, {steps:,} steps an epoch"]
        for bucket, cost in self.schedule.lost():
            lines.append(
                f"bucket {bucket.name} has {bucket.samples} samples and a batch takes {bucket.batch}: "
                f"{cost} samples ({cost / total:.1%}) are never used"
            )
        return lines

    def stream(self, start: int, stop: int) -> Iterator[list[Batch]]:
        """Micro-batches of the steps start to stop - 1 in order, read ahead by threads."""
        with ThreadPoolExecutor(self.config.loader_threads, "loader") as pool:
            waiting: deque[Future[list[Batch]]] = deque()
            try:
                for step in range(start, stop):
                    waiting.append(pool.submit(self.__getitem__, step))
                    if len(waiting) > AHEAD * self.config.loader_threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


def check_captions(shards: Shards, by_source: Mapping[str, float] | None) -> None:
    """Raise UsageError for a caption source that none of the samples looked at has, spread over all shards."""
    if by_source is None:
        return
    looked_at = np.unique(np.linspace(0, len(shards) - 1, min(LOOKED_AT, len(shards))).astype(int))
    known = sorted({source for number in looked_at for source in shards[int(number)].meta["caption_sources"]})
    for source, weight in by_source.items():
        if weight > 0 and source not in known:
            there = ", ".join(known) or "none"
            raise UsageError(
                f"train.captions: no caption of {len(looked_at):,} samples looked at has the source '{source}'"
                f"{suggest(source, known)}; there are: {there}"
            )


def caption_weights(sample: Sample, by_source: Mapping[str, float] | None) -> NDArray[np.float64]:
    """How often each of a sample's captions is wanted, float64 [captions]; all alike without `by_source`."""
    if by_source is None:
        return np.ones(len(sample.texts))
    sources = sample.meta["caption_sources"]
    return np.array([by_source.get(source, 0.0) for source in sources], np.float64)
