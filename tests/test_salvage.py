"""Files with harmless damage keep every pixel; where pixels are missing, the reason says so."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from curation.media.decode import Refused, decode_image
from curation.media.salvage import salvage

MOST = 10_000_000
FORMS: list[dict[str, Any]] = [
    {},
    {"progressive": True},
    {"restart_marker_rows": 1},
    {"restart_marker_blocks": 3, "progressive": True},
    {"subsampling": 0, "optimize": True},
]


def picture(width: int = 83, height: int = 60) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    values = np.stack([128 + 90 * np.sin(x / 9), 120 + 80 * np.cos(y / 8), 90 + x], -1)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def packed(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("form", FORMS)
def test_a_jpeg_without_its_end_marker_is_kept_when_all_its_pixels_are_there(form: dict[str, Any], mode: str) -> None:
    whole = packed(picture().convert(mode), "JPEG", quality=90, **form)
    pixels = decode_image(whole, MOST)[1]["pixel_sha256"]
    for cut in (1, 2):
        found = decode_image(whole[:-cut], MOST)[1]
        assert found["pixel_sha256"] == pixels and found["file_bytes"] == len(whole) - cut


@pytest.mark.parametrize("form", FORMS)
def test_a_jpeg_that_lacks_pixels_is_refused_with_that_reason(form: dict[str, Any]) -> None:
    """Wherever it is cut behind its header: between two scans, too, where an early one shows a coarse picture."""
    whole = packed(picture(), "JPEG", quality=90, **form)
    start = whole.index(b"\xff\xda") + 20
    scans = [at for at in range(start, len(whole)) if whole.startswith((b"\xff\xc4", b"\xff\xda"), at)]
    for cut in [*range(start, len(whole) - 2, 61), *scans, *range(len(whole) - 40, len(whole) - 2)]:
        try:
            info = decode_image(whole[:cut], MOST)[1]
        except Refused as error:
            assert "cut short: the end of its pixels is missing" in str(error) or "truncated" in str(error), cut
        else:
            assert info["pixel_sha256"] == decode_image(whole, MOST)[1]["pixel_sha256"], cut
            assert cut >= len(whole) - 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zeros", [2, 16, 5000])
def test_zeros_in_place_of_a_jpegs_end_are_no_pixels(form: dict[str, Any], zeros: int) -> None:
    whole = packed(picture(), "JPEG", quality=90, **form)
    pixels = decode_image(whole, MOST)[1]["pixel_sha256"]
    for sound in (whole, whole[:-2], whole[:-1]):
        assert decode_image(sound + bytes(zeros), MOST)[1]["pixel_sha256"] == pixels
    with pytest.raises(Refused, match="cut short"):
        decode_image(whole[:-300] + bytes(zeros), MOST)


def chunks(png: bytes) -> list[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk."""
    found, at = [], 8
    while at < len(png):
        end = at + 12 + struct.unpack(">I", png[at : at + 4])[0]
        found.append((png[at + 4 : at + 8], at, end))
        at = end
    return found


def damaged(png: bytes, kind: bytes) -> bytes:
    """With a wrong checksum in each chunk of a kind."""
    out = bytearray(png)
    for found, _, end in chunks(png):
        if found == kind:
            out[end - 4] ^= 0xFF
    assert bytes(out) != png
    return bytes(out)


def png(image: Image.Image) -> bytes:
    info = PngInfo()
    info.add_text("Comment", "made here")
    info.add_itxt("Title", "gr\u00fcn")
    info.add_text("Long", "x" * 99, zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return packed(image, "PNG", pnginfo=info, dpi=(72, 72), icc_profile=profile)


@pytest.mark.parametrize("kind", [b"tEXt", b"iTXt", b"zTXt", b"pHYs", b"iCCP", b"IEND"])
def test_a_png_with_a_wrong_checksum_beside_its_pixels_is_kept(kind: bytes) -> None:
    whole = png(picture())
    found = decode_image(damaged(whole, kind), MOST)[1]
    assert found["pixel_sha256"] == decode_image(whole, MOST)[1]["pixel_sha256"]
    assert found["colour_profile"] == ("ignored: a damaged profile" if kind == b"iCCP" else "sRGB")


def test_text_behind_the_pixels_may_be_damaged_too() -> None:
    whole = packed(picture(), "PNG")
    body = b"tEXtComment\0late"
    text = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body) ^ 1)
    late = whole[:-12] + text + whole[-12:]
    assert decode_image(late, MOST)[1]["pixel_sha256"] == decode_image(whole, MOST)[1]["pixel_sha256"]


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_a_png_whose_pixels_are_in_doubt_says_which_chunk_is_damaged(kind: bytes) -> None:
    whole = packed(picture().quantize(16), "PNG", transparency=3)
    with pytest.raises(Refused, match=rf"the checksum \(CRC\) of its {kind.decode()} chunk is wrong"):
        decode_image(damaged(whole, kind), MOST)


def test_what_is_whole_or_unknown_is_not_mended() -> None:
    assert salvage(packed(picture(), "PNG")) is None and salvage(packed(picture(), "GIF")) is None
