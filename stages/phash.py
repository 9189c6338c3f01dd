"""Perceptual hash: pictures that look alike have hashes that differ in few bits, and so have clips, frame by frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curation.media.borders import content_box
from curation.media.phash import SIDE, colours_of, telling_hashes
from curation.media.thumbnail import thumbnails
from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise


class PHash(Stage):
    """64-bit DCT hash of the luma (pHash, Zauner 2010), of the picture and of its mirror image, and its colours:
    resizing, recompression and borders change few bits, cropping many; what differs in colour alone is not the same.

    A picture of which the hash tells nothing (one colour, a gradient, a small sign on a plain ground) has none, and
    is like no other. A clip's frames are hashed while its video is decoded: see `curation.video.hashes`.
    """

    name = "phash"
    version = 5
    reads = ("pixels",)
    writes = {
        "phash": Column(
            pa.uint64(),
            "of the picture, or a clip's middle frame; compare by Hamming distance: <= 6 of 64 bits is near; "
            "null where noise would draw most bits",
        ),
        "phash_look": Column(
            pa.binary(),
            "of the same: the mirror image's hash (8 bytes, little-endian), then luma, Cr and Cb of a 4x4 grid",
        ),
        "phash_frames": Column(
            pa.list_(pa.uint64()),
            "of a clip's frames, 4 a second; null in it where a frame shows next to nothing; null for pictures",
        ),
        "phash_frames_mirrored": Column(
            pa.list_(pa.uint64()), "of the mirror images of the same frames; null in it where `phash_frames` has null"
        ),
        "thumbnail": Column(
            pa.binary(),
            "48x48 luma and 12x12 colours inside borders, of a clip four times: what `duplicates: {on: copy}` compares",
        ),
    }
    resources = Resources(milliseconds=1.0)

    def run(self, batch: Batch) -> Columns:
        return rowwise(list(self.writes), _row, batch["pixels"])


@dataclass(frozen=True)
class Look:
    """The hash of a picture, that of its mirror image, and its colours uint8 [4, 4, 3]."""

    hash: int
    mirrored: int
    colours: NDArray[np.uint8]

    def __bytes__(self) -> bytes:
        return self.mirrored.to_bytes(8, "little") + self.colours.tobytes()


def _row(picture: Pixels) -> tuple[int | None, bytes | None, Any, Any, bytes]:
    look = look_of(picture)
    frames = (picture.info.get("phash_frames"), picture.info.get("phash_frames_mirrored"))
    return (look.hash if look else None, bytes(look) if look else None, *frames, thumbnails(picture))


def phash(picture: Pixels) -> int | None:
    """The hash of a picture's luma inside uniform borders; None where it tells nothing."""
    look = look_of(picture)
    return look.hash if look else None


def look_of(picture: Pixels) -> Look | None:
    """What `phash` compares, of the picture shrunk to 32x32 by area inside uniform borders: a framed copy is a copy.

    None where the hash, or that of the mirror image, tells nothing.
    """
    image = Image.fromarray(picture.rgb)
    if box := content_box(picture):
        image = image.crop(box)
    small = image.reduce(max(1, min(image.size) // (4 * SIDE)))  # no full-size luma needed
    luma = np.asarray(small.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    value, mirrored = telling_hashes(np.stack([luma, luma[:, ::-1]]))
    if value is None or mirrored is None:
        return None
    return Look(value, mirrored, colours_of(np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX))))
