"""Which records `curate why` tells of, and how many of them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.scores import write_scores

from curation import rundir
from curation.errors import UsageError
from curation.load import load
from curation.manifest import Manifest
from curation.plan import make_plan
from curation.reporting.why import find, tell
from curation.selection.select import Gate, decide
from curation.stores.storage import Store

KEYS = ["film.mp4"] * 3 + ["a/1.jpg", "b/1.jpg", "a/10.jpg", "cafe\u0301.png", "twice", "twice"]
URIS = [f"x/{key}" for key in KEYS[:-1]] + ["y/twice"]


def scores(folder: Path, keys: list[str], **columns: Any) -> Store:
    return write_scores(folder, files=3, id=[f"{i:016x}" for i in range(len(keys))], source_key=keys, **columns)


@pytest.mark.parametrize(
    ("asked", "places"),
    [
        ("film.mp4", [0, 1, 2]),
        ("film", [0, 1, 2]),
        ("a/1.jpg", [3]),
        ("b/", [4]),
        ("10", [5]),
        ("caf\u00e9", [6]),
        ("caf\u00e9.png", [6]),
        ("twice", [7, 8]),
        ("0000000000000004", [4]),
        ("00000000000000", [*range(9)]),
    ],
)
def test_finds_all_records_by_a_key_an_id_or_a_part(tmp_path: Path, asked: str, places: list[int]) -> None:
    rows, count = find(scores(tmp_path, KEYS), asked)
    assert [int(row["id"], 16) for row in rows] == places and count == len(places)


def test_a_part_of_several_keys_lists_them(tmp_path: Path) -> None:
    store = scores(tmp_path, [*KEYS, *(f"many/{i}" for i in range(25))])
    with pytest.raises(UsageError, match=r"3 source keys with '\.jpg' in them; name one:\n  a/1\.jpg\n  b/1\.jpg\n"):
        find(store, ".jpg")
    with pytest.raises(UsageError, match=r"many/19\n  and 5 more$"):
        find(store, "many/")
    with pytest.raises(UsageError, match=r"no record with .* 'a/2\.jpg'; near to it: a/1\.jpg"):
        find(store, "a/2.jpg")
    with pytest.raises(UsageError, match="no record with"):
        find(store, "")


def told(folder: Path, capsys: pytest.CaptureFixture[str], asked: str) -> str:
    tell(str(folder), asked)
    return capsys.readouterr().out


def test_tells_of_each_record_without_what_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = 25
    store = scores(
        tmp_path, ["film.mp4"] * count, start_s=[float(i) for i in range(count)], end_s=[i + 1.0 for i in range(count)],
        min_side=pa.array([100, None, *[7] * (count - 2)], pa.int32()), scored=[["resolution"]] * count,
    )  # fmt: skip
    (tmp_path / "t.yaml").write_text("name: t\nsource: {table: t.jsonl, media: m}\nscore: [resolution]\n")
    rundir.write_manifest(store, make_plan(load(str(tmp_path / "t.yaml"))))
    made = Manifest.model_validate({"name": "t", "source": {"table": "t"}, "select": {"keep": "min_side > 50"}})
    rundir.write_selection(store, decide(store, made, [Gate("resolution")], {}))
    out = told(tmp_path, capsys, "film")
    assert out.startswith("25 records\n\nid          0000000000000000\nsource      film.mp4\nclip        0 s to 1 s\n")
    assert out.count("\nid          ") == 20 and out.endswith("\n\nand 5 more\n")
    assert "None" not in out and "nan" not in out
    assert "resolution  min_side=100\ndecision    kept\n" in out.replace("probe       not scored\n", "")
    assert "resolution  no value\n" in out and "decision    dropped at select: min_side > 50 (missing value)\n" in out
    assert told(tmp_path, capsys, f"{3:016x}").count("\nid ") == 0
