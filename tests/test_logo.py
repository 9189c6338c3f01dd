"""A mark that stands in a corner of a moving picture is found with its box; nothing else is."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from helpers.scenes import pan, texture
from numpy.typing import NDArray

from curation.pixels import Pixels
from curation.stage import Params, run_guarded
from stages.logo import Logo

Rgb = NDArray[np.uint8]
SIZE = (320, 180)
BOX = (262, 12, 306, 34)
"""Left, top, right, bottom of the drawn logo."""


def scene(
    seed: int, change: Callable[[Rgb], Rgb] = lambda frame: frame, step: tuple[float, float] = (60, 20)
) -> Pixels:
    """A clip of 8 frames half a second apart."""
    frames = [change(frame) for frame in pan(seed, 4, 2, SIZE, step)]
    return Pixels.clip(frames, len(frames), {"width": 2 * SIZE[0], "height": 2 * SIZE[1]})


def drawn(opacity: float) -> Callable[[Rgb], Rgb]:
    def draw(frame: Rgb) -> Rgb:
        marked = frame.copy()
        cv2.rectangle(marked, BOX[:2], (BOX[2] - 1, BOX[3] - 1), (250, 250, 250), 2)
        cv2.putText(marked, "TV", (BOX[0] + 8, BOX[3] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (250, 250, 250), 2)
        return np.asarray(cv2.addWeighted(marked, opacity, frame, 1 - opacity, 0), np.uint8)

    return draw


def found(*clips: Pixels) -> list[tuple[float | None, float | None, list[int] | None]]:
    columns = run_guarded(Logo(Params()), {"pixels": list(clips)})
    return list(zip(columns["logo"], columns["logo_area"], columns["logo_box"], strict=True))


@pytest.mark.parametrize("opacity", [1.0, 0.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_logo_in_a_corner_is_found_with_its_box(seed: int, opacity: float) -> None:
    [(score, area, box)] = found(scene(seed, drawn(opacity)))
    assert score is not None and area is not None and box is not None
    assert score > 0.5 and area == pytest.approx(44 * 22 / (320 * 180), rel=0.35)
    assert np.abs(np.array(box) - 2 * np.array(BOX)).max() <= 6  # px of the video, twice the frames' size


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_a_moving_picture_without_one(seed: int) -> None:
    assert found(scene(seed)) == [(0.0, 0.0, None)]


def test_where_nothing_moves_nothing_can_be_told() -> None:
    assert found(scene(1, drawn(1), step=(0, 0)), Pixels.of(pan(1, 1)[0])) == [(None, None, None)] * 2


def test_a_fixed_camera_before_moving_things_tells_nothing() -> None:
    """A picture hung on a wall would be a logo."""
    wall = np.asarray(cv2.resize(texture(9), SIZE, interpolation=cv2.INTER_AREA), np.uint8)

    def before_the_wall(frame: Rgb) -> Rgb:
        shown = wall.copy()
        shown[:, 60:220] = frame[:, 60:220]
        return shown

    assert found(scene(1, before_the_wall)) == [(None, None, None)]


def test_letterbox_bars_and_the_middle_of_the_picture_are_no_logos() -> None:
    def barred(frame: Rgb) -> Rgb:
        frame = frame.copy()
        frame[:20] = frame[-20:] = 0
        return frame

    def middle(frame: Rgb) -> Rgb:
        return np.asarray(np.roll(drawn(1)(np.roll(frame, (-70, 120), (0, 1))), (70, -120), (0, 1)))

    assert found(scene(1, barred), scene(1, middle)) == [(0.0, 0.0, None)] * 2
