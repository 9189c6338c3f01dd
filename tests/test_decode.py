"""Every kind of picture becomes the upright RGB that a viewer would show, or a sentence."""

import hashlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin
from skimage import data

from curation.media.decode import Refused, decode_image

MOST = 50_000_000
PHOTO = Image.fromarray(data.astronaut()).resize((96, 64))


def packed(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(raw: bytes) -> tuple[np.ndarray, dict[str, Any]]:
    image, info = decode_image(raw, MOST)
    assert image.mode == "RGB"
    assert (info["width"], info["height"]) == image.size
    return np.asarray(image), info


def refusal(raw: bytes, most: int = MOST) -> str:
    with pytest.raises(Refused) as caught:
        decode_image(raw, most)
    return str(caught.value)


def test_what_is_learnt_on_the_way() -> None:
    raw = packed(PHOTO)
    values, info = decoded(raw)
    assert info == {
        "format": "PNG",
        "mode": "RGB",
        "original_width": 96,
        "original_height": 64,
        "width": 96,
        "height": 64,
        "orientation": 1,
        "colour_profile": None,
        "frames": 1,
        "file_bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "pixel_sha256": hashlib.sha256(b"96x64:" + PHOTO.tobytes()).hexdigest(),
    }
    assert np.array_equal(values, np.asarray(PHOTO))


def test_the_pixel_hash_is_of_the_picture_and_not_of_its_packing() -> None:
    packings = [
        packed(PHOTO),
        packed(PHOTO, "BMP"),
        packed(PHOTO, "TIFF"),
        packed(PHOTO, "WEBP", lossless=True),
    ]
    assert len({decoded(raw)[1]["pixel_sha256"] for raw in packings}) == 1
    flipped = packed(PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert decoded(flipped)[1]["pixel_sha256"] != decoded(packings[0])[1]["pixel_sha256"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA"])
def test_every_format_on_the_list_opens(kind: str) -> None:
    values, info = decoded(packed(PHOTO, kind))
    assert info["format"] == kind
    assert np.abs(values.astype(int) - np.asarray(PHOTO)).mean() < 12


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "PCX", "SGI", "DDS"])
def test_a_format_off_the_list_is_refused_though_pillow_knows_it(kind: str) -> None:
    assert refusal(packed(PHOTO, kind)).startswith("not a picture: ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = packed(PHOTO, kind, exif=exif)
    values, info = decoded(raw)
    assert np.array_equal(values, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))))
    assert info["orientation"] == orientation
    assert (info["original_width"], info["original_height"]) == (96, 64)
    assert (info["width"], info["height"]) == ((64, 96) if orientation >= 5 else (96, 64))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_tiffs_orientation_is_applied_once(orientation: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112] = orientation
    values, info = decoded(packed(PHOTO, "TIFF", tiffinfo=tags))
    turn = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    assert np.array_equal(values, np.rot90(np.asarray(PHOTO), turn))
    assert info["orientation"] == orientation
    assert (info["original_width"], info["original_height"]) == (96, 64)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_nonsense_orientation_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    values, info = decoded(packed(PHOTO, "PNG", exif=exif))
    assert np.array_equal(values, np.asarray(PHOTO))
    assert info["orientation"] == 1


def test_damaged_exif_costs_nobody_a_picture() -> None:
    values, info = decoded(packed(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xaa" * 40))
    assert info["orientation"] == 1
    assert values.shape == (64, 96, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(mode: str) -> None:
    picture = Image.new("RGBA", (3, 1))
    picture.putdata([(0, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 51)])
    values, info = decoded(packed(picture.convert(mode)))
    assert info["mode"] == mode
    assert values[0].tolist() == [[0, 0, 0], [255, 255, 255], [204, 204, 204]]


def test_a_transparent_palette_entry_is_white() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.putdata([0, 1])
    for kind in ("PNG", "GIF"):
        assert decoded(packed(picture, kind, transparency=0))[0][0].tolist() == [[255] * 3, [0, 0, 200]]


def test_a_palette_with_alpha_lies_over_white() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 0, 0, 200])
    picture.putdata([0, 1])
    assert decoded(packed(picture, transparency=b"\x33\xff"))[0][0].tolist() == [[204] * 3, [0, 0, 200]]


def test_a_transparent_colour_of_rgb_and_grey_is_white() -> None:
    rgb = Image.new("RGB", (2, 1), (10, 20, 30))
    rgb.putpixel((1, 0), (1, 2, 3))
    assert decoded(packed(rgb, transparency=(1, 2, 3)))[0][0].tolist() == [[10, 20, 30], [255] * 3]
    grey = Image.new("L", (2, 1), 10)
    grey.putpixel((1, 0), 3)
    assert decoded(packed(grey, transparency=3))[0][0].tolist() == [[10] * 3, [255] * 3]


def test_black_and_white() -> None:
    picture = Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    assert decoded(packed(picture))[0][0].tolist() == [[0] * 3, [255] * 3]


def test_cmyk_is_ink_on_paper() -> None:
    inks = [(0, 0, 0, 0), (255, 255, 0, 0), (0, 0, 0, 255), (0, 255, 255, 0)]
    picture = Image.new("CMYK", (4, 1))
    picture.putdata(inks)
    assert decoded(packed(picture, "TIFF"))[0][0].tolist() == [[255] * 3, [0, 0, 255], [0] * 3, [255, 0, 0]]


def test_a_cmyk_jpeg_as_adobe_writes_it_is_not_negative() -> None:
    values, info = decoded(packed(PHOTO.convert("CMYK"), "JPEG", quality=95))
    assert info["mode"] == "CMYK"
    assert np.abs(values.astype(int) - np.asarray(PHOTO)).mean() < 6


def test_lab_is_converted_by_its_meaning() -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(PHOTO, to_lab)
    assert lab is not None
    values, info = decoded(packed(lab, "TIFF"))
    assert info["mode"] == "LAB"
    assert np.abs(values.astype(int) - np.asarray(PHOTO)).mean() < 3


def test_ycbcr_comes_as_rgb() -> None:
    values, info = decoded(packed(PHOTO.convert("YCbCr"), "TIFF"))
    assert info["mode"] == "YCbCr"
    assert np.abs(values.astype(int) - np.asarray(PHOTO)).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    values, info = decoded(packed(Image.fromarray(deep), kind))
    assert info["mode"].startswith("I;16")
    assert values[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_rgb_is_scaled_and_not_clipped() -> None:
    deep = np.array([[[0, 32896, 65535], [65535, 257, 0]]], ">u2")
    values, _ = decoded(png(2, 1, b"".join(b"\0" + row.tobytes() for row in deep), depth=16, colour=2))
    assert values[0].tolist() == [[0, 128, 255], [255, 1, 0]]


@pytest.mark.parametrize(
    ("deep", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 128.0, 255.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 32896.0, 65535.0]], np.float32), [0, 128, 255]),
        (np.array([[-1.0, 0.0, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, np.inf, 0.5]], np.float32), [0, 255, 128]),
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 32896, 65535]], np.int32), [0, 128, 255]),
        (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),
        (np.array([[7, 7, 7]], np.int32), [7, 7, 7]),
    ],
)
def test_floats_and_integers_are_scaled_to_the_range_they_were_meant_for(deep: Any, expected: list[int]) -> None:
    assert decoded(packed(Image.fromarray(deep), "TIFF"))[0][0, :, 0].tolist() == expected


def test_a_picture_of_nothing_but_nan_is_refused() -> None:
    assert "no finite" in refusal(packed(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_of_an_animation_is_used_and_all_are_counted(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    values, info = decoded(packed(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert info["frames"] == 3
    assert values[8, 8, 0] > 245
    assert values[8, 8, 1:].max() < 10


def test_frames_are_counted_up_to_a_thousand() -> None:
    frames = [Image.new("L", (1, 1), value % 256) for value in range(1200)]
    assert decoded(packed(frames[0], "GIF", save_all=True, append_images=frames[1:]))[1]["frames"] == 1000


def test_damage_behind_the_first_frame_does_not_matter() -> None:
    frames = [Image.fromarray(data.camera()).resize((64, 64)), Image.fromarray(data.coins()).resize((64, 64))]
    raw = packed(frames[0], "GIF", save_all=True, append_images=frames[1:])
    values, info = decoded(raw[:-900])
    assert np.abs(values[..., 0].astype(int) - np.asarray(frames[0])).mean() < 3
    assert info["frames"] == 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA"])
def test_half_a_file_is_refused(kind: str) -> None:
    raw = packed(PHOTO, kind)
    assert refusal(raw[: len(raw) // 2])


def test_what_is_no_picture_is_named() -> None:
    assert refusal(b"") == "the file is empty"
    assert refusal(b"<!DOCTYPE html><html><body>404</body></html>") == "not a picture: it holds HTML or XML"
    assert refusal(b"%PDF-1.7 ...") == "not a picture: it holds a PDF or PostScript document"
    assert refusal(bytes(1000)) == "not a picture: it begins with zeros"
    assert "no format that is read here" in refusal(b"hello world" * 10)


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """A PNG from its parts; `rows` as filtered and not yet compressed."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    assert "decompression bomb" in refusal(png(60_000, 60_000, bytes(60_000)))
    assert "decompression bomb" in refusal(packed(PHOTO), most=96 * 64 - 1)
    assert decode_image(packed(PHOTO), 96 * 64)[0].size == (96, 64)


def test_a_side_of_65535_is_refused() -> None:
    assert refusal(png(65_535, 1, bytes(65_536))) == "a side of 65,535 px is longer than 65,500"


def test_a_single_pixel_is_a_picture() -> None:
    assert decoded(packed(Image.new("RGB", (1, 1), (1, 2, 3))))[0].tolist() == [[[1, 2, 3]]]


def test_a_text_chunk_that_swells_is_refused() -> None:
    bomb = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(100_000_000)))
    assert "too large" in refusal(png(1, 1, b"\0\0", extra=bomb))


def test_a_damaged_colour_profile_is_ignored() -> None:
    raw = packed(PHOTO, "JPEG", quality=95)
    with_profile = packed(PHOTO, "JPEG", quality=95, icc_profile=b"no profile at all" * 20)
    assert np.array_equal(decoded(raw)[0], decoded(with_profile)[0])
