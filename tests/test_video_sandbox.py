"""A video that kills, hangs, swells or never ends costs one record; damaged files are refused and none is lost."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.videos import numbered, write_video

from benchmarks.videos import damaged
from curation.errors import UsageError
from curation.load import load
from curation.media.sandbox import DecodeError, Decoder, Limits
from curation.phases import run
from curation.plan import make_plan
from curation.record import SourceRow
from curation.video.clips import ClipRules
from curation.video.reader import VideoReader
from curation.video.split import split_rows

EVIL_WORKER = """
import mmap, os, pathlib, time
from curation.media import decode_worker
from curation.video import requests

honest, kept = requests.answer_video, []

def answer(request, recipe, beat, ask):
    name = pathlib.Path(request["path"]).stem
    if name == "truncated":  # mapped, and shorter than its map by the time that it is read
        copy = pathlib.Path(request["path"] + ".copy")
        copy.write_bytes(pathlib.Path(request["path"]).read_bytes())
        with copy.open("r+b") as file:
            view = mmap.mmap(file.fileno(), 0)
            os.truncate(copy, 0)
            view[len(view) // 2]
    if name == "hang":
        time.sleep(3600)
    while name == "endless":
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        beat()
    kept.append(bytearray(150 << 20 if name == "leaky" else 0))
    return honest(request, recipe, beat, ask)

requests.answer_video = answer
decode_worker.main()
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[VideoReader]:
    """A reader whose child does what a file's name says."""
    script = tmp_path / "worker.py"
    script.write_text(EVIL_WORKER)
    limits = Limits(seconds=120, memory_mb=1000)
    made = VideoReader(limits)
    made.decoder = Decoder(limits, command=(sys.executable, str(script)))
    yield made
    made.close()


def scanned(reader: VideoReader, path: Path) -> dict[str, Any]:
    return reader.scan(str(path), "content", None, ClipRules(min_s=0.5).__dict__)


def film(path: Path, frames: int = 30) -> Path:
    return write_video(path, [numbered(i) for i in range(frames)])


def test_a_file_that_is_cut_while_it_is_mapped_costs_one_record(tmp_path: Path, reader: VideoReader) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    rows = [SourceRow(name, str(film(folder / f"{name}.mp4", 30)), "video") for name in ("a", "truncated", "b")]
    (tmp_path / "m.yaml").write_text(
        f"name: x\nsource: {{folder: {folder}}}\nscore: [{{shots: {{method: content}}}}, {{clips: {{min_s: 0.5}}}}]\n"
    )
    plan = make_plan(load(str(tmp_path / "m.yaml")))
    split = [row for row, _ in split_rows(rows, plan, reader, lambda uri: b"")]
    assert [(row.key, row.error) for row in split] == [
        ("a", None),
        ("truncated", "the decoder died with SIGBUS, 2 times"),
        ("b", None),
    ]


def test_a_stream_that_never_ends_is_ended(tmp_path: Path, reader: VideoReader) -> None:
    usual, reader.decoder.limits = reader.decoder.limits, Limits(seconds=120, video_seconds=1.0)
    with pytest.raises(DecodeError, match=r"takes longer than 1 s \(engine.video_seconds\)"):
        scanned(reader, film(tmp_path / "endless.mp4"))
    reader.decoder.limits = usual
    assert scanned(reader, film(tmp_path / "sound.mp4"))["probe"]["frames"] == 30


def test_a_hang_is_ended(tmp_path: Path, reader: VideoReader) -> None:
    reader.decoder.limits = Limits(seconds=0.5)
    with pytest.raises(DecodeError, match=r"the decoder stood still for longer than 2 s, 2 times"):
        scanned(reader, film(tmp_path / "hang.mp4"))


def test_what_leaks_costs_no_later_record(tmp_path: Path, reader: VideoReader) -> None:
    path = film(tmp_path / "leaky.mp4")
    children = set()
    for _ in range(8):  # 1,200 MB in all, 1,000 MB allowed
        assert scanned(reader, path)["probe"]["frames"] == 30
        assert reader.decoder._child is not None
        children.add(reader.decoder._child.pid)
    assert len(children) > 1


def test_forty_videos_cut_short_or_with_flipped_bits_all_have_a_row(tmp_path: Path) -> None:
    """Every second one is damaged. 1,000 of them are a benchmark: benchmarks/bench_damage.py."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(40):
        path = write_video(folder / f"{i:02d}.mp4", [numbered(k, i) for k in range(24)], fps=24)
        if i % 2:
            path.write_bytes(damaged(path.read_bytes(), i % 4 == 1, rng))
    (tmp_path / "m.yaml").write_text(
        f"name: x\nsource: {{folder: {folder}}}\nscore: [{{shots: {{method: content}}}}, {{clips: {{min_s: 0.5}}}}]\n"
        "engine: {record_seconds: 120}\n"
    )
    run(str(tmp_path / "m.yaml"), str(tmp_path / "run"), [], engine="inline")
    files = (tmp_path / "run" / "scores").glob("*.parquet")
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert {row["source_key"] for row in rows} == {f"{i:02d}.mp4" for i in range(40)}
    assert {row["source_key"] for row in rows if row["error"] is None} >= {f"{i:02d}.mp4" for i in range(0, 40, 2)}
    refused = [row["error"] for row in rows if row["error"] is not None]
    assert len(refused) >= 10 and not any("longer than" in error for error in refused)


MANIFEST = "name: x\nsource: {folder: .}\nscore: [shots, clips]\nengine:\n  video_decoder: decord\n"


def test_decord_that_is_not_installed_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.yaml").write_text(MANIFEST)
    monkeypatch.setattr("curation.plan.find_spec", lambda name: None if name == "decord" else object())
    said = r"m\.yaml:5: engine\.video_decoder: decord is not installed; say pyav, or install it: .*pip install"
    with pytest.raises(UsageError, match=said):
        make_plan(load(str(tmp_path / "m.yaml")))


def test_another_decoder_is_another_score(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    (tmp_path / "m.yaml").write_text(MANIFEST)
    usual = make_plan(load(str(tmp_path / "m.yaml"), ["engine.video_decoder=pyav"]))
    assert make_plan(load(str(tmp_path / "m.yaml"))).score_fingerprint != usual.score_fingerprint


def test_decord_in_the_child_process_finds_the_same_clips(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path, found = film(tmp_path / "a.mp4", 60), {}
    for engine in ("pyav", "decord"):
        reader = VideoReader(Limits(), engine)
        found[engine] = scanned(reader, path)
        reader.close()
    assert found["decord"] == found["pyav"]
