"""A video file as a stream of upright frames with timestamps. Runs in the child process: what it meets is hostile.

Time 0 is the stream's own start; every time here is in seconds from it. Only containers on a list are opened,
and none may lead to another file (a playlist would).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from curation.media.decode import Refused, check_size

Rgb = NDArray[np.uint8]
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,h264,hevc,m4v"
STATES = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}


@dataclass
class Video:
    """An open file; `size` is upright and square-pixelled, (width, height) in px."""

    container: Any
    stream: Any
    size: tuple[int, int]
    rotation: int
    start: float
    rate: float

    def time_of(self, frame: Any, last: float) -> float:
        """Seconds from the stream's start; a frame without a timestamp follows the last one at the nominal rate."""
        if frame.pts is None:
            return last + 1 / self.rate
        return float(frame.pts * self.stream.time_base) - self.start


@contextmanager
def open_video(path: str, max_pixels: int) -> Iterator[Video]:
    """Open a file. Raises Refused with a sentence: no video in it, encrypted, too large, damaged."""
    try:
        with av.open(path, options=STATES) as container:
            yield _video(container, max_pixels)
    except av.error.FFmpegError as error:
        raise Refused(f"not a video that can be read: {_words(error)}") from error


def _video(container: Any, max_pixels: int) -> Video:
    if not container.streams.video:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise Refused(f"it has no video stream, only {', '.join(kinds)}")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:
        raise Refused("its video codec is not known to the decoder, or it is encrypted")
    context.thread_count = 1
    width, height = context.width, context.height
    check_size((width, height), max_pixels)
    sar = stream.sample_aspect_ratio or context.sample_aspect_ratio
    if sar and 0.1 < float(sar) < 10:
        width = max(1, round(width * float(sar)))
    start = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    return Video(container, stream, (width, height), 0, start, rate if 0.1 < rate < 1000 else 25.0)


def frames(video: Video, from_s: float = 0.0) -> Iterator[tuple[float, Any]]:
    """(time in s, PyAV frame) from the key frame at or before `from_s`. Raises Refused where decoding fails."""
    if from_s > 0.5:
        offset = int((from_s + video.start) / video.stream.time_base)
        try:
            video.container.seek(offset, stream=video.stream, backward=True)
        except av.error.FFmpegError:  # an index that is missing or lies: read from the start instead
            video.container.seek(0)
    last, count = -1 / video.rate, 0
    try:
        for frame in video.container.decode(video.stream):
            time = video.time_of(frame, last)
            if count == 0 and time > from_s + 1e-6 and from_s > 0.5:
                video.container.seek(0)
                yield from frames(video)
                return
            last, count = max(last, time), count + 1
            yield time, frame
    except av.error.FFmpegError as error:
        raise Refused(f"it cannot be decoded behind frame {count} ({max(0.0, last):.2f} s): {_words(error)}") from error


def rgb_of(frame: Any, size: tuple[int, int], longest: int | None = None) -> Rgb:
    """Upright square-pixelled RGB [H, W, 3] at `size` (before rotation), its longer side at most `longest`."""
    scale = min(1.0, longest / max(size)) if longest else 1.0
    width, height = (max(1, round(side * scale)) for side in size)
    rgb = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA" if scale < 1 else "BICUBIC")
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def upright_size(frame: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height after the frame's rotation."""
    return size[::-1] if round((getattr(frame, "rotation", 0) or 0) / 90) % 2 else size


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split("\n")[0][:160]
