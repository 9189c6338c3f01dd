"""What networks of torch have in common: precision, memory layout, copies to the device, its errors."""

import copy
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from curation.errors import CurationError
from curation.inference.network import Array, Computed, DeviceFault, Network, OutOfMemory, Precision
from curation.stage import sentence
from curation.threads import one_thread

LEAST_PARITY = 0.999


def computing_device(device: str) -> str:
    """The device that torch computes on: "cuda", or "cpu" where the GPU is a pretended one (see `curation.devices`)."""
    from curation.devices import pretended

    return "cpu" if device != "cpu" and pretended() else device


def half_on_gpu(device: str) -> Precision:
    """fp16 on a GPU, fp32 on a CPU and on pretended GPUs."""
    return "fp16" if computing_device(device) != "cpu" else "fp32"


class TorchNetwork(Network):
    """Subclasses load a module, give it to `place`, and compute with `self.module` in `forward`.

    Arrays of bytes cross to the device as bytes: converting and normalizing is `forward`'s.
    """

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        import torch

        self.argument, self.precision = argument, precision
        self.module: Any
        self.device = torch.device(computing_device(device))
        self.half = torch.bfloat16 if precision == "bf16" else torch.float16
        self.dtype = torch.float32
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise CurationError(
                "torch finds no CUDA device in this process; say `device: cpu`, or install torch with CUDA"
            )
        self._copies: Any = torch.cuda.Stream() if self.on_gpu else None

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def place(self, module: Any, call: str, probe: Sequence[Array]) -> dict[str, float]:
        """Put the module on the device, as `self.module`, in the wanted precision; returns {} or its `parity`.

        In half precision that is the cosine between the first answers to `probe`, a batch, in fp32 and in half. Below
        0.999 the module stays in fp32: its weights or activations do not fit the smaller type.
        """
        import torch

        self.module, self.dtype = self._placed(module, torch.float32), torch.float32
        if self.precision == "fp32":
            return {}
        exact = self.compute(call, probe)[0]
        self.module, self.dtype = self._placed(copy.deepcopy(module), self.half), self.half
        parity = cosine(exact, self.compute(call, probe)[0])
        if not parity >= LEAST_PARITY:
            self.module, self.dtype = self._placed(module, torch.float32), torch.float32
        else:
            module.to("cpu")
        return {"parity": parity}

    def _placed(self, module: Any, dtype: Any) -> Any:
        """For inference; on a GPU in channels_last, which its convolutions run faster in."""
        import torch

        module = module.eval().requires_grad_(False).to(self.device, dtype)
        return module.to(memory_format=torch.channels_last) if self.on_gpu else module

    def compiled(self, module: Any) -> bool:
        """Compile a part of the model that has one graph, for any shape; whether it was, which a GPU alone repays.

        One compilation serves all sizes of pictures: a run has many buckets, and each graph costs half a minute.
        """
        import torch

        if not self.on_gpu:
            return False
        torch._dynamo.config.suppress_errors = True  # where a compiler is missing, it runs as it is
        module.compile(dynamic=True)
        return True

    @abstractmethod
    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        """Tensors [B, ...] on the device -> tensors [B, ...]."""

    def send(self, arrays: Sequence[Array]) -> Any:
        """Tensors, and on a GPU the event after which they are there: pinned, and on a stream of its own."""
        import torch

        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        if not self.on_gpu:
            return tensors, None
        with _torch_errors(), torch.cuda.stream(self._copies):
            there = [tensor.pin_memory().to(self.device, non_blocking=True) for tensor in tensors]
            return there, self._copies.record_event()

    def infer(self, call: str, sent: Any) -> Sequence[Array]:
        return self.fetch(self.launch(call, sent)).arrays

    def launch(self, call: str, sent: Any) -> Any:
        """On a GPU the kernels are queued, and so are the copies of the answers, behind which `fetch` waits."""
        import torch

        tensors, event = sent
        started = time.perf_counter()
        with _torch_errors(), torch.inference_mode(), nullcontext() if self.on_gpu else one_thread():
            if not self.on_gpu:
                return [_array(output) for output in self.forward(call, tensors)], time.perf_counter() - started
            stream = torch.cuda.current_stream()
            stream.wait_event(event)
            for tensor in tensors:
                tensor.record_stream(stream)
            before = stream.record_event(torch.cuda.Event(enable_timing=True))
            outputs = [_numbers(output) for output in self.forward(call, tensors)]
            after = stream.record_event(torch.cuda.Event(enable_timing=True))
            here = [torch.empty(o.shape, dtype=o.dtype, pin_memory=True).copy_(o, non_blocking=True) for o in outputs]
            return here, before, after, stream.record_event()

    def fetch(self, launched: Any) -> Computed:
        if not self.on_gpu:
            return Computed(*launched)
        here, before, after, copied = launched
        with _torch_errors():
            copied.synchronize()
            return Computed([tensor.numpy() for tensor in here], before.elapsed_time(after) / 1000)

    def release(self) -> None:
        import torch

        if self.on_gpu:
            torch.cuda.empty_cache()


def _numbers(tensor: Any) -> Any:
    """Of a type that numpy has too."""
    import torch

    tensor = tensor.detach()
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _array(tensor: Any) -> Array:
    array: Array = _numbers(tensor).numpy()
    return array


@contextmanager
def _torch_errors() -> Iterator[None]:
    """Torch's errors of the device as this package's; after one of CUDA, every later call of the process fails too."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(sentence(error)) from error
    except torch.AcceleratorError as error:
        raise DeviceFault(f"the GPU failed: {sentence(error)}") from error
    except RuntimeError as error:
        if "CUDA error" in str(error) or "CUBLAS" in str(error) or "CUDNN" in str(error):
            raise DeviceFault(f"the GPU failed: {sentence(error)}") from error
        raise


def cosine(a: Array, b: Array) -> float:
    """Between two arrays of any shape; NaN where one is not finite."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))


def normalized(images: Any, mean: Sequence[float], std: Sequence[float], dtype: Any) -> Any:
    """uint8 [B, H, W, 3] -> [B, 3, H, W] as `(x / 255 - mean) / std` in fp32, then in `dtype`."""
    import torch

    planes = images.permute(0, 3, 1, 2).contiguous().float().div(255)
    offsets, scales = (torch.tensor(list(v), device=planes.device).view(1, -1, 1, 1) for v in (mean, std))
    return planes.sub(offsets).div(scales).to(dtype)
