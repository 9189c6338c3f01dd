"""Many files read on threads, in order, a few ahead of who asks for them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
READERS = 4
READ_BYTES = 16_000_000
"""Of files that one thread reads at once: many small ones, or a single large one."""


def grouped(items: Iterable[T], size: Callable[[T], int], most: int) -> list[list[T]]:
    """Items in order, so many of them together that their sizes are at most `most` in all, or a single larger one."""
    groups: list[list[T]] = []
    room = 0
    for item in items:
        if not groups or size(item) > room:
            groups.append([])
            room = most
        groups[-1].append(item)
        room -= size(item)
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
