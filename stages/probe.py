"""What the file itself says, learnt while it was decoded."""

from typing import Any

import pyarrow as pa

from curation.stage import Batch, Column, Columns, Resources, Stage


class Probe(Stage):
    """Format, size, mode, EXIF orientation, frames and hashes, as the decoder saw them. Every run has it.

    The hash of a clip's whole file is the record's `content_sha256`.
    """

    name = "probe"
    reads = ("pixels",)
    writes = {
        "width": Column(pa.int32(), "px, upright (EXIF orientation applied)"),
        "height": Column(pa.int32(), "px, upright"),
        "original_width": Column(pa.int32(), "px, as stored in the file"),
        "original_height": Column(pa.int32(), "px, as stored in the file"),
        "format": Column(pa.string(), "by content, not by file name: JPEG, PNG, WEBP ..."),
        "mode": Column(pa.string(), "a picture's: Pillow's mode before conversion to RGB: RGB, CMYK, I;16 ..."),
        "orientation": Column(pa.int8(), "EXIF orientation 1-8, 1 where absent"),
        "colour_profile": Column(
            pa.string(),
            "the embedded ICC profile that was applied, by its own description; sRGB for one that changes nothing; "
            "`ignored: ...` for one that is damaged or does not fit; null without one and for clips",
        ),
        "frames": Column(
            pa.int32(), "pages of a picture, counted up to 1000, the first is used; of a clip its own frames"
        ),
        "file_bytes": Column(pa.int64(), "size of the file, of a clip its video's, bytes"),
        "sha256": Column(
            pa.string(), "of the file's bytes, hex; of a clip that of its video and its frames: HASH:START-END"
        ),
        "pixel_sha256": Column(
            pa.string(), "of the upright RGB values and their size, hex: equal for re-packed pictures"
        ),
        "container": Column(
            pa.string(), "of a clip's video, as the demuxer names it; this and all below null for pictures"
        ),
        "codec": Column(pa.string(), "of the video stream: h264, vp9, av1 ..."),
        "duration_s": Column(pa.float64(), "of the whole video, as decoded, s"),
        "video_frames": Column(pa.int64(), "of the whole video, as decoded"),
        "fps": Column(pa.float32(), "frames a second, to three decimals; the mean where frames are missing or uneven"),
        "fps_fraction": Column(
            pa.string(), "the exact rate, such as 24000/1001, of the grid on which the frames lie; null without one"
        ),
        "variable_fps": Column(pa.bool_(), "whether frames lie on no grid, or more than 1 % of its places are empty"),
        "rotation": Column(pa.int16(), "degrees clockwise that the file asks to be turned by: 0, 90, 180, 270; done"),
        "pixel_format": Column(pa.string(), "as the codec stores it: yuv420p, yuv420p10le, yuva420p ..."),
        "interlaced": Column(pa.bool_(), "whether most frames say that they are two fields; they are not deinterlaced"),
        "hdr": Column(pa.bool_(), "whether it says PQ or HLG: its frames are not brought to the usual range"),
        "bit_rate": Column(pa.int64(), "of the container, bits/s"),
        "audio": Column(pa.bool_(), "whether there is an audio stream"),
    }
    version = 4
    resources = Resources(milliseconds=0.1)

    def run(self, batch: Batch) -> Columns:
        return {name: [_fact(picture.info, name) for picture in batch["pixels"]] for name in self.writes}


def _fact(info: dict[str, Any], name: str) -> Any:
    """Of the video where it is one's; `frames` is the clip's own."""
    video = info.get("video", {})
    return video.get(VIDEO[name]) if name in VIDEO else info.get(name)


VIDEO = {
    "container": "container",
    "codec": "codec",
    "duration_s": "duration_s",
    "video_frames": "frames",
    "fps": "fps",
    "fps_fraction": "fps_fraction",
    "variable_fps": "variable_fps",
    "rotation": "rotation",
    "pixel_format": "pixel_format",
    "interlaced": "interlaced",
    "hdr": "hdr",
    "bit_rate": "bit_rate",
    "audio": "audio",
}
