"""A chunk of videos is small, so that a crash costs minutes: it ends where they have so many bytes."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.manifest import SourceSection
from curation.sources import open_source, read_chunk
from curation.sources.base import portions
from curation.stores.storage import Store

SIZES = {"a.jpg": 9000, "b.mp4": 6000, "c.jpg": 9000, "d.mp4": 3000, "e.webm": 6000, "f.mp4": 50_000, "g.mp4": 1}
BY_BYTES = [["a", "b", "c", "d"], ["e"], ["f"], ["g"]]
"""With 10 kB of videos a chunk: pictures do not count, and a larger video is alone."""


def cut(base: Path, rows: int, **section: str) -> list[list[str]]:
    """The stems of each chunk's media."""
    source = open_source(SourceSection(**section), str(base), Store(str(base)))  # type: ignore[arg-type]
    chunks = list(source.chunks(rows, 10_000))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    return [[Path(row.key).stem for row in read_chunk(chunk)] for chunk in chunks]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    with tarfile.open(tmp_path / "media.tar", "w") as tar:
        for name, size in SIZES.items():
            (tmp_path / "media" / name).write_bytes(bytes(size))
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes(size)))
    return tmp_path


def test_folders_and_tars_are_cut_by_the_bytes_of_their_videos(corpus: Path) -> None:
    assert cut(corpus, 64, folder="media") == BY_BYTES
    assert cut(corpus, 64, webdataset="media.tar") == BY_BYTES
    assert cut(corpus, 2, folder="media") == [["a", "b"], ["c", "d"], ["e"], ["f"], ["g"]]


def test_a_table_is_cut_by_what_its_first_videos_have(corpus: Path) -> None:
    for name, rows in (("b.mp4", 1), ("d.mp4", 3), ("g.mp4", 20), ("a.jpg", 20), ("https://host/x.mp4", 1)):
        lines = [json.dumps({"file": f"media/{name}" if "://" not in name else name}) for _ in range(20)]
        (corpus / "t.jsonl").write_text("\n".join(lines))
        source = open_source(SourceSection(table="t.jsonl", media="file"), str(corpus), Store(str(corpus)))
        assert next(source.chunks(64, 10_000)).rows == min(20, rows), name


def test_a_table_of_pictures_is_cut_by_rows_alone(corpus: Path) -> None:
    lines = [json.dumps({"file": "media/a.jpg"}) for _ in range(300)]
    (corpus / "t.jsonl").write_text("\n".join(lines))
    source = open_source(SourceSection(table="t.jsonl", media="file"), str(corpus), Store(str(corpus)))
    assert [chunk.rows for chunk in source.chunks(256, 10_000)] == [256, 44]


@given(st.lists(st.integers(0, 20)), st.integers(1, 6), st.integers(1, 30))
def test_portions_hold_every_item_in_order_within_their_bounds(sizes: list[int], rows: int, limit: int) -> None:
    parts = list(portions(sizes, lambda size: size, rows, limit))
    assert [size for part in parts for size in part] == sizes
    for part in parts:
        assert 0 < len(part) <= rows
        assert sum(part) <= limit or sum(size > 0 for size in part) == 1
