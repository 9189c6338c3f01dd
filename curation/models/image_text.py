"""The embedded image-text similarity: what EfficientNet sees, compared in MiniLM's space of sentences.

Its weights were fitted by curation/models/training/fit_image_text.py; weights/image_text.md is their card.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.models.efficientnet import EfficientNet, Features, unit
from curation.models.minilm import MiniLm
from curation.models.packaged import WEIGHTS, sha256
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

FILE = WEIGHTS / "image_text.safetensors"
TEMPERATURE = 1.5  # of the class probabilities; they are overconfident for photos of several things
NEIGHBOURS = 3
PENALTY = 0.75
OFFSET = 0.15  # puts the value at which as many matching as swapped pairs are misjudged near 0.2, CLIP's custom

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """Two ways from a picture into the space of sentences, and how common a caption is there.

    classes        [1000, 384]  embedding of each class's WordNet entry, less their mean
    feature_mean   [1280]       mean of the unit-length features of the fitted photos
    down, up       [1280, r], [r, 384]  ridge regression from features to captions, factorized
    text_mean      [384]        mean embedding of a caption
    references     [n, 384]     places of the fitted photos by their classes
    """

    classes: Array
    feature_mean: Array
    down: Array
    up: Array
    text_mean: Array
    references: Array

    def by_class(self, logits: Array) -> Array:
        """[N, 384], unit length: ConSE (Norouzi et al., https://arxiv.org/abs/1312.5650) over all classes.

        The mean of the classes' embeddings, weighted by their tempered probabilities.
        """
        tempered = logits / TEMPERATURE
        weights = np.exp(tempered - tempered.max(axis=1, keepdims=True))
        return unit(product(weights, self.classes))

    def by_features(self, pooled: Array) -> Array:
        """[N, 384], unit length: the regression, which knows what the class names lack (people, scenes)."""
        return unit(product(product(unit(pooled) - self.feature_mean, self.down), self.up))

    def place(self, features: Features) -> Array:
        """[384], unit length."""
        return unit(self.by_class(features.logits[None]) + self.by_features(features.pooled[None]))[0]

    def similarity(self, place: Array, caption: Array) -> float:
        """The cosine, less how near the caption is to pictures in general: to the closest references.

        Without that term a vague caption would fit every picture (hubness; the correction is the caption's
        half of CSLS, Conneau et al., https://arxiv.org/abs/1710.04087).
        """
        direction = unit((caption - self.text_mean)[None])
        common = np.sort(product(direction, self.references.T)[0])[-NEIGHBOURS:].mean()
        return float(product(direction, place[:, None])[0, 0] - PENALTY * common + OFFSET)


def product(left: Array, right: Array) -> Array:
    """[n, k] times [k, m]; not through BLAS, whose sums depend on how many threads a process may have."""
    return np.einsum("nk,km->nm", left, right)


class ImageTextHead:
    """The role image_text: pairs are scored one at a time, independent of their neighbours."""

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        parts = [EfficientNet.describe(""), MiniLm.describe("")]
        problem = next((part.problem for part in parts if part.problem), None)
        hashes = [sha256(FILE), *(part.sha256 for part in parts)]
        identity = "embedded:efficientnet-lite0+minilm"
        digest = "+".join(value[:21] for value in hashes)
        return ModelInfo(identity, digest, problem, devices=parts[0].devices, gpu_mb=parts[0].gpu_mb)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        from safetensors.numpy import load_file

        self.images = EfficientNet("", device)
        self.texts = MiniLm("")
        self.head = Head(**{name: value.astype(np.float32) for name, value in load_file(FILE).items()})

    def similarity(self, pixels: Sequence[Pixels], captions: Sequence[str]) -> list[float]:
        """For each pair a value, about -0.7..0.8; higher fits better (the card has the usual quantiles)."""
        return [
            self.head.similarity(self.head.place(features), text)
            for features, text in zip(self.images.features(pixels), self.texts.embed(captions), strict=True)
        ]
