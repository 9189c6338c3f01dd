"""What the file itself says, learnt while it was decoded."""

import pyarrow as pa

from curation.stage import Batch, Column, Columns, Resources, Stage


class Probe(Stage):
    """Format, size, mode, EXIF orientation, frames and hashes, as the decoder saw them. Every run has it."""

    name = "probe"
    reads = ("pixels",)
    writes = {
        "width": Column(pa.int32(), "px, upright (EXIF orientation applied)"),
        "height": Column(pa.int32(), "px, upright"),
        "original_width": Column(pa.int32(), "px, as stored in the file"),
        "original_height": Column(pa.int32(), "px, as stored in the file"),
        "format": Column(pa.string(), "by content, not by file name: JPEG, PNG, WEBP ..."),
        "mode": Column(pa.string(), "Pillow's mode before conversion to RGB: RGB, CMYK, I;16 ..."),
        "orientation": Column(pa.int8(), "EXIF orientation 1-8, 1 where absent"),
        "frames": Column(pa.int32(), "frames or pages, counted up to 1000; the first is used"),
        "file_bytes": Column(pa.int64(), "size of the file, bytes"),
        "sha256": Column(pa.string(), "of the file's bytes, hex"),
        "pixel_sha256": Column(
            pa.string(), "of the upright RGB values and their size, hex: equal for re-packed pictures"
        ),
    }
    resources = Resources(milliseconds=0.1)

    def run(self, batch: Batch) -> Columns:
        return {name: [picture.info.get(name) for picture in batch["pixels"]] for name in self.writes}
