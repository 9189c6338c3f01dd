"""Rows of scores/ found by their place in the decision, and sorted out in parts of any size."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.scores import write_scores
from hypothesis import given
from hypothesis import strategies as st

from curation.encoding.jobs import Contents, ShardJob
from curation.encoding.members import write_members
from curation.encoding.scored import Places, ScoredRows
from curation.encoding.spool import Spool
from curation.errors import CurationError
from curation.identities import first_halves, identities
from curation.stores.ahead import grouped, read_ahead
from curation.stores.storage import Entry

hex_ids = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)).map(lambda t: f"{t[0]:016x}{t[1]:016x}"), max_size=12)
any_ids = st.sets(st.text(max_size=12).filter(lambda text: text.isprintable()), max_size=12)


@given(known=hex_ids | any_ids, asked=hex_ids | any_ids)
def test_an_id_is_found_where_it_stands_also_where_first_halves_are_equal(known: set[str], asked: set[str]) -> None:
    ids = sorted(known, key=str.encode)
    found = Places(pa.array(ids, pa.large_string())).of(pa.array(sorted(asked), pa.string()))
    assert found.tolist() == [ids.index(each) if each in known else -1 for each in sorted(asked)]


@given(st.lists(st.text("0123456789abcdefg:-", max_size=4) | st.just("0f" * 32) | st.none(), max_size=20))
def test_identities_are_equal_where_texts_are(texts: list[str | None]) -> None:
    found = identities(pa.array(texts, pa.string())).to_pylist()
    assert [each is None for each in found] == [text is None for text in texts]
    assert len(set(found)) == len(set(texts))
    if texts:  # whatever stands beside it
        assert identities(pa.array(texts[:1], pa.string())).to_pylist() == found[:1]


def test_first_halves_are_those_of_hex_ids_alone() -> None:
    ids = pa.array(["0" * 31 + "1", "00000000000000ff" + "0" * 16, "f" * 32])
    halves = first_halves(ids.slice(1))
    assert halves is not None and halves.tolist() == [255, 2**64 - 1]
    assert first_halves(pa.array(["r001"])) is None and first_halves(pa.array(["F" * 32])) is None


def test_files_are_grouped_by_their_bytes_and_read_in_order() -> None:
    files = [Entry(f"{i}", size, 0) for i, size in enumerate([5, 5, 20, 1, 1])]
    assert [[entry.name for entry in group] for group in grouped(files, lambda entry: entry.size, 10)] == [
        ["0", "1"],
        ["2"],
        ["3", "4"],
    ]
    assert list(read_ahead(lambda i: i * i, range(50))) == [i * i for i in range(50)]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 400))
def test_a_spool_gives_back_what_came_in_order(numbers: list[int], buffered: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), "some", buffered)
        for i, number in enumerate(numbers):
            spool.add(np.array([number], np.int32), pa.table({"value": [i], "text": [str(i)]}))
        spool.finish()
        for number in range(4):
            table = spool.read(number)
            found = [] if table is None else table["value"].to_pylist()
            assert found == [i for i, other in enumerate(numbers) if other == number]


def test_members_dealt_in_small_parts_are_those_dealt_in_one(tmp_path: Path) -> None:
    rows = 40
    order = np.random.default_rng(0).permutation(rows)
    store = write_scores(
        tmp_path,
        files=7,
        order=order.tolist(),
        source_key=[f"key {i}" for i in range(rows)],
        captions=[[f"caption {i}"] * (i % 3) for i in range(rows)],
        width=list(range(100, 100 + rows)),
        aesthetic=[i / 8 if i % 5 else None for i in range(rows)],
        phash=[2**63 + i for i in range(rows)],
    )
    scored = ScoredRows(store, pa.chunked_array([[f"r{i:03d}" for i in range(rows)]]))
    dealt = np.random.default_rng(1).permutation(rows)[:33]
    members = {ShardJob("1x8x8", i, len(own), "f"): own for i, own in enumerate(np.split(dealt, [10, 20, 30]))}
    files: list[list[bytes]] = []
    for most in (1, 15, 1000):
        assert list(write_members(scored, list(members), members, Contents(None, {}, {}), most)) == list(members)
        files.append([store.read(job.members) for job in members])
    assert files[0] == files[1] == files[2]
    for job, own in members.items():
        found = pq.read_table(pa.BufferReader(store.read(job.members))).to_pylist()
        assert [row["id"] for row in found] == [f"r{i:03d}" for i in own]
        for i, row in zip(own.tolist(), found, strict=True):
            assert row["source_key"] == f"key {i}" and row["width"] == 100 + i and row["earlier"] is None
            assert row["captions"] == [f"caption {i}"] * (i % 3)
            score = {"aesthetic": i / 8} if i % 5 else {}
            assert json.loads(row["scores"]) == {"phash": f"{2**63 + i:016x}", **score}
    assert not [entry for entry in store.list() if "arrow" in entry.name]


def test_scores_that_were_never_decided_are_refused(tmp_path: Path) -> None:
    scored = ScoredRows(write_scores(tmp_path, width=[1, 2]), pa.chunked_array([["r000"]]))
    with pytest.raises(CurationError, match="changed since the decision"):
        list(scored.scan(["width"], np.ones(1, bool)))
