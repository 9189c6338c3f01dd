"""Many files read on threads, in order, a few ahead of who asks for them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from curation.stores.storage import Entry

T = TypeVar("T")
R = TypeVar("R")
READERS = 4


def grouped(files: Iterable[Entry], most: int) -> list[list[Entry]]:
    """Files in order, so many of them together that they have at most so many bytes, or a single larger one."""
    groups: list[list[Entry]] = []
    room = 0
    for entry in files:
        if not groups or entry.size > room:
            groups.append([])
            room = most
        groups[-1].append(entry)
        room -= entry.size
    return groups


def read_ahead(read: Callable[[T], R], items: Iterable[T], threads: int = READERS) -> Iterator[R]:
    """`read` of each item, in order, a few of them ahead on threads; what is not asked for is not read."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as readers:
        for item in items:
            waiting.append(readers.submit(read, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
