"""One pass over a whole video: what it is, where its shots are, which clips it gives. Memory does not grow with it
but for a few bytes a frame."""

import contextlib
from array import array
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from curation.media.decode import Refused
from curation.video.clips import ClipRules, Piece, pieces, shots_of, with_hard_cuts
from curation.video.container import THREADS, Engine, frames, open_video, values_of
from curation.video.given import given_pieces
from curation.video.looks import Looks
from curation.video.probe import Seen, Size, probe, size_facts
from curation.video.shots import Predict, open_detector

BEFORE, BEHIND = "before the first frame that can be decoded", "behind the last frame, though the file declares it"
LEAST_GAP = 0.001


def scan(path: str, method: str, threshold: float | None, rules: ClipRules, max_pixels: int,
         alive: Callable[[], None], given: Sequence[tuple[float, float]] | None = None,
         engine: Engine = "pyav", predict: Predict | None = None) -> dict[str, Any]:  # fmt: skip
    """What a video is and what becomes of each of its seconds. `given`: spans in seconds that are the clips.
    `predict`: TransNetV2 elsewhere, see `curation.video.shots`.

    probe    a mapping, see `curation.video.probe`
    pieces   rows of start_frame, end_frame, start_s, end_s, reason, shot, given, and the size of the first frame
    cuts     [frame, frame after, s, s after] of each shot boundary; a hard cut has twice the same
    shots    [start_frame, end_frame, start_s, end_s] of each shot

    Raises Refused for what cannot be decoded to its end.
    """
    if engine == "pyav" and THREADS > 1:
        with contextlib.suppress(Refused, Damaged):
            return _scan(path, method, threshold, rules, max_pixels, alive, given, engine, predict, THREADS)
    return _scan(path, method, threshold, rules, max_pixels, alive, given, engine, predict, 1)


class Damaged(Exception):
    """A frame is damaged: one thread has to begin again, since what several make of it may differ."""


def _scan(path: str, method: str, threshold: float | None, rules: ClipRules, max_pixels: int,
          alive: Callable[[], None], given: Sequence[tuple[float, float]] | None,
          engine: Engine, predict: Predict | None, threads: int) -> dict[str, Any]:  # fmt: skip
    with open_video(path, max_pixels, engine, threads) as video:
        times, looks, seen = array("d"), Looks(), Seen()
        detector = open_detector(method, threshold, video.rate, predict)
        for time, frame in frames(video):
            if times and time <= times[-1]:
                time = times[-1] + 1e-6  # a timestamp that stands still or goes back
            times.append(time)
            seen.add(frame, video)
            if seen.corrupt and threads > 1:
                raise Damaged
            small = values_of(frame, *detector.size, "AREA")
            detector.feed(small)
            looks.add(small)
            alive()
        facts = probe(video, times, seen)
    exact = np.asarray(times)
    if facts["fps_fraction"]:
        rate = Fraction(facts["fps_fraction"])
        exact = exact[0] + np.rint((exact - exact[0]) * float(rate)) * (rate.denominator / rate.numerator)
    stamps = np.append(exact, facts["end_s"])
    changes = [first for first, _, _ in seen.sizes[1:]]
    cuts = with_hard_cuts([(cut.start, cut.end) for cut in detector.finish()], changes)
    shots, fades = shots_of(len(times), cuts)
    if given is None:
        made = pieces(stamps, cuts, looks.black, looks.still, rules)
    else:
        made = given_pieces(stamps, given, shots, rules, changes)
    rows = [_row(piece, stamps) | size_facts(_size_at(seen, piece.start)) for piece in made]
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


def _size_at(seen: Seen, frame: int) -> Size:
    """The size of a frame."""
    return next(size for size in reversed(seen.sizes) if size[0] <= frame)


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
