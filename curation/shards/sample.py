"""One sample of a latent shard, the same in every container."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError

Halfs = NDArray[np.float16]
FORMAT_VERSION = 1
MEDIA: Final = ("mp4", "jpg", "png", "webp")
"""Suffixes of media members."""


@dataclass(frozen=True, slots=True)
class MediaFile:
    """Standardized pixels as a file: its suffix (mp4, jpg, png, webp) and its bytes."""

    suffix: str
    data: bytes | memoryview


@dataclass(slots=True)
class Sample:
    """What a training step needs of one record, and where it came from.

    id       the record's id: a tar key without dots
    mean     RAW posterior mean, fp16 [C, T, h, w]; an image has T = 1; None in shards of media alone
    logvar   RAW log-variance, fp16 [C, T, h, w], or [C, 1, 1, 1] where constant; None where the VAE has none
    texts    token states of each caption, fp16 [tokens, D], trimmed to the mask; in the order of
             meta["captions"]
    meta     JSON-able: media, bucket, original and resized size, crop_ltrb, captions, caption_sources,
             scores ...; original_size, crop_top_left and target_size as SDXL's conditioning has them, (height, width)
             and (top, left), see `curation.media.standardize.size_conditioning` (absent in shards of older versions)
    media    the standardized pixels as a file, where the manifest asks for `media:`
    parts    further text parts by name, such as another encoder's states or a pooled output [1, P]: as `texts`, an
             array a caption
    """

    id: str
    mean: Halfs | None
    logvar: Halfs | None
    texts: list[Halfs]
    meta: dict[str, Any] = field(default_factory=dict)
    media: MediaFile | None = None
    parts: dict[str, list[Halfs]] = field(default_factory=dict)

    @property
    def latents(self) -> Halfs:
        """`mean`, where it has to be there. Raises CurationError for a sample of media alone."""
        if self.mean is None:
            raise CurationError(f"the sample {self.id} holds media and no latents")
        return self.mean


ALWAYS: Final = ("captions", "caption_sources")
"""Lists that `meta` always has, though an empty one is not written."""


def portable(meta: Mapping[str, Any]) -> dict[str, Any]:
    """`meta` as it is written: JSON of which readers that infer a schema from the first samples can read the rest.

    Left out is what has no type, as such a reader would take it for null in every sample: None, empty lists and
    objects, and numbers that are not finite, which JSON does not know.
    """
    plain = {name: portable(value) if isinstance(value, Mapping) else value for name, value in meta.items()}
    return {
        name: value
        for name, value in plain.items()
        if value is not None
        and not (isinstance(value, list | tuple | dict) and not value)
        and not (isinstance(value, float) and not math.isfinite(value))
    }


def restored(meta: dict[str, Any]) -> dict[str, Any]:
    """What was written as `portable`, with the lists that are always there."""
    return {name: [] for name in ALWAYS} | meta


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
