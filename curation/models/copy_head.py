"""The copy head: EfficientNet's features in fewer dimensions, in which edits of a picture move it little.

Its weights were fitted by curation/models/training/fit_copy_head.py; weights/copy_head.md is their card.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from curation.models.efficientnet import EfficientNet, unit
from curation.models.image_text import product
from curation.models.packaged import WEIGHTS, sha256
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

FILE = WEIGHTS / "copy_head.safetensors"
Array = NDArray[np.float32]


def project(pooled: Array, mean: Array, projection: Array) -> Array:
    """float32 [N, D], unit length, of pooled features [N, 1280], with the weights mean [1280], projection [1280, D]."""
    return unit(product(unit(pooled) - mean, projection))


class CopyHead:
    """The role copy: which pictures may be copies of each other. The forward pass is that of `image_embedding`."""

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        part = EfficientNet.describe("")
        hashes = f"{sha256(FILE)[:21]}+{part.sha256[:21]}"
        return replace(part, id="embedded:efficientnet-lite0+copy", sha256=hashes)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        from safetensors.numpy import load_file

        from curation.models.registry import open_model

        self.images = open_model("image_embedding", "embedded", device)
        weights = load_file(FILE)
        self.mean, self.projection = (weights[name].astype(np.float32) for name in ("mean", "projection"))

    def embed(self, pixels: Sequence[Pixels]) -> Array:
        """float32 [N, D], unit length; one row at a time, independent of its neighbours."""
        rows = [project(each.pooled[None], self.mean, self.projection) for each in self.images.features(pixels)]
        return np.concatenate(rows) if rows else np.empty((0, self.projection.shape[1]), np.float32)
