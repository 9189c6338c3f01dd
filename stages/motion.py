"""How much moves in a clip, and whether it is the camera."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise

STILL = 0.25
"""Flow below it, in px at 256 px width, counts as none."""

LEAST = 32
"""Frames whose shorter side is smaller, in px, are enlarged: the search finds nothing in a few patches, or refuses."""


class Motion(Stage):
    """Dense inverse search optical flow (Kroeger et al. 2016, OpenCV) from sampled frames to the ones after them."""

    name = "motion"
    version = 3
    reads = ("pixels",)
    writes = {
        "motion": Column(pa.float32(), "mean length of the flow, px a frame at 256 px width; null for pictures"),
        "static_share": Column(pa.float32(), "share of the picture that does not move, 0-1"),
        "camera_shake": Column(
            pa.float32(), "how much the median flow changes from sample to sample, px a frame at 256 px width"
        ),
    }
    resources = Resources(milliseconds=40)

    def load(self) -> None:
        import cv2

        self.flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]

    def run(self, batch: Batch) -> Columns:
        return rowwise(list(self.writes), self._measure, batch["pixels"])

    def _measure(self, clip: Pixels) -> tuple[float | None, float | None, float | None]:
        if not clip.pairs:
            return None, None, None
        flows = [self._flow(first, after) for first, after in clip.pairs]
        lengths = [np.hypot(flow[..., 0], flow[..., 1]) for flow in flows]
        camera = np.array([np.median(flow.reshape(-1, 2), axis=0) for flow in flows])
        shake = float(np.hypot(*np.diff(camera, axis=0).T).mean()) if len(camera) > 1 else 0.0
        still = float(np.mean([(length < STILL).mean() for length in lengths]))
        return float(np.mean([length.mean() for length in lengths])), still, shake

    def _flow(self, first: NDArray[np.uint8], after: NDArray[np.uint8]) -> Any:
        import cv2

        if (scale := LEAST / min(first.shape)) > 1:
            first, after = (
                np.asarray(cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), np.uint8)
                for luma in (first, after)
            )
        return self.flow.calc(first, after, None) * (256 / first.shape[1])
