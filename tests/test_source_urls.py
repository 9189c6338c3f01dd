"""URL lists: img2dataset downloads each chunk once, on a worker; every failure is a row with its reason."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from webserver import Web, serve

from curation.errors import UsageError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source, read_chunk
from curation.sources.download import forget_failed
from curation.sources.fetch import fetch
from curation.sources.rows import Columns, table_row
from curation.stores.storage import Store

PICTURES = {f"/{i}.jpg": f"picture {i}".encode() * 100 for i in range(4)} | {"/b%20%C3%A9.png": b"\x89PNG odd"}


@pytest.fixture
def web() -> Iterator[Web]:
    with serve(dict(PICTURES)) as web:
        yield web


def chunks(base: Path, urls: list[str], size: int = 64, **more: Any) -> list[Any]:
    lines = (json.dumps({"url": url, "caption": f"c{i}"}) for i, url in enumerate(urls))
    (base / "list.jsonl").write_text("\n".join(lines))
    settings: dict[str, Any] = {
        "private_addresses": True,
        "timeout_s": 10,
        "retries": 0,
        "max_mb": 0.01,
        **more,
    }
    section = SourceSection(urls="list.jsonl", caption="caption", **settings)
    return list(open_source(section, str(base), Store(str(base / "run")).child("_work")).chunks(size))


def rows(base: Path, urls: list[str], size: int = 64, **more: Any) -> list[SourceRow]:
    return [row for chunk in chunks(base, urls, size, **more) for row in read_chunk(chunk)]


def test_pictures_arrive_as_they_are_and_are_fetched_from_the_run(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/{i}.jpg") for i in (3, 0, 2)] + [web.url("/b é.png"), web.url("/redirect/1.jpg")]
    found = rows(tmp_path, urls, 2)
    assert [(row.key, list(row.captions), row.error) for row in found] == [
        (url, [f"c{i}"], None) for i, url in enumerate(urls)
    ]
    expected = [PICTURES[path] for path in ("/3.jpg", "/0.jpg", "/2.jpg", "/b%20%C3%A9.png", "/1.jpg")]
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert [fetch(row.uri, max_bytes=9999, run=str(moved)) for row in found] == expected
    assert found[0].extra == {"url": urls[0]}


def test_each_failure_is_a_row_with_its_reason(web: Web, tmp_path: Path) -> None:
    web.files["/huge.jpg"] = bytes(20_000)
    reasons = {
        web.url("/gone.jpg"): "HTTP Error 404: Not Found",
        web.url("/silent/"): "timed out",
        web.url("/drip/body"): "timed out",
        web.url("/redirect/gone.jpg"): "HTTP Error 404: Not Found",
        web.url("/loop/"): "infinite loop",
        web.url("/redirect/file:///etc/passwd"): "is not allowed",
        web.url("/html/x.jpg"): "image decoding error: the server sent an HTML page",
        web.url("/noai/1.jpg"): "Use of image disallowed by X-Robots-Tag directive",
        web.url("/huge.jpg"): "it has 20000 bytes; at most 10000 are read",
        web.url("/cut/"): "IncompleteRead",
        "http://127.0.0.1:9/refused.jpg": "Connection refused",
        "http://no host/x.jpg": "can't contain control characters|cannot be downloaded",
        "relative/path.jpg": "is not an http or https URL",
        "file:///etc/passwd": "is not an http or https URL",
    }
    found = rows(tmp_path, [*reasons, web.url("/0.jpg")], timeout_s=2)
    assert [row.error for row in found[-1:]] == [None]
    for row, (url, reason) in zip(found, reasons.items(), strict=False):
        assert row.key == url and any(part in str(row.error) for part in reason.split("|")), (url, row.error)


def test_nothing_inside_is_reached_without_leave(web: Web, tmp_path: Path) -> None:
    found = rows(tmp_path, [web.url("/0.jpg"), f"http://localhost:{web.server_port}/0.jpg"], private_addresses=False)
    assert all("is not a public address" in str(row.error) for row in found)
    assert web.requests.total() == 0


def test_nothing_is_downloaded_twice(web: Web, tmp_path: Path) -> None:
    urls = [web.url("/0.jpg"), web.url("/gone.jpg"), web.url("/0.jpg"), web.url("/1.jpg")]
    first = rows(tmp_path, urls)
    assert rows(tmp_path, urls) == first and first[0].uri == first[2].uri
    assert web.requests == {"/0.jpg": 1, "/1.jpg": 1, "/gone.jpg": 1}


def test_two_runs_keep_the_same_bytes(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/{i}.jpg") for i in range(4)]
    (tmp_path / "a").mkdir()
    first = rows(tmp_path, urls)
    kept = {p.name: p.read_bytes() for p in (tmp_path / "run/_work/downloads").iterdir()}
    (tmp_path / "run").rename(tmp_path / "old")
    assert rows(tmp_path, urls) == first
    assert {p.name: p.read_bytes() for p in (tmp_path / "run/_work/downloads").iterdir()} == kept


def test_retries_are_made_and_forgotten_failures_are_tried_again(web: Web, tmp_path: Path) -> None:
    urls = [web.url("/flaky/0.jpg"), web.url("/late.jpg"), web.url("/1.jpg")]
    found = rows(tmp_path, urls, retries=1)
    assert [bool(row.error) for row in found] == [False, True, False]
    web.files["/late.jpg"] = b"now it is here"
    assert forget_failed(Store(str(tmp_path / "run/_work/downloads"))) == 1
    again = rows(tmp_path, urls, retries=1)
    assert [row.error for row in again] == [None] * 3 and again[0] == found[0] and again[2] == found[2]
    assert fetch(again[1].uri, max_bytes=99, run=str(tmp_path / "run")) == b"now it is here"
    assert web.requests["/1.jpg"] == 1 and web.requests["/late.jpg"] == 3


def test_what_is_kept_is_an_ordinary_tar_and_an_index_in_img2datasets_columns(web: Web, tmp_path: Path) -> None:
    rows(tmp_path, [web.url("/0.jpg"), web.url("/gone.jpg"), web.url("/1.jpg")])
    (index,) = (tmp_path / "run/_work/downloads").glob("*.parquet")
    table = pq.read_table(index)
    assert sorted(table["status"].to_pylist()) == ["failed_to_download", "success", "success"]
    (tar,) = (tmp_path / "run/_work/downloads").glob("*.tar")
    with tarfile.open(tar) as archive:
        assert archive.getnames() == ["000000000.jpg", "000000002.jpg"]


def test_chunks_are_made_without_downloading(web: Web, tmp_path: Path) -> None:
    made = chunks(tmp_path, [web.url(f"/{i}.jpg") for i in range(4)], 2)
    assert [(chunk.number, chunk.kind, chunk.rows) for chunk in made] == [(0, "urls", 2), (1, "urls", 2)]
    assert web.requests.total() == 0
    assert json.loads(json.dumps(made[0].args)) == made[0].args


def test_a_list_without_a_url_column_says_so(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("link,caption\nhttp://x.org,y\n")
    with pytest.raises(UsageError, match=r"say which column of list\.csv is `media:`; it has link, caption"):
        open_source(SourceSection(urls="list.csv"), str(tmp_path), Store(str(tmp_path)))


@pytest.mark.parametrize(
    "margin",
    [" ", "\n", "\t", "\ufeff", "\u200b", "\u200e", "\u2060", "\xa0", "\u3000", "\x00", "\x1f", "\xad", " \ufeff\r\n"],
)
def test_what_is_invisible_round_a_url_is_no_part_of_it(web: Web, tmp_path: Path, margin: str) -> None:
    url = web.url("/0.jpg")
    found = rows(tmp_path, [margin + url, url + margin, margin + url + margin, url])
    assert [(row.key, row.error, row.uri) for row in found] == [(url, None, found[0].uri)] * 4
    assert web.requests == {"/0.jpg": 1}
    assert table_row({"file": f"a{margin}"}, Columns("file", None, None, "/d/t.jsonl")).key == f"a{margin}"
