import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.scores import write_scores
from helpers.selecting import GATES, kept, manifest, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import rundir
from curation.errors import CurationError, UsageError
from curation.scoring import chunkfile
from curation.selection import table
from curation.selection.decisions import error_class
from curation.selection.select import Gate, decide
from curation.stores.storage import Store


def test_gates_drop_with_stage_part_value_and_threshold(tmp_path: Path) -> None:
    store = write_scores(tmp_path, min_side=[64, 256, 256, None], similarity=[0.9, 0.125, 0.5, 0.5])
    gates: list[Gate] = [("a", "min_side >= 128", None), ("b", "similarity >= 0.2 and min_side < 999", None)]
    assert rows(store, manifest(), gates) == {
        "r000": {
            "decision": "dropped",
            "stage": "a",
            "reason": "min_side >= 128",
            "value": 64,
            "threshold": 128,
        },
        "r001": {
            "decision": "dropped",
            "stage": "b",
            "reason": "similarity >= 0.2",
            "value": 0.125,
            "threshold": 0.2,
        },
        "r002": {"decision": "kept"},
        "r003": {
            "decision": "dropped",
            "stage": "a",
            "reason": "min_side >= 128 (missing value)",
            "threshold": 128,
        },
    }


def test_a_gate_judges_only_records_that_its_stage_was_meant_for(tmp_path: Path) -> None:
    store = write_scores(tmp_path, media=["image", "video"], similarity=[0.1, None], scored=[["a", "b"], ["a"]])
    decided = rows(store, manifest(), [("a", None, None), ("b", "similarity > 0.5", "media == 'image'")])
    assert kept(decided) == ["r001"]


def test_records_that_reach_a_stage_unscored_need_a_run(tmp_path: Path) -> None:
    store = write_scores(tmp_path, min_side=[100, 200, 50], scored=[["a"], ["a", "b"], ["a"]])
    assert kept(rows(store, manifest(), [("a", "min_side > 150", None), ("b", None, None)])) == ["r001"]
    with pytest.raises(CurationError, match=r"1 by 'b'.*`curate run` computes just the missing scores"):
        decide(store, manifest(), [("a", "min_side > 60", None), ("b", None, None)], {})
    with pytest.raises(CurationError, match=r"3 by 'c'"):
        decide(store, manifest(), [("a", None, None), ("c", None, None)], {})


def test_errors_are_quarantined_where_their_stage_stands(tmp_path: Path) -> None:
    store = write_scores(
        tmp_path,
        min_side=[100, 200, None],
        scored=[["a"], ["a"], []],
        error_stage=["b", "b", "source"],
        error=["ValueError: no 'x' in 12 words", "ValueError: no 'y' in 7 words", "HTTP 404"],
    )
    gates: list[Gate] = [("a", "min_side > 150", None), ("b", None, None)]
    assert rows(store, manifest(), gates) == {
        "r000": {
            "decision": "dropped",
            "stage": "a",
            "reason": "min_side > 150",
            "value": 100,
            "threshold": 150,
        },
        "r001": {
            "decision": "quarantined",
            "stage": "b",
            "reason": "ValueError: no … in … words",
            "error": "ValueError: no 'y' in 7 words",
        },
        "r002": {"decision": "quarantined", "stage": "source", "reason": "HTTP 404", "error": "HTTP 404"},
    }


def test_percentiles_are_of_what_is_still_in(tmp_path: Path) -> None:
    store = write_scores(tmp_path, min_side=[1, 1, 9, 9, 9, 9], aesthetic=[9, 8, 1, 2, 3, None])
    decided = rows(store, manifest(keep=["min_side > 5", "aesthetic >= p50"]))
    assert kept(decided) == ["r003", "r004"]
    assert decided["r002"] == {
        "decision": "dropped",
        "stage": "select",
        "reason": "aesthetic >= p50",
        "value": 1,
        "threshold": 2,
    }
    assert decided["r005"]["reason"] == "aesthetic >= p50 (missing value)"


def test_the_best_of_equals_stays_and_the_others_name_it(tmp_path: Path) -> None:
    store = write_scores(
        tmp_path,
        sha256=["x", "x", "y", None, None, "x"],
        aesthetic=[1, 5, 1, 1, 1, 5],
        width=[10, 10, 10, 10, 10, 20],
        height=[10] * 6,
    )
    decided = rows(store, manifest(duplicates={"on": "bytes", "prefer": ["aesthetic"]}))
    assert kept(decided) == ["r002", "r003", "r004", "r005"]
    assert decided["r000"] == {
        "decision": "dropped",
        "stage": "duplicates",
        "reason": "bytes",
        "value": 0,
        "threshold": 0,
        "duplicate_of": "r005",
    }
    less = manifest(duplicates={"on": "bytes", "prefer": ["-aesthetic"]})
    assert rows(store, less)["r005"]["duplicate_of"] == "r000"
    by_area = manifest(duplicates="exact")
    with pytest.raises(UsageError, match="no column 'pixel_sha256'; did you mean 'sha256'"):
        rows(store, by_area)


def test_near_hashes_fall_within_the_threshold(tmp_path: Path) -> None:
    store = write_scores(tmp_path, phash=[0, 0b111111, 0b1111111, 2**64 - 1, None, 2**64 - 1])
    decided = rows(store, manifest(duplicates={"on": "phash"}))
    assert kept(decided) == ["r000", "r002", "r003", "r004"]
    assert (decided["r001"]["duplicate_of"], decided["r001"]["value"]) == ("r000", 6)
    assert (decided["r005"]["duplicate_of"], decided["r005"]["value"]) == ("r003", 0)
    assert kept(rows(store, manifest(duplicates={"on": "phash", "threshold": 0}))) == [
        "r000", "r001", "r002", "r003", "r004",
    ]  # fmt: skip


def test_a_duplicate_names_the_one_that_stayed(tmp_path: Path) -> None:
    store = write_scores(tmp_path, sha256=["x", "x", "y"], phash=[0, 0, 1], aesthetic=[1, 2, 3])
    sections = [{"on": on, "prefer": ["aesthetic"]} for on in ("bytes", "phash")]
    decided = rows(store, manifest(duplicates=sections))
    assert [decided[i]["duplicate_of"] for i in ("r000", "r001")] == ["r002", "r002"]
    assert [decided[i]["reason"] for i in ("r000", "r001")] == ["bytes", "phash"]


def test_near_embeddings_fall_and_the_recall_is_told(tmp_path: Path) -> None:
    vectors = [[1, 0, 0, 0], [0, 1, 0, 0], [2, 0.1, 0, 0], None, [0, 0, 0, 0], [np.nan, 0, 0, 0]]
    store = write_scores(tmp_path, files=2, embedding=vectors, aesthetic=[1, 1, 2, 1, 1, 1])
    said: list[str] = []
    made = manifest(duplicates={"on": "embedding", "prefer": ["aesthetic"]})
    decided = rows(store, made, say=said.append)
    assert kept(decided) == ["r001", "r002", "r003", "r004", "r005"]
    assert decided["r000"]["duplicate_of"] == "r002" and decided["r000"]["value"] == pytest.approx(0.998753, abs=1e-5)
    assert said == [
        "near embeddings: 1 of 3 records fall to a better one (all pairs compared, 100.0% of planted pairs found)"
    ]


@pytest.mark.parametrize("on", ["bytes", "pixels", "phash", "embedding"])
def test_what_another_run_kept_is_already_there(tmp_path: Path, on: str) -> None:
    def scores(name: str, ids: list[str], numbers: list[int]) -> Store:
        hashes = {"sha256": [str(n) for n in numbers], "pixel_sha256": [str(n) for n in numbers]}
        return write_scores(
            tmp_path / name, id=ids, **hashes, phash=[n << 8 for n in numbers], embedding=np.eye(16)[numbers]
        )

    other = scores("first", ["a1", "a2", "a3"], [15, 0, 3])
    made = manifest(keep="id != 'a3'")
    rundir.write_selection(other, decide(other, made, GATES, {}))
    store = scores("second", ["b1", "b2", "b3"], [15, 3, 15])
    section: dict[str, Any] = {"on": on, "against": [other.root]} | ({"threshold": 0} if on == "phash" else {})
    decided = rows(store, manifest(duplicates=section))
    assert kept(decided) == ["b2"]
    for identity in ("b1", "b3"):
        assert decided[identity]["reason"] == f"{on}: already in {other.root}"
        assert "duplicate_of" not in decided[identity]


def test_runs_with_other_models_are_not_compared(tmp_path: Path) -> None:
    other = write_scores(tmp_path / "first", embedding=[[1.0, 0.0]])
    rundir.write_selection(other, decide(other, manifest(), GATES, {}))
    store = write_scores(tmp_path / "second", embedding=[[1.0, 0.0, 0.0]])
    with pytest.raises(CurationError, match="2 dimensions, this run of 3"):
        decide(store, manifest(duplicates={"on": "embedding", "against": [other.root]}), GATES, {})


def test_runs_with_other_models_of_one_length_are_not_compared(tmp_path: Path) -> None:
    def run_of(model: str) -> Store:
        store = write_scores(tmp_path / model, embedding=[[1.0, 0.0]])
        (file,) = rundir.score_files(store)
        table = chunkfile.read(store, file)
        footer = {"curation": json.dumps({"models": {"embedding": model}})}
        chunkfile.write(store, file, table.replace_schema_metadata(footer))
        return store

    one, other = run_of("one"), run_of("other")
    rundir.write_selection(other, decide(other, manifest(), GATES, {}))
    with pytest.raises(CurationError, match="holds embeddings of other, this run of one"):
        decide(one, manifest(duplicates={"on": "embedding", "against": [other.root]}), GATES, {})


def test_a_run_against_itself_is_refused(tmp_path: Path) -> None:
    store = write_scores(tmp_path / "run", sha256=["a", "b"])
    rundir.write_selection(store, decide(store, manifest(), GATES, {}))
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for place in (store.root, str(tmp_path / "link")):
        with pytest.raises(UsageError, match="is this run itself"):
            decide(store, manifest(duplicates={"on": "bytes", "against": [place]}), GATES, {})


def test_caps_leave_records_without_a_value(tmp_path: Path) -> None:
    store = write_scores(tmp_path, sha256=["a", "a", None, None, None])
    decided = kept(rows(store, manifest(caps=[{"by": "sha256", "most": 1}])))
    assert len(decided) == 4 and {"r002", "r003", "r004"} < set(decided)
    with pytest.raises(ValueError, match="most"):
        manifest(caps=[{"by": "sha256", "most": True}])


def test_failed_records_make_room_for_the_next_best_and_move_no_percentile(tmp_path: Path) -> None:
    store = write_scores(tmp_path, sha256=["x", "x", "y", "z"], aesthetic=[4, 3, 2, 1])
    made = manifest(keep="aesthetic >= p25", duplicates={"on": "bytes", "prefer": ["aesthetic"]})
    assert kept(rows(store, made)) == ["r000", "r002"]
    decided = rows(store, made, failed={"r000": "the picture is gone", "r003": "never asked", "r9": "unknown"})
    assert kept(decided) == ["r001", "r002"]
    assert decided["r000"] == {
        "decision": "quarantined",
        "stage": "encode",
        "reason": "the picture is gone",
        "error": "the picture is gone",
    }
    assert decided["r003"]["decision"] == "dropped"


def test_caps_keep_the_best_of_each_value(tmp_path: Path) -> None:
    extra = ['{"kind": "cat"}', '{"kind": "cat"}', '{"kind": "dog"}', None, "{}", '{"kind": "cat"}']
    store = write_scores(tmp_path, extra=extra, aesthetic=[1, 3, 1, 1, 2, 2])
    decided = rows(store, manifest(caps={"by": "extra.kind", "most": 1, "prefer": ["aesthetic"]}))
    assert kept(decided) == ["r001", "r002", "r003", "r004"]
    assert decided["r000"] == {
        "decision": "dropped",
        "stage": "caps",
        "reason": "extra.kind: more than 1",
        "value": 3,
        "threshold": 1,
    }


def test_the_sample_is_seeded_and_grows_with_the_corpus(tmp_path: Path) -> None:
    small = write_scores(tmp_path / "small", min_side=[1] * 200)
    large = write_scores(tmp_path / "large", min_side=[1] * 400)
    half = set(kept(rows(small, manifest(sample=0.5))))
    assert 70 < len(half) < 130
    assert {i for i in kept(rows(large, manifest(sample=0.5))) if i < "r200"} == half
    assert len(kept(rows(small, manifest(sample=30)))) == 30
    assert kept(rows(small, manifest(sample=30))) != kept(rows(small, manifest(sample=30, seed=1)))
    assert len(kept(rows(small, manifest(sample=1000)))) == 200
    assert set(kept(rows(small, manifest(sample=10)))) < set(kept(rows(small, manifest(sample=30))))
    with pytest.raises(ValueError, match=r"select\.sample"):
        manifest(sample=-1)


def test_repeated_captions_are_counted_over_the_corpus(tmp_path: Path) -> None:
    captions = ["A dog", " a  DOG ", "a cat", None, "a dog"]
    store = write_scores(tmp_path, files=3, caption=captions)
    decided = rows(store, manifest(keep="caption_repeats <= 2"))
    assert kept(decided) == ["r002"] and decided["r000"]["value"] == 3
    assert decided["r003"]["reason"] == "caption_repeats <= 2 (missing value)"


def test_what_only_enlarging_could_encode_falls(tmp_path: Path) -> None:
    store = write_scores(tmp_path, width=[100, 64, 300], height=[63, 64, 64])
    decided = rows(store, manifest(encode={"size": 64, "upscale": False}))
    assert kept(decided) == ["r001", "r002"] and decided["r000"]["stage"] == "encode"


def test_columns_that_only_some_files_have_are_null_elsewhere(tmp_path: Path) -> None:
    write_scores(tmp_path, id=["z"], min_side=[5])
    store = Store(str(tmp_path))
    data = store.read("scores/000000-0000000000000000.parquet")
    write_scores(tmp_path, id=["a"], aesthetic=[1.0])
    store.write("scores/000001-0000000000000000.parquet", data)
    store.write("scores/_notes.parquet", b"no scores")
    assert kept(rows(store, manifest(keep="aesthetic > 0"))) == ["a"]
    assert kept(rows(store, manifest(keep="min_side > 0"))) == ["z"]


def test_scores_that_no_run_wrote_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no scores yet"):
        decide(Store(str(tmp_path)), manifest(), GATES, {})
    store = write_scores(tmp_path, id=["a", "a"], min_side=[1, 2])
    with pytest.raises(CurationError, match="a twice"):
        decide(store, manifest(), GATES, {})
    with pytest.raises(UsageError, match="no column 'minside'; did you mean 'min_side'"):
        decide(write_scores(tmp_path, min_side=[1]), manifest(keep="minside > 1"), GATES, {})
    with pytest.raises(UsageError, match="cannot be ordered by 'caption'"):
        store = write_scores(tmp_path, caption=["x"], sha256=["y"])
        decide(store, manifest(duplicates={"on": "bytes", "prefer": ["caption"]}), GATES, {})
    store.write("scores/000001-0000000000000000.parquet", b"PAR1 damaged")
    with pytest.raises(CurationError, match=r"000001.*cannot be read as scores"):
        decide(store, manifest(), GATES, {})


def test_an_error_class_has_nothing_particular() -> None:
    assert error_class("HTTP 404: https://x.org/a.jpg") == "HTTP 404: …"
    assert error_class("cannot open /data/7.jpg after 12.5 seconds") == "cannot open … after … seconds"
    assert error_class("'x'") == "…" and error_class("") == "unknown error"


RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "min_side": st.none() | st.integers(1, 9),
            "aesthetic": st.none() | st.integers(0, 4),
            "sha256": st.none() | st.sampled_from("abc"),
            "phash": st.none() | st.integers(0, 63),
            "embedding": st.none() | st.tuples(*[st.integers(1, 3)] * 3),
            "error": st.none() | st.just("it broke"),
        }
    ),
    min_size=1,
    max_size=14,
)


ONS = st.lists(st.sampled_from(["bytes", "phash", "embedding"]), min_size=1, max_size=3, unique=True)


@settings(max_examples=100)
@given(RECORDS, st.randoms(use_true_random=False), st.integers(1, 3), st.integers(1, 5), ONS)
def test_every_record_is_decided_once_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[dict[str, Any]],
    random: Any,
    files: int,
    sample: int,
    ons: list[str],
) -> None:
    columns = {name: [record[name] for record in records] for name in records[0]}
    if not any(columns["embedding"]):
        columns["embedding"][0] = (1, 1, 1)
    order = list(range(len(records)))
    random.shuffle(order)
    sections = {"bytes": 0, "phash": 1, "embedding": 0.99}
    made = manifest(
        keep=["aesthetic is null or aesthetic >= p10"],
        duplicates=[{"on": on, "threshold": sections[on], "prefer": ["aesthetic"]} for on in ons],
        caps={"by": "min_side", "most": 2},
        sample=sample,
    )  # fmt: skip
    gates: list[Gate] = [("a", "min_side is null or min_side > 1", None), ("b", None, None)]
    tables = [
        decide(write_scores(tmp_path_factory.mktemp("run"), n, o, **columns), made, gates, {})
        for n, o in ((1, None), (min(files, len(order)), order))
    ]
    assert tables[0].equals(tables[1])
    decided = tables[0].to_pylist()
    assert [row["id"] for row in decided] == [f"r{i:03d}" for i in range(len(records))]
    fate = {row["id"]: (row["decision"], row["stage"]) for row in decided}
    for row, record in zip(decided, records, strict=True):
        assert (row["decision"] == "quarantined") == (row["error"] is not None)
        assert (row["decision"] == "kept") == (row["stage"] is None) == (row["reason"] is None)
        if row["duplicate_of"]:
            assert fate[row["duplicate_of"]] in [("kept", None), ("dropped", "sample")]
            if len(ons) == 1:
                check_duplicate(row, record, records[int(row["duplicate_of"][1:])])
    assert sum(word == "kept" for word, _ in fate.values()) <= sample


def check_duplicate(row: Mapping[str, Any], one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """The named record is as near as the ledger says."""
    if row["reason"] == "bytes":
        assert one["sha256"] == other["sha256"] is not None
    elif row["reason"] == "phash":
        assert (one["phash"] ^ other["phash"]).bit_count() == row["value"] <= 1
    else:
        a, b = (np.array(record["embedding"] or (1, 1, 1)) for record in (one, other))
        cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        assert row["value"] == pytest.approx(cosine, abs=1e-5) and row["value"] >= 0.99


def test_many_embeddings_are_laid_out_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = list(np.random.default_rng(0).standard_normal((40, 8)))
    vectors[7], vectors[3] = vectors[30], None  # type: ignore[call-overload]
    store = write_scores(tmp_path, files=3, order=list(range(39, -1, -1)), embedding=vectors)
    made = manifest(duplicates={"on": "embedding"})
    in_memory = rows(store, made)
    monkeypatch.setattr(table, "IN_MEMORY", 0)
    assert rows(store, made) == in_memory and in_memory["r030"]["duplicate_of"] == "r007"
