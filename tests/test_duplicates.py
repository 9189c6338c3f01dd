import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.selection.duplicates import Dropped, best_first, duplicates_of, equal, equal_first
from curation.selection.neighbours import HammingNeighbours

HASHES = st.lists(st.integers(0, 2**10 - 1), min_size=1, max_size=40)


def fates(dropped: Dropped) -> dict[int, tuple[int, float]]:
    return {
        int(row): (int(kept), float(distance))
        for row, kept, distance in zip(dropped.rows, dropped.kept, dropped.distance, strict=True)
    }


def greedy(hashes: list[int], order: list[int], threshold: int) -> dict[int, tuple[int, float]]:
    """The definition: best first, each falls to the nearest kept row, of equals the best."""
    kept: list[int] = []
    out: dict[int, tuple[int, float]] = {}
    for row in order:
        near = [((hashes[row] ^ hashes[k]).bit_count(), place, k) for place, k in enumerate(kept)]
        distance, _, best = min(near, default=(65, 0, 0))
        if distance <= threshold:
            out[row] = (best, float(distance))
        else:
            kept.append(row)
    return out


def test_equal_codes_fall_to_the_first_of_the_order() -> None:
    codes = np.array([5, 5, -1, 7, 5, -1])
    assert fates(equal(codes, np.array([4, 3, 2, 1, 0, 5]))) == {1: (4, 0), 0: (4, 0)}
    assert fates(equal(codes, np.array([1, 2, 3]))) == {}


def test_a_chain_does_not_drop_what_is_not_near_the_kept_one() -> None:
    hashes = np.array([0b0, 0b111, 0b111111], np.uint64)
    near = HammingNeighbours(hashes, 3).pairs
    assert fates(best_first(near, np.array([0, 1, 2]))) == {1: (0, 3)}
    assert fates(best_first(near, np.array([1, 0, 2]))) == {0: (1, 3), 2: (1, 3)}


@given(HASHES, st.randoms(use_true_random=False), st.integers(0, 4))
def test_is_the_greedy_choice(hashes: list[int], random, threshold: int) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(hashes)))
    random.shuffle(order)
    array = np.array(hashes, np.uint64)
    near = HammingNeighbours(array, threshold).pairs
    expected = greedy(hashes, order, threshold)
    assert fates(best_first(near, np.array(order))) == expected
    by_hash = fates(equal_first(near, array.astype(np.int64), np.array(order)))
    assert set(by_hash) == set(expected)
    for row, (kept, distance) in by_hash.items():
        assert kept not in by_hash and (hashes[row] ^ hashes[kept]).bit_count() == distance <= threshold


@pytest.mark.parametrize("seed", [0, 1])
def test_more_pairs_than_memory_should_hold(seed: int) -> None:
    """What falls stays the same set; it may name another kept row that is as true a duplicate."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 1 << 10, 5000, dtype=np.uint64)
    near = HammingNeighbours(hashes, 2).pairs
    order = rng.permutation(5000)
    at_once, in_parts = fates(best_first(near, order)), fates(best_first(near, order, most_pairs=1000))
    assert set(at_once) == set(in_parts)
    for row, (kept, distance) in in_parts.items():
        assert kept not in in_parts and int(hashes[row] ^ hashes[kept]).bit_count() == distance <= 2


def test_only_rows_fall_to_what_is_already_there() -> None:
    hashes = np.array([0b0, 0b1, 0b11, 0b1111_0000], np.uint64)
    near = HammingNeighbours(hashes, 1).pairs
    assert fates(duplicates_of(near, np.array([0, 1]), np.array([2, 3]))) == {2: (1, 1)}
    assert fates(duplicates_of(near, np.array([], np.int64), np.array([2, 3]))) == {}
