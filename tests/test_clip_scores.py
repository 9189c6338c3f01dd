"""Scores of clips through a whole run: copies are found, frames are decoded once, a mark and its text are seen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.scenes import Frames, pan, write_video
from PIL import Image

from curation.phases import run
from curation.pixels import Pixels
from curation.stage import run_guarded
from stages.overlay import Overlay, OverlayParams

MANIFEST = """
name: copies
source: {{folder: {folder}}}
score:
  - probe
  - shots: {{method: content}}
  - clips: {{min_s: 1, max_s: 20}}
  - quality
  - motion
  - temporal
  - logo
  - phash
select: {{duplicates: [{{on: phash}}]}}
"""
LARGE, SMALL = (192, 108), (96, 54)


def part(frames: Frames, start: float, end: float) -> Frames:
    return frames[round(start * len(frames)) : round(end * len(frames))]


def smaller(frames: Frames) -> Frames:
    return [np.asarray(cv2.resize(frame, SMALL, interpolation=cv2.INTER_AREA), np.uint8) for frame in frames]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over films and their copies; returns its directory."""
    folder = tmp_path_factory.mktemp("films")
    one, two, three, four = (pan(seed, 5) for seed in (1, 2, 3, 4))
    write_video(folder / "one.mp4", one)
    write_video(folder / "twice.mp4", two + three + part(two, 0.1, 0.9))
    write_video(folder / "trimmed.mp4", part(one, 0.3, 0.9), crf=28)
    write_video(folder / "recoded.mp4", smaller(pan(1, 5, fps=15)), fps=15, crf=35)
    write_video(folder / "all.mp4", smaller(part(pan(4, 5, fps=15), 0.21, 1)), fps=15, crf=35)
    write_video(folder / "four.mp4", four)
    write_video(folder / "mirrored.mp4", [frame[:, ::-1] for frame in part(one, 0, 0.95)])
    write_video(folder / "other.mp4", pan(5, 5))
    write_video(folder / "barred.mp4", [np.pad(frame, ((14, 14), (0, 0), (0, 0))) for frame in pan(5, 4)])
    Image.fromarray(three[71]).save(folder / "frame.jpg", quality=80)
    Image.fromarray(pan(6, 1)[0]).save(folder / "photo.jpg", quality=80)
    manifest = folder.parent / "copies.yaml"
    manifest.write_text(MANIFEST.format(folder=folder))
    run(str(manifest), str(folder.parent / "run"), [], engine="inline")
    return folder.parent / "run"


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for file in sorted((out / "scores").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_copies_fall_and_nothing_else(finished: Path) -> None:
    named = {row["id"]: (row["source_key"], row["clip"]) for row in rows_of(finished)}
    fates = {named[row["id"]]: row for row in pq.read_table(finished / "selection.parquet").to_pylist()}
    assert {name: (row["reason"], named[row["duplicate_of"]], row["threshold"])
            for name, row in fates.items() if row["decision"] == "dropped"} == {
        ("trimmed.mp4", 0): ("phash of frames", ("one.mp4", 0), 0.7),
        ("recoded.mp4", 0): ("phash of frames", ("one.mp4", 0), 0.7),
        ("all.mp4", 0): ("phash of frames", ("four.mp4", 0), 0.7),
        ("barred.mp4", 0): ("phash of frames", ("other.mp4", 0), 0.7),
        ("twice.mp4", 2): ("phash of frames", ("twice.mp4", 0), 0.7),
        ("mirrored.mp4", 0): ("phash of frames", ("one.mp4", 0), 0.7),
        ("frame.jpg", None): ("phash of a frame", ("twice.mp4", 1), 6),
    }  # fmt: skip
    assert {name for name, row in fates.items() if row["decision"] == "kept"} == {
        ("one.mp4", 0), ("twice.mp4", 0), ("twice.mp4", 1), ("four.mp4", 0), ("other.mp4", 0),
        ("photo.jpg", None),
    }  # fmt: skip
    assert all(row["value"] >= 0.7 for row in fates.values() if row["reason"] == "phash of frames")


def test_a_clips_frames_are_decoded_once_for_all_stages(finished: Path) -> None:
    """Splitting a video is a pass of its own; then each clip and picture is decoded once, whatever looks at it."""
    stages = json.loads((finished / "run.json").read_text())["stages"]
    records = len(rows_of(finished))
    assert records == 13 and stages["decode"]["records"] == records
    looking = ("quality", "motion", "temporal", "logo", "phash")
    assert {stages[name]["records"] for name in looking} == {records}


def test_every_score_of_a_clip_is_there(finished: Path) -> None:
    rows = {(row["source_key"], row["clip"]): row for row in rows_of(finished)}
    clip, picture = rows["one.mp4", 0], rows["photo.jpg", None]
    assert clip["motion"] == pytest.approx(np.hypot(36, 12) / 24 * 256 / 192, rel=0.1)
    assert clip["static_share"] < 0.1 and clip["temporal_consistency"] > 0.9 and clip["logo"] == 0
    assert len(clip["phash_frames"]) == 19 and None not in clip["phash_frames"]
    for column in ("motion", "static_share", "camera_shake", "temporal_consistency", "logo", "phash_frames"):
        assert picture[column] is None


def titled(frames: Sequence[Any], text: str) -> Frames:
    out = []
    for frame in frames:
        frame = np.full_like(frame, 40)
        cv2.putText(frame, text, (20, 120), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2)
        out.append(frame)
    return out


def test_the_text_of_any_of_three_frames_is_a_clips() -> None:
    plain = [np.full((216, 384, 3), 40, np.uint8)] * 3
    shown = titled(plain[:1], "SAMPLE VIDEO")
    stage = Overlay(OverlayParams())
    stage.load()
    clips = [Pixels.clip(frames, 3, {}) for frames in (plain, [*plain[:2], *shown], [*shown, *plain[:2]])]
    columns = run_guarded(stage, {"pixels": clips})
    assert columns["overlay_text"][0] is None and columns["text_boxes"][0] == 0
    assert [text.upper().replace(" ", "") for text in columns["overlay_text"][1:]] == ["SAMPLEVIDEO"] * 2
    assert columns["pwatermark"][1:] == [0.9, 0.9]


def test_a_photo_of_a_clip_that_changes_little_is_found_by_its_embedding(tmp_path: Path) -> None:
    """Whichever is preferred, the clip stays: it shows more."""
    folder = tmp_path / "media"
    folder.mkdir()
    slow = pan(7, 2, step=(4, 2))
    write_video(folder / "slow.mp4", slow)
    Image.fromarray(slow[30]).save(folder / "frame.jpg", quality=85)
    Image.fromarray(pan(8, 1)[0]).save(folder / "photo.jpg", quality=85)
    manifest = tmp_path / "m.yaml"
    head = MANIFEST.format(folder=folder).split("  - quality")[0]
    section = "{on: embedding, threshold: 0.97, prefer: [width]}"
    manifest.write_text(f"{head}  - embedding\nselect: {{duplicates: [{section}]}}\n")
    run(str(manifest), str(tmp_path / "run"), [], engine="inline")
    named = {row["id"]: row["source_key"] for row in rows_of(tmp_path / "run")}
    decided = pq.read_table(tmp_path / "run" / "selection.parquet").to_pylist()
    assert {named[row["id"]]: (row["reason"], named.get(row["duplicate_of"])) for row in decided} == {
        "slow.mp4": (None, None),
        "frame.jpg": ("embedding", "slow.mp4"),
        "photo.jpg": (None, None),
    }
