"""Folders: pictures with their sidecars, in one order everywhere, and nothing from outside."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.tars import source_rows

from curation.errors import CurationError, UsageError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source
from curation.sources.fetch import fetch
from curation.stores.storage import Store


def rows(base: Path | str, size: int = 2, folder: str = "photos", **more: str) -> list[SourceRow]:
    return source_rows(base, size, folder=folder, **more)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for name in (
        "z.jpg",
        "a.PNG",
        "b/1.webp",
        "b/deep/2.mp4",
        ".thumbnails/t.jpg",
        ".hidden.jpg",
        "notes.md",
        "README",
    ):
        (folder / name).write_bytes(name.encode())
    return folder


def test_pictures_are_found_in_order_with_path_keys(photos: Path) -> None:
    found = rows(photos.parent)
    assert [(row.key, row.media) for row in found] == [
        ("a.PNG", "image"),
        ("z.jpg", "image"),
        ("b/1.webp", "image"),
        ("b/deep/2.mp4", "video"),
    ]
    assert [fetch(row.uri, max_bytes=99).decode() for row in found] == [row.key for row in found]
    assert found == rows(photos.parent, 1) == rows(photos.parent, 99)


def test_sidecars_give_captions_and_fields(photos: Path) -> None:
    (photos / "a.txt").write_text("a whole caption,\nin two lines\n")
    (photos / "a.json").write_text('{"captions": ["x", "y"], "licence": "CC0", "name": "k1"}')
    (photos / "b" / "1.json").write_text('{"caption": "z", "name": "k2"}')
    (photos / "b" / "deep" / "2.json").write_text('{"name": "k3"}')
    (photos / "z.json").write_text('{"name": "k4"}')
    found = {row.key: row for row in rows(photos.parent, key="name")}
    assert found["k1"].captions == ["a whole caption,\nin two lines", "x", "y"]
    assert found["k1"].extra == {"licence": "CC0", "name": "k1"}
    assert found["k2"].captions == ["z"] and found["k4"].captions == []


@pytest.mark.parametrize(("sidecar", "reason"), [("a.txt", "a.txt is not UTF-8"), ("a.json", "not JSON")])
def test_a_broken_sidecar_is_its_pictures_error(photos: Path, sidecar: str, reason: str) -> None:
    (photos / sidecar).write_bytes(b"\xff\xfe" if sidecar == "a.txt" else b"{")
    found = rows(photos.parent)
    assert reason in str(found[0].error) and found[0].key == "a.PNG"
    assert [row.error for row in found[1:]] == [None, None, None]


def test_links_that_lead_outside_and_links_to_folders_are_refused(photos: Path) -> None:
    (photos.parent / "secret.jpg").write_bytes(b"secret")
    (photos / "inside.jpg").symlink_to(photos / "z.jpg")
    (photos / "outside.jpg").symlink_to(photos.parent / "secret.jpg")
    (photos / "loop").symlink_to(photos)
    found = {row.key: row for row in rows(photos.parent)}
    assert found["inside.jpg"].error is None and fetch(found["inside.jpg"].uri, max_bytes=9) == b"z.jpg"
    assert "leads outside" in str(found["outside.jpg"].error)
    assert "not followed" in str(found["loop"].error) and len(found) == 7


@pytest.mark.parametrize("name", ["a.TXT", "a.Txt", "A.txt", "a.text", "a.caption", "a.PNG.txt", "a.JSON"])
def test_sidecars_are_found_without_regard_to_case(photos: Path, name: str) -> None:
    (photos / name).write_text('{"caption": "here"}' if name.lower().endswith("json") else "here")
    assert {row.key: list(row.captions) for row in rows(photos.parent) if row.captions} == {"a.PNG": ["here"]}


def test_every_sidecar_gives_its_captions_in_a_fixed_order(photos: Path) -> None:
    for name in ("z.json", "z.caption", "z.TXT", "z.txt", "z.jpg.txt"):
        (photos / name).write_text(json.dumps({"caption": name, "n": 1}) if name.endswith("json") else name)
    (row,) = (row for row in rows(photos.parent) if row.key == "z.jpg")
    assert row.captions == ["z.jpg.txt", "z.TXT", "z.txt", "z.caption", "z.json"] and row.extra == {"n": 1}


def hub(place: Path) -> Path:
    """A snapshot as huggingface_hub leaves it: links to blobs."""
    snapshot, blobs = place / "snapshots" / "abc", place / "blobs"
    (snapshot / "train").mkdir(parents=True)
    blobs.mkdir()
    for name in ("train/0.jpg", "train/0.txt", "metadata.jsonl", "1.jpg"):
        blob, link = blobs / name.encode().hex(), snapshot / name
        blob.write_bytes(name.encode())
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.mark.parametrize("folder", ["snapshots/abc", "snapshots/abc/train", "."])
def test_a_hub_snapshot_is_read_through_its_links(tmp_path: Path, folder: str) -> None:
    hub(tmp_path)
    found = rows(tmp_path, folder=folder)
    assert [row.error for row in found] == [None] * (1 if folder.endswith("train") else 2)
    first = next(row for row in found if row.key.endswith("0.jpg"))
    assert first.captions == ["train/0.txt"] and fetch(first.uri, max_bytes=99) == b"train/0.jpg"


def test_links_of_a_snapshot_that_leave_the_cache_are_refused(tmp_path: Path) -> None:
    snapshot = hub(tmp_path / "repo")
    (tmp_path / "secret").write_text("secret")
    (snapshot / "2.jpg").symlink_to("/etc/passwd")
    (snapshot / "3.jpg").symlink_to("../../../secret")
    (snapshot / "1.txt").symlink_to("/etc/passwd")
    (snapshot / "notes.txt").symlink_to("/etc/passwd")
    (snapshot / "4.jpg").symlink_to("4.jpg")
    found = {row.key: str(row.error) for row in rows(snapshot, folder=".")}
    assert found["train/0.jpg"] == "None" and sorted(found) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "train/0.jpg"]
    assert "1.txt beside it cannot be read: it is a symbolic link that leads outside" in found["1.jpg"]
    assert ["leads outside" in found[f"{i}.jpg"] for i in (2, 3)] == [True, True]
    assert "leads to itself" in found["4.jpg"]


def test_blobs_that_are_a_link_themselves_allow_nothing(tmp_path: Path) -> None:
    snapshot = tmp_path / "repo" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "repo" / "blobs").symlink_to("/etc")
    (snapshot / "1.jpg").symlink_to("../../blobs/passwd")
    (row,) = rows(snapshot, folder=".")
    assert "leads outside" in str(row.error)


def test_a_name_that_is_not_text_is_a_row_with_an_error(photos: Path) -> None:
    Path(os.fsdecode(os.fsencode(photos) + b"/\xff.jpg")).write_bytes(b"x")
    folder = Path(os.fsdecode(os.fsencode(photos) + b"/\xfe"))
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"x")
    assert [row.key for row in rows(photos.parent) if row.error] == ["\ufffd", "\ufffd.jpg"]


def test_a_chunk_is_new_when_a_picture_or_a_sidecar_is(photos: Path) -> None:
    def prints() -> list[str]:
        source = open_source(SourceSection(folder="photos"), str(photos.parent), Store(str(photos.parent)))
        return [chunk.fingerprint for chunk in source.chunks(2)]

    before = prints()
    assert before == prints()
    (photos / "b" / "1.txt").write_text("new caption")
    assert [a == b for a, b in zip(before, prints(), strict=True)] == [True, False]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=r"source: folder: .*photos is not a folder, or does not exist"):
        rows(tmp_path)


def test_folders_are_listed_when_their_turn_comes(tmp_path: Path) -> None:
    for i in range(50):
        (tmp_path / "photos" / f"{i:02d}").mkdir(parents=True)
        (tmp_path / "photos" / f"{i:02d}" / "x.jpg").write_bytes(b"x")
    chunks = open_source(SourceSection(folder="photos"), str(tmp_path), Store(str(tmp_path))).chunks(2)
    assert next(iter(chunks)).args["files"][0][0] == "00/x.jpg"
    (tmp_path / "photos" / "49" / "late.jpg").write_bytes(b"made after the first chunk")
    assert [files for chunk in chunks for files in chunk.args["files"]][-1][0] == "49/x.jpg"


def test_an_object_stores_folder_reads_alike(photos: Path) -> None:
    store = Store(f"memory://{photos.parent.name}/data")
    for name in ("b/1.webp", "a.PNG", "z.jpg"):
        store.write(f"photos/{name}", name.encode())
    store.write("photos/z.txt", b"zed")
    found = rows(store.root)
    assert [(row.key, list(row.captions)) for row in found] == [
        ("a.PNG", []),
        ("z.jpg", ["zed"]),
        ("b/1.webp", []),
    ]
    assert fetch(found[2].uri, max_bytes=99) == b"b/1.webp"


def test_a_long_listing_costs_no_reading(tmp_path: Path, bytes_read: Callable[[], int]) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(200):
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(bytes(50_000))
    before = bytes_read()
    assert len(rows(tmp_path, 64)) == 200
    assert bytes_read() - before < 100_000


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ([], "is empty"),
        (["README.md", "notes.txt"], "no picture, video or tar in the folder .*: it has README.md, notes.txt"),
        (["meta.csv"], "it has meta.csv"),
    ],
)
@pytest.mark.parametrize("word", ["folder", "webdataset"])
def test_a_folder_without_anything_to_read_says_so(tmp_path: Path, word: str, files: list[str], why: str) -> None:
    (tmp_path / "photos").mkdir()
    for name in files:
        (tmp_path / "photos" / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=why):
        open_source(SourceSection(**{word: "photos"}), str(tmp_path), Store(str(tmp_path)))  # type: ignore[arg-type]


def test_the_number_of_pictures_is_known(photos: Path) -> None:
    source = open_source(SourceSection(folder="photos"), str(photos.parent), Store(str(photos.parent)))
    assert str(source.estimate()) == "4"


@pytest.mark.parametrize("word", ["folder", "webdataset"])
@pytest.mark.parametrize("form", ["webdataset", "files", "parquet"])
def test_what_img2dataset_leaves_behind_is_read_as_it_is(tmp_path: Path, form: str, word: str) -> None:
    """Its three formats, as img2dataset's own writers make them."""
    writers = pytest.importorskip("img2dataset.writer")
    writer = {
        "webdataset": writers.WebDatasetSampleWriter,
        "files": writers.FilesSampleWriter,
        "parquet": writers.ParquetSampleWriter,
    }[form]
    (tmp_path / "out").mkdir()
    fields = ["key", "caption", "url", "status"]
    schema = pa.schema([(name, pa.string()) for name in fields])
    written = writer(0, str(tmp_path / "out"), True, 5, schema, "jpg")
    for i in range(3):
        key = f"00000000{i}"
        meta = {"key": key, "caption": f"caption {i}", "url": f"https://host/{i}", "status": "success"}
        written.write(b"picture %d" % i, key, f"caption {i}", meta)
    written.close()
    (tmp_path / "out" / "00000_stats.json").write_text("{}")
    found = source_rows(tmp_path, **{word: "out"})
    assert [(list(row.captions), row.error) for row in found] == [([f"caption {i}"], None) for i in range(3)]
    assert [fetch(row.uri, max_bytes=99) for row in found] == [b"picture %d" % i for i in range(3)]
    assert all(row.extra["url"] == f"https://host/{i}" for i, row in enumerate(found))
