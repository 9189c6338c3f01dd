"""A generator that works ahead of its consumer, in a thread of its own."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True)
class _Last:
    """There are no more items, or the next one could not be made."""

    error: BaseException | None


def ahead(items: Iterator[T], depth: int = 1) -> Iterator[T]:
    """The items in order, of which at most `depth` are made before they are asked for.

    Raises what `items` raises, in its place. When the consumer stops early, the thread ends after the item it is at.
    """
    made: queue.Queue[_Item[T] | _Last] = queue.Queue()
    room = threading.Semaphore(depth)
    stopped = threading.Event()

    def work() -> None:
        error: BaseException | None = None
        try:
            while True:
                room.acquire()
                if stopped.is_set():
                    return
                try:
                    item = next(items)
                except StopIteration:
                    break
                made.put(_Item(item))
        except BaseException as raised:  # noqa: BLE001 (the consumer raises it)
            error = raised
        made.put(_Last(error))

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while isinstance(each := made.get(), _Item):
            room.release()
            yield each.value
        if each.error is not None:
            raise each.error
    finally:
        stopped.set()
        room.release()
        thread.join()
