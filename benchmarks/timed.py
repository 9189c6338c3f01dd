"""A stage with a network that sleeps as long as a GPU would compute: it shows what overlaps, and takes no CPU."""

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import pyarrow as pa

from curation.inference.client import connect
from curation.inference.network import Array, Network, Precision, Signature, Spec
from curation.stage import Batch, Column, Columns, Params, Resources, Stage

BATCH = 64
SIDE = 224


class TimedNetwork(Network):
    """Takes as many milliseconds a row as its argument says; answers the mean of the row."""

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        self.seconds = float(argument) / 1000

    def batch_rows(self, signature: Signature) -> int:
        return BATCH

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        (rows,) = sent
        time.sleep(self.seconds * len(rows))
        return [rows.reshape(len(rows), -1)[:, ::997].mean(1)]


class TimedParams(Params):
    milliseconds: float = 0.4
    device: Literal["cpu", "cuda"] | None = None


class Timed(Stage):
    """The mean of a picture, by way of a network that takes its time."""

    name = "timed"
    reads = ("pixels",)
    writes: ClassVar = {"timed": Column(pa.float32(), "mean of the picture at 224 px, 0-255")}
    resources = Resources()
    devices = ("cpu", "cuda")
    Params = TimedParams

    def load(self) -> None:
        device = self.params.device or "cpu"
        self.network = connect(Spec("benchmarks.timed:TimedNetwork", str(self.params.milliseconds), device))

    def run(self, batch: Batch) -> Columns:
        rows = [
            (cv2.resize(p.rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8),) for p in batch["pixels"]
        ]
        return {"timed": [float(mean) for (mean,) in self.network.run("mean", rows)]}
