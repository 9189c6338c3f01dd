"""Perceptual hash: pictures that look alike have hashes that differ in few bits, and so have clips, frame by frame."""

import numpy as np
import pyarrow as pa
from PIL import Image

from curation.media.borders import content_box
from curation.media.phash import SIDE, hash_of
from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise


class PHash(Stage):
    """64-bit DCT hash (pHash, Zauner 2010): resizing, recompression and borders change few bits, cropping many.

    A clip's frames are hashed while its video is decoded: see `curation.video.hashes`.
    """

    name = "phash"
    version = 3
    reads = ("pixels",)
    writes = {
        "phash": Column(
            pa.uint64(),
            "of the picture, or a clip's middle frame; compare by Hamming distance: <= 6 of 64 bits is near",
        ),
        "phash_frames": Column(
            pa.list_(pa.uint64()),
            "of a clip's frames, 4 a second; null in it where a frame shows next to nothing; null for pictures",
        ),
    }
    resources = Resources(milliseconds=0.5)

    def run(self, batch: Batch) -> Columns:
        return rowwise(list(self.writes), lambda p: (phash(p), p.info.get("phash_frames")), batch["pixels"])


def phash(picture: Pixels) -> int:
    """The hash of a picture's luma inside uniform borders, shrunk to 32x32 by area: a framed copy is a copy."""
    image = Image.fromarray(picture.rgb)
    if box := content_box(picture):
        image = image.crop(box)
    grey = image.reduce(max(1, min(image.size) // (4 * SIDE))).convert("L")  # no full-size luma needed
    return hash_of(np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX)))
