"""The child that decodes needs no more for ten minutes than for twenty seconds; a worker holds a bounded batch."""

import gc
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.videos import numbered, write_video

from curation.encoding import encode
from curation.encoding.buckets import Bucket
from curation.encoding.encode import BATCH_PIXELS, rows_at_once
from curation.media.sandbox import Limits
from curation.media.standardize import Recipe
from curation.phases import run
from curation.record import Span
from curation.video.cut import cut
from curation.video.reader import VideoReader
from curation.video.sampling import sample

FEW_MB = 8
"""1, 2 and 5 were seen, of about 100 in all: a frame leaves its time and its part of the file's index, 180 bytes."""
RULES = {"min_s": 2, "max_s": 10}


def long_video(path: Path, seconds: int) -> Path:
    """64x48 at 12 frames a second, a new scene every 8 s."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12, options={"g": "24"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(seconds * 12):
            if number % 96 == 0:
                scene = rng.integers(0, 256, (48, 128, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(scene[:, number % 64 :][:, :64]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 12)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def peak_mb(reader: VideoReader) -> float:
    """Of the child process, so far: the kernel's own high-water mark of resident pages."""
    child = reader.decoder._child
    assert child is not None
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def looked_at(path: Path, seconds: int) -> Iterator[float]:
    """Peaks of a child that scans the whole file, then samples and cuts a clip at its end."""
    reader = VideoReader(Limits(seconds=60))
    try:
        probe = reader.scan(str(path), "content", None, RULES)["probe"]
        assert probe["frames"] == seconds * 12
        yield peak_mb(reader)
        start = seconds - 8
        clip = reader.sample(str(path), Span(start * 12, seconds * 12, start, seconds), {"width": 64, "height": 48})
        assert len(clip.frames) == 8
        yield peak_mb(reader)
        made = reader.cut(str(path), (start, seconds), 24, 81, Recipe(64, 48))
        assert made.rgb.shape == (81, 48, 64, 3)
        yield peak_mb(reader)
    finally:
        reader.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_ten_minutes_take_the_memory_of_twenty_seconds(tmp_path: Path) -> None:
    short = list(looked_at(long_video(tmp_path / "short.mp4", 20), 20))
    long = list(looked_at(long_video(tmp_path / "long.mp4", 600), 600))
    for name, less, more in zip(("scan", "sample", "cut"), short, long, strict=True):
        assert more - less < FEW_MB, f"{name}: {less:.0f} MB for 20 s, {more:.0f} MB for 600 s"


def test_a_frame_is_gone_when_it_was_used(tmp_path: Path) -> None:
    """Without the garbage collector: a frame in a ring of references would stay, 3 MB of it at 1080p."""
    path = str(write_video(tmp_path / "a.mp4", [numbered(i) for i in range(60)]))
    gc.collect()
    gc.disable()
    try:
        sample(path, 0.0, 1.2, 8, 640, 10**6, lambda: None)
        cut(path, 1.2, 2.4, 25, 25, Recipe(64, 64), 10**6, lambda: None)
        left = sum(type(thing) is av.VideoFrame and thing.width > 16 for thing in gc.get_objects())
    finally:
        gc.enable()
    assert left <= 3, "those on show"


def test_a_batch_is_bounded_by_its_pixels() -> None:
    assert rows_at_once(Bucket(1, 256, 256), 8) == 8
    assert rows_at_once(Bucket(81, 480, 832), 8) == 1 and BATCH_PIXELS < 2 * 81 * 480 * 832
    assert rows_at_once(Bucket(17, 256, 256), 100) == 21


def test_a_worker_holds_no_more_clips_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve clips of 17x192x384, 3.8 MB of RGB each: in batches of two, three of them in work, then all at once."""
    pixels = 17 * 192 * 384
    (tmp_path / "corpus").mkdir()
    for i in range(12):
        write_video(tmp_path / f"corpus/{i:02d}.mp4", [numbered(k, i) for k in range(26)])
    (tmp_path / "m.yaml").write_text(
        "name: many\nsource: {folder: corpus}\nscore: [probe, {shots: {method: content}}, {clips: {min_s: 1}}]\n"
        "encode: {vae: video_autoencoder, batch: 12, reconstructions: 0}\n"
    )

    def encoded(*words: str) -> None:
        run(str(tmp_path / "m.yaml"), str(tmp_path / "run"), [f"encode.{word}" for word in words], engine="inline")

    encoded("size=64", "frames=9")  # scores, imports, models
    peaks = {}
    for clips in (2, 12):
        monkeypatch.setattr(encode, "BATCH_PIXELS", clips * pixels)
        tracemalloc.start()
        encoded('buckets=["384x192"]', "frames=17", f"precision={'fp32' if clips == 2 else 'bf16'}")
        peaks[clips] = tracemalloc.get_traced_memory()[1] / (3 * pixels)
        tracemalloc.stop()
    assert peaks[2] < 8 < 11 < peaks[12], "in clips"
