"""Latent shards as a torch IterableDataset."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from curation.shards.reader import Shards
from curation.shards.sample import Sample


class LatentDataset(IterableDataset[dict[str, Any]]):
    """Samples as tensors, sharded over DataLoader workers.

    Each item: id; latents float32 [C, T, h, w], a draw from the posterior (its mean with sample=False), unit-scaled;
    text float32 [tokens, D] of one caption, drawn anew each epoch; caption; bucket.

    Draws depend on (seed, epoch, id) alone, never on the worker. Raises CurationError as `Shards` does.
    """

    def __init__(self, root: str, vae: str | None = None, sample: bool = True, seed: int = 0, verify: bool = True) -> None:
        self.shards = Shards(root, vae, verify)
        self.sample, self.seed, self.epoch = sample, seed, 0

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        for path in self.shards.paths[first::step]:
            for sample in self.shards.read(path):
                yield self.item(sample)

    def item(self, sample: Sample) -> dict[str, Any]:
        """One sample as a training step wants it."""
        rng = np.random.default_rng([self.seed, self.epoch, int(sample.id[:16], 16)])
        latents = sample.mean.astype(np.float32)
        if self.sample and sample.logvar is not None:
            deviation = np.exp(sample.logvar.astype(np.float32) / 2)
            latents = latents + deviation * rng.standard_normal(latents.shape, dtype=np.float32)
        chosen = int(rng.integers(len(sample.texts))) if sample.texts else -1
        text = sample.texts[chosen] if sample.texts else self.shards.null_text()
        return {
            "id": sample.id,
            "latents": torch.from_numpy(self.shards.normalize(latents)),
            "text": torch.from_numpy(text.astype(np.float32)),
            "caption": sample.meta["captions"][chosen] if sample.texts else "",
            "bucket": sample.meta["bucket"],
        }
