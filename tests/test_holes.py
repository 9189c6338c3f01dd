"""Two terabytes of holes, a pipe or a device end soon, as a sentence."""

import os
from pathlib import Path

import pytest

from curation.errors import CurationError
from curation.manifest import SourceSection
from curation.sources import open_source, read_chunk
from curation.stores.holes import check_whole
from curation.stores.storage import Store
from curation.video.reader import on_disk

LARGE = 2 << 40


def sparse(path: Path, data: bytes = b"") -> str:
    path.write_bytes(data)
    try:
        os.truncate(path, LARGE)
    except OSError:
        pytest.skip("this disk has no sparse files")
    return str(path)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x18ftypmp42"])
def test_a_sparse_video_is_its_rows_refusal(tmp_path: Path, data: bytes) -> None:
    place = sparse(tmp_path / "a.mp4", data)
    with pytest.raises(
        CurationError, match=r"a\.mp4 is a sparse file: [\d,]+ of its 2,199,023,255,552 bytes are there"
    ):
        on_disk(place, None).__enter__()


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv"])
def test_a_sparse_table_is_refused(tmp_path: Path, name: str) -> None:
    source = SourceSection(table=sparse(tmp_path / name), media="file")
    with pytest.raises(CurationError, match="is a sparse file"):
        open_source(source, str(tmp_path), Store(str(tmp_path / "work")))


def test_a_sparse_tar_is_a_row_with_an_error(tmp_path: Path) -> None:
    source = SourceSection(webdataset=sparse(tmp_path / "t.tar"))
    opened = open_source(source, str(tmp_path), Store(str(tmp_path / "work")))
    (row,) = [row for chunk in opened.chunks(9) for row in read_chunk(chunk)]
    assert "the archive is damaged or cut at byte 0 (more than 1,073,741,824 zeros follow)" in str(row.error)


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "zero.mp4"):
        with pytest.raises(CurationError, match="is not a regular file"):
            on_disk(str(tmp_path / name), None).__enter__()


def test_small_and_whole_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    os.truncate(tmp_path / "a", 1 << 20)
    check_whole(str(tmp_path / "a"))
    check_whole(str(tmp_path / "none"))
