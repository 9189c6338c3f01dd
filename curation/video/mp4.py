"""Standardized pixels -> files that any loader reads: clips as H.264 mp4, pictures as JPEG, PNG or WebP.

The same pixels and settings give the same bytes with the same PyAV and Pillow (`versions`, part of what a file is
remembered by): x264 runs in one thread and picks no algorithm by the CPU, no writer puts in a clock.
"""

import io
from fractions import Fraction
from importlib import metadata
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from curation.manifest import MediaSection
from curation.shards.sample import MediaFile
from curation.stores.scratch import scratch

JPEG = {"quality": 95, "subsampling": 0}
"""As img2dataset's default quality, but colour at full resolution."""
SETTINGS = {
    "jpg": ("JPEG", JPEG),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True, "method": 4}),
}
SMPTE170M = 6
"""H.273 code point of BT.601's colours: also what a reader that looks at no tag takes for granted."""
X264 = "threads=1:lookahead-threads=1:sliced-threads=0:cpu-independent=1:open-gop=0:scenecut=0:bframes=0"
"""No B-frames: frame k is packet k, in decoding order too, and the first timestamp is 0 without an edit list."""
FINEST = 100_000
"""Largest denominator of a frame rate."""


def media_file(rgb: NDArray[np.uint8], fps: float, media: MediaSection) -> MediaFile:
    """uint8 [H, W, 3] as a picture, [T, H, W, 3] as an mp4 of T frames at `fps` frames a second."""
    if rgb.ndim == 4:
        return MediaFile("mp4", mp4(rgb, fps, media))
    kind, options = SETTINGS[media.images]
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind, **options)
    return MediaFile(media.images, buffer.getvalue())


def mp4(rgb: NDArray[np.uint8], fps: float, media: MediaSection) -> bytes:
    """H.264 (yuv420p, BT.601 in limited range) of uint8 [T, H, W, 3], even sides.

    Frame k is shown at exactly k / fps. Keyframes are frames 0, gop, 2 gop ..., and no frame looks beyond the next
    one: a reader may begin at any of them. Index in front.
    """
    import av

    rate = rate_of(fps)
    with scratch() as folder:
        path = folder / "clip.mp4"
        options = {"fflags": "+bitexact", "movflags": "+faststart"}  # the latter needs a file that is read again
        with av.open(str(path), "w", format="mp4", options=options) as container:
            stream = _stream(container, rate, rgb, media)
            for number, picture in enumerate(rgb):
                frame = _yuv(picture)
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()


def rate_of(fps: float) -> Fraction:
    """Frames a second as the exact fraction that the file says: 24, 2997/125."""
    return Fraction(fps).limit_denominator(FINEST)


def _stream(container: Any, rate: Fraction, rgb: NDArray[np.uint8], media: MediaSection) -> Any:
    options = {
        "crf": f"{media.crf:g}",
        "preset": media.preset,
        "flags": "+bitexact+cgop",
        "x264-params": f"{X264}:keyint={media.gop}:min-keyint={media.gop}",
    }
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = rgb.shape[1:3]
    stream.pix_fmt, stream.thread_count = "yuv420p", 1
    context = stream.codec_context
    stream.time_base = context.time_base = 1 / rate
    context.colorspace = context.color_primaries = context.color_trc = SMPTE170M
    context.color_range = 1  # limited
    return stream


def _yuv(picture: NDArray[np.uint8]) -> Any:
    """An RGB picture as yuv420p, each chroma sample the mean of four: swscale's defaults skip every second column."""
    import av
    from av.video.reformatter import Colorspace, Interpolation

    exact = Interpolation.AREA | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU601, interpolation=exact)


def versions() -> list[str]:
    """What bytes depend on beside pixels and settings."""
    try:
        return [PIL.__version__, metadata.version("av")]
    except metadata.PackageNotFoundError:  # pictures alone need none
        return [PIL.__version__, ""]


def facts(media: MediaSection, fps: float | str) -> dict[str, Any]:
    """What the index says of the files."""
    pictures: dict[str, Any] = {"format": media.images, "pillow": PIL.__version__}
    if media.images == "jpg":
        pictures |= JPEG
    clips = {"format": "mp4", "codec": "h264", "pix_fmt": "yuv420p", "colours": "smpte170m, limited range"}
    clips |= {"crf": media.crf, "preset": media.preset, "gop": media.gop, "fps": fps, "av": versions()[1]}  # type: ignore[dict-item]
    return {"image": pictures, "video": clips}
