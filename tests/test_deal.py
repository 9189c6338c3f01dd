"""Who goes into which shard."""

from hypothesis import given
from hypothesis import strategies as st

from curation.encoding.deal import deal_all, mend, shards_of

ids = st.sets(st.text("0123456789abcdef", min_size=4, max_size=4), max_size=60)
samples = st.integers(1, 9)


def test_shards_are_full_but_for_the_last() -> None:
    assert shards_of(["a", "b", "c", "d", "e"], 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert shards_of([], 2) == []


def test_without_failures_ids_are_dealt_in_order() -> None:
    assert deal_all({"1x8x8": ["c", "a", "b"]}, {"1x8x8": ["b", "c", "a"]}, 2) == {"1x8x8": [["a", "b"], ["c"]]}


def test_a_hole_is_filled_from_the_end() -> None:
    assert mend(["a", "b", "c", "d", "e"], ["a", "c", "d", "e"]) == ["a", "e", "c", "d"]


def test_a_hole_is_filled_by_who_came_in_its_place() -> None:
    assert mend(["a", "b", "c", "d"], ["a", "c", "d", "bb"]) == ["a", "bb", "c", "d"]


def test_more_newcomers_than_holes_come_last() -> None:
    assert mend(["a", "b"], ["a", "x", "y"]) == ["a", "x", "y"]


def test_a_bucket_may_come_or_vanish_with_a_failure() -> None:
    assert deal_all({"1x8x8": ["a"]}, {"1x8x8": [], "1x8x16": ["b"]}, 2) == {"1x8x16": [["b"]]}


@given(base=ids, final=ids, samples=samples)
def test_everyone_is_dealt_once_into_full_dense_shards(base: set[str], final: set[str], samples: int) -> None:
    shards = deal_all({"b": base}, {"b": final}, samples).get("b", [])
    dealt = [identity for shard in shards for identity in shard]
    assert sorted(dealt) == sorted(final)
    assert all(len(shard) == samples for shard in shards[:-1])
    assert all(0 < len(shard) <= samples for shard in shards)


@given(base=ids, final=ids, random=st.randoms())
def test_the_order_in_which_ids_are_known_does_not_matter(base: set[str], final: set[str], random: object) -> None:
    shuffled_base, shuffled_final = list(base), list(final)
    random.shuffle(shuffled_base)  # type: ignore[attr-defined]
    random.shuffle(shuffled_final)  # type: ignore[attr-defined]
    assert mend(sorted(base), sorted(final)) == mend(shuffled_base, shuffled_final)


@given(base=ids.filter(bool), data=st.data(), newcomers=ids)
def test_a_failure_moves_none_but_those_at_the_end(base: set[str], data: st.DataObject, newcomers: set[str]) -> None:
    failed = data.draw(st.sets(st.sampled_from(sorted(base))))
    newcomers -= base
    before, after = sorted(base), mend(base, (base - failed) | newcomers)
    moved = [i for i, identity in enumerate(before[: len(after)]) if after[i] != identity]
    assert all(before[i] in failed for i in moved)
    assert len(moved) <= len(failed)
