"""Folders: pictures with their sidecars, in one order everywhere, and nothing from outside."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.errors import CurationError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source, read_chunk
from curation.sources.fetch import fetch
from curation.stores.storage import Store


def rows(base: Path | str, size: int = 2, folder: str = "photos", **more: str) -> list[SourceRow]:
    source = open_source(SourceSection(folder=folder, **more), str(base), Store(str(base)))  # type: ignore[arg-type]
    out: list[SourceRow] = []
    for number, chunk in enumerate(source.chunks(size)):
        given = list(read_chunk(chunk))
        assert chunk.number == number and len(given) == chunk.rows <= size
        assert json.loads(json.dumps(chunk.args)) == chunk.args
        out += given
    return out


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


def test_a_name_that_is_not_text_is_a_row_with_an_error(photos: Path) -> None:
    Path(os.fsdecode(os.fsencode(photos) + b"/\xff.jpg")).write_bytes(b"x")
    assert [row.key for row in rows(photos.parent) if row.error] == ["\ufffd.jpg"]


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
