"""The frame rate of a video, found from the timestamps of its frames.

Containers round timestamps: Matroska, WebM and FLV to whole milliseconds, MOV often to 1/600 s. Steps between frames of
30 frames/s are then 33 and 34 ms, and neither their median nor a timestamp is exact. The frames of most videos lie on a
grid of one constant rate, from which a few may be missing; here the grid is found, and times are moved onto it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

NTSC = tuple(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120))
_WHOLE = (5, 6, 8, 10, 12, 15, 16, 18, 20, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 240)
WHOLE = tuple(Fraction(rate) for rate in _WHOLE)
SAME = 2e-4
"""A declared rate that is so near to a standard one means that: 29.97 or 983/41 as files write 24000/1001."""
NEAR = 0.02
"""A standard rate is tried where it is within 2 % of the measured one."""
ROUNDED = 1.02
"""Ticks of the time base by which rounded timestamps may lie apart from their grid."""
CLOCK_S = 2e-6
"""More of that: seconds were floats on their way."""
JITTER = 0.5
"""Of a step: what an unsteady clock, such as a phone's, may move frames by, from the earliest to the latest."""
MOST_DENOMINATOR = 1001
STEADY = 0.99
"""Share of steps of one frame from which a rate counts as constant."""


@dataclass(frozen=True)
class Grid:
    """Frames at times[0] + places / rate.

    places  whole numbers, int64 [N], the first 0; a step of 2 means that a frame is missing
    """

    rate: Fraction
    places: NDArray[np.int64]

    @property
    def constant(self) -> bool:
        """Whether hardly a frame is missing."""
        steps = np.diff(self.places)
        return bool((steps == 1).mean() >= STEADY) if len(steps) else True

    def times(self, first: float) -> NDArray[np.float64]:
        """Exact seconds of every frame, where the first one's is `first`."""
        return np.asarray(first + self.places * (self.rate.denominator / self.rate.numerator), np.float64)


def find_grid(times: NDArray[np.float64], tick: float, declared: Iterable[Fraction] = ()) -> Grid | None:
    """The grid on which frames lie, None where they lie on none.

    times     seconds of each frame, ascending
    tick      seconds of one unit of the container's time base: timestamps are rounded to it
    declared  rates that the file names, the likeliest first; each is believed only if all timestamps agree with it

    Of the rates that agree to within the rounding, a declared one is taken first, then a standard one, then the
    simplest fraction near the mean. Where none does, the standard or declared rate to which unsteady timestamps lie
    closest, if all lie within a quarter of a step.
    """
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    rates = _candidates(times, list(declared))
    grids = [grid for rate in rates if (grid := _places(times, rate)) is not None]
    spreads = [_spread(times, grid) for grid in grids]
    rounded = ROUNDED * tick + CLOCK_S
    for grid, spread in zip(grids, spreads, strict=True):
        if spread <= rounded:
            return grid
    unsteady = [(grid, s) for grid, s in zip(grids, spreads, strict=True) if s <= JITTER / float(grid.rate)]
    closest = min((spread for _, spread in unsteady), default=0.0)
    return next((grid for grid, spread in unsteady if spread <= closest + rounded), None)


def _candidates(times: NDArray[np.float64], declared: list[Fraction]) -> list[Fraction]:
    """Rates to try, the likeliest first, each once."""
    mean = (len(times) - 1) / float(times[-1] - times[0])
    typical = 1 / max(float(np.median(np.diff(times))), 1e-6)
    near = [rate for rate in (*NTSC, *WHOLE) if min(abs(float(rate) / m - 1) for m in (mean, typical)) < NEAR]
    near.sort(key=lambda rate: abs(float(rate) / mean - 1))
    simple = [Fraction(mean).limit_denominator(limit) for limit in (1, 2, 10, 100, MOST_DENOMINATOR)]
    named = [next((exact for exact in (*NTSC, *WHOLE) if abs(rate / exact - 1) < SAME), rate) for rate in declared]
    rates = [rate for rate in (*named, *near, *simple) if 0.1 < rate < 1000]
    return list(dict.fromkeys(rates))


def _places(times: NDArray[np.float64], rate: Fraction) -> Grid | None:
    """Each frame's nearest place; None where two frames share one, or most steps are longer than one."""
    places = np.rint((times - times[0]) * float(rate)).astype(np.int64)
    steps = np.diff(places)
    if steps.min() < 1 or np.median(steps) > 1:
        return None
    return Grid(rate, places)


def _spread(times: NDArray[np.float64], grid: Grid) -> float:
    """Seconds from the earliest to the latest deviation of a frame from its place."""
    away = times - grid.times(float(times[0]))
    return float(away.max() - away.min())


def on_grid(frames: Iterator[tuple[float, Any]], origin: float, rate: Fraction | None) -> Iterator[tuple[float, Any]]:
    """(time, frame) with times moved to the nearest place of a grid through `origin`; as they are without a rate."""
    if rate is None:
        yield from frames
        return
    step = rate.denominator / rate.numerator
    for time, frame in frames:
        yield origin + round((time - origin) / step) * step, frame


def standard(fps: float) -> float:
    """A rate as people write it: 23.976, 23.98, 29.97 or 59.94 stand for 24000/1001, 30000/1001 and 60000/1001."""
    for rate in NTSC:
        exact = float(rate)
        if fps != round(fps) and any(fps == round(exact, digits) for digits in (2, 3, 4, 5, 6)):
            return exact
    return fps


def declared_rates(stream: Any) -> Sequence[Fraction]:
    """What a PyAV stream says: its average rate, and the rate that all its timestamps can be written in."""
    return [rate for rate in (stream.average_rate, stream.base_rate, stream.guessed_rate) if rate]
