"""Arrays and pictures as the report page holds them: bytes in base64."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_NAMES = {"u1": "u1", "i1": "i1", "i2": "i2", "i4": "i4", "f4": "f4", "f8": "f8"}


def packed(array: NDArray[Any]) -> dict[str, str]:
    """An array in the smallest type that holds each of its values exactly, little-endian, beside the name of its type;
    NaN stands for null."""
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            small = array.astype("<f4")
        array = small if np.array_equal(small.astype(np.float64), array, equal_nan=True) else array.astype("<f8")
    elif array.dtype.kind in "iub":
        low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
        kinds = ("u1", "i1", "i2", "i4")
        array = array.astype(next(f"<{k}" for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))
    kind = array.dtype.str.lstrip("<|")
    return {"type": _NAMES[kind], "data": base64.b64encode(array.tobytes()).decode()}


def jpeg(image: Image.Image, quality: int) -> str:
    """A picture as a JPEG in base64."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return base64.b64encode(buffer.getvalue()).decode()
