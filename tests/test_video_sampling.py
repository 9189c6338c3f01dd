"""Clips sampled in one pass over a video give what each gives alone; threads and quick arithmetic change nothing."""

from pathlib import Path

import numpy as np
import pytest
from helpers.videos import numbered, write_video
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from curation.media.decode import Refused
from curation.video import scan as scanning
from curation.video.clips import ClipRules
from curation.video.sampling import VideoCursor, sample
from curation.video.scan import scan
from curation.video.shots import MIN_SHOT, open_detector

FIXED = {"count": 8, "longest": 640, "max_pixels": 10**8, "alive": lambda: None}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("cursor") / "a.mp4", [numbered(i, i // 60) for i in range(240)])


def taken(path: Path, span: tuple[float, float]) -> tuple[list[float], list[bytes]]:
    header, arrays = sample(str(path), *span, **FIXED)
    return header["times"], [array.tobytes() for array in arrays]


@pytest.mark.parametrize(
    "spans", [[(0.0, 2.4), (2.4, 4.8), (5.0, 9.6)], [(4.8, 9.6), (0.0, 3.0), (1.5, 4.5)], [(9.0, 9.6), (9.0, 9.6)]]
)
def test_a_clip_gives_the_same_frames_alone_and_behind_others(video: Path, spans: list[tuple[float, float]]) -> None:
    alone = []
    for span in spans:
        with pytest.raises(Refused):
            sample(str(video.parent / "none.mp4"), 0.0, 1.0, **FIXED)  # so that the next file is opened anew
        alone.append(taken(video, span))
    assert [taken(video, span) for span in spans] == alone


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(i, 1) for i in range(80)])
    first = taken(path, (0.0, 1.0))
    write_video(path, [numbered(i, 2) for i in range(80)])
    assert taken(path, (0.0, 1.0)) != first


def test_a_reel_says_that_it_saw_damage_until_it_opens_another_file(tmp_path: Path, video: Path) -> None:
    path, cursor = tmp_path / "damaged.mp4", VideoCursor()
    data = bytearray(video.read_bytes())
    for at in range(data.find(b"mdat") + 3000, len(data) // 2, 997):
        data[at] ^= 0x55
    path.write_bytes(data)
    _, stream = cursor.frames(str(path), 0.0, 10**8, "pyav")
    try:
        damaged = [frame.is_corrupt for _, frame in stream]
    except Refused:
        damaged = [True]
    assert any(damaged)
    assert cursor.corrupt or damaged == [True]
    _, stream = cursor.frames(str(video), 0.0, 10**8, "pyav")
    assert len(list(stream)) == 240 and not cursor.corrupt


@pytest.mark.parametrize("method", ["content", "adaptive"])
def test_shots_are_those_of_the_detector_as_pyscenedetect_ships_it(method: str) -> None:
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 250, (9, 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(6)]
    frames = [scenes[i // 12] + rng.integers(0, 6, scenes[0].shape, dtype=np.uint8) for i in range(72)]
    ours = open_detector(method, None, 25.0)
    theirs = {
        "content": ContentDetector(min_scene_len=MIN_SHOT),
        "adaptive": AdaptiveDetector(min_scene_len=MIN_SHOT),
    }[method]
    scores: list[tuple[float | None, float | None]] = []
    cuts = []
    for i, frame in enumerate(frames):
        ours.feed(frame)
        cuts += theirs.process_frame(FrameTimecode(i, 25.0), np.ascontiguousarray(frame[..., ::-1]))
        scores.append((ours.detector._frame_score, theirs._frame_score))  # type: ignore[attr-defined]
    assert all(a == b for a, b in scores) and max(a for a, _ in scores if a) > 27
    found = [cut.start for cut in ours.finish()]
    assert found == [cut.frame_num for cut in cuts] == [12, 24, 36, 48, 60]


def test_a_scan_by_several_threads_finds_what_one_finds(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(scanning, "THREADS", threads)
        found.append(scan(str(video), "content", None, ClipRules(min_s=0.2), 10**8, lambda: None))
    assert found[0] == found[1]
    assert [piece["start_frame"] for piece in found[0]["pieces"]] == [0, 60, 120, 180]
