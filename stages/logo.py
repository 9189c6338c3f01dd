"""A logo or other standing mark on a clip: edges that stay where they are while the picture moves."""

from collections.abc import Sequence

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise

WIDTH = 320
"""Frames are looked at this wide at most, px; below, lengths in px are of that size."""
EDGE = 12.0
"""Luma levels a px by which a standing edge rises in every frame, a translucent logo's too."""
STEADY = 0.5
"""The weakest frame's share of the mean edge: noise and moving things vary more."""
MOVED, MOVING = 10.0, 0.4
"""Luma levels between the darkest and the brightest that a moving picture's pixel shows; the share of the picture
that must, or nothing can be told of what stands."""
JOINED = 9
"""Letters of one mark lie closer than this, px."""
STANDS = 0.2
"""Where edges stand in more of the picture's 16 x 9 cells, marks aside, the camera does: nothing can be told."""
FEWEST_FRAMES, FEWEST_EDGES = 4, 30
LARGEST, WIDEST = 0.1, 0.5
"""A mark's box is at most so much of the picture's area, and of its width: what is larger is the set or a border."""
IN_CORNER, AT_SIDE = 0.3, 0.15
"""A mark's centre lies in the outer 30 % of both the width and the height, or the outer 15 % of one."""
AROUND = 6

Box = tuple[int, int, int, int]
Plane = NDArray[np.float32]


class Logo(Stage):
    """Channel logos, watermarks, captions that stand: at a side of all sampled frames while the rest moves.

    Edges, not colours, are compared, so a mark may let the picture through. Null where it cannot be told: for
    pictures, and for clips in which less than 40 % of the picture moves or edges stand all over it, such as a
    fixed camera's. A mark scores 0.6 and more; below it are a scene's own things that hardly move.
    """

    name = "logo"
    reads = ("pixels",)
    writes = {
        "logo": Column(
            pa.float32(),
            "share of the edges in the marks' boxes that stand in all sampled frames, 0 no mark to 1; null: unknown",
        ),
        "logo_area": Column(pa.float32(), "share of the picture that the marks' boxes cover, 0-1"),
        "logo_box": Column(
            pa.list_(pa.int32()), "left, top, right, bottom of the mark with most edges, px of the video; null: none"
        ),
    }
    resources = Resources(milliseconds=25)

    def run(self, batch: Batch) -> Columns:
        return rowwise(list(self.writes), _look, batch["pixels"])


def _look(clip: Pixels) -> tuple[float | None, float | None, list[int] | None]:
    if len(clip.frames) < FEWEST_FRAMES:
        return None, None, None
    lumas = [_luma(frame) for frame in clip.frames]
    stack = np.stack(lumas)
    moves = cv2.blur(np.ptp(stack, axis=0), (5, 5)) > MOVED
    standing, edges = _edges(lumas)
    groups = _groups(standing)
    marks = [box for box in groups if _is_mark(box, standing, moves)]
    rest = np.ones(standing.shape, bool)
    for box in [*marks, *(box for box in groups if _is_bar(box, standing.shape))]:
        rest[_inside(box)] = False
    if moves.mean() < MOVING or _spread(standing & rest) > STANDS:
        return None, None, None
    if not marks:
        return 0.0, 0.0, None
    counts = [int(standing[_inside(box)].sum()) for box in marks]
    shown = sum(int((standing | edges)[_inside(box)].sum()) for box in marks)
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in marks) / standing.size
    return sum(counts) / shown, area, _full_size(marks[int(np.argmax(counts))], standing.shape, clip)


def _luma(frame: Pixels) -> Plane:
    scale = min(1.0, WIDTH / frame.width)
    size = (max(8, round(frame.width * scale)), max(8, round(frame.height * scale)))
    grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _edges(lumas: Sequence[Plane]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where an edge of one direction stands in every frame, and where half of the frames have any edge: [H, W]."""
    across = np.stack([cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8) for luma in lumas])
    down = np.stack([cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8) for luma in lumas])
    mean_across, mean_down = across.mean(0), down.mean(0)
    length = np.hypot(mean_across, mean_down)
    along = (across * mean_across + down * mean_down) / np.maximum(length, 1e-6)
    weakest = along.min(0)
    standing = (weakest > EDGE / 2) & (weakest > STEADY * length)
    often = (np.hypot(across, down) > EDGE / 2).mean(0) >= 0.5
    return standing, often


def _spread(standing: NDArray[np.bool_]) -> float:
    """Share of the picture's cells that have standing edges."""
    counts = cv2.resize(standing.astype(np.float32), (16, 9), interpolation=cv2.INTER_AREA) * (standing.size / 144)
    return float((counts >= 4).mean())


def _groups(standing: NDArray[np.bool_]) -> list[Box]:
    """Boxes of standing edges that lie together: left, top, right, bottom."""
    joined = cv2.morphologyEx(standing.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((JOINED, JOINED), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    return [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:]]


def _is_mark(box: Box, standing: NDArray[np.bool_], moves: NDArray[np.bool_]) -> bool:
    """Small, in a corner or at a side, of enough edges, with moving picture around it."""
    (left, top, right, bottom), (height, width) = box, standing.shape
    if int(standing[_inside(box)].sum()) < FEWEST_EDGES:
        return False
    if (right - left) * (bottom - top) > LARGEST * standing.size or right - left > WIDEST * width:
        return False
    x, y = (left + right) / 2 / width, (top + bottom) / 2 / height
    near, far = sorted((min(x, 1 - x), min(y, 1 - y)))
    if near > AT_SIDE and far > IN_CORNER:
        return False
    around = np.zeros(standing.shape, bool)
    around[max(0, top - AROUND) : bottom + AROUND, max(0, left - AROUND) : right + AROUND] = True
    around[_inside(box)] = False
    return bool(moves[around].mean() > MOVING)


def _is_bar(box: Box, shape: Sequence[int]) -> bool:
    """The straight edge of a letterbox or pillarbox: from side to side, and thin."""
    down, across = (box[3] - box[1]) / shape[0], (box[2] - box[0]) / shape[1]
    return max(down, across) > 0.8 and min(down, across) < 0.05


def _inside(box: Box) -> tuple[slice, slice]:
    return slice(box[1], box[3]), slice(box[0], box[2])


def _full_size(box: Box, shape: Sequence[int], clip: Pixels) -> list[int]:
    """In px of the video, whose sampled frames may be smaller."""
    across = clip.info.get("width", clip.width) / shape[1]
    down = clip.info.get("height", clip.height) / shape[0]
    return [round(side * factor) for side, factor in zip(box, (across, down, across, down), strict=True)]
