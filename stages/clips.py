"""How shots become clips: each clip is a record of its own; the rest of the video is listed with its reasons."""

import pyarrow as pa
from pydantic import Field

from curation.stage import Batch, Column, Columns, Params, Resources, Stage


class ClipsParams(Params):
    min_s: float = Field(2.0, gt=0, description="shorter pieces are left out, s")
    max_s: float = Field(60.0, gt=0, description="longer shots are cut into windows, s")
    window_s: float | None = Field(None, gt=0, description="length of the windows, at most and by default max_s")
    stride_s: float | None = Field(None, gt=0, description="from window to window; default the window's length")
    keep_static: bool = Field(False, description="keep shots in which nothing moves")


class Clips(Stage):
    """Clips of min_s to max_s inside shots; black, static, slideshow and transition frames are left out.

    Where the source names a video's clips (`source: {clips: COLUMN}`), these are taken instead.
    """

    name = "clips"
    reads = ("pixels",)
    writes = {
        "clip": Column(pa.int32(), "number of the clip in its video, from 0; null for pictures"),
        "clips": Column(pa.int32(), "how many clips the video gave"),
        "cut_spans": Column(
            pa.string(), "JSON on a video's first clip: [start_s, end_s, reason] of all seconds that are in no clip"
        ),
    }
    version = 4
    resources = Resources(milliseconds=0.1)
    Params = ClipsParams

    def run(self, batch: Batch) -> Columns:
        return {name: [clip.info.get(name) for clip in batch["pixels"]] for name in self.writes}
