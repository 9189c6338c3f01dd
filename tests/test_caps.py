"""Caps beside duplicates: no group is lost where a member of it fits."""

from pathlib import Path
from typing import Any

import pytest
from helpers.scores import write_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.manifest import Manifest
from curation.selection.select import Gate, decide

GATES = [Gate("a"), Gate("b")]


def decided(
    folder: Path, select: dict[str, Any], order: list[int] | None = None, **columns: Any
) -> list[dict[str, Any]]:
    made = Manifest.model_validate({"name": "t", "source": {"table": "t.jsonl"}, "select": select})
    return decide(write_scores(folder, order=order, **columns), made, GATES, {}).to_pylist()


def fates(rows: list[dict[str, Any]]) -> list[str]:
    """Of each row `kept`, the stage that dropped it, or the place of the one that it duplicates."""
    return [row["duplicate_of"] or row["stage"] or row["decision"] for row in rows]


def test_the_next_of_a_group_stays_where_its_best_is_over_a_cap(tmp_path: Path) -> None:
    """r000 fills site u; the best of group y, r001, is over it, as is r002; r003 and r004 are of another site."""
    select = {
        "duplicates": {"on": "bytes", "prefer": ["aesthetic"]},
        "caps": {"by": "caption", "most": 1, "prefer": ["aesthetic"]},
    }
    rows = decided(
        tmp_path, select, sha256=["x", "y", "y", "y", "y"], caption=["u", "u", "u", "v", "v"], aesthetic=[9, 8, 7, 6, 5]
    )
    assert fates(rows) == ["kept", "caps", "caps", "kept", "r003"]
    assert (rows[1]["value"], rows[2]["value"], rows[4]["reason"]) == (2, 2, "bytes")


def test_a_cap_keeps_the_better_of_those_that_come_later(tmp_path: Path) -> None:
    """r001 comes to site v once u is full, and takes the place of r003, whose twin r004 stays instead."""
    select = {
        "duplicates": {"on": "bytes", "prefer": ["aesthetic"]},
        "caps": {"by": "caption", "most": 1, "prefer": ["width"]},
    }
    columns: dict[str, Any] = {
        "sha256": ["x", "y", "y", "z", "z"], "caption": ["u", "v", "u", "v", "w"],
        "aesthetic": [1, 1, 9, 9, 1], "width": [9, 5, 5, 3, 3], "height": [1] * 5,
    }  # fmt: skip
    assert fates(decided(tmp_path, select, **columns)) == ["kept", "kept", "caps", "caps", "kept"]


def test_near_ones_are_compared_again_without_the_one_that_fell(tmp_path: Path) -> None:
    """r001 and r002 were near r000 alone and then are not near each other; what stays anyhow, r004, keeps its place."""
    select = {"duplicates": {"on": "phash", "threshold": 2, "prefer": ["aesthetic"]},
              "caps": {"by": "caption", "most": 1, "prefer": ["aesthetic"]}}  # fmt: skip
    rows = decided(
        tmp_path, select, phash=[0b1100, 0, 0b1111, 0xFFFF << 40, 0b11111], aesthetic=[5, 4, 3, 9, 1],
        caption=["u", None, None, "u", "w"],
    )  # fmt: skip
    assert fates(rows) == ["caps", "kept", "r004", "kept", "kept"]


def test_captions_go_to_the_one_that_stays_in_the_end(tmp_path: Path) -> None:
    select = {"duplicates": {"on": "bytes", "prefer": ["aesthetic"]}, "caps": {"by": "source_uri", "most": 1}}
    rows = decided(
        tmp_path, select, sha256=["x", "y", "y", "y"], source_uri=["u", "u", "v", "w"], aesthetic=[1, 9, 5, 4],
        captions=[["a"], ["b"], ["c"], ["d"]], width=[9, 1, 1, 1], height=[9, 1, 1, 1],
    )  # fmt: skip
    assert fates(rows) == ["kept", "caps", "kept", "r002"]
    assert [row["captions_merged"] for row in rows] == [None, None, [{"id": "r003", "caption": 0}], None]


def settle(groups: list[Any], sites: list[Any], worth: list[int], size: list[int], most: int) -> list[int]:
    """What is kept where one record after the other proposes the best of its group that is left to its site."""

    def queue_of(record: int) -> list[int]:
        same = [i for i, group in enumerate(groups) if group == groups[record] and group is not None]
        return sorted(same or [record], key=lambda i: (-worth[i], -size[i], i))

    held: dict[Any, list[int]] = {}
    refused: set[int] = set()
    for record in range(len(groups)):
        while left := [i for i in queue_of(record) if i not in refused]:
            here = held.setdefault(record if sites[left[0]] is None else sites[left[0]], [])
            if left[0] not in here:
                here.append(left[0])
            here.sort(key=lambda i: (-size[i], i))
            if len(here) <= most:
                break
            record = here.pop()
            refused.add(record)
    return sorted({i for here in held.values() for i in here})


ROWS = st.lists(
    st.tuples(
        st.none() | st.sampled_from("abcd"), st.none() | st.sampled_from("uvw"), st.integers(0, 9), st.integers(1, 9)
    ),
    min_size=1,
    max_size=16,
)


@settings(max_examples=200)
@given(ROWS, st.integers(1, 3), st.randoms(use_true_random=False))
def test_caps_and_exact_duplicates_are_those_of_brute_force(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], most: int, random: Any
) -> None:
    groups, sites, worth, size = (list(column) for column in zip(*records, strict=True))
    select = {"duplicates": {"on": "bytes", "prefer": ["aesthetic"]}, "caps": {"by": "caption", "most": most}}
    order = list(range(len(records)))
    random.shuffle(order)
    columns = {"sha256": groups, "caption": sites, "aesthetic": worth, "width": size, "height": [1] * len(size)}
    rows = decided(tmp_path_factory.mktemp("run"), select, order, **columns)
    kept = [i for i, row in enumerate(rows) if row["decision"] == "kept"]
    assert kept == settle(groups, sites, worth, size, most)
    for i, row in enumerate(rows):
        if row["duplicate_of"]:
            assert row["duplicate_of"] == next(f"r{j:03d}" for j in kept if groups[j] == groups[i])
        elif row["stage"] == "caps":  # no room: so many better ones of its site are kept
            assert sum(sites[j] == sites[i] and (-size[j], j) < (-size[i], i) for j in kept) == most
        else:
            assert i in kept


@settings(max_examples=50)
@given(ROWS, st.integers(1, 2), st.randoms(use_true_random=False))
def test_a_duplicate_names_a_kept_one_whatever_the_sections(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], most: int, random: Any
) -> None:
    groups, sites, worth, size = (list(column) for column in zip(*records, strict=True))
    select = {
        "duplicates": [{"on": "bytes", "prefer": ["aesthetic"]}, {"on": "phash", "threshold": 1}],
        "caps": [{"by": "caption", "most": most}, {"by": "aesthetic", "most": 2, "prefer": ["-width"]}],
    }
    columns = {"sha256": groups, "caption": sites, "aesthetic": worth, "width": size, "height": [1] * len(size)}
    columns["phash"] = [1 << value if value % 2 else None for value in size]
    order = list(range(len(records)))
    random.shuffle(order)
    rows = decided(tmp_path_factory.mktemp("run"), select, order, **columns)
    assert rows == decided(tmp_path_factory.mktemp("run"), select, **columns)
    kept = {row["id"] for row in rows if row["decision"] == "kept"}
    assert {row["duplicate_of"] for row in rows} - {None} <= kept
    assert all((row["stage"] == "duplicates") == (row["duplicate_of"] is not None) for row in rows)
    for column, limit in ((sites, most), (worth, 2)):
        there = [value for value, row in zip(column, rows, strict=True) if row["id"] in kept and value is not None]
        assert all(there.count(value) <= limit for value in there)
