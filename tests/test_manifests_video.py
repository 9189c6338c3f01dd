"""manifests/video.yaml and manifests/mixed.yaml as they stand, from files to shards."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.scenes import pan, write_video
from PIL import Image

from curation.phases import run

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"
SIZE = (240, 136)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and a trimmed copy of one; a frame of a video and another photo."""
    folder = tmp_path_factory.mktemp("corpus")
    videos, photos = folder / "videos", folder / "photos"
    videos.mkdir()
    photos.mkdir()
    one = pan(1, 4, 24, SIZE)
    write_video(videos / "one.mp4", one)
    (videos / "one.txt").write_text("blotches of one kind")
    write_video(videos / "copy.mp4", one[20:80], crf=30)
    write_video(videos / "two.mp4", pan(2, 3, 24, SIZE))
    Image.fromarray(one[50]).save(photos / "frame.jpg", quality=85)
    Image.fromarray(pan(3, 1, 1, SIZE)[0]).save(photos / "photo.jpg", quality=85)
    return folder


def fates(out: Path) -> dict[str, tuple[str, str | None, str | None]]:
    """File -> decision, reason, and the file that it fell to."""
    rows = [row for file in (out / "scores").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    named = {row["id"]: row["source_key"] for row in rows}
    decided: list[dict[str, Any]] = pq.read_table(out / "selection.parquet").to_pylist()
    return {named[row["id"]]: (row["decision"], row["reason"], named.get(row["duplicate_of"])) for row in decided}


def test_video(corpus: Path, tmp_path: Path) -> None:
    run(str(MANIFESTS / "video.yaml"), str(tmp_path), [f"source.folder={corpus}/videos"], engine="inline")
    assert fates(tmp_path) == {
        "one.mp4": ("kept", None, None),
        "two.mp4": ("kept", None, None),
        "copy.mp4": ("dropped", "phash of frames", "one.mp4"),
    }
    index = json.loads((tmp_path / "shards" / "index.json").read_text())
    assert {path.split("x")[0] for path in index["buckets"]} == {"81", "49"} and index["samples"] == 2


def test_mixed(corpus: Path, tmp_path: Path) -> None:
    sets = [f"source.0.folder={corpus}/photos", f"source.1.folder={corpus}/videos"]
    run(str(MANIFESTS / "mixed.yaml"), str(tmp_path), sets, engine="inline")
    assert fates(tmp_path) == {
        "one.mp4": ("kept", None, None),
        "two.mp4": ("kept", None, None),
        "copy.mp4": ("dropped", "phash of frames", "one.mp4"),
        "frame.jpg": ("dropped", "phash of a frame", "one.mp4"),
        "photo.jpg": ("kept", None, None),
    }
    index = json.loads((tmp_path / "shards" / "index.json").read_text())
    assert {path.split("x")[0] for path in index["buckets"]} == {"49", "1"} and index["samples"] == 3
