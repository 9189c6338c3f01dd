"""The most memory that this process held at once, phase by phase."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"
"""What Linux takes as the order to begin anew with the peak (`man proc_pid_clear_refs`)."""

_outer: list[float] = []
"""The peaks so far of phases that are open, the innermost last: a phase inside another begins anew for both."""


@contextmanager
def peak_noted(into: dict[str, dict[str, Any]], phase: str) -> Iterator[None]:
    """Note the peak of what runs inside, in MB, with a phase that `into` has at the end; of several times the highest.

    Where the system cannot begin anew with the peak, it is that of the process until then.
    """
    before = into.get(phase, {}).get("peak_memory_mb", 0)
    if _outer:
        _outer[-1] = max(_outer[-1], peak_mb())
    _outer.append(0.0)
    with suppress(OSError):
        _CLEAR.write_text(_FORGET_PEAK)
    try:
        yield
    finally:
        peak = max(_outer.pop(), peak_mb())
    if _outer:
        _outer[-1] = max(_outer[-1], peak)
    if phase in into:
        into[phase]["peak_memory_mb"] = max(before, round(peak))


def peak_mb() -> float:
    """Of this process, since it began or since `peak_noted` did."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
