"""Global batches from shards: a pure function of (index, seed, step), of which every worker takes its slice."""

import copy
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curation.errors import CurationError, UsageError
from curation.shards.dataset import collate, drawn
from curation.shards.reader import Shards
from curation.shards.sample import Sample
from curation.trainer.config import TrainConfig
from curation.trainer.schedule import Schedule, buckets_of

Batch = dict[str, Any]
AHEAD = 2
"""Steps that each loader thread reads ahead."""


class Batches:
    """`batches[step]` -> this worker's micro-batches of that step's global batch.

    Each is what `curation.shards.dataset.collate` gives, and
        noise  float32 like latents, standard normal
        u      float32 [B], uniform in [0, 1) and spread evenly over the global batch, for timesteps
        size   of the global batch

    A sample's caption, posterior draw, flip, noise and u depend on the seed, the step and its position in the
    global batch: not on the worker, their number, or how the batch is cut.
    """

    def __init__(self, shards: Shards, config: TrainConfig, rank: int = 0, world: int = 1) -> None:
        self.shards, self.config, self.rank, self.world = shards, config, rank, world
        shapes = [shards.shape(i) for i in range(len(shards.entries))]
        buckets = buckets_of(shards.entries, shapes, config.batch, config.tokens, config.patch)
        self.schedule = Schedule(buckets, config.seed, config.shuffle_shards, config.images)
        if config.flip and not shards.index["vae"].get("mirrors", False):
            raise UsageError(
                f"train.flip: mirrored latents of the VAE {shards.index['vae']['id']} are not latents of a mirrored "
                f"picture; leave flip out"
            )
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
        return [self._batch([self._item(step, place.numbers, i) for i in part], len(place.numbers)) for part in mine]

    def _batch(self, items: list[Batch], size: int) -> Batch:
        batch = collate(items)
        batch["noise"] = torch.stack([item["noise"] for item in items])
        batch["u"] = torch.tensor([item["u"] for item in items], dtype=torch.float32)
        return batch | {"size": size}

    def _item(self, step: int, numbers: NDArray[np.int64], position: int) -> Batch:
        sample = self.shards[int(numbers[position])]
        rng = np.random.default_rng([self.config.seed, 3, step, position])
        u = min((position + rng.random()) / len(numbers), 1 - 1e-7)
        chosen = self._caption(sample, rng)
        raw = drawn(sample, rng if self.config.sample_posterior else None)
        latents = self.shards.normalize(raw)
        if not np.isfinite(latents).all():
            raise CurationError(
                f"{self.shards.store.root}: the latents of {sample.id} are NaN or infinite: encode again"
            )
        if self.config.flip and rng.random() < 0.5:
            latents = latents[..., ::-1].copy()
        return {
            "id": sample.id,
            "latents": torch.from_numpy(latents),
            "text": torch.from_numpy((self._null if chosen is None else sample.texts[chosen]).copy()),
            "caption": "" if chosen is None else sample.meta["captions"][chosen],
            "bucket": sample.meta["bucket"],
            "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
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
        local = threading.local()

        def read(step: int) -> list[Batch]:
            if not hasattr(local, "batches"):  # open shards belong to one thread
                local.batches = copy.copy(self)
                local.batches.shards = copy.copy(self.shards)
            own: Batches = local.batches
            return own[step]

        with ThreadPoolExecutor(self.config.loader_threads, "loader") as pool:
            waiting: deque[Future[list[Batch]]] = deque()
            try:
                for step in range(start, stop):
                    waiting.append(pool.submit(read, step))
                    if len(waiting) > AHEAD * self.config.loader_threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


def caption_weights(sample: Sample, by_source: Mapping[str, float] | None) -> NDArray[np.float64]:
    """How often each of a sample's captions is wanted, float64 [captions]; all alike without `by_source`."""
    if by_source is None:
        return np.ones(len(sample.texts))
    sources = sample.meta["caption_sources"]
    return np.array([by_source.get(source, 0.0) for source in sources], np.float64)
