"""Which devices there are: GPUs as torch sees them, or pretended ones.

With CURATION_PRETEND_GPUS=2 in the environment, two GPUs are pretended: everything is placed, batched and restarted as
with real ones, and computed on the CPU. The tests use it, and it shows on a laptop what a manifest does on a cluster.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from curation.errors import UsageError
from curation.models.registry import ModelInfo

PRETEND = "CURATION_PRETEND_GPUS"
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Of NVIDIA, of AMD, and of Windows' Linux: one is there where a GPU can be used."""


def pretended() -> int:
    """How many GPUs are pretended."""
    return int(os.environ.get(PRETEND) or 0)


def gpus_here() -> int:
    """GPUs of this machine that this process can use."""
    if pretended():
        return pretended()
    if find_spec("torch") is None or not any(Path(driver).exists() for driver in DRIVERS):
        return 0  # without importing torch, which takes seconds
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_memory_mb() -> int | None:
    """Memory of this machine's smallest GPU, None where there is none or it is pretended."""
    if pretended() or not gpus_here():
        return None
    import torch

    return min(torch.cuda.get_device_properties(i).total_memory for i in range(gpus_here())) >> 20


def check_gpus(models: Mapping[str, ModelInfo], gpus: int, memory_gb: float | None) -> None:
    """Raise UsageError where models shall compute on GPUs that are not there, or that have no room for all of them.

    memory_gb  of the smallest GPU, as the manifest says (`engine.gpu_memory_gb`); None: of this machine's GPUs
    """
    if models and not gpus:
        raise UsageError(
            f"{', '.join(models)} shall compute on a GPU, and there is none; say `device: cpu`, or run where one is"
        )
    needed = sum(model.gpu_mb for model in models.values())
    memory_mb = memory_gb * 1000 if memory_gb else gpu_memory_mb() if models else None
    if memory_mb is not None and needed > memory_mb:
        parts = " + ".join(f"{model.id} {model.gpu_mb:,} MB" for model in models.values())
        raise UsageError(
            f"the models of this run do not fit one GPU: {parts} = {needed:,} MB of {memory_mb:,.0f} MB; give "
            "some of them `device: cpu`, or score in two runs"
        )
