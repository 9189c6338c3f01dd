"""Technical quality: what a camera or a codec did to the picture, not whether it pleases."""

import pyarrow as pa

from curation.media import measures
from curation.media.borders import Box, common_box, content_box
from curation.pixels import Pixels, mean
from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise


class Quality(Stage):
    """Sharpness, exposure, contrast, colour, naturalness, flatness, JPEG blocks, borders."""

    name = "quality"
    version = 4
    reads = ("pixels",)
    writes = {
        "sharpness": Column(pa.float32(), "variance of the Laplacian at 512 px: below ~50 blurred, above ~500 sharp"),
        "exposure": Column(pa.float32(), "mean luma, 0 black to 1 white"),
        "clipped": Column(pa.float32(), "share of nearly black or white pixels, 0-1"),
        "contrast": Column(pa.float32(), "standard deviation of luma, 0-0.5"),
        "colourfulness": Column(pa.float32(), "Hasler-Suesstrunk M3: 0 grey, 59 quite colourful"),
        "entropy": Column(pa.float32(), "of the luma histogram, bits 0-8"),
        "brisque": Column(pa.float32(), "BRISQUE-like distance from natural scene statistics, 0 natural to 100"),
        "blockiness": Column(pa.float32(), "steps on JPEG's 8 px grid against others: 1 none, above 1.3 visible"),
        "flat": Column(pa.float32(), "share of 16x16 tiles without structure, 1 for a single colour"),
        "content_box": Column(
            pa.list_(pa.int32()), "left, top, right, bottom of what a uniform border frames; null without one"
        ),
        "border": Column(pa.float32(), "share of the area that the border takes, 0 without one"),
    }
    resources = Resources(milliseconds=20)

    def run(self, batch: Batch) -> Columns:
        return rowwise(list(self.writes), _measure, batch["pixels"])


def _measure(picture: Pixels) -> tuple[object, ...]:
    stills = picture.stills[::2]  # half of a clip's frames say enough of its codec and camera
    box = common_box([content_box(still) for still in stills])
    inside = (box[2] - box[0]) * (box[3] - box[1]) if box else picture.width * picture.height
    values = (mean([getattr(measures, name)(still) for still in stills]) for name in list(Quality.writes)[:-2])
    return (*values, _full_size(box, picture) if box else None, 1 - inside / (picture.width * picture.height))


def _full_size(box: Box, picture: Pixels) -> list[int]:
    """In pixels of the video, whose sampled frames may be smaller; a picture's box stays."""
    across = picture.info.get("width", picture.width) / picture.width
    down = picture.info.get("height", picture.height) / picture.height
    return [round(box[0] * across), round(box[1] * down), round(box[2] * across), round(box[3] * down)]
