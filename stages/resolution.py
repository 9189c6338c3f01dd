"""Size and shape of a picture."""

import pyarrow as pa

from curation.stage import Batch, Column, Columns, Resources, Stage


class Resolution(Stage):
    """Sides, area and aspect of the upright picture."""

    name = "resolution"
    reads = ("width", "height")
    writes = {
        "min_side": Column(pa.int32(), "px, the shorter side"),
        "max_side": Column(pa.int32(), "px, the longer side"),
        "aspect": Column(pa.float32(), "longer side / shorter side, from 1"),
        "megapixels": Column(pa.float32(), "width x height / 1e6"),
    }
    resources = Resources(milliseconds=0.01)

    def run(self, batch: Batch) -> Columns:
        sizes = list(zip(batch["width"], batch["height"], strict=True))
        return {
            "min_side": [min(size) for size in sizes],
            "max_side": [max(size) for size in sizes],
            "aspect": [max(size) / min(size) for size in sizes],
            "megapixels": [width * height / 1e6 for width, height in sizes],
        }
