"""The quickstart keeps its promise: every planted defect found, no clean record lost, the same corpus every time."""

import hashlib
import json
from pathlib import Path

import pytest

from curation import rundir
from curation.quickstart.build import build
from curation.quickstart.check import Tally, check
from curation.quickstart.defects import DEFECTS
from curation.run import run
from curation.shards.reader import Shards
from curation.storage import Store

MANIFEST = Path(__file__).parents[1] / "manifests" / "quickstart.yaml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def done(corpus: Path) -> Path:
    """A finished run of the quickstart's own manifest."""
    out = corpus / "run"
    run(str(MANIFEST), str(out), [f"source.table={corpus / 'captions.jsonl'}"], engine="inline")
    return out


def test_the_corpus_is_the_same_every_time(corpus: Path, tmp_path: Path) -> None:
    def digest(folder: Path) -> list[str]:
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*.jp*"))]

    assert build(tmp_path) == len((corpus / "captions.jsonl").read_text().splitlines()) == 211
    assert digest(tmp_path) == digest(corpus)


def test_defects_are_planted_in_the_numbers_that_are_told(corpus: Path) -> None:
    planted = [json.loads(line)["planted"] for line in (corpus / "planted.jsonl").read_text().splitlines()]
    assert {name: planted.count(name) for name in DEFECTS} == {name: defect.count for name, defect in DEFECTS.items()}


@pytest.mark.slow
def test_every_planted_defect_is_found_and_no_clean_record_is_lost(corpus: Path, done: Path) -> None:
    expected = {name: Tally(defect.count, defect.count, 0) for name, defect in DEFECTS.items()}
    assert check(str(done), corpus / "planted.jsonl") == expected


@pytest.mark.slow
def test_clean_records_end_in_the_shards(corpus: Path, done: Path) -> None:
    truth = {
        row["file"]: row["planted"] for row in map(json.loads, (corpus / "planted.jsonl").read_text().splitlines())
    }
    kept = {sample.meta["source_key"] for sample in Shards(str(done / "shards"))}
    lost = {file for file, planted in truth.items() if planted is None and file not in kept}
    decided = {row["id"]: row for row in rundir.read_selection(Store(str(done))).to_pylist()}
    assert len(lost) <= DEFECTS["exact duplicate"].count + DEFECTS["near duplicate"].count
    assert {row["stage"] for row in decided.values() if row["decision"] == "kept"} == {None}
