"""Which engine suits a run: processes of this machine for small work, Ray where its start is worth it."""

import os
from dataclasses import dataclass
from pathlib import Path

from curation.engine.layout import Node, lay_out
from curation.progress import duration

RAY_PAYS_S = 600.0
"""From so many seconds of work on this machine on, Ray's start of about 10 s does not matter."""


@dataclass(frozen=True)
class Choice:
    """The engine, how many processes it has without Ray, and the reason, as a line for the terminal."""

    kind: str
    processes: int
    line: str


RAY, INLINE = Choice("ray", 1, ""), Choice("inline", 1, "")
GIVEN = {"ray": RAY, "inline": INLINE}
"""By the words that a user may say; all others are chosen."""


def choose(seconds: float | None, chunks: int, memory_mb: float, wanted: int | None = None) -> Choice:
    """For a run on this machine alone.

    seconds    about how long the work takes one core; None where that is not known
    chunks     about how many parts there are that processes can take
    memory_mb  of one process
    wanted     how many the manifest asks for
    """
    if seconds is None:
        return Choice("ray", 1, "Ray on this machine: how much there is to do is not known beforehand")
    fitting = lay_out([Node(cores(), 0, available_mb())], wanted, memory_mb).workers
    here = seconds / fitting
    if here >= RAY_PAYS_S:
        return Choice("ray", 1, f"Ray on this machine, for at most about {duration(here)} of work")
    processes = max(1, min(fitting, chunks))
    workers = "this process" if processes == 1 else f"{processes} processes"
    return Choice(
        "inline", processes, f"{workers} without Ray, for at most about {duration(seconds / processes)} of work"
    )


def cores() -> float:
    """CPUs that this process may use."""
    return float(len(os.sched_getaffinity(0)))


def available_mb() -> float | None:
    """Memory that this machine has left; None where it does not say so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")), None)
