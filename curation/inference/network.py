"""The contract of a network: the half of a model that holds its weights.

A model has two halves. Its front lives in every worker: it turns pictures or captions into rows, small arrays of the
network's own input size, and the network's answers into values. The network lives where it computes: in the worker on
a CPU, in a server that holds the GPU otherwise. Fronts reach it through `curation.inference.client.connect`.
"""

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Row = tuple[Array, ...]
"""The inputs of one call for one record, without a batch axis."""
Precision = Literal["fp32", "bf16", "fp16"]


class OutOfMemory(Exception):
    """The device has no room for a batch of this size; a smaller one may fit."""


class DeviceFault(Exception):
    """The device or its process can no longer be used (a CUDA error); no record is to blame."""


@dataclass(frozen=True)
class Spec:
    """Names a network, so that every process opens the same one.

    factory    `package.module:Class`, a subclass of `Network`
    argument   what the class opens: a folder, a tag, the name of a file
    device     "cpu" or "cuda"
    precision  of the weights and of the arithmetic
    """

    factory: str
    argument: str = ""
    device: str = "cpu"
    precision: Precision = "fp32"

    def open(self) -> "Network":
        """The network with its weights loaded. Raises CurationError with a sentence."""
        module, _, name = self.factory.partition(":")
        opened: Network = getattr(importlib.import_module(module), name)(self.argument, self.device, self.precision)
        return opened

    @property
    def title(self) -> str:
        """How reports call it: `ClipNetwork ViT-L-14:openai`."""
        name = self.factory.rpartition(":")[2].removesuffix("Network")
        return f"{name} {self.argument}".strip()


@dataclass(frozen=True)
class Signature:
    """What must be equal for rows to share a batch: the call, and the shape and type of each array of a row."""

    call: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, call: str, row: Row) -> "Signature":
        return cls(call, tuple(array.shape for array in row), tuple(array.dtype.str for array in row))

    def zeros(self) -> Row:
        """A row of this signature, for the places of a batch that no record fills."""
        return tuple(np.zeros(shape, dtype) for shape, dtype in zip(self.shapes, self.dtypes, strict=True))


@dataclass(frozen=True)
class Computed:
    """A batch's answers [B, ...], and the seconds that the device computed."""

    arrays: Sequence[Array]
    seconds: float


class Network(ABC):
    """A network with its weights, on one device. Subclasses have a constructor `(argument, device, precision)`.

    facts  what the front must know (input size, dimensions ...): JSON-able values
    """

    facts: Mapping[str, Any] = {}
    patience_s: ClassVar[float | None] = None
    """How long a row waits for others to fill its batch; None for the server's own measure, some milliseconds."""
    exact: ClassVar[bool] = False
    """True where a row's answer cannot depend on the other rows of its batch: nothing is tried when the network is
    opened, and every batch is of the largest size."""

    @abstractmethod
    def batch_rows(self, signature: Signature) -> int:
        """The rows of the batches that suit the device best for such rows; 1 for one row at a time."""

    def send(self, arrays: Sequence[Array]) -> Any:
        """Copy a batch to the device, while earlier ones may still compute; `launch` gets what this returns."""
        return arrays

    @abstractmethod
    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        """Compute a batch that was sent. Each array of it has one axis more than a row's, [B, ...]; so has each
        array that is returned. The same batch size gives the same bits. Raises OutOfMemory, DeviceFault.
        """

    def launch(self, call: str, sent: Any) -> Any:
        """Start `infer`; `fetch` gets what this returns. Calls come one after another.

        A device with a queue of its own returns at once, so that it finds the next batch there when one is done.
        """
        started = time.perf_counter()
        return self.infer(call, sent), time.perf_counter() - started

    def fetch(self, launched: Any) -> Computed:
        """Wait for a batch that was launched, and copy its answers here."""
        return Computed(*launched)

    def compute(self, call: str, arrays: Sequence[Array]) -> Sequence[Array]:
        """`send` and `infer`."""
        return self.infer(call, self.send(arrays))

    def release(self) -> None:  # noqa: B027 (optional)
        """Give unused memory back to the device, before a batch is tried again with fewer rows."""
