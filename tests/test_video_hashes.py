"""A clip's hashes are those of the frames on show four times a second, from its start on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.scenes import pan, write_video
from skimage import data

from curation.media.phash import hash_of, telling_hashes
from curation.media.sandbox import Limits
from curation.pixels import Pixels
from curation.record import Span
from curation.stage import Params, run_guarded
from curation.video import hashes
from curation.video.container import frames, open_video
from curation.video.reader import VideoReader
from stages.phash import PHash, phash

FACTS = {"width": 192, "height": 108}


@pytest.fixture(scope="module")
def reader() -> Iterator[VideoReader]:
    opened = VideoReader(Limits(seconds=60))
    yield opened
    opened.close()


def hashed(reader: VideoReader, path: Path, start_s: float, end_s: float) -> list[int | None]:
    clip = reader.sample(str(path), Span(round(24 * start_s), round(24 * end_s), start_s, end_s), FACTS)
    columns = run_guarded(PHash(Params()), {"pixels": [clip]})
    stored: list[int | None] = pa.array(columns["phash_frames"], PHash.writes["phash_frames"].type).to_pylist()[0]
    return stored


def test_four_a_second(reader: VideoReader, tmp_path: Path) -> None:
    frames = pan(1, 4)
    path = write_video(tmp_path / "a.mp4", frames, crf=4)
    values = hashed(reader, path, 0, 4)
    assert len(values) == 16
    for i, value in enumerate(values):
        frame = phash(Pixels.of(frames[6 * i]))
        assert value is not None and frame is not None and (value ^ frame).bit_count() <= 2, i


def test_they_begin_with_the_clip(reader: VideoReader, tmp_path: Path) -> None:
    """So a copy that was cut out of the video at the same place has the same ones."""
    path = write_video(tmp_path / "a.mp4", pan(1, 6))
    whole, part, late = (hashed(reader, path, start, 6) for start in (0, 1.5, 1.5 + 1 / 24))
    assert part == whole[6 : 6 + len(part)] and len(part) == 17
    assert late != part


def test_frames_that_show_next_to_nothing_have_none(reader: VideoReader, tmp_path: Path) -> None:
    scene, black = pan(1, 1), [np.zeros((108, 192, 3), np.uint8)] * 24
    grey = [np.full((108, 192, 3), 90, np.uint8)] * 24
    values = hashed(reader, write_video(tmp_path / "a.mp4", scene + black + grey + scene), 0, 4)
    assert [value is None for value in values] == [False] * 4 + [True] * 8 + [False] * 4


def test_what_tells_something() -> None:
    across = np.tile(np.arange(32, dtype=np.uint8) * 6, (32, 1))
    noisy = (90 + np.random.default_rng(0).normal(0, 0.7, (32, 32))).astype(np.uint8)
    halves = np.where(np.arange(32) < 16, 0, 255).astype(np.uint8)[None].repeat(32, 0)
    assert telling_hashes(np.stack([across, noisy, halves, np.zeros_like(across)])) == [None] * 4
    photos = [getattr(data, name)()[:, :, 0] for name in ("astronaut", "chelsea", "coffee", "rocket")]
    smaller = [photo[:: photo.shape[0] // 32, :: photo.shape[1] // 32][:32, :32] for photo in photos]
    assert telling_hashes(np.stack(smaller)) == [hash_of(luma) for luma in smaller]


def test_a_long_clip_is_hashed_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "MOST", 100)
    with open_video(str(write_video(tmp_path / "a.mp4", [data.coffee()])), 10**6) as video:
        _, frame = next(frames(video))
        collected = hashes.FrameHashes(video, 0, 10_000)
        collected.show(frame, 5_000)
        collected.show(frame, 10_000)
        own, mirrored = collected.values()
        assert len(own) == len(mirrored) == 100 and len(set(own)) == len(set(mirrored)) == 1 and own[0] != mirrored[0]
        assert hashes.FrameHashes(video, 0, 1).values() == ([], [])


def test_a_picture_has_no_frames() -> None:
    columns = run_guarded(PHash(Params()), {"pixels": [Pixels.of(data.coffee())]})
    assert columns["phash_frames"] == [None] and columns["phash"][0] == phash(Pixels.of(data.coffee()))
