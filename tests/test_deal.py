"""Who goes into which shard."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.encoding.deal import Ints, deal_all, reassign, shards_of

rows = st.sets(st.integers(0, 200), max_size=60)
samples = st.integers(1, 9)


def array(values: object) -> Ints:
    return np.array(list(values), np.int64)  # type: ignore[call-overload]


def lists(dealt: dict[str, list[Ints]]) -> dict[str, list[list[int]]]:
    return {bucket: [shard.tolist() for shard in shards] for bucket, shards in dealt.items()}


def reassigned(base: object, final: object) -> list[int]:
    found: list[int] = reassign(array(base), array(final)).tolist()
    return found


def by_hand(base: set[int], final: set[int]) -> list[int]:
    """The rule, one hole after another."""
    slots = [row if row in final else None for row in sorted(base)]
    newcomers = sorted(final - base, reverse=True)
    for i in range(len(slots)):
        while slots and slots[-1] is None and not newcomers:
            slots.pop()
        if i < len(slots) and slots[i] is None:
            slots[i] = newcomers.pop() if newcomers else slots.pop()
    return [row for row in slots if row is not None] + newcomers[::-1]


def test_shards_are_full_but_for_the_last() -> None:
    assert [shard.tolist() for shard in shards_of(array([1, 2, 3, 4, 5]), 2)] == [[1, 2], [3, 4], [5]]
    assert shards_of(array([]), 2) == []


def test_without_failures_rows_are_dealt_in_order() -> None:
    dealt = deal_all({"1x8x8": array([3, 1, 2])}, {"1x8x8": array([2, 3, 1])}, 2)
    assert lists(dealt) == {"1x8x8": [[1, 2], [3]]}


def test_a_hole_is_filled_from_the_end() -> None:
    assert reassigned([1, 2, 3, 4, 5], [1, 3, 4, 5]) == [1, 5, 3, 4]


def test_a_hole_is_filled_by_who_came_in_its_place() -> None:
    assert reassigned([10, 20, 30, 40], [10, 30, 40, 25]) == [10, 25, 30, 40]


def test_more_newcomers_than_holes_come_last() -> None:
    assert reassigned([1, 2], [1, 24, 25]) == [1, 24, 25]


def test_a_bucket_may_come_or_vanish_with_a_failure() -> None:
    dealt = deal_all({"1x8x8": array([1])}, {"1x8x8": array([]), "1x8x16": array([2])}, 2)
    assert lists(dealt) == {"1x8x16": [[2]]}


@given(base=rows, final=rows)
def test_all_holes_at_once_are_filled_as_one_after_another(base: set[int], final: set[int]) -> None:
    assert reassigned(base, final) == by_hand(base, final)


@given(base=rows, final=rows, samples=samples)
def test_everyone_is_dealt_once_into_full_dense_shards(base: set[int], final: set[int], samples: int) -> None:
    shards = lists(deal_all({"b": array(base)}, {"b": array(final)}, samples)).get("b", [])
    assert sorted(row for shard in shards for row in shard) == sorted(final)
    assert all(len(shard) == samples for shard in shards[:-1])
    assert all(0 < len(shard) <= samples for shard in shards)


@given(base=rows, final=rows, order=st.randoms())
def test_the_order_in_which_rows_are_known_does_not_matter(
    base: set[int], final: set[int], order: random.Random
) -> None:
    shuffled_base, shuffled_final = sorted(base), sorted(final)
    order.shuffle(shuffled_base)
    order.shuffle(shuffled_final)
    assert reassigned(sorted(base), sorted(final)) == reassigned(shuffled_base, shuffled_final)


@given(base=rows.filter(bool), data=st.data(), newcomers=rows)
def test_a_failure_moves_none_but_those_at_the_end(base: set[int], data: st.DataObject, newcomers: set[int]) -> None:
    failed = data.draw(st.sets(st.sampled_from(sorted(base))))
    newcomers -= base
    before, after = sorted(base), reassigned(base, (base - failed) | newcomers)
    moved = [i for i, row in enumerate(before[: len(after)]) if after[i] != row]
    assert all(before[i] in failed for i in moved)
    assert len(moved) <= len(failed)
