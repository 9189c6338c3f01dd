"""Writes checkpoints beside the training: serializing, hashing and storing gigabytes takes as long as many steps."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from curation.stores.storage import Store
from curation.trainer import checkpoint
from curation.trainer.checkpoint import Tensors


class Writer:
    """One thread, one checkpoint at a time: the next one waits for it. Leaving the `with` block waits for the last.

    What fails while writing is raised by the next `write`, or at the end of the block.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._written: Future[Any] | None = None

    def write(self, out: Store, state: Mapping[str, Any], parts: Mapping[str, Tensors], keep: int) -> None:
        """Begin `checkpoint.write`. `parts` are copies that nobody changes any more, on the CPU or a GPU."""
        self.wait()
        copied = torch.cuda.current_stream().record_event() if _on_gpu(parts) else None
        self._written = self._thread.submit(_write, out, state, parts, keep, copied)

    def wait(self) -> None:
        """Until what was begun is written. Raises what it raised."""
        written, self._written = self._written, None
        if written:
            written.result()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def _on_gpu(parts: Mapping[str, Tensors]) -> bool:
    return any(tensor.is_cuda for tensors in parts.values() for tensor in tensors.values())


def _write(
    out: Store, state: Mapping[str, Any], parts: Mapping[str, Tensors], keep: int, copied: "torch.cuda.Event | None"
) -> None:
    """In the thread: from the GPU on a stream of its own, so that neither waits for the other."""
    stream = torch.cuda.Stream() if copied else None
    with torch.cuda.stream(stream) if stream else nullcontext():
        if stream and copied:
            stream.wait_event(copied)
        here = {part: {name: _here(tensor) for name, tensor in tensors.items()} for part, tensors in parts.items()}
    checkpoint.write(out, state, here, keep)


def _here(tensor: Tensor) -> Tensor:
    return tensor.to("cpu")
