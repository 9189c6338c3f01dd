"""One sample of a latent shard, the same in every container."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Halfs = NDArray[np.float16]
FORMAT_VERSION = 1


@dataclass(slots=True)
class Sample:
    """What a training step needs of one record, and where it came from.

    id       the record's id: a tar key without dots
    mean     RAW posterior mean, fp16 [C, T, h, w]; an image has T = 1
    logvar   RAW log-variance, fp16 [C, T, h, w], or [C, 1, 1, 1] where constant; None where the VAE has none
    texts    token states of each caption, fp16 [tokens, D], trimmed to the mask; in the order of
             meta["captions"]
    meta     JSON-able: media, bucket, original and resized size, crop_ltrb, captions, caption_sources,
             scores ...
    """

    id: str
    mean: Halfs
    logvar: Halfs | None
    texts: list[Halfs]
    meta: dict[str, Any] = field(default_factory=dict)


def joined_texts(texts: list[Halfs]) -> Halfs:
    """All captions' tokens, one after another: [sum of tokens, D]; split again by their lengths."""
    return np.concatenate(texts) if texts else np.empty((0, 0), np.float16)


def split_texts(tokens: Halfs, lengths: list[int]) -> list[Halfs]:
    """The captions' token states out of `joined_texts`. Raises ValueError when the lengths do not add up."""
    if sum(lengths) != len(tokens):
        raise ValueError(f"captions of {sum(lengths)} tokens in all, but {len(tokens)} token states")
    texts, at = [], 0
    for length in lengths:
        texts.append(tokens[at : at + length])
        at += length
    return texts
