"""Lists of records for other programs, and what differs between two runs."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.corpus import write_corpus

from curation.errors import UsageError
from curation.phases import reselect, run
from curation.reporting.diff import diff
from curation.reporting.export import COLUMNS, export_list
from curation.stores.storage import Store

MANIFEST = """\
name: listed
source: {{table: {table}, media: file, caption: caption}}
score:
  - resolution: {{keep: "min_side >= 70"}}
  - quality
select: {{duplicates: exact}}
"""


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs over 12 pictures of which 2 are small and 1 stands twice; the second asks for wider pictures."""
    table = write_corpus(tmp_path / "corpus", 12, odd={3: (60, 60), 4: (64, 64)})
    (tmp_path / "corpus" / "0011.jpg").write_bytes((tmp_path / "corpus" / "0005.jpg").read_bytes())
    (tmp_path / "manifest.yaml").write_text(MANIFEST.format(table=table))
    for name in ("one", "two"):
        run(str(tmp_path / "manifest.yaml"), str(tmp_path / name), [], engine="inline")
    reselect(str(tmp_path / "two"), ["score.resolution.keep=min_side >= 70 and width >= 100"])
    return [tmp_path / "one", tmp_path / "two"]


def test_a_list_of_one_reason_in_each_format(runs: list[Path], tmp_path: Path) -> None:
    wanted = {"0003.jpg", "0004.jpg"}
    for reason in ("resolution", "min_side >= 70", "resolution: min_side >= 70"):
        assert export_list(str(runs[0]), [reason], str(tmp_path / "list.csv")) == 2
    rows = list(csv.DictReader(io.StringIO((tmp_path / "list.csv").read_text())))
    assert tuple(rows[0]) == COLUMNS and {row["source_key"] for row in rows} == wanted
    assert {(row["value"], row["threshold"]) for row in rows} == {("60", "70"), ("64", "70")}
    export_list(str(runs[0]), ["resolution"], str(tmp_path / "list.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "list.jsonl").read_text().splitlines()]
    assert {line["source_key"] for line in lines} == wanted and "duplicate_of" not in lines[0]
    export_list(str(runs[0]), ["resolution"], str(tmp_path / "list.parquet"))
    assert pq.read_table(tmp_path / "list.parquet").column_names == list(COLUMNS)


def test_without_a_reason_all_records_are_listed(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert export_list(str(runs[0]), [], "-") == 12
    assert len(capsys.readouterr().out.splitlines()) == 13
    assert export_list(str(runs[0]), ["kept", "bytes"], "-") == 10


def test_a_reason_that_no_record_has_and_an_unknown_format_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no record has it; did you mean 'resolution'"):
        export_list(str(runs[0]), ["resolutoin"], "-")
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.parquet"):
        export_list(str(runs[0]), [], str(tmp_path / "list.txt"))


def test_what_differs_between_two_decisions(runs: list[Path]) -> None:
    lines = list(diff(*(Store(str(directory)) for directory in runs)))
    assert lines[:2] == [
        "Manifest",
        "  score.resolution.keep: min_side >= 70 -> min_side >= 70 and width >= 100",
    ]
    assert lines[2:4] == ["Models", "  the same in both"]
    moved = {0, 5, 10}  # 96 px wide; 11 is a copy of 5
    assert f"  kept: 9 -> {9 - len(moved)} (-3)" in lines
    assert any(line.startswith("  3: kept -> dropped at resolution: width >= 100: ") for line in lines)


def test_a_run_differs_from_itself_in_nothing(runs: list[Path]) -> None:
    lines = list(diff(Store(str(runs[0])), Store(str(runs[0]))))
    assert [line.strip() for line in lines[1::2]] == ["the same in both"] * 4
