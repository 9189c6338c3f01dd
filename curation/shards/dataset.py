"""Latent shards as a torch Dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from curation.errors import CurationError
from curation.shards.reader import Shards
from curation.shards.sample import Sample


class LatentDataset(Dataset[dict[str, Any]]):
    """Samples as tensors, by number in the order of the index.

    root, vae, verify  as for `Shards`, which also says what is refused
    sample             draw from the posterior; False for its mean
    seed, epoch        what draws depend on beside the sample's id: set `epoch` before each pass

    Each item: id; latents float32 [C, T, h, w], unit-scaled; text float16 [tokens, D] of one caption, chosen
    anew each epoch; caption; bucket. Draws do not depend on the worker, the order or the batch.
    """

    def __init__(
        self, root: str, vae: str | None = None, sample: bool = True, seed: int = 0, verify: bool = True
    ) -> None:
        self.shards = Shards(root, vae, verify)
        self.channels: int = self.shards.vae["channels"]  # raises where there are no latents
        self.sample, self.seed, self.epoch = sample, seed, 0

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.item(self.shards[number])

    def item(self, sample: Sample) -> dict[str, Any]:
        """One sample as a training step wants it."""
        rng = np.random.default_rng([self.seed, self.epoch, int(sample.id[:16], 16)])
        chosen = int(rng.integers(len(sample.texts))) if sample.texts else None
        text = self.shards.null_text() if chosen is None else sample.texts[chosen]
        return {
            "id": sample.id,
            "latents": torch.from_numpy(self.shards.normalize(drawn(sample, rng if self.sample else None))),
            "text": torch.from_numpy(text.copy()),
            "caption": "" if chosen is None else sample.meta["captions"][chosen],
            "bucket": sample.meta["bucket"],
        }


def drawn(sample: Sample, rng: np.random.Generator | None) -> NDArray[Any]:
    """Raw latents: mean + std * noise, as AutoencoderKL's DiagonalGaussianDistribution draws them; None: the mean."""
    if rng is None or sample.logvar is None:
        return sample.latents
    deviation = np.exp(sample.logvar.astype(np.float32) / 2)
    noise: NDArray[np.float32] = rng.standard_normal(sample.latents.shape, dtype=np.float32)
    return sample.latents.astype(np.float32) + deviation * noise


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Items of one bucket -> a batch.

    latents [B, C, T, h, w]; text [B, longest, D] with zeros behind each caption's end; text_mask bool
    [B, longest]; id, caption: lists; bucket. Raises CurationError when buckets are mixed.
    """
    buckets = {item["bucket"] for item in items}
    if len(buckets) != 1:
        raise CurationError(
            f"a batch holds latents of one bucket, this one {', '.join(sorted(buckets))}: batch by shard"
        )
    text = torch.nn.utils.rnn.pad_sequence([item["text"] for item in items], batch_first=True)
    lengths = torch.tensor([len(item["text"]) for item in items])
    return {
        "id": [item["id"] for item in items],
        "latents": torch.stack([item["latents"] for item in items]),
        "text": text,
        "text_mask": torch.arange(text.shape[1])[None] < lengths[:, None],
        "caption": [item["caption"] for item in items],
        "bucket": buckets.pop(),
    }
