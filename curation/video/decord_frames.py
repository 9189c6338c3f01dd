"""decord in place of PyAV's decoder (`engine: {video_decoder: decord}`): the same frames at the same timestamps, their
colours a level or two darker, and coarser at edges, as swscale converts them by default.

decord gives frames by their number, and counts those that no player shows: discarded by an edit list, or before a
stream's first key frame. So PyAV walks through the packets first (nothing is decoded), and a file whose packets are
not its frames one to one is refused with the reason.
"""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import decord

from curation.media.decode import Refused
from curation.video import container
from curation.video.container import Video

TRUSTED = frozenset(("mp4", "matroska"))
"""Of an MPEG-TS decord gives the wrong frames from the first one on (0.6.0); others were not tried."""
INSTEAD = "; `engine: {video_decoder: pyav}` reads it"


def decord_frames(video: Video, from_s: float) -> Iterator[tuple[float, Any]]:
    """(time in s, PyAV frame) from the frame on show at `from_s`. Raises Refused for what decord gets wrong."""
    stamps, context = _stamps(video), video.stream.codec_context
    try:
        reader = decord.VideoReader(video.path, num_threads=1)
        if len(reader) != len(stamps):
            raise Refused(f"decord counts {len(reader)} frames where there are {len(stamps)}{INSTEAD}")
        times = [float(stamp * video.stream.time_base) - video.start for stamp in stamps]
        first = max(0, bisect_right(times, from_s + 1e-6) - 1)
        reader.seek_accurate(first)
        for time, stamp in zip(times[first:], stamps[first:], strict=True):
            rgb = reader.next().asnumpy()
            if rgb.shape != (context.height, context.width, 3):
                raise Refused(f"decord gives an array {rgb.shape} of {context.width}x{context.height} px{INSTEAD}")
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(video.stream.time_base)
            yield time, frame
    except (decord.DECORDError, StopIteration) as error:
        words = str(error).rstrip().rpartition("\n")[2].rpartition(": ")[2][:160] or "it ends too early"
        raise Refused(f"decord cannot decode it: {words}{INSTEAD}") from error


def _stamps(video: Video) -> list[int]:
    """The timestamps of the packets, in the order that their frames are shown."""
    if not set(video.container.format.name.split(",")) & TRUSTED:
        raise Refused(f"decord counts frames wrong in {video.container.format.name}{INSTEAD}")
    if len(video.container.streams.video) > 1:
        raise Refused(f"decord may take another of its {len(video.container.streams.video)} video streams{INSTEAD}")
    frame = next(container.decoded(video), None)
    if frame is None:
        raise Refused("it has no frame that can be decoded")
    if video.turn_of(frame) != (False, 1, 1):
        raise Refused(f"decord does not turn it as it asks for{INSTEAD}")
    if frame.interlaced_frame:
        raise Refused(f"decord does not say that it is interlaced{INSTEAD}")
    if any(part.is_alpha for part in frame.format.components) or video.decoder is not video.stream.codec_context:
        raise Refused(f"decord does not see that it is transparent{INSTEAD}")
    with container.open_container(video.path) as again:
        packets = (packet for packet in again.demux(again.streams[video.stream.index]) if packet.size)
        facts = [(None if packet.is_discard else packet.pts, packet.is_keyframe) for packet in packets]
    if len(facts) > container.MAX_FRAMES:
        raise Refused(f"it has more than {container.MAX_FRAMES:,} frames: cut it into several files")
    stamps = [stamp for stamp, _ in facts if stamp is not None]
    if len(stamps) < len(facts) or not facts[0][1]:
        what = "without a timestamp, discarded by an edit list, or before its first key frame"
        raise Refused(f"decord would count frames that are {what}{INSTEAD}")
    return sorted(stamps)
