"""Whether a clip holds together from frame to frame and from start to end."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.pixels import Pixels, mean
from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise


class Temporal(Stage):
    """Correlation of neighbouring frames, flicker of brightness, and how far the picture drifts over the clip."""

    name = "temporal"
    version = 3
    reads = ("pixels",)
    writes = {
        "temporal_consistency": Column(
            pa.float32(),
            "mean correlation of a sampled frame's luma with the next one's, 1 the same; null for pictures",
        ),
        "flicker": Column(pa.float32(), "mean change of brightness from a frame to the next, 0-1"),
        "drift": Column(pa.float32(), "1 - correlation of the colours of the first and the last sampled frame"),
    }
    resources = Resources(milliseconds=5)

    def run(self, batch: Batch) -> Columns:
        return rowwise(list(self.writes), _measure, batch["pixels"])


def _measure(clip: Pixels) -> tuple[float | None, float | None, float | None]:
    if not clip.pairs:
        return None, None, None
    alike = mean([_correlation(a, b) for a, b in clip.pairs])
    flicker = mean([abs(float(a.mean()) - float(b.mean())) / 255 for a, b in clip.pairs])
    first, last = (_histogram(clip.frames[i].rgb) for i in (0, -1))
    return alike, flicker, 1 - _correlation(first, last)


def _correlation(a: NDArray[np.uint8] | NDArray[np.float64], b: NDArray[np.uint8] | NDArray[np.float64]) -> float:
    """Pearson's; 1 where both are constant and the same."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale > 1e-9 else float(np.array_equal(a, b))


def _histogram(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[512]: 8 levels of each colour."""
    small = rgb[::4, ::4].reshape(-1, 3).astype(np.int64) // 32
    return np.bincount(small @ np.array([64, 8, 1]), minlength=512).astype(np.float64)
