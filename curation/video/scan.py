"""One pass over a whole video: what it is, where its shots are, which clips it gives. Memory does not grow with it
but for a few bytes a frame."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from curation.media.decode import Refused
from curation.video.clips import ClipRules, Piece, pieces
from curation.video.container import Video, frames, open_video, rgb_of, upright_size
from curation.video.shots import open_detector

BLACK, STILL = 20, 0.35
"""Luma (0-255) that all of a black frame stays below; mean absolute difference of still frames at 64x36."""
CORRUPT = 0.02
SHORT = 0.9


def scan(path: str, method: str, threshold: float | None, rules: ClipRules, max_pixels: int,
         alive: Callable[[], None]) -> dict[str, Any]:  # fmt: skip
    """`probe` (a mapping) and `pieces` (rows of start_frame, end_frame, start_s, end_s, reason, shot).

    Raises Refused for what cannot be decoded to its end.
    """
    with open_video(path, max_pixels) as video:
        times: list[float] = []
        black: list[bool] = []
        still: list[bool] = []
        detector = open_detector(method, threshold, video.rate)
        last, corrupt, upright, rotation = None, 0, video.size, 0
        for time, frame in frames(video):
            if times and time <= times[-1]:
                time = times[-1] + 1e-6  # a timestamp that stands still or goes back
            if not times:
                upright, rotation = upright_size(frame, video.size), int(getattr(frame, "rotation", 0) or 0)
            times.append(time)
            corrupt += bool(frame.is_corrupt)
            small = frame.to_ndarray(format="rgb24", width=detector.size[0], height=detector.size[1],
                                     interpolation="AREA")  # fmt: skip
            detector.feed(small)
            grey = cv2.resize(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (64, 36), interpolation=cv2.INTER_AREA)
            black.append(int(grey.max()) < BLACK)
            still.append(last is not None and float(cv2.absdiff(grey, last).mean()) < STILL)
            last = grey
            alive()
        probe = _probe(video, times, upright, rotation)
        _check(probe, times, corrupt)
        stamps = np.array([*times, probe["end_s"]])
        cuts = [(cut.start, cut.end) for cut in detector.finish()]
        made = pieces(stamps, cuts, np.array(black), np.array(still), rules)
    return {"probe": probe, "pieces": [_row(piece, stamps) for piece in made]}


def _row(piece: Piece, stamps: Any) -> dict[str, Any]:
    return {
        "start_frame": piece.start,
        "end_frame": piece.end,
        "start_s": round(float(stamps[piece.start]), 6),
        "end_s": round(float(stamps[piece.end]), 6),
        "reason": piece.reason,
        "shot": piece.shot,
    }


def _probe(video: Video, times: list[float], upright: tuple[int, int], rotation: int) -> dict[str, Any]:
    container, stream = video.container, video.stream
    steps = np.diff(times)
    typical = float(np.median(steps)) if len(steps) else 1 / video.rate
    declared = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if not declared and container.duration:
        declared = container.duration / 1e6
    fps = 1 / typical if len(steps) and typical > 0 else video.rate
    variable = bool(len(steps)) and bool((np.abs(steps - typical) > max(0.1 * typical, 0.0021)).mean() > 0.01)
    return {
        "container": container.format.name,
        "codec": stream.codec_context.name,
        "duration_s": round(times[-1] + typical, 6) if times else 0.0,
        "declared_s": round(declared, 6),
        "end_s": times[-1] + typical if times else 0.0,
        "frames": len(times),
        "fps": round(len(steps) / (times[-1] - times[0]) if len(steps) and variable else fps, 4),
        "variable_fps": variable,
        "rotation": rotation,
        "pixel_format": stream.codec_context.pix_fmt,
        "bit_rate": int(container.bit_rate or 0) or None,
        "audio": len(container.streams.audio) > 0,
        "width": upright[0],
        "height": upright[1],
        "original_width": stream.codec_context.width,
        "original_height": stream.codec_context.height,
    }


def _check(probe: dict[str, Any], times: list[float], corrupt: int) -> None:
    if not times:
        raise Refused("it has no frame that can be decoded")
    if corrupt > max(1, CORRUPT * len(times)):
        raise Refused(f"{corrupt} of its {len(times)} frames are damaged")
    if probe["duration_s"] < SHORT * probe["declared_s"] - 0.5:
        raise Refused(
            f"it is cut short: {probe['duration_s']:.2f} s can be read of the {probe['declared_s']:.2f} s it declares"
        )


def sample(path: str, start_s: float, end_s: float, count: int, longest: int, max_pixels: int,
           alive: Callable[[], None]) -> tuple[dict[str, Any], list[Any]]:  # fmt: skip
    """`count` frames spread over a clip, and with each its successor, small: (header, [frame, ..., pair, ...]).

    Arrays uint8 [H, W, 3]; pairs are 256 px wide at most and come as first, next, first, next ...
    """
    wanted = [start_s + (end_s - start_s) * (i + 0.5) / count for i in range(count)]
    taken: list[Any] = []
    pairs: list[Any] = []
    at: list[float] = []
    with open_video(path, max_pixels) as video:
        previous: tuple[float, Any] | None = None
        for time, frame in frames(video, start_s):
            # the frame on show at a wanted time is the last one that began before it
            while wanted and previous is not None and time > wanted[0] + 1e-6:
                wanted.pop(0)
                if not at or at[-1] != previous[0]:
                    at.append(previous[0])
                    taken.append(rgb_of(previous[1], video.size, longest))
                    pairs += [rgb_of(previous[1], video.size, 256), rgb_of(frame, video.size, 256)]
            if time >= end_s - 1e-6 or not wanted:
                break
            previous = (time, frame)
            alive()
        if wanted and previous is not None:
            at.append(previous[0])
            taken.append(rgb_of(previous[1], video.size, longest))
    if not taken:
        raise Refused(f"no frame can be decoded between {start_s:.2f} s and {end_s:.2f} s")
    return {"times": [round(t, 6) for t in at], "frames": len(taken)}, [*taken, *pairs]
