"""The embedded image-text similarity: what EfficientNet sees, compared in MiniLM's space of sentences."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.models.efficientnet import EfficientNet
from curation.models.minilm import MiniLm
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

TOP = 10


class ImageTextHead:
    """The role image_text.

    ConSE (Norouzi et al., https://arxiv.org/abs/1312.5650): a picture is placed in the space of sentences at
    the mean of its likeliest classes' names, weighted by their probabilities.
    """

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        parts = [EfficientNet.describe(""), MiniLm.describe("")]
        problem = next((part.problem for part in parts if part.problem), None)
        return ModelInfo(
            "embedded:efficientnet-lite0+minilm", "+".join(part.sha256[:16] for part in parts), problem
        )

    def __init__(self, argument: str, device: str = "cpu") -> None:
        self.images = EfficientNet("", device)
        self.texts = MiniLm("")
        self.classes = self.texts.embed([f"a photo of a {name}" for name in self.images.names])

    def similarity(self, pixels: Sequence[Pixels], captions: Sequence[str]) -> list[float]:
        """For each pair a cosine, -1..1; higher fits better."""
        return [
            float(place @ text)
            for place, text in zip(map(self._place, pixels), self.texts.embed(captions), strict=True)
        ]

    def _place(self, pixels: Pixels) -> NDArray[np.float32]:
        probabilities = self.images.features(pixels).probabilities
        best = np.argsort(-probabilities, kind="stable")[:TOP]
        place = probabilities[best] @ self.classes[best]
        return place / np.linalg.norm(place)
