"""Small videos of generated scenes, written as H.264."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Frames = list[NDArray[np.uint8]]


def texture(seed: int, height: int = 400, width: int = 400) -> NDArray[np.uint8]:
    """[H, W, 3]: blotches of every size, as in photos."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        noise = rng.standard_normal((cells, cells, 3)).astype(np.float32) / cells**0.8
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 110 * total / np.abs(total).max() * 1.6, 0, 255).astype(np.uint8)


def pan(
    seed: int, seconds: float, fps: float = 24, size: tuple[int, int] = (192, 108), step: tuple[float, float] = (36, 12)
) -> Frames:
    """A camera that goes over a texture at `step` px a second, there and back; size is (width, height)."""
    picture, (width, height) = texture(seed), size
    out = []
    for i in range(round(seconds * fps)):
        x, y = (
            _bounced(20 + speed * i / fps, room)
            for speed, room in zip(step, (400 - width - 2, 400 - height - 2), strict=True)
        )
        moved = cv2.getRectSubPix(picture, size, (x + width / 2, y + height / 2))
        out.append(np.ascontiguousarray(moved))
    return out


def _bounced(value: float, room: float) -> float:
    at = value % (2 * room)
    return at if at <= room else 2 * room - at


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float = 24, crf: int = 18) -> Path:
    """H.264 in mp4; frames uint8 [H, W, 3] of one size, both sides even."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.options = {"crf": str(crf), "preset": "ultrafast"}
        stream.pix_fmt = "yuv420p"
        for i, array in enumerate(frames):
            if i == 0:
                stream.height, stream.width = array.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
