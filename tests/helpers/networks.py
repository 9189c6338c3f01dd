"""Networks without weights, whose answers are known, and which fail as devices do."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curation.inference.network import Array, DeviceFault, Network, OutOfMemory, Signature


class MeanNetwork(Network):
    """Answers the mean of a row's first array. The argument is the batch size, default 8."""

    def __init__(self, argument: str, device: str, precision: str) -> None:
        self.size = int(argument or 8)
        self.facts = {"side": 4}
        self.batches: list[int] = []

    def batch_rows(self, signature: Signature) -> int:
        return self.size

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        (rows,) = sent
        self.batches.append(len(rows))
        return [rows.reshape(len(rows), -1).astype(np.float64).mean(1)]


class NeighbourlyNetwork(MeanNetwork):
    """A row's answer depends on its neighbours, as on some devices in some batch sizes."""

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        (means,) = super().infer(call, sent)
        return [means + 1e-9 * means.sum()]


class ShapelyNetwork(MeanNetwork):
    """A row's answer depends on the size of its batch."""

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        (means,) = super().infer(call, sent)
        return [means * (1 + 1e-9 * len(means))]


class SmallMemoryNetwork(MeanNetwork):
    """Has room for three rows."""

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        if len(sent[0]) > 3:
            raise OutOfMemory("no room")
        return super().infer(call, sent)


class NoMemoryNetwork(MeanNetwork):
    """Has room for nothing."""

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        raise OutOfMemory("no room")


class FaultyNetwork(MeanNetwork):
    """Its device fails; the argument is `BATCHES:FILE`: after so many batches, where FILE is absent."""

    def __init__(self, argument: str, device: str, precision: str) -> None:
        good, _, file = argument.partition(":")
        super().__init__("4", device, precision)
        self.good, self.file = int(good), Path(file)

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        if len(self.batches) >= self.good and not self.file.exists():
            self.file.touch()
            raise DeviceFault("the GPU failed: an illegal memory access")
        return super().infer(call, sent)


class HangingNetwork(FaultyNetwork):
    """Its device stops answering, once."""

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        if len(self.batches) >= self.good and not self.file.exists():
            self.file.touch()
            time.sleep(3600)
        return MeanNetwork.infer(self, call, sent)


class TimedNetwork(MeanNetwork):
    """AcceptedSizes so many milliseconds a row as the argument says, and no CPU; batches of 64."""

    exact = True

    def __init__(self, argument: str, device: str, precision: str) -> None:
        super().__init__("64", device, precision)
        self.seconds = float(argument) / 1000

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        time.sleep(self.seconds * len(sent[0]))
        return super().infer(call, sent)
