"""Sources that name a video's clips: video2dataset's tables and shards, each clip with its caption."""

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import UsageError
from curation.manifest import SourceSection
from curation.record import GivenClip, SourceRow
from curation.sources import open_source, read_chunk
from curation.sources.cells import seconds_of
from curation.stores.storage import Store


def rows(base: Path, **section: Any) -> list[SourceRow]:
    source = open_source(SourceSection(**section), str(base), Store(str(base / "_work")))
    return [row for chunk in source.chunks(64) for row in read_chunk(chunk)]


def table(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3, 3.0),
        (2.5, 2.5),
        ("2.5", 2.5),
        ("00:01:02.250", 62.25),
        ("1:00:00", 3600.0),
        ("01:05,5", 65.5),
        ("1:75", None),
        ("soon", None),
        (float("nan"), None),
        (True, None),
        (None, None),
    ],
)
def test_a_time_is_seconds_or_a_clock(value: Any, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


def test_a_list_of_as_many_captions_gives_each_clip_its_own(tmp_path: Path) -> None:
    table(
        tmp_path,
        {"video": "a.mp4", "spans": [[0, 2.5], ["00:00:03.000", "00:00:06.500"]], "text": ["one", "two"], "by": "me"},
        {"video": "b.mp4", "spans": [[0, 2], [2, 4], [4, 6]], "text": ["x", None, ["y", "z"]]},
        {"video": "c.mp4", "spans": [[0, 2], [2, 4]], "text": "for both"},
        {"video": "d.mp4", "spans": [[0, 2]], "text": ["two", "captions"]},
        {"video": "e.mp4", "spans": None, "text": "cut by its shots"},
    )
    found = rows(tmp_path, table="t.jsonl", media="video", caption="text", clips="spans")
    assert [(row.key, list(row.captions), row.clips, row.error) for row in found] == [
        ("a.mp4", [], (GivenClip(0, 2.5, ("one",)), GivenClip(3, 6.5, ("two",))), None),
        ("b.mp4", [], (GivenClip(0, 2, ("x",)), GivenClip(2, 4, ()), GivenClip(4, 6, ("y", "z"))), None),
        ("c.mp4", ["for both"], (GivenClip(0, 2), GivenClip(2, 4)), None),
        ("d.mp4", ["two", "captions"], (GivenClip(0, 2),), None),
        ("e.mp4", ["cut by its shots"], None, None),
    ]
    assert found[0].extra == {"by": "me"}


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([], r"line 1: the clips column 'spans' holds \[\], not a list of \[start, end\]"),
        (7, "holds 7, not a list"),
        ("[[0, 1", r"holds '\[\[0, 1', not a list"),
        ([[0, 1, 2]], r"holds \[0, 1, 2\], not \[start, end\] in seconds or \"HH:MM:SS.mmm\""),
        ([[0, 1], 5], "holds 5, not"),
        ([[3, 1]], r"holds \[3, 1\], not"),
        ([[-1, 1]], r"holds \[-1, 1\], not"),
        ([["soon", 1]], r"holds \['soon', 1\], not"),
        ([[0, 1e999]], r"holds \[0, inf\], not"),
        ([[0, 1]] * 10_001, "has 10001 clips; at most 10000 are read"),
    ],
)
def test_a_span_that_is_none_quarantines_its_record_alone(tmp_path: Path, spans: Any, words: str) -> None:
    table(tmp_path, {"video": "a.mp4", "spans": spans}, {"video": "b.mp4", "spans": [[0, 1]]})
    bad, good = rows(tmp_path, table="t.jsonl", media="video", clips="spans")
    assert bad.error is not None
    assert re.search(words, bad.error), bad.error
    assert good.error is None and good.clips == (GivenClip(0, 1),)


@pytest.mark.parametrize("text", ['[[0, 2], ["00:00:02", 4]]', "[[0.0, 2.0], ['00:00:02', 4]]"])
def test_a_csv_writes_them_as_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text('video,clips\na.mp4,"{}"\nb.mp4,\n'.format(text.replace('"', '""')))
    found = rows(tmp_path, table="t.csv", media="video", clips="clips")
    assert [row.clips for row in found] == [(GivenClip(0, 2), GivenClip(2, 4)), None]


def test_a_parquet_table_has_lists_of_lists_and_may_hold_the_videos_themselves(tmp_path: Path) -> None:
    columns = {
        "mp4": pa.array([b"a video"], pa.binary()),
        "clips": pa.array([[["00:00:00.000", "00:00:02.000"]]], pa.list_(pa.list_(pa.string()))),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    (row,) = rows(tmp_path, table="t.parquet", media="mp4", clips="clips")
    assert (row.media, row.clips) == ("video", (GivenClip(0, 2),))


def test_a_clips_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    table(tmp_path, {"video": "a.mp4", "clips": [[0, 1]]})
    with pytest.raises(UsageError, match=r"clips: .* has no column 'clip', it has video, clips; did you mean 'clips'"):
        rows(tmp_path, table="t.jsonl", media="video", clips="clip")


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_video2datasets_shards_are_read_as_they_lie(tmp_path: Path) -> None:
    for number, suffix in enumerate(("mp4", "webm", "mkv", "mov", "avi")):
        meta = {"caption": "a cat", "clips": [[5.0, 7.5]], "video_metadata": {"streams": []}, "status": "success"}
        key = f"{number:05d}000{number}"
        members = {f"{key}.{suffix}": b"x", f"{key}.txt": b"a cat", f"{key}.json": json.dumps(meta).encode()}
        shard(tmp_path / f"{number:05d}.tar", members)
        pq.write_table(pa.table({"key": [key], "status": ["success"]}), tmp_path / f"{number:05d}.parquet")
        (tmp_path / f"{number:05d}_stats.json").write_text("{}")
    found = rows(tmp_path, webdataset="{00000..00004}.tar")
    assert [(row.key, row.media, list(row.captions)) for row in found] == [
        (f"{i:05d}000{i}", "video", ["a cat"]) for i in range(5)
    ]
    # the tool has cut the clip already: its place in the video it came from is not a place in this one
    assert all(row.clips is None and row.extra["clips"] == [[5.0, 7.5]] for row in found)
    assert [row.clips for row in rows(tmp_path, webdataset="*.tar", clips="clips")] == [(GivenClip(5, 7.5),)] * 5


def test_a_json_beside_a_video_names_clips_with_their_captions(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("the whole film")
    meta = {"captions": ["one", "two"], "cuts": [[0, 2], [3, 5]], "title": "A film"}
    (tmp_path / "a.json").write_text(json.dumps(meta))
    (row,) = rows(tmp_path, folder=".", clips="cuts")
    assert (row.captions, row.extra) == (["the whole film"], {"title": "A film"})
    assert row.clips == (GivenClip(0, 2, ("one",)), GivenClip(3, 5, ("two",)))
