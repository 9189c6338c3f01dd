"""What a video file says of itself, held against what was decoded of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.media.decode import Refused
from curation.video.container import Video, open_container

HDR = (16, 18)
"""Transfer characteristics (ISO 23091-2) of PQ and HLG."""
CORRUPT = 0.02
SHORT = 0.9


@dataclass
class Seen:
    """What is noted of the frames while they pass: the turn of the first, how many are damaged or interlaced."""

    size: tuple[int, int] = (0, 0)
    rotation: int = 0
    count: int = 0
    corrupt: int = 0
    interlaced: int = 0

    def add(self, frame: Any, video: Video) -> None:
        if not self.count:
            self.size = video.size[::-1] if video.turn_of(frame)[0] else video.size
            self.rotation = -int(frame.rotation) % 360
        self.count += 1
        self.corrupt += bool(frame.is_corrupt)
        self.interlaced += bool(frame.interlaced_frame)


def probe(video: Video, times: Sequence[float], seen: Seen) -> dict[str, Any]:
    """The facts of a whole video, `times` being its frames' in seconds.

    Raises Refused where nothing could be decoded, too much is damaged, or a tenth of what it declares is missing.
    """
    if not times:
        raise Refused("it has no frame that can be decoded")
    if seen.corrupt > max(1, CORRUPT * len(times)):
        raise Refused(f"{seen.corrupt} of its {len(times)} frames are damaged")
    facts = _facts(video, times, seen)
    declared, own = _declared(video)
    if facts["duration_s"] < SHORT * declared - 0.5 and (own or _last_packet(video) < SHORT * declared - 0.5):
        raise Refused(f"it is cut short: {facts['duration_s']:.2f} s can be read of the {declared:.2f} s it declares")
    return facts | {"declared_s": round(declared, 6) if own else 0.0}


def _facts(video: Video, times: Sequence[float], seen: Seen) -> dict[str, Any]:
    container, context = video.container, video.stream.codec_context
    steps = np.diff(times)
    typical = float(np.median(steps)) if len(steps) else 1 / video.rate
    fps = 1 / typical if len(steps) and typical > 0 else video.rate
    variable = bool(len(steps)) and bool((np.abs(steps - typical) > max(0.1 * typical, 0.0021)).mean() > 0.01)
    end = times[-1] + typical
    size = Path(video.path).stat().st_size
    return {
        "container": container.format.name,
        "codec": context.name,
        "duration_s": round(end, 6),
        "end_s": end,
        "frames": len(times),
        "fps": round(len(steps) / (times[-1] - times[0]) if len(steps) and variable else fps, 4),
        "variable_fps": variable,
        "rotation": seen.rotation,
        "pixel_format": video.decoder.pix_fmt or context.pix_fmt,
        "interlaced": seen.interlaced > len(times) / 2,
        "hdr": int(context.color_trc) in HDR,
        "bit_rate": int(container.bit_rate or 0) or (round(8 * size / end) if end > 0 else None),
        "audio": len(container.streams.audio) > 0,
        "file_bytes": size,
        "width": seen.size[0],
        "height": seen.size[1],
        "original_width": context.width,
        "original_height": context.height,
    }


def _declared(video: Video) -> tuple[float, bool]:
    """Seconds that the file promises, 0 where it does not say; and whether of this stream, not of all together."""
    stream = video.stream
    if stream.duration:
        return float(stream.duration * stream.time_base), True
    hours, _, rest = str(stream.metadata.get("DURATION", "")).partition(":")  # Matroska: until when the stream lasts
    minutes, _, seconds = rest.partition(":")
    try:
        return max(0.0, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - video.start), True
    except ValueError:
        return (video.container.duration or 0) / 1e6, len(video.container.streams) == 1


def _last_packet(video: Video) -> float:
    """Where the file's last packet of any stream ends, s: sound may go on when the pictures are over."""
    with open_container(video.path) as again:
        ends = (
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in again.demux()
            if packet.pts is not None and packet.time_base
        )
        return max(ends, default=0.0) - max(0.0, (again.start_time or 0) / 1e6)
