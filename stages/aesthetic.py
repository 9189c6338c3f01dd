"""A single mark for technical quality, where no model of taste can be had."""

import math

import pyarrow as pa

from curation.media import measures
from curation.pixels import Pixels, mean
from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise


class Aesthetic(Stage):
    """Embedded: MEASURED QUALITY, not taste: sharpness, exposure, contrast, colour, naturalness and JPEG blocks, 0-10.

    It ranks a blurred, dark, flat or crushed copy below its original. It cannot tell a fine photo from a dull one.
    """

    name = "aesthetic"
    reads = ("pixels",)
    writes = {"aesthetic": Column(pa.float32(), "0 poor to 10 good; measured quality, no model of taste")}
    resources = Resources(milliseconds=20)

    def run(self, batch: Batch) -> Columns:
        return rowwise(
            ["aesthetic"], lambda picture: (mean([quality_mark(still) for still in picture.stills]),), batch["pixels"]
        )


def quality_mark(picture: Pixels) -> float:
    """Weighted mean of six marks, each 0-1 and saturating where more is no better, times 10."""
    sharp = _ramp(math.log10(measures.sharpness(picture) + 1), 0.7, 3.2)
    light = 1 - min(1.0, abs(measures.exposure(picture) - 0.47) / 0.47) ** 2
    unclipped = 1 - _ramp(measures.clipped(picture), 0.05, 0.6)
    contrast = _ramp(measures.contrast(picture), 0.03, 0.22)
    colour = _ramp(measures.colourfulness(picture), 0, 45)
    natural = 1 - _ramp(measures.brisque(picture), 15, 60)
    clean = 1 - _ramp(measures.blockiness(picture), 1.05, 3.0)
    marks = (
        (sharp, 3.0),
        (light, 1.0),
        (unclipped, 0.5),
        (contrast, 1.5),
        (colour, 0.75),
        (natural, 1.0),
        (clean, 2.25),
    )
    return 10 * sum(mark * weight for mark, weight in marks) / sum(weight for _, weight in marks)


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, straight between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
