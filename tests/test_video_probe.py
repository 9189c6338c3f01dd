"""The probe's columns for a clip, every one of them, on files of constant and of variable rate."""

import hashlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.videos import numbered, write_video

from curation import catalog
from curation.pixels import Pixels
from curation.record import Span
from curation.video.clips import ClipRules
from curation.video.scan import scan
from curation.video.split import clip_info

FRAMES = [numbered(i) for i in range(50)]
VARIABLE = [0, *np.cumsum([20] * 20 + [60] * 19 + [40] * 10).tolist()]


def columns(path: Path, span: Span) -> dict[str, Any]:
    """A clip's row as the stage writes it, but for the hash of its sampled pixels."""
    found = scan(str(path), "content", None, ClipRules(), 10**8, lambda: None)
    info = clip_info(found["probe"], hashlib.sha256(path.read_bytes()).hexdigest(), span)
    stage = catalog.find("probe")
    pixels = Pixels.clip([FRAMES[0]], 1, info)
    row = {name: values[0] for name, values in stage(stage.Params()).run({"pixels": [pixels]}).items()}
    assert row.pop("pixel_sha256") is None
    return row


@pytest.mark.parametrize("audio_s", [0.0, 1.0])
@pytest.mark.parametrize("times_ms", [None, VARIABLE], ids=["constant", "variable"])
def test_every_column_of_a_clip(tmp_path: Path, times_ms: list[int] | None, audio_s: float) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES, times_ms, audio_s=audio_s)
    data = path.read_bytes()
    with av.open(str(path)) as container:
        longest = max(stream.duration * stream.time_base for stream in container.streams)
    assert columns(path, Span(10, 40, 0.4, 1.6)) == {
        "width": 192,
        "height": 96,
        "original_width": 192,
        "original_height": 96,
        "format": "mov,mp4,m4a,3gp,3g2,mj2",
        "mode": None,
        "orientation": 1,
        "colour_profile": None,
        "frames": 30,
        "file_bytes": len(data),
        "sha256": f"{hashlib.sha256(data).hexdigest()}:10-40",
        "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "codec": "h264",
        "duration_s": 2.0 if times_ms is None else 1.98,
        "video_frames": 50,
        "fps": 25.0 if times_ms is None else 25.258,
        "fps_fraction": "25" if times_ms is None else None,
        "variable_fps": times_ms is not None,
        "rotation": 0,
        "pixel_format": "yuv420p",
        "interlaced": False,
        "hdr": False,
        "bit_rate": pytest.approx(8 * len(data) / float(longest), abs=1),
        "audio": audio_s > 0,
    }


def test_a_bit_rate_that_the_container_does_not_know_is_measured(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", FRAMES, container={"live": "1"})
    assert columns(path, Span(0, 50, 0.0, 2.0))["bit_rate"] == round(8 * path.stat().st_size / 2.0)
