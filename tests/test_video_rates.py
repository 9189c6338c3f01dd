"""Time in videos: at a file's own rate, output frame k is input frame k, whatever its container does to timestamps."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.videos import number_in, numbered
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.encoding.buckets import Clip, length
from curation.manifest import EncodeSection
from curation.media.standardize import Recipe
from curation.video.clips import ClipRules
from curation.video.cut import cut
from curation.video.rates import find_grid, standard
from curation.video.sampling import let_go, sample
from curation.video.scan import scan

RATES = ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60", "120")
CODECS = {"webm": "libvpx", "avi": "mpeg4"}
CONTAINERS = ("mp4", "mov", "mkv", "webm", "flv", "ts", "avi")
SIZE = (192, 32)
RECIPE = Recipe(*SIZE, "center", (0, 0, *SIZE), "box")


def write(path: Path, rate: Fraction, numbers: Sequence[int], away: Sequence[float] = ()) -> Path:
    """A video whose frame i shows numbers[i], at numbers[i] / rate, moved by away[i] of a step."""
    fine = 1 / (rate * 100)
    options = {"preset": "ultrafast", "deadline": "realtime", "cpu-used": "8", "bf": "0"}
    with av.open(str(path), "w", format={"mkv": "matroska", "ts": "mpegts"}.get(path.suffix[1:])) as out:
        stream = out.add_stream(CODECS.get(path.suffix[1:], "libx264"), rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        if away:
            stream.time_base = stream.codec_context.time_base = fine
        for i, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(numbered(number, size=SIZE), format="rgb24")
            frame.time_base = fine if away else 1 / rate
            frame.pts = round(100 * (number + away[i])) if away else number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def scanned(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the probe says, and the one clip that is the whole video."""
    found = scan(str(path), "content", 255.0, ClipRules(0.01, 600, keep_static=True), 10**6, lambda: None)
    (piece,) = [piece for piece in found["pieces"] if piece["reason"] is None]
    return found["probe"], piece


def shown(path: Path, fps: float, count: int, start: int = 0) -> list[int]:
    """The numbers of the frames that a clip of `count` frames at `fps` shows, from frame `start` of the file on."""
    probe, piece = scanned(path)
    rate = Fraction(probe["fps_fraction"]) if probe["fps_fraction"] else None
    start_s = piece["start_s"] + start / float(rate or 1)
    _, clip = cut(str(path), start_s, piece["end_s"], fps, count, RECIPE, 10**6, lambda: None, rate=rate)
    return [number_in(frame) for frame in clip]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("rate", RATES)
def test_at_its_own_rate_every_frame_is_shown_once(tmp_path: Path, container: str, rate: str) -> None:
    exact = Fraction(rate)
    path = write(tmp_path / f"video.{container}", exact, range(61))
    probe, piece = scanned(path)
    assert (probe["fps_fraction"], probe["fps"]) == (rate, round(float(exact), 3)) and not probe["variable_fps"]
    clip = Clip(piece["end_s"] - piece["start_s"], float(exact))
    assert length(clip, EncodeSection(frames=[60, 61, 62])) == 61
    assert shown(path, float(exact), 61) == list(range(61))
    assert shown(path, float(exact), 40, start=17) == list(range(17, 57))


@pytest.mark.parametrize("container", ["mp4", "mkv", "flv", "webm"])
@pytest.mark.parametrize(("rate", "fps"), [("30", 24), ("60", 24), ("60000/1001", 24), ("50", 25), ("24", 30)])
def test_at_another_rate_the_frame_on_show_is_taken(tmp_path: Path, container: str, rate: str, fps: int) -> None:
    exact = Fraction(rate)
    path = write(tmp_path / f"video.{container}", exact, range(80))
    count = int(80 / exact * fps)
    assert shown(path, fps, count) == [int(k * exact / fps) for k in range(count)]


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("rate", ["24", "30000/1001", "60"])
def test_a_rate_that_varies(tmp_path: Path, container: str, rate: str) -> None:
    """An unsteady clock moves frames by up to a fifth of a step; a frame that is missing leaves the one before."""
    exact, random = Fraction(rate), np.random.default_rng(3)
    unsteady = [float(x) for x in random.uniform(-0.2, 0.2, 60)]
    path = write(tmp_path / f"unsteady.{container}", exact, range(60), [0.0, *unsteady[1:]])
    assert scanned(path)[0]["fps_fraction"] == rate
    assert shown(path, float(exact), 59) == list(range(59))
    there = [number for number in range(60) if number % 7 != 5]
    path = write(tmp_path / f"missing.{container}", exact, there)
    probe, _ = scanned(path)
    assert probe["variable_fps"] and probe["fps_fraction"] == rate
    assert shown(path, float(exact), 59) == [number - (number % 7 == 5) for number in range(59)]


@pytest.mark.parametrize("container", ["mp4", "webm", "mkv", "flv"])
def test_a_clip_of_exactly_a_buckets_length_goes_to_that_bucket(tmp_path: Path, container: str) -> None:
    encode = EncodeSection(fps=30, frames=[17, 33, 49, 81, 97, 121])
    for frames in encode.frames:
        probe, piece = scanned(write(tmp_path / f"{frames}.{container}", Fraction(30), range(frames)))
        assert length(Clip(piece["end_s"] - piece["start_s"], 30.0), encode) == frames and probe["fps"] == 30


def test_a_manifest_may_say_a_rate_as_people_write_it() -> None:
    ntsc = 24000 / 1001
    for said in (23.976, 23.98, "23.976", "24000/1001", 23.976024):
        assert EncodeSection(fps=said).fps == ntsc
    assert [standard(fps) for fps in (24, 25, 29.97, 59.94, 119.88, 23.9)] == [
        24, 25, 30000 / 1001, 60000 / 1001, 120000 / 1001, 23.9
    ]  # fmt: skip
    encode = EncodeSection(fps=23.976, frames=[81, 97, 121, 129])
    for frames in encode.frames:
        assert length(Clip(round(frames / ntsc, 6), ntsc), encode) == frames
    for wrong in ("fast", 0, -24, "24/0", 241, float("nan")):
        with pytest.raises(ValueError, match="frame rate"):
            EncodeSection(fps=wrong)


def test_each_file_keeps_its_own_rate() -> None:
    encode = EncodeSection(fps="source")
    row = {"start_s": 0.0, "end_s": 2.0, "fps": 29.97, "fps_fraction": "30000/1001"}
    assert Clip.of(row, encode) == Clip(2.0, 30000 / 1001)
    assert Clip.of({**row, "fps_fraction": None}, encode) == Clip(2.0, 29.97)
    assert Clip.of({**row, "start_s": None}, encode) is None


@settings(max_examples=200)
@given(
    rate=st.sampled_from([Fraction(rate) for rate in RATES]),
    tick=st.sampled_from([1 / 1000, 1 / 600, 1 / 15360, 1 / 90000]),
    frames=st.integers(2, 2000),
    first=st.integers(0, 10**7),
    downwards=st.booleans(),
    named=st.booleans(),
)
def test_the_grid_is_found_through_any_rounding(
    rate: Fraction, tick: float, frames: int, first: int, downwards: bool, named: bool
) -> None:
    exact = first * tick + np.arange(frames) / float(rate)
    times = (np.floor(exact / tick + 1e-6) if downwards else np.rint(exact / tick)) * tick
    grid = find_grid(times, tick, [rate] if named else [])
    assert grid is not None and grid.constant and grid.places.tolist() == list(range(frames))
    if named or frames / float(rate) > 10 * 1001 * tick:
        assert grid.rate == rate
    assert np.abs(np.diff(grid.times(0.0)) - 1 / float(rate)).max() < max(2.1 * tick / (frames - 1), 1e-9)


@settings(max_examples=100)
@given(st.lists(st.floats(0.005, 2.0), min_size=30, max_size=100))
def test_frames_without_a_rate_lie_on_no_grid_or_stay_near_their_times(steps: list[float]) -> None:
    times = np.cumsum([0.0, *steps])
    grid = find_grid(times, 1e-3, [Fraction(30)])
    if grid is not None:
        assert np.abs(grid.times(0.0) - times).max() <= 0.5 / float(grid.rate) + 2e-3


def test_a_stream_that_changes_its_size_starts_another_shot(tmp_path: Path) -> None:
    """As a turned phone does in a call: two streams of one transport stream, one behind the other."""
    parts = []
    for number, (width, height) in enumerate([(160, 96), (96, 160)]):
        path = tmp_path / f"{number}.ts"
        with av.open(str(path), "w", format="mpegts") as out:
            stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for i in range(50):
                values = np.full((height, width, 3), 60 + 2 * i, np.uint8)
                values[:, : width // 2] = (200, 60, 40)
                frame = av.VideoFrame.from_ndarray(values, format="rgb24")
                frame.pts, frame.time_base = i + 50 * number, Fraction(1, 25)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        parts.append(path.read_bytes())
    path = tmp_path / "turned.ts"
    path.write_bytes(b"".join(parts))
    found = scan(str(path), "content", 255.0, ClipRules(0.3, 30, keep_static=True), 10**6, lambda: None)
    clips = [piece for piece in found["pieces"] if piece["reason"] is None]
    assert [(clip["start_frame"], clip["end_frame"], clip["width"], clip["height"]) for clip in clips] == [
        (0, 50, 160, 96),
        (50, 100, 96, 160),
    ]
    recipe = Recipe(48, 80, "center", (0, 0, 96, 160), "box")
    header, rgb = cut(str(path), clips[1]["start_s"], clips[1]["end_s"], 25, 17, recipe, 10**6, lambda: None,
                      rate=Fraction(25))  # fmt: skip
    assert (header["original_width"], header["original_height"]) == (96, 160)
    assert np.abs(rgb[:, :, :20].astype(int) - (200, 60, 40)).max() < 12, "the left half is red: nothing was squeezed"
    _, frames = sample(
        str(path), clips[1]["start_s"], clips[1]["end_s"], 4, 640, 10**6, lambda: None, rate=Fraction(25)
    )
    assert frames[0].shape == (160, 96, 3)
    let_go()
    over = scan(str(path), "content", 255.0, ClipRules(0.3, 30), 10**6, lambda: None, given=[(1.0, 3.0)])
    assert [p["reason"] for p in over["pieces"] if p["given"] == 0] == ["the frames change their size in it"]
