"""Videos drawn here: each frame carries its number, which survives any codec, and an edit of a file's bytes."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 12
MILLISECOND = Fraction(1, 1000)
ONE = 1 << 16


def numbered(number: int, scene: int = 0, size: tuple[int, int] = (192, 96), block: int = 16) -> np.ndarray:
    """uint8 [H, W, 3]: the number as black and white blocks along the top, a moving pattern of the scene's below."""
    rng = np.random.default_rng(scene)
    width, height = size
    base = rng.integers(30, 226, (-(-height // 8), -(-width // 8), 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    frame = np.roll(base.astype(np.uint8), 2 * number, axis=1)
    for bit in range(BITS):
        frame[:block, bit * block : (bit + 1) * block] = 255 if number >> bit & 1 else 0
    return frame


def number_in(frame: np.ndarray, block: int = 16) -> int:
    """The number that an upright frame shows."""
    inner = slice(block // 4, block - block // 4)
    means = (frame[inner, bit * block + inner.start : bit * block + inner.stop].mean() for bit in range(BITS))
    return sum(1 << bit for bit, mean in enumerate(means) if mean > 127)


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    times_ms: Sequence[int] | None = None,
    fps: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    matrix: Sequence[int] | None = None,
    audio_s: float = 0.0,
) -> Path:
    """A file of the suffix's kind, near lossless; `times_ms` makes the frame rate variable.

    options, container  of the encoder and of the muxer
    aspect              of a stored pixel, width to height
    matrix              nine numbers of the display matrix, 16.16 (the last column 2.30)
    audio_s             seconds of silence beside the pictures
    """
    usual = {"crf": "8", "preset": "ultrafast", "g": "12"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=container or {}) as out:
        stream: Any = out.add_stream(codec, rate=fps, options=usual | (options or {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if aspect:
            stream.sample_aspect_ratio = aspect
        if matrix:
            stream.set_display_matrix(matrix)
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = MILLISECOND
        sound: Any = out.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48_000) if audio_s else None
        for i in range(int(audio_s * 50)):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            silence.rate, silence.pts, silence.time_base = 48_000, i * 960, Fraction(1, 48_000)
            out.mux(sound.encode(silence))
        for i, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgba" if array.shape[2] == 4 else "rgb24")
            frame.pts, frame.time_base = (i, Fraction(1, fps)) if times_ms is None else (times_ms[i], MILLISECOND)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound:
            out.mux(sound.encode())
    return path


def edit(path: Path, *parts: tuple[int, int], fps: int = 25) -> None:
    """Make an mp4 show only `parts`, each (first frame, how many), by rewriting its edit list."""
    data = bytearray(path.read_bytes())
    at, movie, media = (data.index(name) for name in (b"elst", b"mvhd", b"mdhd"))
    scales = [int.from_bytes(data[box + 16 : box + 20], "big") for box in (movie, media)]
    (origin,) = struct.unpack(">i", data[at + 16 : at + 20])
    entries = [struct.pack(">IiI", n * scales[0] // fps, origin + first * scales[1] // fps, ONE) for first, n in parts]
    data[at + 8 : at + 24] = struct.pack(">I", len(parts)) + b"".join(entries)
    for name in (b"elst", b"edts", b"trak", b"moov"):  # which lies behind the pictures: their places stay
        box = data.index(name) - 4
        data[box : box + 4] = struct.pack(">I", int.from_bytes(data[box : box + 4], "big") + 12 * (len(parts) - 1))
    path.write_bytes(bytes(data))


def without_first_packets(source: Path, target: Path, count: int) -> None:
    """The same stream without its first packets, nothing encoded again."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for i, packet in enumerate(old.demux(stream)):
            if i >= count and packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
