"""Clips that the source names itself (`source: {clips: COLUMN}`), held against the video that they are spans of."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.video.clips import ClipRules, Piece, runs

LATE = 1e-3
"""s: spans are often written to the millisecond, which rounds a frame's time up or down."""
BEYOND = 0.1
"""s that a span may end behind the video's end, where durations were rounded."""


def given_pieces(
    times: NDArray[np.float64],
    spans: Sequence[tuple[float, float]],
    shots: Sequence[tuple[int, int]],
    rules: ClipRules,
) -> list[Piece]:
    """One piece a span, in the order of the spans, then what no span holds: every frame is in some piece.

    times   [N + 1], seconds of each frame, then the video's end
    spans   (start, end) in seconds: a clip has the frames that begin in it
    shots   [start, end) in frames; a clip belongs to the one that it begins in
    rules   min_s and max_s bound a span as they do a shot
    """
    count = len(times) - 1
    named = np.zeros(count, bool)
    out = []
    for number, span in enumerate(spans):
        start, end = (int(np.searchsorted(times[:count], second - LATE)) for second in span)
        out.append(Piece(start, end, _fault(span, start, end, float(times[-1]), rules), _shot(shots, start), number))
        named[start:end] = True
    rest = [(start, end) for start, end, inside in runs(named, 0, count) if not inside]
    return out + [Piece(start, end, "outside the given clips", _shot(shots, start)) for start, end in rest]


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
