"""Where a video's bytes come from: its own file, an archive's member, a table's cell; all end as the same clips."""

import hashlib
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.videos import numbered, write_video

from curation.errors import CurationError
from curation.phases import run
from curation.video.reader import on_disk


def test_a_local_file_is_used_where_it_lies_and_hashed_once_a_version(tmp_path: Path, bytes_read: Any) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(os.urandom(1 << 20))
    for _ in range(3):
        before = bytes_read()
        with on_disk(str(path), None) as (place, digest):
            assert (place, digest) == (str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    assert bytes_read() - before < 1.5 * (1 << 20)  # by this test itself
    path.write_bytes(b"another")
    with on_disk(str(path), None) as (_, digest):
        assert digest == hashlib.sha256(b"another").hexdigest()


def test_a_member_of_an_archive_is_copied_and_the_copy_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"...." + b"a video" + b"....")
    with on_disk(f"{path}#offset=4&size=7", None) as (place, digest):
        assert Path(place).read_bytes() == b"a video" and place.startswith(tempfile.gettempdir())
        assert digest == hashlib.sha256(b"a video").hexdigest()
    assert not Path(place).exists()


def test_a_pipe_and_a_missing_file_are_no_videos(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    for name, words in (("a.mp4", "is not a regular file"), ("b.mp4", "cannot be read: No such file or directory")):
        with pytest.raises(CurationError, match=f"{name} {words}"), on_disk(str(tmp_path / name), None):
            pass


MANIFEST = """
name: everywhere
source:
  - {{folder: {folder}/films}}
  - {{webdataset: "{folder}/{{00000..00001}}.tar"}}
  - {{table: {folder}/cells.parquet, media: film, clips: spans}}
score: [probe, {{shots: {{method: content}}}}, {{clips: {{min_s: 0.5}}}}, phash]
engine: {{video_decoder: {decoder}}}
"""


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_video_gives_the_same_clips_from_wherever_it_comes(tmp_path: Path, decoder: str) -> None:
    """A folder, video2dataset's shards (their tables beside them), and a table with the videos in its cells."""
    pytest.importorskip(decoder.replace("pyav", "av"))
    (tmp_path / "films").mkdir()
    film = [numbered(i, 1) for i in range(30)] + [numbered(i, 2) for i in range(30, 60)]
    paths = [write_video(tmp_path / "films" / f"film{suffix}", film) for suffix in (".mp4", ".mkv", ".mov")]
    for number, path in enumerate(paths[:2]):
        (tmp_path / "0.txt").write_text("two scenes")
        (tmp_path / "0.json").write_text(json.dumps({"clips": [[7.0, 9.4]], "status": "success", "title": "A film"}))
        with tarfile.open(tmp_path / f"{number:05d}.tar", "w") as tar:
            tar.add(path, f"{number:05d}0000{path.suffix}")
            for suffix in (".txt", ".json"):
                tar.add(tmp_path / f"0{suffix}", f"{number:05d}0000{suffix}")
        pq.write_table(pa.table({"key": [f"{number:05d}0000"]}), tmp_path / f"{number:05d}.parquet")
    cells = {"film": pa.array([paths[0].read_bytes()], pa.binary()), "spans": [[[0.0, 1.2], [1.2, 2.4]]]}
    pq.write_table(pa.table(cells), tmp_path / "cells.parquet")
    (tmp_path / "m.yaml").write_text(MANIFEST.format(folder=tmp_path, decoder=decoder))
    run(str(tmp_path / "m.yaml"), str(tmp_path / "run"), [], engine="inline")
    files = sorted((tmp_path / "run" / "scores").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    keys = ["film.mkv", "film.mov", "film.mp4", "000000000", "000010000", "cells.parquet"]
    assert [row["source_key"] for row in rows] == [key for key in keys for _ in range(2)]
    assert {(row["media"], row["error"]) for row in rows} == {("video", None)}
    assert [(row["start_frame"], row["end_frame"]) for row in rows] == [(0, 30), (30, 60)] * 6
    assert len({row["phash"] for row in rows[::2]}) == len({row["phash"] for row in rows[1::2]}) == 1
    assert [row["caption"] for row in rows[6:10]] == ["two scenes"] * 4
    assert rows[0]["content_sha256"] == hashlib.sha256(paths[1].read_bytes()).hexdigest() == rows[8]["content_sha256"]
