"""Workers in child processes of this one, without Ray.

Each child has two pipes: one for its work, one by which it asks this process for the answers of networks on a GPU.
"""

import multiprocessing
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from curation.engine.pool import Pool, item, value_of
from curation.errors import CurationError
from curation.inference.client import Service, service
from curation.inference.network import Row, Spec
from curation.inference.runner import Answer
from curation.threads import one_core

RESTARTS = 20
"""How many children may die in all; per chunk and record, `curation.scoring.chunkfile.Attempt` bounds it."""
CALLS_AT_ONCE = 8
_END = None


class Processes:
    """A pool of children that take payloads as they become free."""

    def __init__(self, pool: Pool, workers: int, asked: Service | None) -> None:
        self.pool, self.workers, self.asked = pool, workers, asked
        self._context = multiprocessing.get_context("spawn")
        self._deaths = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def map(self, payloads: Iterable[Any]) -> Iterator[Any]:
        """Results as they come. Raises what `payloads` raises, and CurationError when too many children die."""
        source = iter(payloads)
        results: queue.Queue[tuple[str, Any]] = queue.Queue()
        threads = [
            threading.Thread(target=self._drive, args=(source, results), daemon=True) for _ in range(self.workers)
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                kind, value = results.get()
                if kind == "result":
                    yield value
                elif kind == "error":
                    raise value
                else:
                    running -= 1
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def _drive(self, source: Iterator[Any], results: "queue.Queue[tuple[str, Any]]") -> None:
        """One child after another at the work: another is started where one died, with the same payload."""
        child = _Child(self)
        try:
            while not self._stopped.is_set():
                with self._lock:
                    payload = next(source, _END)
                if payload is _END:
                    break
                while True:
                    try:
                        results.put(("result", child.do(payload, self._stopped)))
                        break
                    except EOFError:
                        child.close()
                        self._count_death()
                        child = _Child(self)
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001 (the caller's thread raises it)
            results.put(("error", error))
        finally:
            child.close()
            results.put(("end", None))

    def _count_death(self) -> None:
        with self._lock:
            self._deaths += 1
            if self._deaths > RESTARTS:
                raise CurationError(
                    f"workers died {self._deaths} times; what was committed stays, run the same command to continue"
                )


class _Stopped(Exception):
    """The results are no longer wanted."""


_starting = threading.Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """Inside, a child that starts does not run the caller's script once more to have its names: it needs none of them,
    and a script or notebook that calls `run` at its top level would start children without end."""
    main = sys.modules["__main__"]
    with _starting:
        held = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
        try:
            for name in held:
                setattr(main, name, None)
            yield
        finally:
            for name, value in held.items():
                setattr(main, name, value)


class _Child:
    """A child process and this end of its pipes."""

    def __init__(self, owner: Processes) -> None:
        context = owner._context
        self.work, theirs = context.Pipe()
        self.asks, their_asks = context.Pipe()
        asking = owner.asked is not None
        self.process = context.Process(target=_child, args=(owner.pool, theirs, their_asks if asking else None))
        self.process.daemon = True
        with _without_main():
            self.process.start()
        theirs.close()
        their_asks.close()
        if owner.asked is not None:
            threading.Thread(target=_answer, args=(self.asks, owner.asked), daemon=True).start()

    def do(self, payload: Any, stopped: threading.Event) -> Any:
        """The child's result. Raises EOFError when it dies, _Stopped when nobody waits any more."""
        try:
            self.work.send(payload)
            while not self.work.poll(0.2):
                if stopped.is_set():
                    raise _Stopped
            kind, value = self.work.recv()
        except (OSError, EOFError) as error:
            raise EOFError("the worker died") from error
        if kind == "error":
            raise value
        return value

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.work.close()
        self.asks.close()


def _child(pool: Pool, work: Connection, asks: Connection | None) -> None:
    """What a child does until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    with one_core():
        if asks is None:
            _work(pool, work)
        else:
            with service(_PipeService(asks)):
                _work(pool, work)


def _work(pool: Pool, work: Connection) -> None:
    worker = None
    while True:
        try:
            payload = work.recv()
        except EOFError:
            return
        try:
            worker = worker or pool.make()
            work.send(("result", value_of(worker(item(payload)))))
        except Exception as error:  # noqa: BLE001 (the parent raises it)
            work.send(("error", _sendable(error)))


def _sendable(error: Exception) -> Exception:
    return error if isinstance(error, CurationError) else CurationError(f"{type(error).__name__}: {error}")


def _answer(asks: Connection, asked: Service) -> None:
    """In the parent: pass a child's questions on, and the answers back, until the child is gone."""
    sending = threading.Lock()

    def reply(number: int, question: Callable[[], Any]) -> None:
        try:
            answer: tuple[int, str, Any] = (number, "answer", question())
        except Exception as error:  # noqa: BLE001 (the child raises it)
            answer = (number, "error", _sendable(error))
        try:
            with sending:
                asks.send(answer)
        except OSError:
            return  # the child is gone; its work is done again by another

    with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
        while True:
            try:
                number, spec, call, rows = asks.recv()
            except (EOFError, OSError):
                return
            question = partial(asked.facts, spec) if call is None else partial(asked.run, spec, call, rows)
            threads.submit(reply, number, question)


class _PipeService:
    """In the child: asks the parent. Safe to use from several threads."""

    def __init__(self, asks: Connection) -> None:
        self._asks = asks
        self._numbers = count()
        self._lock = threading.Lock()
        self._open: dict[int, Future[Any]] = {}
        threading.Thread(target=self._receive, daemon=True).start()

    def facts(self, spec: Spec) -> dict[str, Any]:
        facts: dict[str, Any] = self._ask(spec, None, ())
        return facts

    def run(self, spec: Spec, call: str, rows: Sequence[Row]) -> list[Answer]:
        answers: list[Answer] = self._ask(spec, call, rows)
        return answers

    def _ask(self, spec: Spec, call: str | None, rows: Sequence[Row]) -> Any:
        future: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            self._open[number] = future
            self._asks.send((number, spec, call, list(rows)))
        return future.result()

    def _receive(self) -> None:
        while True:
            try:
                number, kind, value = self._asks.recv()
            except (EOFError, OSError):
                return
            future = self._open.pop(number)
            if kind == "error":
                future.set_exception(value)
            else:
                future.set_result(value)
