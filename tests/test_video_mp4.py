"""Files of standardized pixels: every frame there at its exact time, keyframes where said, the same bytes each time."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.videos import number_in, numbered
from PIL import Image
from skimage import data

from curation.encoding.reconstruct import psnr_db
from curation.manifest import MediaSection
from curation.video.mp4 import media_file, mp4


def clip(count: int) -> np.ndarray:
    return np.stack([numbered(i) for i in range(count)])


def photo_clip(count: int) -> np.ndarray:
    photo = data.astronaut()
    return np.stack([photo[2 * i : 2 * i + 128, i : i + 192] for i in range(count)])


def packets_of(data: bytes) -> list[av.Packet]:
    with av.open(io.BytesIO(data)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(("fps", "rate"), [(24, Fraction(24)), (23.976, Fraction(2997, 125)), (12.5, Fraction(25, 2))])
def test_every_frame_is_there_at_exactly_its_time(fps: float, rate: Fraction) -> None:
    with av.open(io.BytesIO(mp4(clip(33), fps, MediaSection()))) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames, stream.average_rate) == (192, 96, 33, rate)
        assert stream.start_time == 0 and stream.duration * stream.time_base == 33 / rate
        assert [frame.pts * stream.time_base for frame in frames] == [k / rate for k in range(33)]
    assert [number_in(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(33))


def test_groups_begin_with_a_keyframe_and_are_closed() -> None:
    """A reader that begins at a keyframe gets the same frames as one that begins at the first."""
    made = mp4(clip(40), 24, MediaSection(gop=16))
    packets = packets_of(made)
    assert [k for k, packet in enumerate(packets) if packet.is_keyframe] == [0, 16, 32]
    assert all(packet.pts == packet.dts for packet in packets)
    with av.open(io.BytesIO(made)) as container:
        whole = [frame.to_ndarray() for frame in container.decode(video=0)]
    with av.open(io.BytesIO(made)) as container:
        stream = container.streams.video[0]
        container.seek(packets[16].pts, stream=stream)
        late = [frame.to_ndarray() for frame in container.decode(stream)]
    assert len(late) == 24 and all(np.array_equal(a, b) for a, b in zip(late, whole[16:], strict=True))


def test_the_same_pixels_give_the_same_bytes_and_a_smaller_crf_better_ones() -> None:
    pixels, sizes, decibels = photo_clip(9), [], []
    for crf in (30.0, 18.0, 4.0):
        made = mp4(pixels, 24, MediaSection(crf=crf, preset="veryfast"))
        assert made == mp4(pixels, 24, MediaSection(crf=crf, preset="veryfast"))
        assert f"crf={crf:.1f}".encode() in made and b"threads=1 " in made and b"bframes=0" in made
        with av.open(io.BytesIO(made)) as container:
            back = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        sizes.append(len(made))
        decibels.append(psnr_db(back, pixels))
    assert sizes == sorted(sizes) and decibels == sorted(decibels) and decibels[1] > 33


def test_colours_are_those_of_the_pixels() -> None:
    colours = [(200, 30, 40), (20, 180, 60), (40, 60, 220), (128, 128, 128), (255, 255, 255), (0, 0, 0)]
    pixels = np.stack([np.full((64, 64, 3), colour, np.uint8) for colour in colours])
    with av.open(io.BytesIO(mp4(pixels, 24, MediaSection(crf=4.0)))) as container:
        frames = list(container.decode(video=0))
    assert {(frame.colorspace, frame.color_range) for frame in frames} == {(6, 1)}
    for frame, colour in zip(frames, colours, strict=True):
        luma, cb, cr = (plane.mean() for plane in np.split(frame.to_ndarray().ravel(), [4096, 5120]))
        red, green, blue = (
            1.164384 * (luma - 16) + a * (cb - 128) + b * (cr - 128)
            for a, b in ((0, 1.596027), (-0.391762, -0.812968), (2.017232, 0))
        )
        assert (red, green, blue) == pytest.approx(colour, abs=2)


@pytest.mark.parametrize(("suffix", "lossless"), [("jpg", False), ("png", True), ("webp", True)])
def test_pictures_are_files_of_the_kind_asked_for(suffix: str, lossless: bool) -> None:
    photo = photo_clip(1)[0]
    media = MediaSection(images=suffix)
    made = media_file(photo, 24, media)
    back = np.asarray(Image.open(io.BytesIO(made.data)).convert("RGB"))
    assert made.suffix == suffix and made == media_file(photo, 24, media)
    assert np.array_equal(back, photo) if lossless else 38 < psnr_db(back, photo) < 99


def test_a_clip_of_one_frame_is_still_a_video() -> None:
    made = media_file(clip(1), 24, MediaSection())
    assert made.suffix == "mp4" and len(packets_of(bytes(made.data))) == 1
