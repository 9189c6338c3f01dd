"""How a model is spread over devices; the model file knows nothing of it."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from curation.errors import UsageError
from curation.trainer.config import TrainConfig

Forward = Callable[..., Tensor]


def rank_and_world() -> tuple[int, int]:
    """This worker's number and how many there are; (0, 1) outside a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def device_of(config: TrainConfig) -> torch.device:
    """Raises UsageError where CUDA is asked for and is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("train.device is cuda, and this machine has none: say cpu or auto")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


class Spread:
    """A model as workers run it: `forward` to train with, `accumulating()` for all but the last micro-batch.

    Works in place: the model's parameters keep their names, whatever is wrapped around it.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model = model
        self.sharded = config.parallel == "fsdp" and rank_and_world()[1] > 1
        self._ddp: DistributedDataParallel | None = None
        blocks = list(getattr(model, "blocks", []))
        if config.checkpoint_activations:
            for block in blocks:
                block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
        if config.compile:
            for block in blocks:  # block by block: compiled once, used `depth` times
                block.compile()
        if self.sharded:
            self._shard(blocks)
        elif dist.is_initialized() and rank_and_world()[1] > 1:
            self._ddp = DistributedDataParallel(model)

    def _shard(self, blocks: list[nn.Module]) -> None:
        from torch.distributed.fsdp import fully_shard

        for block in blocks:
            fully_shard(block)
        fully_shard(self.model)

    @property
    def forward(self) -> Forward:
        return self._ddp or self.model

    @contextlib.contextmanager
    def accumulating(self) -> Iterator[None]:
        """Gradients stay on this worker until the next backward pass outside."""
        if self._ddp:
            with self._ddp.no_sync():
                yield
        elif self.sharded:
            self.model.set_requires_gradient_sync(False)  # type: ignore[operator]
            yield
            self.model.set_requires_gradient_sync(True)  # type: ignore[operator]
        else:
            yield


def whole(tensor: Tensor, device: str = "cpu") -> Tensor:
    """A copy of a (sharded) tensor in full, on the CPU or on `device`; every worker must ask."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().to(device, copy=True)


def put(full: Tensor, like: Tensor) -> None:
    """Fill a (sharded) tensor from the whole."""
    with torch.no_grad():
        if isinstance(like, DTensor):
            like.copy_(distribute_tensor(full.to(like.device), like.device_mesh, like.placements))
        else:
            like.copy_(full)


def gathered(values: Tensor, counts: Sequence[int]) -> Tensor:
    """[n, k] of every worker -> all of them, in the order of ranks; `counts` are everyone's n."""
    if len(counts) == 1:
        return values
    padded = torch.cat([values, values.new_zeros(max(counts) - len(values), *values.shape[1:])])
    parts = [torch.zeros_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
