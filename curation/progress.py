"""A calm line per phase: live in a terminal, one line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from curation.terminal import Terminal

EVERY_S = 5.0


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class PhaseProgress:
    """Counts records of one phase; shows rate and time left.

    total  how many records will come, None where that is not known cheaply
    exact  whether the total was counted; otherwise it is an estimate, and is called one
    """

    def __init__(self, phase: str, total: int | None, console: Console, exact: bool = True) -> None:
        self.phase, self.total, self.console, self.exact = phase, total, console, exact
        self.done = 0
        self.started = self._said = time.monotonic()
        self._live: Progress | None = None
        self._note: Callable[[], str] | None = None

    def __enter__(self) -> "PhaseProgress":
        if self.console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description:<7}"),
                BarColumn(bar_width=32),
                MofNCompleteColumn(separator="/" if self.exact else " of about "),
                TextColumn("{task.fields[rate]:>8}/s"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
                transient=False,
            )
            self._task = self._live.add_task(self.phase, total=self.total, rate="-", note="")
            self._live.start()
        return self

    def note(self, text: Callable[[], str] | None) -> None:
        """What stands at the end of the line; asked for when the line is shown."""
        self._note = text

    def advance(self, records: int) -> None:
        """Count finished records and show them, not more often than a reader wants."""
        self.done += records
        if self._live:
            now = time.monotonic()
            if self._note and now - self._said >= EVERY_S:
                self._said = now
                self._live.update(self._task, note=self._note())
            self._live.update(self._task, advance=records, rate=f"{self.rate:.1f}")
        elif time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            self.console.print(self.line(), highlight=False)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        return self.done / max(self.seconds, 1e-9)

    def line(self) -> str:
        """`score    1,200 of 5,000 records   96.1/s   40 s left`."""
        of = f" of {'' if self.exact else 'about '}{self.total:,}" if self.total else ""
        left = (
            f"   {(self.total - self.done) / self.rate:,.0f} s left"
            if self.total and self.done and self.total > self.done
            else ""
        )
        note = f"   {self._note()}" if self._note else ""
        return f"{self.phase:<7} {self.done:,}{of} records   {self.rate:,.1f}/s{left}{note}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        elif kind is None:
            self.console.print(f"{self.phase:<7} {self.done:,} records in {self.seconds:,.1f} s", highlight=False)


def console() -> Console:
    """Where progress and the funnel go; pipes get plain lines of a stable width."""
    return Terminal(width=None if sys.stdout.isatty() else 110, highlight=False)
