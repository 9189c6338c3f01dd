"""Videos to measure on, made here: a camera that pans over the quickstart's photos, damaged files, long ones."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.quickstart.photos import photos

Rgb = NDArray[np.uint8]
FPS = 24


def pan(size: tuple[int, int], count: int, shot: int = 96) -> Iterator[Rgb]:
    """`count` frames uint8 [H, W, 3]; the camera glides over one photo for `shot` frames, then over the next."""
    width, height = size
    wide = (width + 2 * shot, height + shot)
    sources = [photo.image for photo in photos() if min(photo.image.size) >= 300]
    for i in range(count):
        if i % shot == 0:
            ground = np.asarray(sources[i // shot % len(sources)].resize(wide, Image.Resampling.BICUBIC))
        step = i % shot
        yield np.ascontiguousarray(ground[step : step + height, 2 * step : 2 * step + width])


def encode(path: Path, frames: Iterator[Rgb], size: tuple[int, int], options: dict[str, str] | None = None) -> Path:
    """H.264 in the container that the suffix names, 24 frames/s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    return path


def repeated(source: Path, target: Path, times: int) -> Path:
    """The stream of `source` again and again, its packets copied with later timestamps: nothing is encoded anew."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        assert stream.time_base is not None
        length = round(stream.frames * Fraction(1, FPS) / stream.time_base)
        for turn in range(times):
            old.seek(0)
            for packet in old.demux(stream):
                if packet.pts is not None and packet.dts is not None:
                    packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                    packet.stream = copy
                    new.mux(packet)
    return target


def damaged(data: bytes, cut: bool, rng: np.random.Generator) -> bytes:
    """A file's bytes cut short, or with 40 bits flipped."""
    if cut:
        return data[: int(len(data) * rng.uniform(0.05, 0.95))]
    values = bytearray(data)
    for at in rng.integers(0, len(values), 40):
        values[at] ^= 1 << int(rng.integers(8))
    return bytes(values)
