"""Sequences of hashes: how much of one is shown, in order, in another."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.selection.sequences import Sequences, distances, in_order, in_step, longest_chain

FAR = [int(value) for value in np.random.default_rng(0).integers(0, 1 << 63, 40)]
"""Hashes of unrelated pictures."""


def matched(short: list[int], long: list[int], threshold: int = 6) -> int:
    follows = np.arange(len(long)) > 0
    return in_order(distances(np.array(short, np.uint64), np.array(long, np.uint64), follows), threshold)


def test_each_is_matched_by_one_of_its_own() -> None:
    assert matched(FAR[:5], FAR[:5]) == 5
    assert matched(FAR[10:15], FAR[:20]) == 5
    assert matched(FAR[:5], FAR[20:30]) == 0
    assert matched([FAR[0]] * 5, [FAR[0], *FAR[1:6]]) == 1  # a still picture is no clip that shows it once


def test_the_order_counts() -> None:
    assert matched(FAR[:6][::-1], FAR[:6]) == 1
    assert matched([*FAR[3:6], *FAR[0:3]], FAR[:6]) == 3
    assert matched([FAR[0], FAR[30], FAR[2]], FAR[:6]) == 2


def test_within_the_threshold_of_bits() -> None:
    six, seven = 0b111111, 0b1111111
    assert matched([FAR[0] ^ six, FAR[1] ^ seven], [FAR[0], FAR[1]]) == 1
    assert matched([FAR[0] ^ six], [FAR[0]], 5) == 0


def test_a_frame_between_two_others_is_matched_by_them() -> None:
    first = FAR[0]
    last = first ^ ((1 << 20) - 1)  # 20 bits changed in a quarter of a second
    middle = first ^ ((1 << 10) - 1)  # half of them had
    assert matched([middle], [first, last]) == 1
    assert matched([middle ^ 0b111111 << 40], [first, last]) == 1
    assert matched([middle ^ 0b1111111 << 40], [first, last]) == 0
    assert matched([middle], [first, FAR[1], last]) == 0
    assert matched([FAR[0] & FAR[1] | FAR[0] & FAR[2]], [FAR[1], FAR[2]]) == 0  # a cut lies between them


def test_frames_on_both_sides_of_one_that_tells_nothing_are_no_neighbours() -> None:
    first, last = FAR[0], FAR[0] ^ ((1 << 20) - 1)
    middle = FAR[0] ^ ((1 << 10) - 1)
    column = pa.array([[first, last], [first, None, last], None, [None], [middle], []], pa.list_(pa.uint64()))
    sequences = Sequences.of(column)
    assert sequences.counts.tolist() == [2, 2, 0, 0, 1, 0]
    assert [sequences.shared(4, other, 6) for other in (0, 1)] == [1, 0]
    assert sequences.of_clips(np.array([4, 1])).tolist() == [middle, first, last]


def test_a_column_that_was_sliced_and_taken() -> None:
    column = pa.array([[1, 2], None, [3], [4, None, 5]], pa.list_(pa.uint64()))
    cut = Sequences.of(column.slice(1).take(pa.array([2, 0, 1])))
    assert cut.counts.tolist() == [2, 0, 1] and cut.values.tolist() == [4, 5, 3]
    assert cut.follows.tolist() == [False, False, False]


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=9))
def test_the_longest_chain_is_that_of_the_table(cells: list[list[bool]]) -> None:
    table = np.zeros((len(cells) + 1, 8), int)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            table[i + 1, j + 1] = table[i, j] + 1 if cell else max(table[i, j + 1], table[i + 1, j])
    assert longest_chain(np.array(cells)) == table[-1, -1]


@pytest.mark.parametrize("length", [1, 63, 64, 65, 500])
def test_long_clips(length: int) -> None:
    values = np.random.default_rng(1).integers(0, 1 << 64, length, dtype=np.uint64)
    bits = distances(values[length // 3 :], values, np.arange(length) > 0)
    assert in_order(bits, 0) == length - length // 3 and in_step(bits)


def signed(seed: int, frames: int = 16) -> list[int]:
    """A fixed camera: one picture, of which about 3 bits differ at each moment."""
    rng = np.random.default_rng(seed)
    return [FAR[0] ^ sum(1 << int(bit) for bit in rng.choice(64, 3, replace=False)) for _ in range(frames)]


def shown(short: list[int], long: list[int]) -> tuple[int, bool]:
    bits = distances(np.array(short, np.uint64), np.array(long, np.uint64), np.zeros(len(long), bool))
    return in_order(bits, 6), in_step(bits)


def test_two_takes_of_a_fixed_camera_match_and_are_not_in_step() -> None:
    one, other = signed(1), signed(2)
    assert shown(one, other) == (16, False)
    assert shown(one[3:12], one) == (9, True)
    assert shown([value ^ 0b11 << 20 for value in one[3:12]], one) == (9, True)
    assert shown([FAR[0]] * 8, [FAR[0] ^ 1] * 10) == (8, True)  # nothing moves in either: one picture


def test_two_takes_that_begin_alike_are_two() -> None:
    """Half of the frames are as near as a copy's, then the hands do something else: 2.0 bits of 5.2 on average."""
    rise = [FAR[0] ^ (1 << i) - 1 for i in range(8)]
    one, other = rise + [rise[-1] ^ 0b111 << 40] * 8, rise + [rise[-1] ^ 1 << 50] * 8
    matched, together = shown(one, other)
    assert matched == 16 and not together
    noisy = [value ^ (1 << 60 if i % 2 else 0) for i, value in enumerate(one)]
    assert shown(one, noisy) == (16, True)  # half a bit of a codec's noise: a copy


def test_a_copy_that_began_a_moment_earlier_is_in_step() -> None:
    one = signed(1)
    assert shown(one[1:], one[:-1])[1] and shown(one[:-1], one[1:])[1]
