"""Which devices there are: GPUs as torch sees them, or pretended ones.

With CURATION_PRETEND_GPUS=2 in the environment, two GPUs are pretended: everything is placed, batched and restarted as
with real ones, and computed on the CPU. The tests use it, and it shows on a laptop what a manifest does on a cluster.
"""

import os
from importlib.util import find_spec

PRETEND = "CURATION_PRETEND_GPUS"


def pretended() -> int:
    """How many GPUs are pretended."""
    return int(os.environ.get(PRETEND) or 0)


def gpus_here() -> int:
    """GPUs of this machine that this process can use."""
    if pretended():
        return pretended()
    if find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_memory_mb() -> int | None:
    """Memory of this machine's smallest GPU, None where there is none or it is pretended."""
    if pretended() or not gpus_here():
        return None
    import torch

    return min(torch.cuda.get_device_properties(i).total_memory for i in range(gpus_here())) >> 20
