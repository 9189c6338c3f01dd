"""Clips that show the same: which falls, to which, and that the search misses none that it should find."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.selection import clips as module
from curation.selection.clips import already_shown, repeated
from curation.selection.sequences import Sequences

RNG = np.random.default_rng(0)
FILM = [int(value) for value in RNG.integers(0, 1 << 63, 400)]
OTHER = [int(value) for value in RNG.integers(0, 1 << 63, 400)]


def sequences(*clips: Sequence[int | None]) -> Sequences:
    return Sequences.of(pa.array(list(clips), pa.list_(pa.uint64())))


def fates(found: Any) -> dict[int, tuple[int, float]]:
    """row -> the one it fell to, and the share of it that is there."""
    rows = zip(found.rows.tolist(), found.kept.tolist(), found.distance.tolist(), strict=True)
    return {row: (kept, round(1 - distance, 6)) for row, kept, distance in rows}


def fallen(made: Sequences, order: list[int] | None = None, share: float = 0.7) -> dict[int, tuple[int, float]]:
    return fates(repeated(made, np.array(order or range(len(made.counts))), 6, share))


def test_of_two_alike_the_better_stays() -> None:
    made = sequences(FILM[:20], [value ^ 0b101 for value in FILM[3:20]], OTHER[:20])
    assert fallen(made, [0, 1, 2]) == {1: (0, 1.0)}
    assert fallen(made, [1, 0, 2]) == {0: (1, 0.85)}


def test_a_part_falls_to_the_longer_clip_even_where_it_is_better() -> None:
    made = sequences(FILM[50:62], FILM[:100])
    assert fallen(made, [0, 1]) == fallen(made, [1, 0]) == {0: (1, 1.0)}


def test_less_than_the_share_is_no_duplicate() -> None:
    made = sequences(FILM[:20], FILM[6:20] + OTHER[:6], FILM[7:20] + OTHER[:7])
    assert fallen(made) == {1: (0, 0.7)}  # 2 shows 0.65 of the one that stays
    assert fallen(made, share=0.71) == {2: (1, 0.95)}


def test_another_order_of_shots_is_another_clip() -> None:
    assert fallen(sequences(FILM[:20], FILM[10:20] + FILM[:10])) == {}


def test_clips_of_which_little_can_be_told_are_no_duplicates() -> None:
    black: list[int | None] = [None] * 20
    assert fallen(sequences(black, black, [*black, *FILM[:3]], [*FILM[:3], *black])) == {}
    assert fallen(sequences([*black, *FILM[:4]], [*FILM[:4], *black])) == {1: (0, 1.0)}


def test_all_of_many_copies_fall_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the search remembers or compares at once, with one bit of difference here and there."""
    monkeypatch.setattr(module, "REACH", 4)
    monkeypatch.setattr(module, "MOST_HOLDERS", 3)
    monkeypatch.setattr(module, "MOST_COMPARED", 3)
    noise = np.uint64(1) << RNG.integers(0, 64, (300, 20)).astype(np.uint64)
    copies = (np.array(FILM[:20], np.uint64) ^ noise).tolist()
    found = fallen(sequences(*copies, OTHER[:20]))
    assert len(found) == 299 and 300 not in found


def test_one_intro_makes_no_duplicates_and_hides_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HOLDERS", 3)
    bodies = RNG.integers(0, 1 << 63, (50, 20)).tolist()
    made = sequences(*[OTHER[:6] + body for body in bodies], *[OTHER[:6] + body[2:] for body in bodies])
    assert fallen(made) == {i + 50: (i, 1.0) for i in range(50)}


def test_what_another_run_shows() -> None:
    made = sequences(FILM[:40], FILM[10:30], FILM[:100], OTHER[:20])
    known, rows = np.array([0]), np.array([1, 2, 3])  # 1 is a part of 2 as well, which is not the other run's
    assert fates(already_shown(made, known, rows, 6, 0.7)) == {1: (0, 1.0)}
    assert fates(already_shown(made, known[:0], rows, 6, 0.7)) == {}
    assert fates(already_shown(made, np.array([3]), rows[:2], 6, 0.7)) == {}


SCENES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(5, 16)), min_size=1, max_size=12)


@given(SCENES, st.randoms(use_true_random=False))
def test_what_stays_is_shown_nowhere_else_and_what_falls_is(scenes: list[tuple[int, int, int]], random: Any) -> None:
    """Against every pair compared: none kept is a duplicate of one kept, each fallen one is of what it fell to."""
    films = np.random.default_rng(5).integers(0, 1 << 63, (4, 40)).tolist()
    made = sequences(*[films[film][start : start + length] for film, start, length in scenes])
    order = list(range(len(scenes)))
    random.shuffle(order)
    found = fallen(made, order)
    for row, (other, share) in found.items():
        assert share == round(made.shared(row, other, 6) / made.counts[row], 6) >= 0.7
    kept = [row for row in order if row not in found]
    for i, row in enumerate(kept):
        for other in kept[:i]:
            assert made.shared(row, other, 6) < 0.7 * min(made.counts[row], made.counts[other])
