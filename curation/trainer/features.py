"""Features of pictures for evaluation, each under its own name: only Inception's make a FID."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError, UsageError
from curation.install import command
from curation.models import open_model
from curation.pixels import Pixels

Pictures = NDArray[np.uint8]
BATCH = 32


@dataclass(frozen=True)
class Extractor:
    """How pictures become features.

    name      as the report says it
    frechet   what a Fréchet distance on these features is called
    resize    how pictures of any size reach the network
    features  uint8 [N, H, W, 3] -> [N, D]
    logits    the same -> [N, classes], for the Inception Score; None where it would not be one
    """

    name: str
    frechet: str
    resize: str
    features: Callable[[Pictures], NDArray[np.floating]]
    logits: Callable[[Pictures], NDArray[np.floating]] | None = None


def extractor(spec: str) -> Extractor:
    """`embedded`, `pixels8`, `open_clip:MODEL:WEIGHTS`, or `inception:FILE` (torch-fidelity's). Raises UsageError."""
    kind, _, argument = spec.partition(":")
    if kind == "pixels8":
        return Extractor("8x8 pixels", "Fréchet distance (8x8 pixels)", "mean over 8x8 cells", _pixels8)
    if kind == "inception" and argument:
        return _inception(Path(argument))
    if kind in ("embedded", "open_clip"):
        model = open_model("image_embedding", spec)

        def embed(pictures: Pictures) -> NDArray[np.floating]:
            parts = [model.embed([Pixels.of(p) for p in part]) for part in _parts(pictures)]
            return np.concatenate(parts)

        name = "embedded features" if kind == "embedded" else f"CLIP features {argument}"
        return Extractor(name, f"Fréchet distance ({name})", "the model's own", embed)
    raise UsageError(f"--features {spec}: say embedded, pixels8, open_clip:MODEL:WEIGHTS or inception:FILE")


def _parts(pictures: Pictures) -> Sequence[Pictures]:
    return [pictures[i : i + BATCH] for i in range(0, len(pictures), BATCH)]


def _pixels8(pictures: Pictures) -> NDArray[np.floating]:
    """[N, H, W, 3] -> [N, 192] in [-1, 1]. Raises CurationError for sides that are no multiples of 8."""
    count, height, width, _ = pictures.shape
    if height % 8 or width % 8:
        raise CurationError(f"8x8 cells do not divide pictures of {width}x{height}")
    cells = pictures.reshape(count, 8, height // 8, 8, width // 8, 3).mean(axis=(2, 4))
    small: NDArray[np.floating] = cells.reshape(count, -1) / 127.5 - 1
    return small


def _inception(weights: Path) -> Extractor:
    """The FID's network through torch-fidelity, with weights from a file: nothing is downloaded."""
    if not weights.is_file():
        raise UsageError(f"--features inception: {weights} is no file; it is torch-fidelity's weights-inception-*.pth")
    try:
        from curation.models.patch_torchvision import patch_torchvision

        patch_torchvision()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise CurationError(
            f"Inception features need the package {error.name}, which is not installed; "
            f"to install it: {command('eval')}"
        ) from error
    import torch

    try:  # torch-fidelity itself would run whatever a pickle says
        torch.load(weights, weights_only=True)
    except Exception as error:
        problem = " ".join(str(error).split())[:200]
        raise UsageError(f"--features inception: {weights} is no file of plain weights: {problem}") from error
    wanted = ["2048", "logits_unbiased"]
    try:
        network = FeatureExtractorInceptionV3("inception", wanted, feature_extractor_weights_path=str(weights))
    except Exception as error:  # of a network with other layers
        problem = " ".join(str(error).split())[:200]
        raise UsageError(f"--features inception: {weights} are not torch-fidelity's weights: {problem}") from error
    network = network.eval()

    def run(pictures: Pictures, which: int) -> NDArray[np.floating]:
        parts = []
        with torch.inference_mode():
            for part in _parts(pictures):
                parts.append(network(torch.from_numpy(part).permute(0, 3, 1, 2).contiguous())[which].numpy())
        return np.concatenate(parts)

    resize = "torch-fidelity: bilinear as TensorFlow 1 did, to 299x299"
    return Extractor("Inception-v3", "FID", resize, lambda p: run(p, 0), lambda p: run(p, 1))
