"""PP-OCRv6's two networks for a GPU, which computes them in batches: where text stands, and what a line says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from curation.inference.network import Precision, Signature
from curation.inference.torch_network import TorchNetwork
from curation.models.onnx_file import read_graph
from curation.models.onnx_module import OnnxModule
from curation.models.packaged import packaged_file
from curation.models.text_engines import DETECTOR, RECOGNIZER

DETECT_PIXELS = 32 * 544 * 544
"""Of a batch: its activations take 0.9 GB in fp32."""
READ_PIXELS = 64 * 48 * 320
"""Of a batch: its activations take 0.4 GB, half of it the probabilities of 18710 characters at 40 places a line."""
LARGEST_BATCH = 64


class DetectorNetwork(TorchNetwork):
    """One call: `detect`, uint8 [h, w, 3] BGR, sides multiples of 32 -> uint8 [h, w], how likely text is, of 255.

    Bytes are a quarter of what the floats would be on their way back. Text begins above 0.3, which is 76.5 of 255, so
    rounding moves no pixel across that line.
    """

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        super().__init__(argument, device, precision)
        self.place(OnnxModule(read_graph(packaged_file(*DETECTOR))), "detect", ())

    def batch_rows(self, signature: Signature) -> int:
        return rows_of(signature, DETECT_PIXELS) if self.on_gpu else 1

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        planes = tensors[0].permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
        return [(self.module(planes)[:, 0] * 255).round().to(torch.uint8)]


class ReaderNetwork(TorchNetwork):
    """One call: `read`, uint8 [48, w, 3] BGR and int32 [1], the width of the line in it, the rest is padding
    -> int32 [w / 8] the likeliest character at each place (0: none), float32 [w / 8] its probability.

    facts: `characters`, what the numbers from 1 on stand for.
    """

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        super().__init__(argument, device, precision)
        graph = read_graph(packaged_file(*RECOGNIZER))
        self.facts = {"characters": graph.metadata["character"].splitlines()}
        self.place(OnnxModule(graph), "read", ())

    def batch_rows(self, signature: Signature) -> int:
        return rows_of(signature, READ_PIXELS) if self.on_gpu else 1

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        images, widths = tensors
        planes = images.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
        inside = torch.arange(images.shape[2], device=images.device) < widths
        best = self.module(planes * inside[:, None, None, :]).max(2)
        return [best.indices.int(), best.values]


def rows_of(signature: Signature, pixels: int) -> int:
    """Pictures of a signature's size that have `pixels` together, a power of 2, so that few sizes are tried."""
    most = min(LARGEST_BATCH, max(1, pixels // int(np.prod(signature.shapes[0][:2]))))
    return int(1 << (most.bit_length() - 1))
