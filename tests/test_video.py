"""Videos end to end: exact cuts by timestamps, clips that account for every second, runs that resume."""

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.videos import number_in, numbered, write_video

from curation.media.decode import Refused
from curation.media.sandbox import Limits
from curation.media.standardize import Recipe
from curation.phases import run
from curation.record import Span
from curation.video.clips import ClipRules, pieces
from curation.video.reader import VideoReader
from curation.video.scan import scan


@pytest.fixture(scope="module")
def reader():
    opened = VideoReader(Limits(seconds=60))
    yield opened
    opened.close()


def whole(width: int = 192, height: int = 96) -> Recipe:
    return Recipe(width, height)


@pytest.mark.parametrize(("fps", "start", "end"), [(25, 0, 40), (12.5, 10, 50), (50, 33, 47), (24, 26, 76)])
def test_a_clip_has_the_frames_that_its_timestamps_say_at_constant_rate(tmp_path, reader, fps, start, end):
    path = write_video(tmp_path / "a.mp4", [numbered(i) for i in range(80)])
    count = int((end - start) / 25 * fps + 1e-6)
    clip = reader.cut(str(path), (start / 25, end / 25), fps, count, whole()).rgb
    assert [number_in(frame) for frame in clip] == [start + int(k * 25 / fps + 1e-6) for k in range(count)]


def test_a_variable_rate_is_resampled_by_timestamps_and_not_by_counting(tmp_path, reader):
    times = np.cumsum([0, *([20] * 20), *([80] * 20), *([40] * 20)]).tolist()
    path = write_video(tmp_path / "vfr.mp4", [numbered(i) for i in range(len(times))], times)
    clip = reader.cut(str(path), (0.2, 2.2), 24, 48, whole()).rgb
    on_show = [max(i for i, t in enumerate(times) if t <= 200 + 1000 * k / 24 + 0.1) for k in range(48)]
    assert [number_in(frame) for frame in clip] == on_show


def test_too_few_frames_are_refused_and_never_filled_up(tmp_path, reader):
    path = write_video(tmp_path / "a.mp4", [numbered(i) for i in range(25)])
    with pytest.raises(Exception, match="only 25 of 50 frames"):
        reader.cut(str(path), (0.0, 5.0), 25, 50, whole())


def test_sampled_frames_lie_inside_the_clip_with_their_successors(tmp_path, reader):
    path = write_video(tmp_path / "a.mp4", [numbered(i) for i in range(75)])
    clip = reader.sample(str(path), Span(25, 65, 1.0, 2.6), {"width": 192, "height": 96})
    numbers = [number_in(frame.rgb) for frame in clip.frames]
    assert len(numbers) == 8 and numbers == sorted(numbers) and numbers[0] >= 25 and numbers[-1] < 65
    assert [number_in(b) - number_in(a) for a, b in clip.pairs] == [1] * len(clip.pairs)


def test_every_frame_of_a_video_is_in_a_clip_or_has_a_reason():
    n = 1000
    times = np.arange(n + 1) / 25
    black, still = np.zeros(n, bool), np.zeros(n, bool)
    black[300:330], still[401:500] = True, True
    found = pieces(times, [(100, 100), (200, 220), (400, 400), (500, 500)], black, still, ClipRules(max_s=8, min_s=2))
    seen = np.zeros(n, int)
    for piece in found:
        seen[piece.start : piece.end] += 1
    assert (seen == 1).all()
    assert {p.reason for p in found if p.reason} >= {"gradual transition", "black", "static"}
    assert all(2 - 1e-6 <= (p.end - p.start) / 25 <= 8 + 1e-6 for p in found if p.reason is None)


def test_windows_and_strides():
    times, none = np.arange(251) / 25, np.zeros(250, bool)
    rules = ClipRules(window_s=4, stride_s=3)
    kept = [(p.start, p.end) for p in pieces(times, [], none, none, rules) if p.reason is None]
    assert kept == [(0, 100), (75, 175), (150, 250)]


def test_a_video_that_is_cut_short_is_refused_with_what_can_be_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", [numbered(i) for i in range(100)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Refused):
        scan(str(path), "content", None, ClipRules(), 10**8, lambda: None)


def test_an_audio_file_and_text_are_refused(tmp_path):
    sound, text = tmp_path / "a.mp4", tmp_path / "b.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    text.write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    for path, words in ((sound, "no video stream"), (text, "not a video")):
        with pytest.raises(Refused, match=words):
            scan(str(path), "content", None, ClipRules(), 10**8, lambda: None)


MANIFEST = """
name: clips
source: {{folder: {folder}}}
score:
  - probe
  - shots: {{method: content}}
  - clips: {{min_s: 1, max_s: 3}}
  - quality
  - motion
  - temporal
  - phash
select: {{duplicates: [{{on: bytes}}]}}
encode: {{size: 64, frames: [9, 17], vae: video_autoencoder, reconstructions: 1}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run over two scenes in one video, a broken video and a picture."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "two.mp4", [numbered(i, 1) for i in range(50)] + [numbered(i, 2) for i in range(50, 90)])
    (folder / "two.txt").write_text("two scenes")
    (folder / "two.json").write_text('{"title": "A film"}')
    (folder / "broken.mp4").write_bytes(b"\0" * 5000)
    from PIL import Image

    Image.fromarray(numbered(7, 3)).save(folder / "still.png")
    manifest = folder.parent / "m.yaml"
    manifest.write_text(MANIFEST.format(folder=folder))
    out = folder.parent / "run"
    run(str(manifest), str(out), [], engine="inline")
    return manifest, out


def rows_of(out: Path) -> list[dict]:
    return [row for file in sorted((out / "scores").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_a_run_makes_clips_of_videos_and_keeps_images_as_one_frame(finished):
    _, out = finished
    rows = {(row["source_key"], row["start_frame"]): row for row in rows_of(out)}
    assert set(rows) == {("two.mp4", 0), ("two.mp4", 50), ("broken.mp4", None), ("still.png", None)}
    clip = rows["two.mp4", 50]
    assert (clip["end_frame"], clip["codec"], clip["clips"], clip["caption"]) == (90, "h264", 2, "two scenes")
    assert clip["motion"] > 0.5 and rows["still.png", None]["motion"] is None
    assert "not a video" in rows["broken.mp4", None]["error"]
    index = json.loads((out / "shards" / "index.json").read_text())
    assert index["vae"]["temporal_factor"] == 4 and set(index["buckets"]) == {"17x64x64", "1x64x64"}
    with tarfile.open(out / "shards" / "17x64x64" / "00000.tar") as tar:
        metas = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]
    assert {tuple(meta["captions"]) for meta in metas} == {("two scenes",)}  # a title is no caption
    assert metas[0]["caption_sources"] == ["source"] and metas[0]["fps"] == 24
    assert sorted(meta["frame_start"] for meta in metas) == [0, 50]
    ledger = json.loads((out / "run.json").read_text())
    assert ledger["records_in"] == 4 and ledger["kept"] == 3


def test_a_moved_threshold_decodes_no_video_again(finished, monkeypatch):
    manifest, out = finished
    before = {p.name: p.stat().st_mtime_ns for p in (out / "scores").iterdir()}
    (manifest.parent / "videos0").mkdir(exist_ok=True)
    run(str(manifest), str(out), ["select.keep=motion >= 0 or motion is null"], engine="inline")
    assert {p.name: p.stat().st_mtime_ns for p in (out / "scores").iterdir()} == before


def test_a_new_stage_takes_over_the_clips_of_the_first_scoring(finished, tmp_path):
    import shutil

    manifest, out = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    changed = tmp_path / "m.yaml"
    changed.write_text(manifest.read_text().replace("  - phash\n", "  - phash\n  - aesthetic\n"))
    run(str(changed), str(copy), [], engine="inline")
    old, new = rows_of(out), rows_of(copy)
    assert [row["id"] for row in old] == [row["id"] for row in new]
    assert all(row["aesthetic"] is not None for row in new if row["error"] is None)
    costs = json.loads((copy / "run.json").read_text())["stages"]
    assert "motion" not in costs and "probe" not in costs


def test_a_killed_run_continues_and_decodes_no_finished_video_again(finished, tmp_path):
    manifest, _out = finished
    changed = tmp_path / "m.yaml"
    changed.write_text(manifest.read_text() + "engine: {rows_per_chunk: 1}\n")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(str(changed), str(whole), [], engine="inline")
    command = [sys.executable, "-m", "curation", "run", str(changed), "--out", str(killed), "--engine", "inline"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((killed / "scores").glob("*.parquet")) and child.poll() is None:
        time.sleep(0.005)
    child.kill()
    child.wait()
    done = {path.name: path.stat().st_mtime_ns for path in (killed / "scores").glob("*.parquet")}
    assert done
    run(str(changed), str(killed), [], engine="inline")
    assert all((killed / "scores" / name).stat().st_mtime_ns == at for name, at in done.items())
    for folder in ("scores", "shards"):
        files = sorted(p.relative_to(whole) for p in (whole / folder).rglob("*") if p.is_file())
        assert files and all((whole / f).read_bytes() == (killed / f).read_bytes() for f in files)


def test_a_run_with_ray_gives_the_same_bytes(finished, tmp_path):
    manifest, out = finished
    run(str(manifest), str(tmp_path / "run"), [], engine="ray")
    for folder in ("scores", "shards"):
        files = sorted(p.relative_to(out) for p in (out / folder).rglob("*") if p.is_file())
        assert files and all((tmp_path / "run" / f).read_bytes() == (out / f).read_bytes() for f in files)


def test_every_video_of_the_corpus_is_accounted_for(shared_corpus, tmp_path):
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        MANIFEST.format(folder=shared_corpus / "videos").split("  - quality")[0]
        + "engine: {rows_per_chunk: 8, record_seconds: 60}\n"
    )
    run(str(manifest), str(tmp_path / "run"), [], engine="inline")
    rows = rows_of(tmp_path / "run")
    by_video = {row["source_key"]: row for row in rows}
    assert len(by_video) == 35
    for broken in (
        "made_garbage.mp4",
        "made_trunc60.mp4",
        "made_trunc50.webm",
        "decord__tests_test_data_corrupted.mp4",
    ):
        assert by_video[broken]["error"], broken
    assert by_video["decord__tests_test_data_video_90.mov"]["error"].startswith("no clip in it: shorter than")
    assert sum(row["error"] is None for row in rows) > 30
