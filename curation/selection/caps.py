"""At most so many records for each value of a column.

Caps meet what duplicates left. Where a cap takes the best of some duplicates, the others are asked anew: the next best
that every cap has room for stays in its place, and only where none has is the whole group gone. A cap keeps the best of
all that were ever offered to it (as in Gale and Shapley's deferred acceptance): what it once refused has no place later
either, the order of asking changes nothing, and a few rounds settle all.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.manifest import CapSection
from curation.selection.decisions import Decisions
from curation.selection.table import Scores, codes_of

Ints = NDArray[np.int64]


def drop_over_cap(scores: Scores, decisions: Decisions, cap: CapSection) -> None:
    """Of the records that share a value only the best stay; those without one share nothing, and all stay."""
    rows, starts = _grouped(scores, cap, decisions.alive())
    _drop(decisions, cap, rows, np.arange(len(rows)) - starts + 1)


def drop_without_room(
    scores: Scores, decisions: Decisions, caps: Sequence[CapSection], settled: NDArray[np.bool_]
) -> None:
    """Drop records (alive, not yet `settled`) that a cap has no room for: settled ones that are better fill it."""
    for cap in caps:
        rows, starts = _grouped(scores, cap, decisions.alive())
        before = np.concatenate([[0], np.cumsum(settled[rows])])
        place = before[:-1] - before[starts] + 1  # among the settled ones
        _drop(decisions, cap, rows[~settled[rows]], place[~settled[rows]])


def _grouped(scores: Scores, cap: CapSection, rows: Ints) -> tuple[Ints, Ints]:
    """Those of `rows` that have a value, by values, best first; and for each where its value's begin."""
    codes = codes_of(scores[cap.by])
    order = scores.ranked(cap.prefer, rows[codes[rows] >= 0])
    grouped = order[np.argsort(codes[order], kind="stable")]
    starts = np.flatnonzero(np.diff(codes[grouped], prepend=-2))
    return grouped, np.repeat(starts, np.diff(starts, append=len(grouped)))


def _drop(decisions: Decisions, cap: CapSection, rows: Ints, place: Ints) -> None:
    over = place > cap.most
    decisions.drop(rows[over], "caps", f"{cap.by}: more than {cap.most}", place[over].astype(np.float64), cap.most)
