"""Items made ahead come in order, as many as were allowed, and a mistake comes where it happened."""

import threading
from collections.abc import Iterator

import pytest

from curation.ahead import ahead


def test_items_come_in_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter([]))) == []


def test_at_most_so_many_are_made_before_they_are_asked_for() -> None:
    made: list[int] = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for i in range(10):
            made.append(i)
            if i == 2:
                third.set()
            yield i

    stream = ahead(items(), depth=2)
    assert next(stream) == 0
    assert third.wait(10), "the second and third are made while the first is used"
    assert len(made) <= 3
    stream.close()  # type: ignore[attr-defined]
    assert len(made) <= 4


def test_a_mistake_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    stream = ahead(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(stream)
