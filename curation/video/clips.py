"""Cuts and still frames -> clips, and for every other second the reason why it is in none. Pure arithmetic on times."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLIDES = 3
"""So many still shots in a row are a slideshow."""
EPSILON = 1e-6


@dataclass(frozen=True)
class ClipRules:
    """How shots become clips, in seconds.

    min_s, max_s   shorter pieces are left out, longer shots are cut into windows
    window_s       length of the windows inside a shot longer than it, at most max_s; None for max_s
    stride_s       from one window's start to the next; None for the window's length
    """

    min_s: float = 2.0
    max_s: float = 60.0
    window_s: float | None = None
    stride_s: float | None = None
    keep_static: bool = False


@dataclass(frozen=True)
class Piece:
    """Frames [start, end); `reason` None for a clip, otherwise why it is none; `shot` counts from 0; `given` is the
    number of the span in the source that it was made of."""

    start: int
    end: int
    reason: str | None = None
    shot: int = 0
    given: int | None = None


def pieces(
    times: NDArray[np.float64],
    cuts: Sequence[tuple[int, int]],
    black: NDArray[np.bool_],
    still: NDArray[np.bool_],
    rules: ClipRules,
) -> list[Piece]:
    """Clips and left-out pieces in order; every frame is in some piece.

    times   [N + 1], seconds of each frame, then the video's end
    cuts    (start, end) per cut: equal for a hard cut, otherwise the frames of a gradual transition
    black   [N], frames without a picture
    still   [N], frames that are the same as the one before
    """
    shots, fades = shots_of(len(black), cuts)
    out = [Piece(start, end, "gradual transition", number) for start, end, number in fades]
    slides = _slideshow([_is_still(still, shot) for shot in shots])
    for number, shot in enumerate(shots):
        for start, end, dark in runs(black, *shot):
            if dark:
                out.append(Piece(start, end, "black", number))
            elif not rules.keep_static and _is_still(still, (start, end)):
                out.append(Piece(start, end, "slideshow" if slides[number] else "static", number))
            else:
                out += _windows(times, start, end, number, rules)
    return sorted(out, key=lambda piece: (piece.start, piece.end))


def shots_of(count: int, cuts: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
    """The shots of `count` frames as spans [start, end), and the gradual transitions between them: start, end, and
    the number of the shot that follows. Together they hold every frame once."""
    shots, fades, at = [], [], 0
    for start, end in sorted(cuts):
        start, end = max(at, min(start, count)), min(max(start, end), count)
        if start > at:
            shots.append((at, start))
        if end > start:
            fades.append((start, end, len(shots)))
        at = max(at, end)
    if at < count:
        shots.append((at, count))
    return shots, fades


def with_hard_cuts(cuts: Sequence[tuple[int, int]], frames: Sequence[int]) -> list[tuple[int, int]]:
    """Cuts, and hard ones at `frames` (there the stream changes its size) in place of hard cuts a frame beside them.

    A gradual transition over such a frame ends there and goes on behind it.
    """
    out = [cut for cut in cuts if cut[0] < cut[1] or all(abs(cut[0] - frame) > 1 for frame in frames)]
    for frame in frames:
        parted = [span for start, end in out for span in _parted(start, end, frame)]
        out = [*parted, (frame, frame)]
    return sorted(out)


def _parted(start: int, end: int, at: int) -> list[tuple[int, int]]:
    return [(start, at), (at, end)] if start < at < end else [(start, end)]


def _is_still(still: NDArray[np.bool_], span: tuple[int, int]) -> bool:
    """The first frame of a shot differs from the one before it by being another shot's."""
    inner = still[span[0] + 1 : span[1]]
    return bool(len(inner)) and float(inner.mean()) > 0.95


def _slideshow(flags: list[bool]) -> list[bool]:
    out, at = [False] * len(flags), 0
    while at < len(flags):
        end = at
        while end < len(flags) and flags[end]:
            end += 1
        if end - at >= SLIDES:
            out[at:end] = [True] * (end - at)
        at = max(end, at + 1)
    return out


def runs(values: NDArray[Any], start: int, end: int) -> list[tuple[int, int, int]]:
    """Spans [start, end) of frames that have one value, and the value."""
    edges = [start, *(np.flatnonzero(np.diff(values[start:end])) + start + 1).tolist(), end]
    return [(a, b, int(values[a])) for a, b in pairwise(edges) if b > a]


def _windows(times: NDArray[np.float64], start: int, end: int, shot: int, rules: ClipRules) -> list[Piece]:
    """One clip, or windows where the piece is longer than they are; the rest is left out with its reason.

    No clip is longer than its window: it ends at the last frame's end that lies inside.
    """
    if times[end] - times[start] < rules.min_s - EPSILON:
        return [Piece(start, end, f"shorter than {rules.min_s:g} s", shot)]
    window = min(rules.window_s or rules.max_s, rules.max_s)
    stride = rules.stride_s or window
    out, at, covered = [], start, start
    while at < end:
        last = min(end, int(np.searchsorted(times, times[at] + window + EPSILON, "right")) - 1)
        if last == at:
            reason: str | None = f"one picture for longer than {window:g} s"
        elif times[last] - times[at] < rules.min_s - EPSILON:
            reason = f"the rest of a shot, shorter than {rules.min_s:g} s"
        else:
            reason = None
        last = max(last, at + 1)
        if at > covered:
            out.append(Piece(covered, at, "between two windows", shot))
        if reason is None:
            out.append(Piece(at, last, None, shot))
        elif last > covered:
            out.append(Piece(max(at, covered), last, reason, shot))
        covered = max(covered, last)
        if last >= end:
            break
        at = last if stride == window or reason else int(np.searchsorted(times, times[at] + stride - EPSILON))
    if covered < end:
        out.append(Piece(covered, end, f"the rest of a shot, shorter than {rules.min_s:g} s", shot))
    return out
