"""Motion and temporal consistency against clips whose truth is known by construction."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.scenes import texture
from numpy.typing import NDArray

from curation.pixels import Pixels
from curation.stage import Params, Stage, run_guarded
from stages.motion import Motion
from stages.temporal import Temporal

Rgb = NDArray[np.uint8]
Pair = tuple[Rgb, Rgb]
WIDTH, HEIGHT = 256, 144
ROOM = texture(7, 360, 480)


def view(x: float, y: float, width: int = WIDTH) -> Rgb:
    """What a camera 256 units wide sees at (x, y), `width` px wide."""
    scale = width / WIDTH
    shift = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]])
    return np.asarray(cv2.warpAffine(ROOM, shift, (width, round(HEIGHT * scale)), flags=cv2.INTER_LINEAR), np.uint8)


def clip(pairs: Sequence[Pair]) -> Pixels:
    frames = [first for first, _ in pairs]
    lumas = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for pair in pairs for frame in pair]
    return Pixels.clip([*frames, *lumas], len(frames), {})


def panned(step: tuple[float, float], width: int = WIDTH) -> Pixels:
    places = [(20 + 8 * i, 20 + 4 * i) for i in range(8)]
    return clip([(view(x, y, width), view(x + step[0], y + step[1], width)) for x, y in places])


def measured(stage: Stage, *clips: Pixels) -> list[dict[str, Any]]:
    stage.load()
    columns = run_guarded(stage, {"pixels": list(clips)})
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("step", [(1, 0), (0, 2), (3, 0), (3, 4), (-6, 0), (0.5, 0)])
def test_a_pan_by_n_pixels_a_frame_is_a_motion_of_n(step: tuple[float, float]) -> None:
    [row] = measured(Motion(Params()), panned(step))
    assert row["motion"] == pytest.approx(np.hypot(*step), rel=0.08, abs=0.1)
    assert row["camera_shake"] < 0.1 and row["static_share"] < 0.02


def test_motion_is_of_256_pixels_width_whatever_the_clips() -> None:
    rows = measured(Motion(Params()), panned((3, 0), 192), panned((3, 0), 128))
    assert [row["motion"] for row in rows] == pytest.approx([3, 3], rel=0.08)


@pytest.mark.parametrize("size", [(2, 2), (16, 9), (40, 2)])
def test_tiny_clips_have_a_motion(size: tuple[int, int]) -> None:
    frames = [np.full((size[1], size[0], 3), value, np.uint8) for value in (20, 200)]
    [row] = measured(Motion(Params()), clip([(frames[0], frames[0]), (frames[1], frames[1])]))
    assert row == {"motion": 0, "static_share": 1, "camera_shake": 0}


def test_a_picture_half_of_which_stands_is_half_static() -> None:
    def half(x: float) -> Rgb:
        frame = view(20, 20).copy()
        frame[:, WIDTH // 2 :] = view(x, 20)[:, WIDTH // 2 :]
        return frame

    still, moving = (
        clip([(view(20, 20), view(20, 20))] * 4),
        clip([(half(20 + 9 * i), half(23 + 9 * i)) for i in range(4)]),
    )
    rows = measured(Motion(Params()), still, moving)
    assert rows[0] == {"motion": 0, "static_share": 1, "camera_shake": 0}
    assert rows[1]["static_share"] == pytest.approx(0.5, abs=0.06) and rows[1]["motion"] == pytest.approx(1.5, rel=0.1)


def test_a_shaken_camera_shakes_more_than_one_that_pans_as_far() -> None:
    shaken = clip([(view(60, 60), view(60 + dx, 60 + dy)) for dx, dy in [(3, 0), (-3, 0), (0, 3), (0, -3)] * 2])
    smooth, rough = measured(Motion(Params()), panned((3, 0)), shaken)
    assert smooth["motion"] == pytest.approx(rough["motion"], rel=0.1)
    assert smooth["camera_shake"] < 0.05
    turns = [np.hypot(6, 0), np.hypot(3, 3), np.hypot(0, 6), np.hypot(3, 3)]
    assert rough["camera_shake"] == pytest.approx(np.mean([*turns, *turns[:3]]), rel=0.1)


def test_pictures_have_neither() -> None:
    picture = Pixels.of(view(0, 0))
    for stage in (Motion(Params()), Temporal(Params())):
        [row] = measured(stage, picture)
        assert set(row.values()) == {None} and set(row) == set(stage.writes)


def test_a_frame_that_is_repeated_is_consistent_and_another_picture_is_not() -> None:
    same = (view(20, 20), view(20, 20))
    others = [(view(20, 20), texture(seed, HEIGHT, WIDTH)) for seed in range(95, 111)]
    rows = measured(Temporal(Params()), clip([same] * 4), clip(others), clip([same] * len(others) + others))
    assert rows[0]["temporal_consistency"] == pytest.approx(1) and rows[0]["flicker"] == 0 == rows[0]["drift"]
    assert abs(rows[1]["temporal_consistency"]) < 0.3
    assert rows[2]["temporal_consistency"] == pytest.approx(0.5 + rows[1]["temporal_consistency"] / 2)


def test_flicker_is_the_change_of_brightness() -> None:
    darker = (view(20, 20) // 2, view(20, 20) // 2 + 51)
    [row] = measured(Temporal(Params()), clip([darker] * 3))
    assert row["flicker"] == pytest.approx(0.2) and row["temporal_consistency"] == pytest.approx(1)


def test_drift_is_of_colours_from_the_first_frame_to_the_last() -> None:
    red, blue = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    there, back = clip([(red, red), (blue, blue)]), clip([(red, red), (blue, blue), (red, red)])
    rows = measured(Temporal(Params()), there, back)
    assert rows[0]["drift"] == pytest.approx(1, abs=0.01) and rows[1]["drift"] == 0
