"""Clips that the source names itself (`source: {clips: COLUMN}`), held against the video that they are spans of."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.video.clips import ClipRules, Piece, runs

LATE = 1e-3
"""s: spans are often written to the millisecond, which rounds a frame's time up or down."""
OUTSIDE, REFUSED, CLIP = 0, 1, 2
BEYOND = 0.1
"""s that a span may end behind the video's end, where durations were rounded."""


def given_pieces(
    times: NDArray[np.float64],
    spans: Sequence[tuple[float, float]],
    shots: Sequence[tuple[int, int]],
    rules: ClipRules,
    changes: Sequence[int] = (),
) -> list[Piece]:
    """One piece a span, in the order of the spans, then every frame that is in none of those that are clips.

    times   [N + 1], seconds of each frame, then the video's end
    spans   (start, end) in seconds: a clip has the frames that begin in it
    shots   [start, end) in frames; a clip belongs to the one that it begins in
    rules   min_s and max_s bound a span as they do a shot
    changes frames from which on the stream has another size
    """
    count = len(times) - 1
    state = np.zeros(count, np.int8)
    out = []
    for number, span in enumerate(spans):
        start, end = (int(np.searchsorted(times[:count], second - LATE)) for second in span)
        fault = _fault(span, start, end, float(times[-1]), rules)
        if fault is None and any(start < frame < end for frame in changes):
            fault = "the frames change their size in it"
        out.append(Piece(start, end, fault, _shot(shots, start), number))
        state[start:end] = np.maximum(state[start:end], REFUSED if fault else CLIP)
    reasons = {OUTSIDE: "outside the given clips", REFUSED: "in a given clip that cannot be one"}
    rest = [(start, end, reasons[value]) for start, end, value in runs(state, 0, count) if value != CLIP]
    return out + [Piece(start, end, reason, _shot(shots, start)) for start, end, reason in rest]


def _fault(span: tuple[float, float], start: int, end: int, finish: float, rules: ClipRules) -> str | None:
    length = min(span[1], finish) - span[0]
    if span[1] > finish + BEYOND:
        return f"the video ends at {finish:.2f} s"
    if length < rules.min_s - LATE:
        return f"shorter than {rules.min_s:g} s"
    if length > rules.max_s + LATE:
        return f"longer than {rules.max_s:g} s"
    return None if end > start else "no frame begins in it"


def _shot(shots: Sequence[tuple[int, int]], frame: int) -> int:
    return max(0, sum(start <= frame for start, _ in shots) - 1)
