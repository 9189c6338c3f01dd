"""One pass over a whole video: what it is, where its shots are, which clips it gives. Memory does not grow with it
but for a few bytes a frame."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from curation.media.decode import Refused
from curation.video.clips import ClipRules, Piece, pieces, shots_of
from curation.video.container import Engine, frames, open_video, rgb_of, values_of
from curation.video.given import given_pieces
from curation.video.probe import Seen, probe
from curation.video.shots import open_detector

BLACK, STILL = 20, 0.35
"""Luma (0-255) that all of a black frame stays below; mean absolute difference of still frames at 64x36."""
BEFORE, BEHIND = "before the first frame that can be decoded", "behind the last frame, though the file declares it"
LEAST_GAP = 0.001


def scan(path: str, method: str, threshold: float | None, rules: ClipRules, max_pixels: int,
         alive: Callable[[], None], given: Sequence[tuple[float, float]] | None = None,
         engine: Engine = "pyav") -> dict[str, Any]:  # fmt: skip
    """What a video is and what becomes of each of its seconds. `given`: spans in seconds that are the clips.

    probe    a mapping, see `curation.video.probe`
    pieces   rows of start_frame, end_frame, start_s, end_s, reason, shot, given
    cuts     [frame, frame after, s, s after] of each shot boundary; a hard cut has twice the same
    shots    [start_frame, end_frame, start_s, end_s] of each shot

    Raises Refused for what cannot be decoded to its end.
    """
    with open_video(path, max_pixels, engine) as video:
        times: list[float] = []
        black: list[bool] = []
        still: list[bool] = []
        detector = open_detector(method, threshold, video.rate)
        last, seen = None, Seen()
        for time, frame in frames(video):
            if times and time <= times[-1]:
                time = times[-1] + 1e-6  # a timestamp that stands still or goes back
            times.append(time)
            seen.add(frame, video)
            small = values_of(frame, *detector.size, "AREA")
            detector.feed(small)
            grey = cv2.resize(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (64, 36), interpolation=cv2.INTER_AREA)
            black.append(int(grey.max()) < BLACK)
            still.append(last is not None and float(cv2.absdiff(grey, last).mean()) < STILL)
            last = grey
            alive()
        facts = probe(video, times, seen)
    stamps = np.array([*times, facts["end_s"]])
    cuts = [(cut.start, cut.end) for cut in detector.finish()]
    shots, fades = shots_of(len(times), cuts)
    if given is None:
        made = pieces(stamps, cuts, np.array(black), np.array(still), rules)
    else:
        made = given_pieces(stamps, given, shots, rules)
    rows = [_row(piece, stamps) for piece in made]
    hard = [(start, start) for (_, end), (start, _) in pairwise(shots) if end == start]
    bounds = sorted([*hard, *((start, end) for start, end, _ in fades)])
    return {
        "probe": facts,
        "pieces": [
            *_nothing(0.0, times[0], 0, BEFORE),
            *rows,
            *_nothing(facts["end_s"], facts["declared_s"], len(times), BEHIND),
        ],
        "cuts": [[*span, *_seconds(span, stamps)] for span in bounds],
        "shots": [[*span, *_seconds(span, stamps)] for span in shots],
    }


def _seconds(span: tuple[int, int], stamps: Any) -> list[float]:
    return [round(float(stamps[frame]), 6) for frame in span]


def _row(piece: Piece, stamps: Any) -> dict[str, Any]:
    start_s, end_s = _seconds((piece.start, piece.end), stamps)
    return {
        "start_frame": piece.start,
        "end_frame": piece.end,
        "start_s": start_s,
        "end_s": end_s,
        "reason": piece.reason,
        "shot": piece.shot,
        "given": piece.given,
    }


def _nothing(start_s: float, end_s: float, frame: int, reason: str) -> list[dict[str, Any]]:
    """Seconds in which there is no frame."""
    if end_s - start_s < LEAST_GAP:
        return []
    span = {"start_frame": frame, "end_frame": frame, "start_s": round(start_s, 6), "end_s": round(end_s, 6)}
    return [span | {"reason": reason, "shot": 0, "given": None}]


def sample(path: str, start_s: float, end_s: float, count: int, longest: int, max_pixels: int,
           alive: Callable[[], None], engine: Engine = "pyav") -> tuple[dict[str, Any], list[Any]]:  # fmt: skip
    """`count` frames spread over a clip, and with each its successor, small: (header, [frame, ..., pair, ...]).

    Arrays uint8 [H, W, 3]; pairs are 256 px wide at most and come as first, next, first, next ...
    """
    wanted = [start_s + (end_s - start_s) * (i + 0.5) / count for i in range(count)]
    taken: list[Any] = []
    pairs: list[Any] = []
    at: list[float] = []
    with open_video(path, max_pixels, engine) as video:
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
