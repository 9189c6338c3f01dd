"""Makes `import torchvision` work beside a torch that its native library was not built for.

PyPI's torchvision for Linux is linked against CUDA builds of torch. Beside a CPU build of the same version
its `_C.so` does not load; torchvision notes that and goes on, but then registers meta kernels for
`torchvision::nms`, an operator that only `_C.so` would have declared, and the import dies with
`operator torchvision::nms does not exist`. open_clip, timm and transformers' image processors die with it,
although they need nothing of `_C.so`. Declaring the schemas beforehand lets the import pass; a call of nms
itself still raises. Where the native library loads, nothing is touched.
"""

import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[object] = []  # torch.library drops the schemas when its Library object is collected


def native_library_loads() -> bool:
    """Whether torchvision's compiled operators load beside this torch."""
    import torch  # noqa: F401 (its shared libraries must be in the process first)

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for library in sorted(Path(spec.origin).parent.glob("_C*.so")):
        try:
            ctypes.CDLL(str(library))
        except OSError:
            return False
    return True


@cache
def patch_torchvision() -> bool:
    """Declare the missing schemas, once, before torchvision is imported; True when that was needed."""
    import torch

    if "torchvision" in sys.modules or native_library_loads():
        return False
    library = torch.library.Library("torchvision", "DEF")
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
    _libraries.append(library)
    return True
