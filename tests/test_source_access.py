"""What a table's cells may name, and what is refused with the line that would allow it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import CurationError
from curation.manifest import SourceSection
from curation.sources import open_source, read_chunk
from curation.sources.access import Forbidden, permitted
from curation.sources.fetch import fetch
from curation.stores.storage import Store

HERE, BUCKET, SITE = (
    "/data/captions.jsonl",
    "s3://corpus/tables/t.parquet?region=eu-1&scheme=https",
    "https://host/t.csv",
)


@pytest.mark.parametrize(
    ("cell", "table", "address"),
    [
        ("a.jpg", HERE, "/data/a.jpg"),
        ("../b/a.jpg", HERE, "/b/a.jpg"),
        ("/elsewhere/a.jpg", HERE, "/elsewhere/a.jpg"),
        ("file:///data/a.jpg", HERE, "file:///data/a.jpg"),
        ("https://host/a.jpg?size=2", HERE, "https://host/a.jpg?size=2"),
        ("http://127.0.0.1/a.jpg", HERE, "http://127.0.0.1/a.jpg"),  # the guard of http refuses it when it is fetched
        ("a.jpg", BUCKET, "s3://corpus/tables/a.jpg?region=eu-1&scheme=https"),
        ("s3://corpus/other/a.jpg", BUCKET, "s3://corpus/other/a.jpg?region=eu-1&scheme=https"),
        ("S3://corpus/a.jpg", BUCKET, "S3://corpus/a.jpg?region=eu-1&scheme=https"),
        ("https://host/a.jpg", BUCKET, "https://host/a.jpg"),
        ("pictures/a.jpg", SITE, "https://host/pictures/a.jpg"),
    ],
)
def test_a_cell_may_name(cell: str, table: str, address: str) -> None:
    assert permitted(cell, table) == address


@pytest.mark.parametrize(
    ("cell", "table", "words"),
    [
        ("s3://x/a.png?endpoint_override=10.0.0.1:9000&scheme=http", HERE, "options behind a"),
        ("s3://corpus/a.png?endpoint_override=10.0.0.1:9000&scheme=http", BUCKET, "options behind a"),
        ("s3://other/a.png", HERE, r"allow: \[s3://other/\]"),
        ("s3://other/a.png", BUCKET, r"allow: \[s3://other/\]"),
        ("s3://corpus2/a.png", BUCKET, r"allow: \[s3://corpus2/\]"),
        ("s3://corpus/../other/a.png", BUCKET, "not of the place"),
        ("gs://corpus/a.png", BUCKET, r"allow: \[gs://corpus/\]"),
        ("webhdfs://10.0.0.1:50070/a.png", HERE, r"allow: \[webhdfs://10.0.0.1:50070/\]"),
        ("ftp://host/a.png", HERE, "would allow it"),
        ("data://x", HERE, "would allow it"),
        ("jupyter://x/a", HERE, "would allow it"),
        ("hf://datasets/x/a.png", HERE, "would allow it"),
        ("memory://x/a.png", HERE, "would allow it"),
        ("/etc/passwd", BUCKET, "a file of this machine"),
        ("file:///etc/passwd", BUCKET, "a file of this machine"),
        ("/etc/passwd", SITE, "a file of this machine"),
        ("file://localhost/etc/passwd", SITE, "a file of this machine"),
    ],
)
def test_a_cell_may_not_name(cell: str, table: str, words: str) -> None:
    with pytest.raises(Forbidden, match=words):
        permitted(cell, table)


def test_a_manifest_allows_prefixes_and_their_options_hold() -> None:
    allow = ["s3://other/photos/?region=us-2", "gs://more/"]
    assert permitted("s3://other/photos/a.png", HERE, allow) == "s3://other/photos/a.png?region=us-2"
    assert permitted("gs://more/x/a.png", BUCKET, allow) == "gs://more/x/a.png"
    for cell in ("s3://other/private/a.png", "s3://other/photos/../private/a.png", "s3://other/photosx/a.png"):
        with pytest.raises(Forbidden):
            permitted(cell, HERE, allow)
    for wrong in ("other/", "s3://", "s3://bucket", "/local/"):
        with pytest.raises(ValueError, match="no prefix that can be allowed"):
            SourceSection(table="t.csv", allow=[wrong])


def test_a_refused_cell_costs_its_row_alone(tmp_path: Path) -> None:
    cells = ["a.png", "s3://x/a.png?endpoint_override=127.0.0.1:9&scheme=http", "s3://y/a.png", "b.png"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"file": cell}) + "\n" for cell in cells))
    section = SourceSection(table="t.jsonl", media="file", allow=["s3://y/"])
    source = open_source(section, str(tmp_path), Store(str(tmp_path / "work")))
    rows = [row for chunk in source.chunks(64) for row in read_chunk(chunk)]
    assert [row.uri for row in rows if not row.error] == [
        str(tmp_path / "a.png"),
        "s3://y/a.png",
        str(tmp_path / "b.png"),
    ]
    assert ["options behind a ?" in row.error for row in rows if row.error] == [True]


def test_a_path_beside_empty_bytes_is_held_to_the_same(tmp_path: Path) -> None:
    """The struct of `datasets`' Image feature: without bytes, its path is fetched."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": None, "path": "s3://x/a.png"}, {"bytes": None, "path": "a.png"}], kind)
    pq.write_table(pa.table({"image": cells}), tmp_path / "t.parquet")
    (tmp_path / "a.png").write_bytes(b"pixels")
    with pytest.raises(CurationError, match=r"allow: \[s3://x/\]"):
        fetch(f"{tmp_path}/t.parquet#row=0&column=image", max_bytes=100)
    assert fetch(f"{tmp_path}/t.parquet#row=1&column=image", max_bytes=100) == b"pixels"
