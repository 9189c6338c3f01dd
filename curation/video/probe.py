"""What a video file says of itself, held against what was decoded of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curation.media.decode import Refused
from curation.video.container import Video, open_container
from curation.video.rates import declared_rates, find_grid

HDR = (16, 18)
"""Transfer characteristics (ISO 23091-2) of PQ and HLG."""
CORRUPT = 0.02
SHORT = 0.9


@dataclass
class Seen:
    """What is noted of the frames while they pass: the turn of the first, how many are damaged or interlaced, and from
    which frame on they have which size."""

    rotation: int = 0
    count: int = 0
    corrupt: int = 0
    interlaced: int = 0
    sizes: "list[Size]" = field(default_factory=list)

    def add(self, frame: Any, video: Video) -> None:
        if not self.count:
            self.rotation = -int(frame.rotation) % 360
        stored, size = (frame.width, frame.height), video.size_of(frame)
        size = size[::-1] if video.turn_of(frame)[0] else size
        if not self.sizes or self.sizes[-1][1:] != (stored, size):
            self.sizes.append((self.count, stored, size))
        self.count += 1
        self.corrupt += bool(frame.is_corrupt)
        self.interlaced += bool(frame.interlaced_frame)


Size = tuple[int, tuple[int, int], tuple[int, int]]
"""First frame, stored (width, height), and upright in square pixels."""


def size_facts(size: Size) -> dict[str, int]:
    """The columns of a size."""
    _, (stored_width, stored_height), (width, height) = size
    return {"width": width, "height": height, "original_width": stored_width, "original_height": stored_height}


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
    grid = find_grid(np.asarray(times), float(video.stream.time_base), declared_rates(video.stream))
    if grid is not None:
        typical, variable = 1 / float(grid.rate), not grid.constant
        end = float(grid.times(times[0])[-1]) + typical
    else:
        typical, variable = (float(np.median(steps)) if len(steps) else 1 / video.rate), bool(len(steps))
        end = times[-1] + typical
    fps = len(steps) / (times[-1] - times[0]) if variable and times[-1] > times[0] else 1 / typical
    size = Path(video.path).stat().st_size
    return {
        "container": container.format.name,
        "codec": context.name,
        "duration_s": round(end, 6),
        "end_s": end,
        "frames": len(times),
        "fps": round(fps, 3),
        "fps_fraction": None if grid is None else str(grid.rate),
        "variable_fps": variable,
        "rotation": seen.rotation,
        "pixel_format": video.decoder.pix_fmt or context.pix_fmt,
        "interlaced": seen.interlaced > len(times) / 2,
        "hdr": int(context.color_trc) in HDR,
        "bit_rate": int(container.bit_rate or 0) or (round(8 * size / end) if end > 0 else None),
        "audio": len(container.streams.audio) > 0,
        "file_bytes": size,
        **size_facts(seen.sizes[0]),
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
