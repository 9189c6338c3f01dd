"""A small part of `python -m benchmarks.fuzz`: whatever damaged inputs say, loading them ends with a sentence."""

import random
from pathlib import Path
from typing import Any

from benchmarks.fuzz import fuzz, outcome
from benchmarks.mutate import changed, damaged
from curation.errors import CurationError

SMALL = {"manifest": 0.35, "expression": 0.35, "index": 0.15, "checkpoint": 0.1, "work": 0.05}


def test_two_hundred_damaged_inputs_are_sound_or_refused(tmp_path: Path) -> None:
    found = fuzz(2026, 200, tmp_path, SMALL)
    assert sum(counts.total() for counts in found.counts.values()) == 200
    assert found.findings == {}
    assert all(counts["refused"] for kind, counts in found.counts.items() if kind != "work")


def test_what_is_no_sentence_is_a_finding() -> None:
    def raising(error: BaseException) -> Any:
        def case(_: random.Random) -> None:
            raise error

        return case

    rng = random.Random(0)
    assert outcome(lambda _: None, rng) == ("sound", "")
    assert outcome(raising(CurationError("it is so")), rng) == ("refused", "it is so")
    assert outcome(raising(CurationError(" ")), rng)[0] == "finding"
    assert outcome(raising(RecursionError()), rng)[0] == "finding"


def test_damage_is_the_same_for_the_same_seed() -> None:
    value = {"a": [1, {"b": "c"}], "d": None}
    for seed in range(50):
        first, second = (damaged(b"some bytes", random.Random(seed)) for _ in range(2))
        assert first == second
        changed(value, random.Random(seed))
