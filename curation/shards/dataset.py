"""Latent shards as a torch Dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from curation.errors import CurationError
from curation.shards.reader import Shards
from curation.shards.sample import Halfs, Sample


class LatentDataset(Dataset[dict[str, Any]]):
    """Samples as tensors, by number in the order of the index.

    root, vae, verify  as for `Shards`, which also says what is refused
    text               name of the text part that items hold, see `Shards`
    sample             draw from the posterior; False for its mean
    seed, epoch        what draws depend on beside the sample's id; a `BucketBatchSampler` says the epoch with each
                       number, without one set `epoch` before each pass

    Each item: id; latents float32 [C, T, h, w], unit-scaled; text float16 [tokens, D] of one caption, chosen
    anew each epoch; caption; bucket; epoch and step, the place of its batch (0 without a sampler). Draws do not depend
    on the worker, the order or the batch.
    """

    def __init__(
        self,
        root: str,
        vae: str | None = None,
        sample: bool = True,
        seed: int = 0,
        verify: bool = True,
        text: str | None = None,
    ) -> None:
        self.shards = Shards(root, vae, verify, text)
        self.channels: int = self.shards.vae["channels"]  # raises where there are no latents
        self.sample, self.seed, self.epoch = sample, seed, 0

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A sample by its number. Raises IndexError past the end."""
        epoch, step = getattr(number, "epoch", self.epoch), getattr(number, "step", 0)
        return self.item(self.shards[number], epoch) | {"epoch": epoch, "step": step}

    def item(self, sample: Sample, epoch: int) -> dict[str, Any]:
        """One sample as a training step wants it."""
        rng = np.random.default_rng([self.seed, epoch, int(sample.id[:16], 16)])
        chosen = int(rng.integers(len(sample.texts))) if sample.texts else None
        text = self.shards.null_text() if chosen is None else sample.texts[chosen]
        noise = torch.from_numpy(rng.standard_normal(sample.latents.shape, np.float32)) if self.sample else None
        return {
            "id": sample.id,
            "latents": unit(drawn(sample, noise), self.shards),
            "text": torch.from_numpy(text.copy()),
            "caption": "" if chosen is None else sample.meta["captions"][chosen],
            "bucket": sample.meta["bucket"],
        }


def drawn(sample: Sample, noise: Tensor | None) -> Tensor:
    """Raw latents float32: mean + std * noise, as AutoencoderKL's DiagonalGaussianDistribution draws them.

    noise  standard normal, in the latents' shape; None: the mean
    """
    mean = _float(sample.latents)
    if noise is None or sample.logvar is None:
        return mean
    return torch.addcmul(mean, (_float(sample.logvar) / 2).exp(), noise)


def _float(halfs: Halfs) -> Tensor:
    """In float32. Through torch, which is far faster at it than numpy, and warns of mapped files: hence the copy."""
    return torch.from_numpy(halfs.copy()).float()


def unit(latents: Tensor, shards: Shards, out: Tensor | None = None) -> Tensor:
    """Raw latents [..., C, T, h, w] -> unit scale, as `Shards.normalize` does it; overwrites what it is given."""
    return torch.div(latents.sub_(torch.from_numpy(shards.mean)), torch.from_numpy(shards.std), out=out)


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Items of one bucket -> a batch.

    latents [B, C, T, h, w]; text [B, longest, D] with zeros behind each caption's end; text_mask bool
    [B, longest]; id, caption: lists; bucket, epoch, step. Raises CurationError when buckets are mixed.
    """
    buckets = {item["bucket"] for item in items}
    if len(buckets) != 1:
        raise CurationError(
            f"a batch holds latents of one bucket, this one {', '.join(sorted(buckets))}: "
            "give the DataLoader `batch_sampler=BucketBatchSampler(data, batch_size)` of curation.shards"
        )
    text, mask = padded([item["text"] for item in items])
    return {
        "id": [item["id"] for item in items],
        "latents": torch.stack([item["latents"] for item in items]),
        "text": text,
        "text_mask": mask,
        "caption": [item["caption"] for item in items],
        "bucket": buckets.pop(),
        "epoch": items[0]["epoch"],
        "step": items[0]["step"],
    }


def padded(texts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Token states [n, D] each -> [B, longest n, D] with zeros behind, and bool [B, longest n], True at tokens."""
    text = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    lengths = torch.tensor([len(each) for each in texts])
    return text, torch.arange(text.shape[1])[None] < lengths[:, None]
