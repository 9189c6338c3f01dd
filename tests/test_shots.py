"""Shot boundaries: exact on drawn scenes, and F1 on real videos with ground truth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.videos import write_video

from curation.errors import Unavailable
from curation.inference.client import runner_here
from curation.inference.network import Spec
from curation.media.sandbox import Limits
from curation.models.transnet import load_transnet
from curation.video.clips import ClipRules
from curation.video.reader import VideoReader
from curation.video.shots import METHODS, WINDOWS, open_detector, predict_here


def scene(seed: int, size: tuple[int, int], frame: int) -> np.ndarray:
    """A picture of large coloured blocks that drifts slowly: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    width, height = size
    base = rng.integers(0, 256, (3, 4, 3)).repeat(height // 3, 0).repeat(width // 4, 1)
    return np.roll(base, frame // 4, axis=1).astype(np.uint8)


def found(method: str, frames: list[tuple[float, int, int]]) -> list[tuple[int, int]]:
    """Cuts over frames that are each a share of one scene and the rest of another."""
    detector = open_detector(method)
    for i, (share, first, second) in enumerate(frames):
        a, b = (scene(seed, detector.size, i).astype(float) for seed in (first, second))
        detector.feed((share * a + (1 - share) * b).astype(np.uint8))
    return [(cut.start, cut.end) for cut in detector.finish()]


@pytest.mark.parametrize("method", METHODS)
def test_hard_cuts_are_the_first_frames_of_new_shots(method: str) -> None:
    frames = [(1.0, 1, 1)] * 60 + [(1.0, 2, 2)] * 45 + [(1.0, 3, 3)] * 70
    assert found(method, frames) == [(60, 60), (105, 105)]


@pytest.mark.parametrize("method", METHODS)
def test_one_shot_has_no_cut_and_no_frames_none_either(method: str) -> None:
    assert found(method, [(1.0, 4, 4)] * 130) == []
    assert found(method, []) == []


def test_a_crossfade_is_a_gradual_transition() -> None:
    fade = [(1 - k / 25, 1, 2) for k in range(25)]
    cuts = found("transnetv2", [(1.0, 1, 1)] * 70 + fade + [(1.0, 2, 2)] * 70)
    assert len(cuts) == 1
    start, end = cuts[0]
    assert 65 <= start <= 80 and 85 <= end <= 100


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="transnetv2, content, adaptive"):
        open_detector("magic")


@pytest.mark.parametrize("frames", [0, 1, 49, 130, 400, 401, 460])
def test_windows_that_are_asked_for_together_give_the_same_cuts(frames: int) -> None:
    asked: list[int] = []

    def predict(windows: np.ndarray) -> np.ndarray:
        asked.append(len(windows))
        return predict_here(windows)

    together, one_by_one = open_detector("transnetv2", predict=predict), open_detector("transnetv2")
    for i in range(frames):
        for detector in (together, one_by_one):
            detector.feed(scene(1 + i // 90, detector.size, i))
    assert together.finish() == one_by_one.finish()
    assert sum(asked) == -(-frames // 50) and all(count == WINDOWS for count in asked[:-1])


RULES = ClipRules(min_s=0.5).__dict__


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = [scene(1 + i // 45, (192, 108), i) for i in range(500)]
    return write_video(tmp_path / "film.mp4", [np.ascontiguousarray(frame) for frame in frames])


def test_a_video_is_split_the_same_when_the_service_finds_its_shots(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATION_PRETEND_GPUS", "1")
    network = runner_here(Spec("curation.models.transnet:TransNetNetwork", "", "cuda"))
    rows = network.meter.rows
    here, served = VideoReader(Limits(seconds=60)), VideoReader(Limits(seconds=60), shots_device="cuda")
    expected = here.scan(str(film), "transnetv2", None, RULES)
    assert served.scan(str(film), "transnetv2", None, RULES) == expected and len(expected["shots"]) == 12
    assert network.meter.rows == rows + 10  # windows of 50 frames
    assert served.scan(str(film), "content", None, RULES) == here.scan(str(film), "content", None, RULES)
    here.close()
    served.close()


def test_a_service_that_fails_ends_the_child_and_not_the_reader(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(windows: np.ndarray) -> np.ndarray:
        raise Unavailable("the GPU can no longer be used")

    reader = VideoReader(Limits(seconds=60), shots_device="cuda")
    with monkeypatch.context() as patch, pytest.raises(Unavailable, match="no longer be used"):
        patch.setattr(reader, "_shots", fails)
        reader.scan(str(film), "transnetv2", None, RULES)
    assert reader.decoder.pid is None
    assert reader.scan(str(film), "content", None, RULES)["probe"]["frames"] == 500
    reader.close()


def test_loading_the_network_leaves_the_process_as_it_was() -> None:
    load_transnet()
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic


def test_f1_on_real_videos(shared_corpus: Path) -> None:
    from benchmarks.bench_shots import hard_cuts, matched

    hits = total = 0
    reader = VideoReader(Limits(seconds=60))
    for row in map(json.loads, (shared_corpus / "videos.jsonl").open()):
        if "nasa" in row["file"] or "testvideo" in row["file"]:
            skipped = row["shots"]["gradual"] + row["shots"]["ignore"]
            cuts = hard_cuts(reader, shared_corpus, row, "transnetv2")
            kept = [c for c in cuts if not any(a <= c <= b for a, b in skipped)]
            hits, total = hits + matched(kept, row["shots"]["cuts"]), total + len(kept) + len(row["shots"]["cuts"])
    reader.close()
    assert 2 * hits / total >= 0.95
