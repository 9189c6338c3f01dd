"""The source's own columns in shards, and JSON that other readers take."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.encoding.extras import Extras, as_kind, chosen, common, kind_of
from curation.errors import UsageError
from curation.models import registry
from curation.phases import run
from curation.reporting.ledger import Ledger
from curation.shards import Shards
from curation.shards.sample import Sample, portable
from curation.shards.webdataset import TarShard, write

ROWS: list[dict[str, Any]] = [
    {"caption": None, "licence": None, "rating": None, "tags": [], "year": 1999, "mixed": 1},
    {"caption": "a red field", "licence": "CC-BY", "rating": 4, "tags": ["a"], "year": 2001, "mixed": "two"},
    {"caption": "a blue field", "licence": "CC0", "rating": 4.5, "tags": ["b", "c"], "year": 2**61, "mixed": [3]},
    {"caption": "a green field", "rating": 5, "author": {"name": "someone"}, "year": 2003},
]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = []
    for i, row in enumerate(ROWS):
        rng = np.random.default_rng(i)
        pixels = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        lines.append(json.dumps(row | {"file": f"{i}.png"}))
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    path = tmp_path / "manifest.yaml"
    path.write_text(
        "name: extras\nsource: {table: table.jsonl, media: file, caption: caption}\nscore: [resolution, phash]\n"
        "encode: {size: 64, reconstructions: 0}\n"
    )
    return path


def go(manifest: Path, out: Path, *overrides: str) -> Ledger:
    return run(str(manifest), str(out), overrides, engine="inline")


def json_of(out: Path) -> list[dict[str, Any]]:
    """The .json members of all tars."""
    found = []
    for path in sorted((out / "shards").rglob("*.tar")):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if name.endswith(".json"):
                    found.append(json.load(tar.extractfile(name)))  # type: ignore[arg-type]
    return found


def extras(out: Path) -> list[dict[str, Any]]:
    kept = [sample.meta.get("extra", {}) for sample in Shards(str(out / "shards"))]
    return sorted(kept, key=lambda extra: (extra.get("licence", ""), str(extra.get("rating", ""))))


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_samples_hold_the_columns_that_are_asked_for(manifest: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "run"
    go(manifest, out, "encode.extra=[licence, rating]", f"encode.shards.format={format}")
    assert extras(out) == [
        {},
        {"rating": 5.0},
        {"licence": "CC-BY", "rating": 4.0},
        {"licence": "CC0", "rating": 4.5},
    ]
    if format == "parquet":
        (path,) = (out / "shards").rglob("*.parquet")
        meta = [json.loads(text) for text in pq.read_table(path)["meta"].to_pylist()]
        assert {"licence": "CC0", "rating": 4.5} in [each.get("extra") for each in meta]


def test_all_of_them_and_none(manifest: Path, tmp_path: Path) -> None:
    go(manifest, tmp_path / "all", "encode.extra=true")
    found = {extra["year"]: extra for extra in extras(tmp_path / "all")}
    assert found[2001] == {"licence": "CC-BY", "rating": 4.0, "tags": ["a"], "year": 2001, "mixed": "two"}
    assert found[1999] == {"year": 1999, "mixed": "1"} and found[2**61]["mixed"] == "[3]"
    assert found[2003] == {"rating": 5.0, "author": '{"name": "someone"}', "year": 2003}
    go(manifest, tmp_path / "none")
    assert all("extra" not in sample.meta for sample in Shards(str(tmp_path / "none/shards")))


def test_another_choice_encodes_nothing_again(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(manifest, out)
    registry._open.clear()
    (tmp_path / "0.png").unlink()  # pixels that cannot be read any more are not missed
    go(manifest, out, "encode.extra=[licence]")
    assert [extra.get("licence") for extra in extras(out)] == [None, None, "CC-BY", "CC0"]


def test_a_value_that_changed_in_the_source_changes_the_sample(manifest: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "run", tmp_path / "table.jsonl"
    go(manifest, out, "encode.extra=[licence]")
    table.write_text(table.read_text().replace("CC-BY", "all rights reserved"))
    go(manifest, out, "encode.extra=[licence]")
    assert {"licence": "all rights reserved"} in extras(out)


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ("[caption]", "'caption' is the column of source: caption:"),
        ("[file]", "'file' is the column of source: media:"),
        ("[licens]", "no source has a column 'licens'; did you mean 'licence'?"),
    ],
)
def test_names_that_cannot_be_are_refused_by_the_plan(tmp_path: Path, extra: str, problem: str) -> None:
    (tmp_path / "table.csv").write_text("file,caption,licence\n0.png,a field,CC0\n")
    path = tmp_path / "manifest.yaml"
    path.write_text(
        "name: extras\nsource: {table: table.csv, media: file, caption: caption}\n"
        f"encode: {{size: 64, extra: {extra}}}\n"
    )
    with pytest.raises(UsageError, match=problem.replace("?", r"\?")):
        go(path, tmp_path / "run")


@pytest.mark.parametrize(
    ("values", "kind", "made"),
    [
        ([1, 2], "integer", [1, 2]),
        ([1, 2.5], "number", [1.0, 2.5]),
        ([True, False], "boolean", [True, False]),
        ([True, 1], "text", ["true", "1"]),
        (["a", 1], "text", ["a", "1"]),
        ([["a"], ["b", "c"]], "texts", [["a"], ["b", "c"]]),
        ([["a"], [1]], "text", ['["a"]', "[1]"]),
        ([2**63], "text", ["9223372036854775808"]),
        ([{"b": 1, "a": "\u00e9"}], "text", ['{"b": 1, "a": "\u00e9"}']),
    ],
)
def test_one_type_under_one_name(values: list[Any], kind: str, made: list[Any]) -> None:
    assert common({kind_of(value) for value in values}) == kind
    assert [as_kind(value, kind) for value in values] == made


def test_what_is_missing_is_left_out() -> None:
    text = json.dumps({"a": None, "b": [], "c": float("nan"), "d": "", "e": 0})
    assert chosen(text, True) == {"d": "", "e": 0}
    assert Extras({"e": "integer"}).typed(text) == {"e": 0} and chosen(None, True) == {}


def test_hashes_are_sixteen_hex_digits(manifest: Path, tmp_path: Path) -> None:
    go(manifest, tmp_path / "run")
    scored = [row for path in (tmp_path / "run/scores").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    expected = {f"{row['phash']:016x}" for row in scored if row["phash"] is not None}
    assert {row["scores"]["phash"] for row in json_of(tmp_path / "run")} == expected


def test_arrow_infers_one_schema_whatever_sample_comes_first(manifest: Path, tmp_path: Path) -> None:
    """As `datasets` does: a schema from the first samples, into which all others have to fit."""
    go(manifest, tmp_path / "run", "encode.extra=true")
    rows = json_of(tmp_path / "run")
    assert len(rows) == 4
    for first in range(len(rows)):
        order = rows[first:] + rows[:first]
        tables = [pa.Table.from_pylist([{"json": row}]) for row in order]
        whole = pa.concat_tables(tables, promote_options="default").schema
        for table, row in zip(tables, order, strict=True):
            assert "null" not in str(table.schema)
            pa.array([row], whole.field("json").type)
            pa.array([row], tables[0].schema.field("json").type)
        lines = "\n".join(json.dumps(row) for row in order).encode()
        read = pyarrow.json.read_json(io.BytesIO(lines), pyarrow.json.ReadOptions(block_size=len(lines) // 2))
        assert read.num_rows == 4


def test_what_has_no_type_is_not_written_and_lists_come_back(tmp_path: Path) -> None:
    meta = {"a": None, "b": float("inf"), "c": {"d": None, "e": float("nan"), "f": 1}, "captions": [], "g": {"h": None}}
    assert portable(meta) == {"c": {"f": 1}}
    write(tmp_path / "s.tar", [Sample("x", np.zeros((1, 1, 1, 1), np.float16), None, [], meta)])
    sample = TarShard(pa.py_buffer((tmp_path / "s.tar").read_bytes()), "s.tar")[0]
    assert sample.meta == {"c": {"f": 1}, "captions": [], "caption_sources": []} and sample.texts == []
