"""An object store is a store like any other: the same commits, sources and locks, on a real S3 server."""

import json
import pickle
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import boto3
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from helpers.training import settings, shards, trained
from moto.server import ThreadedMotoServer

from curation.errors import CurationError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source, read_chunk
from curation.sources.fetch import fetch
from curation.stores.location import locate
from curation.stores.lock import RunLock
from curation.stores.storage import Entry, Store
from curation.trainer.checkpoint import latest
from curation.trainer.train import train


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def options(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The query of an S3 URL; the credentials come from the environment, as in production."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return f"?endpoint_override={quote(server, safe='')}&region=us-east-1"


@pytest.fixture
def client(server: str, options: str) -> object:
    return boto3.client("s3", endpoint_url=server, region_name="us-east-1")


@pytest.fixture
def store(client: object, options: str) -> Store:
    bucket = f"b{uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)  # type: ignore[attr-defined]
    return Store(f"s3://{bucket}/runs/one{options}")


def rows(section: SourceSection, base: str, work: Store, size: int = 2) -> list[SourceRow]:
    return [row for chunk in open_source(section, base, work).chunks(size) for row in read_chunk(chunk)]


def test_a_store_on_s3_writes_lists_reads_and_deletes(store: Store, tmp_path: Path) -> None:
    store.write("scores/a b#1%20.parquet", b"12")
    store.write("run.json", b"{}")
    store.write("empty", b"")
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 50_000)
    store.put("shards/00000.tar", big)
    assert store.list() == [
        Entry("empty", 0),
        Entry("run.json", 2),
        Entry("scores/a b#1%20.parquet", 2),
        Entry("shards/00000.tar", 12_800_000),
    ]
    assert store.child("scores").list() == [Entry("a b#1%20.parquet", 2)]
    assert store.read("shards/00000.tar") == big.read_bytes() and store.read("empty") == b""
    assert pickle.loads(pickle.dumps(store)).read("run.json") == b"{}"
    assert fetch(store.uri("scores/a b#1%20.parquet"), max_bytes=9) == b"12"
    with store.open("shards/00000.tar") as file:
        file.seek(12_799_999)
        assert file.read() == b"\xff"
    store.delete("run.json")
    store.delete("run.json")
    assert not store.exists("run.json") and not store.exists("shards") and store.list("nothing") == []
    with pytest.raises(CurationError, match=r"nothing.json.* does not exist"):
        store.read("nothing.json")


def test_an_object_is_there_only_when_it_is_complete(store: Store, client: object) -> None:
    """While the parts of an upload arrive, readers see the old object."""
    store.write("shards/00000.tar", b"old")
    with store.filesystem.open_output_stream(store.path("shards/00000.tar")) as stream:
        stream.write(bytes(12_000_000))
        assert store.read("shards/00000.tar") == b"old" and store.list() == [Entry("shards/00000.tar", 3)]
    assert store.size("shards/00000.tar") == 12_000_000


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_a_training_reads_and_writes_objects(store: Store, tmp_path: Path, format: str) -> None:
    """Stopped and resumed there, it is the training of a local disk to the last bit."""
    root = shards(tmp_path / "shards", format=format)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        store.put(f"shards/{path.relative_to(root)}", path)
    local = trained(root, tmp_path / "local", steps=4)
    for steps in (2, 4):
        out = train(store.child("shards").root, None, settings(steps=steps))
    assert Store(out) == store.child("train")
    saved = latest(Store(out))
    assert saved and saved.step == 4
    assert all(torch.equal(tensor, local[part][name]) for part in local for name, tensor in saved.tensors(part).items())
    lines = Store(out).read("metrics.jsonl").decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_a_missing_bucket_is_a_sentence(options: str) -> None:
    with pytest.raises(CurationError, match=r"s3://no-such-bucket/x.* cannot be written|does not exist"):
        Store(f"s3://no-such-bucket{options}").write("x", b"1")


def test_the_endpoint_may_come_from_the_environment(store: Store, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("x", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    plain = store.root.partition("?")[0]
    assert Store(plain).read("x") == b"1"


def test_pyarrow_reads_scores_through_the_store(store: Store) -> None:
    for i in range(3):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": [f"{i}"]}), sink)
        store.write(f"scores/{i}.parquet", sink.getvalue().to_pybytes())
    scores = ds.dataset(store.path("scores"), filesystem=store.filesystem, format="parquet")
    assert sorted(scores.to_table()["id"].to_pylist()) == ["0", "1", "2"]


@pytest.fixture
def data(store: Store) -> Store:
    """A bucket's folder with pictures and every kind of table that names them."""
    data = Store(store.root.replace("/runs/one", "/data"))
    for i in range(5):
        data.write(f"photos/{i}.jpg", f"picture {i}".encode())
        data.write(f"photos/{i}.txt", f"caption {i}".encode())
    cells = [{"file": f"photos/{i}.jpg", "caption": f"caption {i}"} for i in range(5)]
    data.write("a-0.jsonl", "\n".join(map(json.dumps, cells[:3])).encode())
    data.write("a-1.jsonl", "\n".join(map(json.dumps, cells[3:])).encode())
    data.write("t.csv", ("file,caption\n" + "\n".join(f"{c['file']},{c['caption']}" for c in cells)).encode())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(cells), sink)
    data.write("t.parquet", sink.getvalue().to_pybytes())
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for i in range(5):
            for extension, text in (("jpg", f"picture {i}"), ("txt", f"caption {i}")):
                info = tarfile.TarInfo(f"{i}.{extension}")
                info.size = len(text)
                tar.addfile(info, BytesIO(text.encode()))
    data.write("00000.tar", packed.getvalue())
    return data


@pytest.mark.parametrize(
    "source",
    [
        {"table": "a-*.jsonl", "media": "file", "caption": "caption"},
        {"table": "a-{0..1}.jsonl", "media": "file", "caption": "caption"},
        {"table": "t.csv", "media": "file", "caption": "caption"},
        {"table": "t.parquet", "media": "file", "caption": "caption"},
        {"folder": "photos"},
        {"webdataset": "*.tar"},
    ],
)
def test_every_source_reads_from_s3(data: Store, store: Store, source: dict[str, str]) -> None:
    found = rows(SourceSection(**source), data.root, store)  # type: ignore[arg-type]
    assert [list(row.captions) for row in found] == [[f"caption {i}"] for i in range(5)]
    assert [fetch(row.uri, max_bytes=99) for row in found] == [f"picture {i}".encode() for i in range(5)]
    (kind, pattern), *rest = source.items()
    head, mark, query = data.root.partition("?")
    absolute = {kind: f"{head}/{pattern}{mark}{query}", **dict(rest)}
    assert rows(SourceSection(**absolute), "/elsewhere", store) == found  # type: ignore[arg-type]


def test_one_run_per_folder_on_s3_too(store: Store) -> None:
    with RunLock(store, settle_s=0.01):
        with pytest.raises(CurationError, match=r"another run is working in this directory"):
            RunLock(store, settle_s=0.01).__enter__()
        store.write("run.json", b"{}")
    assert store.list() == [Entry("run.json", 2)]


def test_filesystems_are_shared(store: Store) -> None:
    assert locate(store.root)[0] is locate(store.uri("x"))[0]


NAMES = [
    "plain.jpg", "two words.jpg", "50% off.jpg", "take #1.jpg", "what is this?.jpg", "a?b=1&c=2.jpg", "x?.jpg",
    "café.jpg", "x=1&y=2.jpg", "[1] (copy).jpg", "semi;colon.jpg", "star*.jpg", "tilde~.jpg", "100%25.jpg",
    "a.jpg#offset=0&size=1",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_names_of_objects_are_names_and_not_addresses(store: Store, client: Any, kind: str) -> None:
    """What no path can name, an empty part, costs its own record."""
    bucket = store.root.partition("://")[2].partition("/")[0]
    names = [name for name in NAMES if kind == "table" or name.endswith(".jpg")]
    for name in [*names, "double//slash.jpg"]:
        client.put_object(Bucket=bucket, Key=f"in/{name}", Body=name.encode())
        client.put_object(Bucket=bucket, Key=f"in/{name.rpartition('.')[0]}.txt", Body=b"caption")
    lines = [json.dumps({"file": f"../in/{name}"}) for name in [*names, "double//slash.jpg"]]
    data = Store(store.root.replace("/runs/one", "/data"))
    data.write("rows.jsonl", "\n".join(lines).encode())
    if kind == "folder":
        found = rows(SourceSection(folder="../in"), data.root, store)
    else:
        found = rows(SourceSection(table="rows.jsonl", media="file"), data.root, store)
    assert {fetch(row.uri, max_bytes=99) for row in found[:-1]} == {name.encode() for name in names}
    assert len(found) == len(names) + 1
    if kind == "table":
        with pytest.raises(CurationError, match=r"double//slash.jpg.* cannot be read: Empty path component"):
            fetch(found[-1].uri, max_bytes=99)
    else:
        assert "double//slash.jpg: its name has an empty part" in str(found[-1].error)


def test_a_pattern_may_name_tables_with_odd_names(store: Store) -> None:
    data = Store(store.root.replace("/runs/one", "/what?"))
    for i in range(2):
        data.write(f"rows? {i}.jsonl", json.dumps({"file": f"{i}.jpg"}).encode())
        data.write(f"{i}.jpg", f"picture {i}".encode())
    for table in ("rows? *.jsonl", ".", "rows? {0..1}.jsonl"):
        found = rows(SourceSection(table=table, media="file"), data.root, store)
        assert [fetch(row.uri, max_bytes=99) for row in found] == [b"picture 0", b"picture 1"]
