"""A clip's pixels: upright, without its letterbox, one crop for all frames; verified by the numbers in the frames."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from helpers.videos import number_in, numbered, write_video
from skimage import data

from curation.manifest import MediaSection
from curation.media.sandbox import Limits
from curation.media.standardize import Recipe
from curation.phases import run
from curation.shards.reader import Shards
from curation.video.mp4 import mp4
from curation.video.reader import VideoReader

ONE, QUARTER = 1 << 16, 1 << 30
TURNS = {
    1: (0, ONE, 0, -ONE, 0, 0, 0, 0, QUARTER),
    2: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, QUARTER),
    3: (0, -ONE, 0, ONE, 0, 0, 0, 0, QUARTER),
}
BAR = 90


@pytest.fixture(scope="module")
def reader():
    opened = VideoReader(Limits(seconds=60))
    yield opened
    opened.close()


def boxed(number: int) -> np.ndarray:
    """[144, 192, 3]: a numbered frame between two grey bars of 24 px."""
    return np.pad(numbered(number, 5), ((24, 24), (0, 0), (0, 0)), constant_values=BAR)


def askew(folder: Path, turns: int, times_ms: list[int] | None = None) -> Path:
    """As a phone stores it: 50 letterboxed frames turned, each stored pixel twice as wide as it is high."""
    frames = [np.rot90(boxed(i), turns) for i in range(50)]
    stored = [np.ascontiguousarray(frame[:, ::2]) for frame in frames]
    return write_video(folder / "askew.mp4", stored, times_ms, aspect=Fraction(2), matrix=TURNS[turns])


@pytest.mark.parametrize("turns", TURNS)
def test_rotation_letterbox_and_wide_pixels_are_undone_at_once(tmp_path: Path, reader: VideoReader, turns: int) -> None:
    path = askew(tmp_path, turns)
    made = reader.cut(str(path), (0.4, 2.0), 12.5, 20, Recipe(192, 96, box=(0, 24, 192, 120)))
    assert made.crop_ltrb == (0, 24, 192, 120) and made.resized == (192, 96)
    assert [number_in(frame) for frame in made.rgb] == list(range(10, 50, 2))
    rim = made.rgb[:, [0, -1]].reshape(20, 2, 12, 16, 3)[:, 0]  # black and white blocks, nothing of the grey bars
    assert np.abs(rim.astype(int).mean((2, 3)) - BAR).min() > 50


def test_a_run_writes_them_frame_for_frame(tmp_path: Path) -> None:
    """From a phone's variable rate to exact times, through scores that found the rotation and the letterbox."""
    times = np.cumsum([0, *([20] * 10), *([60] * 20), *([40] * 19)]).tolist()
    (tmp_path / "corpus").mkdir()
    askew(tmp_path / "corpus", 1, times)
    (tmp_path / "m.yaml").write_text(
        "name: askew\nsource: {folder: corpus}\n"
        "score: [probe, {shots: {method: content}}, {clips: {min_s: 1, max_s: 3}}, quality]\n"
        'encode: {buckets: ["192x96"], frames: [49], latents: false, text: null, media: {crf: 12, preset: veryfast}}\n'
    )
    run(str(tmp_path / "m.yaml"), str(tmp_path / "run"), [], engine="inline")
    (sample,) = Shards(str(tmp_path / "run/shards"))
    assert sample.media and sample.meta["crop_ltrb"] == pytest.approx([0, 24, 192, 120], abs=1)
    assert (sample.meta["width"], sample.meta["height"]) == (192, 144)
    assert sample.meta["original_size"] == pytest.approx([96, 192], abs=2)  # turned, its pixels square, without bars
    assert (sample.meta["target_size"], sample.meta["crop_top_left"]) == ([96, 192], [0, 0])
    with av.open(io.BytesIO(sample.media.data)) as container:
        shown = [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert shown == [max(i for i, t in enumerate(times) if t <= 1000 * k / 24 + 0.1) for k in range(49)]


def test_a_smart_crop_stays_where_the_first_frame_put_it(tmp_path: Path, reader: VideoReader) -> None:
    frames = []
    for i in range(20):  # something busy crosses a quiet picture from left to right
        frame = np.full((96, 288, 3), 120, np.uint8)
        frame[:, 10 * i : 10 * i + 64] = numbered(i, 3)[:, :64]
        frames.append(frame)
    path = write_video(tmp_path / "a.mp4", frames)
    made = reader.cut(str(path), (0.0, 0.8), 25, 20, Recipe(96, 96, crop="smart"))
    left = made.crop_ltrb[0]
    assert left < 40
    for i, frame in enumerate(made.rgb):
        assert np.abs(frame.astype(int) - frames[i][:, left : left + 96]).mean() < 6


def test_a_clip_is_no_darker_than_the_same_pictures(tmp_path: Path, reader: VideoReader) -> None:
    """Pictures and clips go to one VAE: no channel may lean, as it does by 1 of 255 with swscale's faster ways."""
    photo = data.astronaut()
    pixels = np.stack([photo[2 * i : 2 * i + 128, i : i + 192] for i in range(9)])
    (tmp_path / "a.mp4").write_bytes(mp4(pixels, 25, MediaSection(crf=1.0, preset="veryfast")))
    made = reader.cut(str(tmp_path / "a.mp4"), (0.0, 0.36), 25, 9, Recipe(192, 128)).rgb
    assert np.abs((made.astype(float) - pixels).mean((0, 1, 2))).max() < 0.25


@pytest.mark.parametrize(("height", "matrix"), [(720, Colorspace.ITU709), (480, Colorspace.ITU601)])
def test_a_video_that_does_not_say_its_colours_has_those_that_players_show(tmp_path, reader, height, matrix):
    width, colour = height * 4 // 3, (20, 200, 60)
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), colour, np.uint8), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=matrix)
    frame.colorspace = 2  # unspecified
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(3):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    shown = reader.cut(str(tmp_path / "a.mp4"), (0, 0.12), 25, 3, Recipe(64, 48)).rgb
    assert np.abs(shown.astype(int) - colour).max() <= 3
