"""A store holds whole files or none, wherever it is."""

import errno
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.errors import CurationError
from curation.stores.location import name, parent, resolve
from curation.stores.storage import Entry, Store


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store on the local disk, and one that only fsspec knows."""
    yield Store(str(tmp_path / "run")) if request.param == "disk" else Store(f"memory://{tmp_path.name}/run")


def test_what_is_written_is_read_listed_and_deleted(store: Store) -> None:
    store.write("scores/b.parquet", b"22")
    store.write("scores/a.parquet", b"1")
    store.write("run.json", b"{}")
    store.write("run.json", b"{ }")
    assert store.read("run.json") == b"{ }"
    assert store.list() == [Entry("run.json", 3), Entry("scores/a.parquet", 1), Entry("scores/b.parquet", 2)]
    assert store.list("scores") == [Entry("scores/a.parquet", 1), Entry("scores/b.parquet", 2)]
    assert store.list("shards") == []
    assert store.child("scores").read("a.parquet") == b"1"
    store.delete("run.json")
    store.delete("run.json")
    assert not store.exists("run.json") and store.exists("scores/a.parquet") and not store.exists("scores")


def test_a_local_file_is_put_whole_and_stays(store: Store, tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    for data in (b"", bytes(range(256)) * 20_000):
        shard.write_bytes(data)
        store.put("shards/256x256/00000.tar", shard)
        assert store.read("shards/256x256/00000.tar") == data
        assert store.size("shards/256x256/00000.tar") == len(data)
    assert shard.exists()


def test_an_open_file_seeks(store: Store) -> None:
    store.write("x", b"0123456789")
    with store.open("x") as file:
        file.seek(4)
        assert file.read(3) == b"456" and file.size() == 10


def test_a_store_travels_to_other_processes(store: Store) -> None:
    store.write("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"


@pytest.mark.parametrize("bad", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\\b", "a\0b", "a/"])
def test_names_stay_inside(store: Store, bad: str) -> None:
    with pytest.raises(CurationError, match=r"is not a name inside a run directory"):
        store.write(bad, b"")


def test_a_missing_file_is_named(store: Store) -> None:
    with pytest.raises(CurationError, match=r"run/nothing\.json does not exist"):
        store.read("nothing.json")


def test_a_relative_root_does_not_move_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("run")
    monkeypatch.chdir("/")
    store.write("x", b"1")
    assert (tmp_path / "run" / "x").read_bytes() == b"1"


def test_a_killed_writer_leaves_the_old_file_and_a_temporary_that_is_hidden_and_swept(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("shards/00000.tar", b"old")
    code = (
        "import os, signal, sys; from curation.stores.storage import Store\n"
        "def fill(file): file.write(b'n' * 100); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store(sys.argv[1])._commit('shards/00000.tar', fill)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "shards").iterdir())) == 2
    assert store.list() == [Entry("shards/00000.tar", 3)] and store.read("shards/00000.tar") == b"old"
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".tmp", ".part", ".parquet")]
    assert [p.name for p in tmp_path.rglob("*.tar")] == ["00000.tar"]
    store.sweep()
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["00000.tar"]


def test_a_workspace_is_hidden_and_swept(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    with store.workspace() as folder:
        (folder / "x.tar").write_bytes(b"x")
        assert folder.is_relative_to(tmp_path) and store.list() == []
    assert not folder.exists()
    folder.mkdir()
    (folder / "x.tar").write_bytes(b"left by a killed run")
    store.sweep()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_full_disk_is_a_sentence_and_what_was_committed_stays(tmp_path: Path) -> None:
    """A file-size limit stands for the disk that fills up while a file is being written."""
    store = Store(str(tmp_path))
    store.write("x", b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CurationError, match=f"{tmp_path}/x cannot be written") as caught:
            store.write("x", b"n" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.EFBIG
    assert store.read("x") == b"old" and [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left_says_what_to_do(tmp_path: Path) -> None:
    def fill(_: object) -> None:
        with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 (a device)
            full.write(b"x")

    with pytest.raises(CurationError, match=r"the disk is full.*free some space and run the same command again"):
        Store(str(tmp_path))._commit("x", fill)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("/data", "a/b.jpg", "/data/a/b.jpg"),
        ("/data/tables", "../b.jpg", "/data/b.jpg"),
        ("/data", "/other/b.jpg", "/other/b.jpg"),
        ("/data", "https://x.org/b.jpg?w=1", "https://x.org/b.jpg?w=1"),
        ("s3://bucket/d?region=x", "a.jpg", "s3://bucket/d/a.jpg?region=x"),
        ("s3://bucket?region=x", "a.jpg", "s3://bucket/a.jpg?region=x"),
        ("s3://bucket/d", "../a b#1%20.jpg", "s3://bucket/a b#1%20.jpg"),
    ],
)
def test_paths_are_seen_from_their_table(base: str, path: str, expected: str) -> None:
    assert resolve(base, path) == expected


def test_parents_and_names() -> None:
    assert parent("/data/t.jsonl") == "/data" and name("/data/t.jsonl") == "t.jsonl"
    assert parent("s3://b/d/t.jsonl?region=x") == "s3://b/d?region=x" and name("s3://b/d/t.jsonl?region=x") == "t.jsonl"


def test_an_unknown_scheme_is_a_sentence() -> None:
    with pytest.raises(CurationError, match=r"nosuch://bucket cannot be opened"):
        Store("nosuch://bucket/x").read("y")


def test_a_committed_file_is_moved_over_an_older_one(store: Store) -> None:
    store.write("_work/encode/1.tar", b"new")
    store.write("shards/00000.tar", b"old")
    store.move("_work/encode/1.tar", "shards/00000.tar")
    assert store.list() == [Entry("shards/00000.tar", 3)] and store.read("shards/00000.tar") == b"new"
    store.write("x", b"1")
    store.move("x", "new/folder/x")
    assert store.read("new/folder/x") == b"1"
