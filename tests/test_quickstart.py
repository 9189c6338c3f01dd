"""The quickstart keeps its promise: every planted defect found, no clean record lost, the same corpus every time."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from curation.errors import CurationError
from curation.phases import run
from curation.quickstart.build import build
from curation.quickstart.check import Tally, check
from curation.quickstart.defects import DEFECTS
from curation.quickstart.photos import PARTS
from curation.shards.reader import Shards

MANIFEST = Path(__file__).parents[1] / "manifests" / "quickstart.yaml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def done(corpus: Path) -> Path:
    """A finished run of the quickstart's own manifest."""
    out = corpus.parent / "run"
    run(str(MANIFEST), str(out), [f"source.table={corpus / 'captions.jsonl'}"], engine="inline")
    return out


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_corpus_is_the_same_every_time(corpus: Path, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = [file for file in folder.rglob("*") if file.is_file()]
        return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    assert build(tmp_path) == len(rows(corpus / "captions.jsonl")) == 231
    assert digests(tmp_path) == digests(corpus)


def test_defects_are_planted_in_the_numbers_that_are_told(corpus: Path) -> None:
    planted = [row["planted"] for row in rows(corpus / "planted.jsonl")]
    assert {name: planted.count(name) for name in DEFECTS} == {name: defect.count for name, defect in DEFECTS.items()}
    assert planted.count(None) == len(planted) - sum(defect.count for defect in DEFECTS.values()) == 124


def test_copies_name_their_originals_and_none_is_copied_twice(corpus: Path) -> None:
    truth = {row["file"]: row for row in rows(corpus / "planted.jsonl")}
    originals = [row["copy_of"] for row in truth.values() if row["copy_of"]]
    assert len(originals) == len(set(originals)) == DEFECTS["exact duplicate"].count + DEFECTS["near duplicate"].count
    assert {truth[file]["planted"] for file in originals} == {None}
    for file, row in truth.items():
        if row["planted"] == "exact duplicate":
            assert (corpus / file).read_bytes() == (corpus / row["copy_of"]).read_bytes()


def test_parts_of_a_photo_do_not_overlap() -> None:
    for boxes in PARTS.values():
        for number, (left, top, right, bottom) in enumerate(boxes):
            for other in list(boxes)[:number]:
                assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_every_planted_defect_is_found_and_no_clean_record_is_lost(corpus: Path, done: Path) -> None:
    expected = {name: Tally(defect.count, defect.count, 0) for name, defect in DEFECTS.items()}
    assert check(str(done), corpus / "planted.jsonl") == expected


def test_misses_and_false_alarms_are_counted(corpus: Path, done: Path, tmp_path: Path) -> None:
    truth = rows(corpus / "planted.jsonl")
    next(row for row in truth if row["planted"] == "tiny")["planted"] = None
    next(row for row in truth if row["planted"] == "wrong extension")["planted"] = "blurred"
    copy = next(row for row in truth if row["planted"] == "near duplicate")
    copy |= {"planted": None, "copy_of": None}
    altered = tmp_path / "planted.jsonl"
    altered.write_text("".join(json.dumps(row) + "\n" for row in truth))

    tallies = check(str(done), altered)

    assert tallies["tiny"] == Tally(7, 7, 1)
    assert tallies["blurred"] == Tally(11, 10, 0)
    assert tallies["near duplicate"] == Tally(15, 15, 1)


def test_a_run_of_another_corpus_is_refused(corpus: Path, done: Path, tmp_path: Path) -> None:
    (tmp_path / "planted.jsonl").write_text('{"file": "images/9999.jpg", "planted": null, "copy_of": null}\n')
    with pytest.raises(CurationError, match="not of this corpus"):
        check(str(done), tmp_path / "planted.jsonl")
    with pytest.raises(CurationError, match=r"no planted\.jsonl"):
        check(str(done), corpus / "images")


def test_clean_pictures_end_in_the_shards_once_each(corpus: Path, done: Path) -> None:
    """A clean record is there itself, or its planted copy in its stead; nothing else but letterboxes and PNGs is."""
    truth = {row["file"]: row for row in rows(corpus / "planted.jsonl")}
    kept = [sample.meta["source_key"] for sample in Shards(str(done / "shards"))]
    pictures = [truth[file]["copy_of"] or file for file in kept]
    clean = {file for file, row in truth.items() if row["planted"] is None}
    harmless = {file for file, row in truth.items() if row["planted"] in ("letterboxed", "wrong extension")}
    assert len(pictures) == len(set(pictures))
    assert set(pictures) == clean | harmless


@pytest.mark.parametrize(
    ("column", "threshold", "low", "high"),
    [
        ("min_side", 64, 30, 90),
        ("sharpness", 20, 8, 60),
        ("flat", 0.97, 0.6, 0.99),
        ("similarity", 0.11, 0.06, 0.16),
        ("text_area", 0.04, 0.01, 0.07),
        ("punsafe", 0.5, 0.3, 0.8),
        ("aesthetic", 3.0, 0.0, 5.0),
    ],
)
def test_no_record_is_close_to_a_threshold(done: Path, column: str, threshold: float, low: float, high: float) -> None:
    """So that another machine's last digits cannot change what is found."""
    assert (
        f"{column} {'<' if column in ('flat', 'text_area', 'punsafe') else '>='} {threshold:g}" in MANIFEST.read_text()
    )
    values = ds.dataset(done / "scores").to_table(columns=[column])[column].drop_null().to_pylist()
    assert low < threshold < high
    assert [value for value in values if low < value < high] == []
