"""Gathers the requests of many workers into batches for the networks of one device.

Requests wait in a queue per network and signature. A queue is due when it fills a batch, or when its oldest row has
waited for `flush_s`, or for what its network says instead. Three threads take due batches: while one computes, the next
one is queued on the device behind it, and the one after that is copied together.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from curation.errors import CurationError, Unavailable
from curation.inference.network import DeviceFault, Row, Signature, Spec
from curation.inference.runner import Answer, Runner
from curation.stage import sentence

FLUSH_S = 0.005
RUNNERS = 3
SWITCH_S = 0.0005
ENOUGH = 2
"""Batches on the device: one that computes, and one behind it."""
HANG_S = 300.0
"""A batch that computes longer than this (loading and compiling apart) means that the device hangs."""


@dataclass
class Request:
    """Rows of one caller, and the answers that are there so far."""

    answers: list[Answer | None]
    left: int
    future: "Future[list[Answer]]" = field(default_factory=Future)

    def answer(self, place: int, answer: Answer) -> None:
        self.answers[place] = answer
        self.left -= 1
        if self.left == 0 and not self.future.done():
            self.future.set_result([each for each in self.answers if each is not None])


@dataclass(frozen=True)
class Waiting:
    """One row in a queue: whose it is, its place there, since when it waits."""

    request: Request
    place: int
    row: Row
    since: float


Key = tuple[Spec, Signature]


class Server:
    """The networks of one device, loaded when they are first asked for, and shared by all callers.

    on_fault  called once, from a thread of the server, when the device can no longer be used or hangs. A process of
              its own ends itself there. Afterwards every request fails with DeviceFault.
    """

    def __init__(
        self, on_fault: Callable[[str], None] | None = None, flush_s: float = FLUSH_S, hang_s: float = HANG_S
    ) -> None:
        self.flush_s, self.hang_s = flush_s, hang_s
        self._on_fault = on_fault or (lambda reason: None)
        self._queues: dict[Key, deque[Waiting]] = {}
        self._runners: dict[Spec, Runner] = {}
        self._loading: dict[Spec, threading.Lock] = {}
        self._changed = threading.Condition()
        self._broken: str | None = None
        self._closed = False
        self._computing: dict[int, float] = {}
        self._batches = 0
        self._started = time.perf_counter()
        self._idle_s = 0.0
        self._idle_since: float | None = self._started
        names = [f"model-batches-{i}" for i in range(RUNNERS)]
        # A thread that comes back from the device must not wait 5 ms, the default, for one that copies rows.
        sys.setswitchinterval(SWITCH_S)
        self._threads = [threading.Thread(target=self._serve, name=name, daemon=True) for name in names]
        self._threads.append(threading.Thread(target=self._watch, name="model-watch", daemon=True))
        for thread in self._threads:
            thread.start()

    def facts(self, spec: Spec) -> dict[str, Any]:
        """What the network's front must know. Loads the network. Raises CurationError, DeviceFault."""
        return dict(self._runner(spec).network.facts)

    def submit(self, spec: Spec, call: str, rows: Sequence[Row]) -> "Future[list[Answer]]":
        """Queue rows; the future gives an answer per row. It raises CurationError or DeviceFault."""
        request = Request([None] * len(rows), len(rows))
        if not rows:
            request.future.set_result([])
            return request.future
        try:
            runner = self._runner(spec)
            keys = [(spec, Signature.of(call, row)) for row in rows]
            with self._watched():
                for _, signature in dict.fromkeys(keys):
                    runner.sizes_of(signature)  # before the queue: trying the sizes takes a moment
        except (CurationError, DeviceFault) as error:
            self._check(error)
            request.future.set_exception(error)
            return request.future
        now = time.perf_counter()
        with self._changed:
            if reason := self._broken or ("the server is closed" if self._closed else None):
                request.future.set_exception(DeviceFault(reason))
                return request.future
            for place, (key, row) in enumerate(zip(keys, rows, strict=True)):
                self._queues.setdefault(key, deque()).append(Waiting(request, place, row, now))
            self._changed.notify_all()
        return request.future

    def run(self, spec: Spec, call: str, rows: Sequence[Row]) -> list[Answer]:
        """`submit`, and wait."""
        return self.submit(spec, call, rows).result()

    @property
    def broken(self) -> bool:
        """Whether the device can no longer be used."""
        return self._broken is not None

    @property
    def load(self) -> int:
        """Rows that wait or are being computed."""
        with self._changed:
            return sum(map(len, self._queues.values())) + len(self._computing)

    def report(self) -> dict[str, Any]:
        """Seconds since the start, seconds without any row to compute, and per network what it did."""
        with self._changed:
            idle = self._idle_s + (time.perf_counter() - self._idle_since if self._idle_since is not None else 0.0)
            runners = list(self._runners.items())
        networks = {}
        for spec, runner in runners:
            meter = runner.meter
            sizes = [each.largest for each in runner.sizes.values()]
            networks[runner.title] = {
                "device": spec.device,
                "precision": spec.precision,
                "rows": meter.rows,
                "batches": meter.batches,
                "padding": meter.padding,
                "seconds": meter.seconds,
                "halvings": meter.halvings,
                "largest_batch": max(sizes, default=0),
                "spread": max((each.spread for each in runner.sizes.values()), default=0.0),
                **{name: value for name, value in runner.network.facts.items() if name == "parity"},
            }
        return {"seconds": time.perf_counter() - self._started, "idle": idle, "networks": networks}

    def close(self) -> None:
        """Stop the threads; requests that wait fail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._fail_all("the server is closed")
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=5)

    def _runner(self, spec: Spec) -> Runner:
        with self._changed:
            if self._broken:
                raise DeviceFault(self._broken)
            lock = self._loading.setdefault(spec, threading.Lock())
        with lock:
            if spec not in self._runners:
                try:
                    network = spec.open()
                except CurationError:
                    raise
                except Exception as error:  # torch raises what it likes where a device is not there or full
                    raise Unavailable(
                        f"the model {spec.title} cannot be loaded on {spec.device}: {sentence(error)}"
                    ) from error
                self._runners[spec] = Runner(network, spec.title)
            return self._runners[spec]

    def _serve(self) -> None:
        while (due := self._next()) is not None:
            key, batch = due
            with self._watched():
                self._compute(key, batch)
            with self._changed:
                self._batches -= 1
                self._changed.notify_all()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """What this thread does inside is computing: `_watch` looks how long it takes."""
        number = threading.get_ident()
        with self._changed:
            self._computing[number] = time.perf_counter()
        try:
            yield
        finally:
            with self._changed:
                self._computing.pop(number, None)
                self._note_idle()

    def _compute(self, key: Key, batch: Sequence[Waiting]) -> None:
        spec, signature = key
        try:
            answers = self._runners[spec].batch(signature, [each.row for each in batch])
        except (CurationError, DeviceFault) as error:
            self._check(error)
            for each in batch:
                if not each.request.future.done():
                    each.request.future.set_exception(error)
            return
        for each, answer in zip(batch, answers, strict=True):
            with self._changed:
                each.request.answer(each.place, answer)

    def _next(self) -> tuple[Key, list[Waiting]] | None:
        """The next due batch; waits for one. None when the server ends."""
        with self._changed:
            while not self._closed and not self._broken:
                key, wait = self._due()
                if key is not None:
                    queue = self._queues[key]
                    count = self._runners[key[0]].sizes[key[1]].taken(len(queue))
                    batch = [queue.popleft() for _ in range(count)]
                    if not queue:
                        del self._queues[key]
                    self._note_busy()
                    self._batches += 1
                    return key, batch
                self._changed.wait(wait)
        return None

    def _due(self) -> tuple[Key | None, float | None]:
        """The queue that is due and has waited longest; otherwise the seconds until one is, None without any.

        While one batch computes and another stands behind it, a batch that is not full gains nothing by leaving now.
        """
        now = time.perf_counter()
        due: Key | None = None
        oldest, wait = float("inf"), None
        for key, queue in self._queues.items():
            since, runner = queue[0].since, self._runners[key[0]]
            full = len(queue) >= runner.sizes[key[1]].largest
            left = since + (self.flush_s if runner.network.patience_s is None else runner.network.patience_s) - now
            if (full or (left <= 0 and self._batches < ENOUGH)) and since < oldest:
                due, oldest = key, since
            elif self._batches < ENOUGH and (wait is None or left < wait):
                wait = max(0.0, left)
        return due, wait

    def _note_busy(self) -> None:
        if self._idle_since is not None:
            self._idle_s += time.perf_counter() - self._idle_since
            self._idle_since = None

    def _note_idle(self) -> None:
        if self._idle_since is None and not self._computing and not self._queues:
            self._idle_since = time.perf_counter()

    def _watch(self) -> None:
        """Notice a batch that never ends."""
        with self._changed:
            while not self._closed and not self._broken:
                self._changed.wait(min(5.0, self.hang_s / 4))
                longest = max((time.perf_counter() - since for since in self._computing.values()), default=0.0)
                if longest > self.hang_s:
                    break
            else:
                return
        self._break(f"a batch has been computing for more than {self.hang_s:g} s: the device hangs")

    def _check(self, error: Exception) -> None:
        if isinstance(error, DeviceFault):
            self._break(str(error))

    def _break(self, reason: str) -> None:
        with self._changed:
            if self._broken:
                return
            self._broken = reason
            self._changed.notify_all()
        self._fail_all(reason)
        self._on_fault(reason)

    def _fail_all(self, reason: str) -> None:
        with self._changed:
            waiting = [each for queue in self._queues.values() for each in queue]
            self._queues.clear()
        for each in waiting:
            if not each.request.future.done():
                each.request.future.set_exception(DeviceFault(reason))
