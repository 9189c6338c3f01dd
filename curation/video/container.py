"""A video file as a stream of upright frames with timestamps. Runs in the child process: what it meets is hostile.

Time 0 is the stream's own start, as an edit list leaves it; every time here is in seconds from it. Only containers on
a list are opened, and none may lead to another file (a playlist would).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from curation.media.decode import Refused, check_size

Rgb = NDArray[np.uint8]
Engine = Literal["pyav", "decord"]
Turn = tuple[bool, int, int]
"""Whether width and height are swapped, then the steps (1 or -1) across and down."""
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,h264,hevc,m4v"
STATES = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""The usual decoders of these codecs leave the alpha channel out, which Matroska keeps beside the picture."""
UNTAGGED, HD = 2, 720
"""AVCOL_SPC_UNSPECIFIED; lines from which a video that does not say its colour matrix has BT.709's, as players take
it. FFmpeg alone would take BT.601, and green would be off by up to 25 levels."""
THREADS = min(4, len(os.sched_getaffinity(0)))
"""That decode a video which is sound."""
TINY = 16
BACK_S = 0.5
"""Timestamps that go back so far are another recording's; a clip could not be found again by its times."""
MAX_FRAMES = 4_000_000
"""More than 18 hours at 60 frames/s: a longer stream is an attack, or to be cut into files first."""


@dataclass
class Video:
    """An open file.

    start  seconds at which the stream begins
    rate   frames a second as the file declares them, for want of better: see `curation.video.rates`
    """

    path: str
    max_pixels: int
    container: Any
    stream: Any
    start: float
    rate: float
    decoder: Any
    engine: Engine
    _turn: "tuple[int, Turn] | None" = None
    _size: "tuple[tuple[int, int], tuple[int, int]] | None" = None

    @cached_property
    def tick(self) -> tuple[int, int]:
        """Numerator and denominator of the time base: to multiply a Fraction takes longer than to demux a packet."""
        base = self.stream.time_base
        return base.numerator, base.denominator

    def time_of(self, frame: Any, last: float) -> float:
        """Seconds from the stream's start; a frame without a timestamp follows the last one at the nominal rate."""
        if frame.pts is None:
            return last + 1 / self.rate
        ticks, per_second = self.tick
        return frame.pts * ticks / per_second - self.start

    def size_of(self, frame: Any) -> tuple[int, int]:
        """Square-pixelled (width, height) in px of a frame, before its turn: a stream may change it.

        Raises Refused where a frame is larger than allowed.
        """
        stored = frame.width, frame.height
        if self._size is None or self._size[0] != stored:
            self._size = stored, _squared(stored, self.stream, self.max_pixels)
        return self._size[1]

    def within(self, frame: Any, longest: int) -> tuple[int, int]:
        """A frame's size, shrunk so that the longer side is at most `longest`."""
        size = self.size_of(frame)
        scale = min(1.0, longest / max(size))
        width, height = (max(1, round(side * scale)) for side in size)
        return width, height

    def turn_of(self, frame: Any) -> Turn:
        """How a frame is brought upright; read anew only where the angle is another than the last one's.

        And from a tiny copy: a frame whose side data was read is part of a ring of references, and would wait for
        the garbage collector with all its pixels.
        """
        angle = int(frame.rotation)
        if self._turn is None or self._turn[0] != angle:
            self._turn = angle, _turn_of(frame.reformat(TINY, TINY, "gray", threads=1))
        return self._turn[1]

    def upright(self, values: Rgb, frame: Any) -> Rgb:
        """What was made of a frame, [H, W] or [H, W, 3], brought upright."""
        swapped, across, down = self.turn_of(frame)
        values = values.swapaxes(0, 1) if swapped else values
        return np.ascontiguousarray(values[::down, ::across])


def open_container(path: str) -> Any:
    """A file with its streams. Titles and names may have any encoding."""
    return av.open(path, options=STATES, metadata_errors="replace")


@contextmanager
def open_video(path: str, max_pixels: int, engine: Engine = "pyav", threads: int = 1) -> Iterator[Video]:
    """Open a file; `engine` makes its frames. Raises Refused with a sentence: no video in it, too large, damaged.

    More `threads` decode a sound stream to the same bits; what they make of a damaged one may differ.
    """
    try:
        with open_container(path) as container:
            yield _video(path, container, max_pixels, engine, threads)
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise Refused(f"not a video that can be read: {_words(error)}") from error


def _video(path: str, container: Any, max_pixels: int, engine: Engine, threads: int) -> Video:
    stream = container.streams.best("video")
    if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
        cover = ["a cover picture"] if stream else []
        kinds = sorted({other.type for other in container.streams if other.type != "video"})
        raise Refused(f"it has no video stream, only {', '.join([*kinds, *cover]) or 'nothing'}")
    context = stream.codec_context
    if context is None:
        raise Refused("its video codec is not known to the decoder, or it is encrypted")
    context.thread_count, context.thread_type = threads, "FRAME"  # slices in threads would conceal no errors
    _squared((context.width, context.height), stream, max_pixels)
    start = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    decoder = context
    if stream.metadata.get("alpha_mode") == "1" and context.name in ALPHA_DECODERS:
        decoder = av.CodecContext.create(ALPHA_DECODERS[context.name], "r")
    rate = rate if 0.1 < rate < 1000 else 25.0
    return Video(path, max_pixels, container, stream, start, rate, decoder, engine)


def _squared(stored: tuple[int, int], stream: Any, max_pixels: int) -> tuple[int, int]:
    """A stored size in square pixels. Raises Refused where it is too large."""
    width, height = stored
    check_size((width, height), max_pixels)
    sar = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if sar and 0.1 < float(sar) < 10:
        width = max(1, round(width * float(sar)))
        check_size((width, height), max_pixels)
    return width, height


def frames(video: Video, from_s: float = 0.0) -> Iterator[tuple[float, Any]]:
    """(time in s, PyAV frame) from the key frame at or before `from_s`. Raises Refused where decoding fails."""
    if video.engine == "decord":
        from curation.video.decord_frames import decord_frames

        yield from decord_frames(video, from_s)
        return
    if from_s > 0.5 and not _seek(video, from_s):
        yield from _from_the_start(video)
        return
    last, count = -1 / video.rate, 0
    try:
        for frame in decoded(video):
            time = video.time_of(frame, last)
            if from_s > 0.5 and count == 0 and (frame.pts is None or time > from_s + 1e-6):
                yield from _from_the_start(video)  # the container's index gives no usable position for this frame
                return
            if last - time > BACK_S:
                what = f"its timestamps go back by {last - time:.2f} s behind frame {count} ({last:.2f} s)"
                raise Refused(f"{what}: two recordings in one file, which have to be parted")
            last, count = max(last, time), count + 1
            if count > MAX_FRAMES:
                raise Refused(f"it has more than {MAX_FRAMES:,} frames: cut it into several files")
            yield time, frame
        if from_s > 0.5 and count == 0:  # the seek went behind the last key frame, as in a transport stream
            yield from _from_the_start(video)
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise Refused(f"it cannot be decoded behind frame {count} ({max(0.0, last):.2f} s): {_words(error)}") from error


def _seek(video: Video, from_s: float) -> bool:
    """Whether the file could be moved to the key frame before; a raw stream has no times to find it by."""
    offset = int((from_s + video.start) / video.stream.time_base)
    try:
        video.container.seek(offset, stream=video.stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


def _from_the_start(video: Video) -> Iterator[tuple[float, Any]]:
    """All frames, of the file opened anew: not every container can be rewound."""
    with open_video(video.path, video.max_pixels) as fresh:
        yield from frames(fresh)


def decoded(video: Video) -> Iterator[Any]:
    """PyAV frames from where the container stands."""
    started = False
    for packet in _packets(video):
        if packet.is_keyframe and any(data.data_type == "encryption_info" for data in packet.iter_sidedata()):
            raise Refused("it is encrypted")
        started = started or packet.is_keyframe
        try:
            yield from video.decoder.decode(packet)
        except av.error.InvalidDataError:
            if started:
                raise  # else: of a stream that was cut, nothing can be decoded before its first key frame


def _packets(video: Video) -> Iterator[Any]:
    try:
        yield from video.container.demux(video.stream)
    except IndexError as error:  # PyAV knows the streams that were there when the file was opened
        raise Refused("a stream begins in the middle of it that its header does not have") from error


SUBSAMPLED, LEAST = "yuv420p", 64
"""What nearly all videos are in: shrunk as it is and then turned into RGB, which is two to three times as fast; not to
less than 64 px, where nothing is gained and half the size is too little for colour."""
EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""swscale's faster ways make every picture about 1 of 255 darker, which a picture's own decoder does not."""


def values_of(frame: Any, width: int, height: int, interpolation: str | int) -> Rgb:
    """RGB [H, W, 3] at a size, transparent pixels over white, as it is stored: not turned."""
    if not any(part.is_alpha for part in frame.format.components):
        return _scaled(frame, width, height, "rgb24", interpolation)
    rgba = _scaled(frame, width, height, "rgba", interpolation).astype(np.uint16)
    alpha = rgba[..., 3:]
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _scaled(frame: Any, width: int, height: int, kind: str, interpolation: str | int) -> Rgb:
    matrix = Colorspace.ITU709 if frame.colorspace == UNTAGGED and frame.height >= HD else None
    if frame.format.name == SUBSAMPLED and (kind, interpolation) == ("rgb24", "AREA") and min(width, height) >= LEAST:
        scaler = _scaler(width, height, SUBSAMPLED, interpolation)
        colours = {"src_colorspace": matrix, "dst_colorspace": matrix}
        frame = scaler.reformat(frame, width, height, SUBSAMPLED, interpolation=interpolation, threads=1, **colours)
        matrix = None  # the small frame says it itself
    scaler = _scaler(width, height, kind, interpolation)
    made = scaler.reformat(frame, width, height, kind, src_colorspace=matrix, interpolation=interpolation, threads=1)
    return np.asarray(made.to_ndarray())


@lru_cache(maxsize=8)
def _scaler(*_of: int | str) -> VideoReformatter:
    """One for each size and kind of output: it keeps what it prepared for the frame before."""
    return VideoReformatter()


def rgb_of(video: Video, frame: Any, longest: int | None = None) -> Rgb:
    """Upright square-pixelled RGB [H, W, 3] of a frame, its longer side at most `longest`. Without a `longest` it is
    what a VAE sees, and is converted as exactly as swscale can."""
    if longest is None:
        return video.upright(values_of(frame, *video.size_of(frame), EXACT), frame)
    size = video.within(frame, longest)
    return video.upright(values_of(frame, *size, "AREA" if size != video.size_of(frame) else "BICUBIC"), frame)


def luma_of(video: Video, frame: Any, size: tuple[int, int]) -> Rgb:
    """Upright luma [H, W], 0-255, of a frame that is brought to `size` before its turn."""
    if any(part.is_alpha for part in frame.format.components):
        rgb = values_of(frame, *size, "AREA")
        return video.upright(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8), frame)
    return video.upright(_scaled(frame, *size, "gray", "AREA"), frame)


def _turn_of(frame: Any) -> Turn:
    """How a frame is brought upright by its display matrix (ISO 14496-12, 6.2.2). Angles in between are taken for the
    nearest right one."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, 1, 1
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32, 5))
    swapped = abs(b) + abs(c) > abs(a) + abs(d)
    return swapped, -1 if (c if swapped else a) < 0 else 1, -1 if (b if swapped else d) < 0 else 1


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split("\n")[0][:160]
