"""Pictures in other colour spaces come out in sRGB, as LittleCMS makes them; a profile that does not fit is named."""

import io
import struct
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.profiles import PRIMARIES, grey_profile, rgb_profile
from PIL import Image, ImageCms

from curation.errors import CurationError
from curation.media.decode import decode_image
from curation.media.sandbox import Decoder, Limits
from curation.trainer.evaluate import read_picture

GAMMAS = {"Display P3": None, "Adobe RGB (1998)": 563 / 256, "ProPhoto RGB": 1.8}
COLOUR = (200, 60, 40)
FILES: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 97, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 98, "subsampling": "4:4:4"},
}


def picture() -> Image.Image:
    """A block of one colour in sRGB on a ramp of grey."""
    values = np.zeros((64, 64, 3), np.uint8)
    values[...] = np.linspace(60, 180, 64, dtype=np.uint8)[None, :, None]
    values[16:48, 16:48] = COLOUR
    return Image.fromarray(values)


def opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def stored_in(profile: bytes, image: Image.Image) -> Image.Image:
    """The sRGB picture in another space, by relative colorimetric intent."""
    made = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), opened(profile), outputMode="RGB", renderingIntent=1
    )
    assert made is not None
    return made


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> tuple[np.ndarray, Any]:  # type: ignore[type-arg]
    image, info = decode_image(data, 10**8)
    return np.asarray(image).astype(int), info["colour_profile"]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", GAMMAS)
def test_a_profile_is_applied_in_every_format(kind: str, name: str) -> None:
    profile = rgb_profile(name, GAMMAS[name])
    stored = stored_in(profile, picture())
    assert np.abs(np.asarray(stored).astype(int)[32, 32] - COLOUR).max() > 9, "its values mean other colours in sRGB"
    rgb, found = decoded(saved(stored, kind, icc_profile=profile, **FILES[kind]))
    assert found == name
    lossy = {"JPEG": 2, "AVIF": 3}.get(kind, 1)
    assert np.abs(rgb[32, 32] - COLOUR).max() <= lossy
    assert np.abs(rgb - np.asarray(picture()).astype(int))[:12].max() <= lossy + 1, "greys stay grey"


@pytest.mark.parametrize("name", GAMMAS)
def test_every_colour_is_littlecms_own(name: str) -> None:
    profile = rgb_profile(name, GAMMAS[name])
    levels = np.linspace(0, 255, 12).round().astype(np.uint8)
    cube = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(36, 48, 3))
    expected = ImageCms.profileToProfile(cube, opened(profile), ImageCms.createProfile("sRGB"), outputMode="RGB")
    rgb, _ = decoded(saved(cube, icc_profile=profile))
    assert np.abs(rgb - np.asarray(expected).astype(int)).max() <= 1


@pytest.mark.parametrize("label", ["sRGB IEC61966-2.1", "c2", "Camera RGB"])
def test_an_srgb_profile_changes_no_pixel_whatever_it_is_called(label: str) -> None:
    rgb, found = decoded(saved(picture(), icc_profile=rgb_profile("sRGB IEC61966-2.1", None, label)))
    assert found == "sRGB" and np.array_equal(rgb, np.asarray(picture()))
    rgb, found = decoded(
        saved(picture(), icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    )
    assert found == "sRGB" and np.array_equal(rgb, np.asarray(picture()))
    assert decoded(saved(picture()))[1] is None


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
def test_greys_have_profiles_too(gamma: float) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 4, 0)
    exact = (np.arange(256) / 255) ** gamma
    wanted = 255 * np.where(exact <= 0.0031308, 12.92 * exact, 1.055 * exact ** (1 / 2.4) - 0.055)
    for image in (Image.fromarray(ramp), Image.merge("LA", [Image.fromarray(ramp), Image.new("L", (256, 4), 255)])):
        rgb, found = decoded(saved(image, icc_profile=grey_profile(gamma)))
        assert found == f"grey gamma {gamma:g}"
        assert np.abs(rgb[0, :, 0] - wanted).max() <= 1.5 and np.ptp(rgb, axis=2).max() <= 1
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    assert np.abs(decoded(saved(deep, icc_profile=grey_profile(gamma)))[0][0, :, 0] - wanted).max() <= 1.5


def test_transparency_is_laid_over_white_after_the_profile() -> None:
    profile = rgb_profile("Display P3", None)
    stored = stored_in(profile, picture()).convert("RGBA")
    stored.putalpha(Image.fromarray(np.repeat(np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None], 64, 0)))
    rgb, _ = decoded(saved(stored, icc_profile=profile))
    assert np.abs(rgb[32, 20] - COLOUR).max() <= 1 and (rgb[32, 40] == 255).all()


def test_a_palette_has_its_profile_applied() -> None:
    profile = rgb_profile("Display P3", None)
    palette = stored_in(profile, picture()).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    rgb, found = decoded(saved(palette, icc_profile=profile))
    assert found == "Display P3" and np.abs(rgb[32, 32] - COLOUR).max() <= 2


def test_a_profile_in_many_segments_of_a_progressive_jpeg_is_whole() -> None:
    profile = rgb_profile("Display P3", None)
    large = profile[:128] + profile[128:] + bytes(200_000)
    large = len(large).to_bytes(4, "big") + large[4:]
    stored = stored_in(profile, picture())
    data = saved(stored, "JPEG", icc_profile=large, progressive=True, quality=97, subsampling=0)
    assert data.count(b"ICC_PROFILE\0") == 4
    rgb, found = decoded(data)
    assert found == "Display P3" and np.abs(rgb[32, 32] - COLOUR).max() <= 2


def png16(kind: int, rows: bytes, key: bytes) -> bytes:
    """A PNG of 64x8 with 16 bits a channel and a transparent colour; `kind` 0 grey, 2 RGB."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 8, 16, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + rows for _ in range(8))))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", key) + body + chunk(b"IEND", b"")


def test_a_transparent_colour_of_sixteen_bits_is_white_and_its_neighbours_are_not() -> None:
    """7 is transparent; 8, which is the same in eight bits, is not."""
    grey = struct.pack(">64H", *[25700] * 32, *[7] * 16, *[8] * 16)
    colour = struct.pack(">192H", *[25700] * 96, *[7] * 48, *[8] * 48)
    for data in (png16(0, grey, struct.pack(">H", 7)), png16(2, colour, struct.pack(">3H", 7, 7, 7))):
        rgb, _ = decoded(data)
        assert (rgb[4, 10] == 100).all() and (rgb[4, 40] == 255).all() and (rgb[4, 60] == 0).all()


def test_an_evaluation_sees_reference_pictures_as_the_pipeline_does(tmp_path: Path) -> None:
    """A phone's picture stands upright, what is cut out lies on white, wide colours are sRGB."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture().crop((0, 0, 64, 48)).transpose(Image.Transpose.ROTATE_90)
    cut_out = picture().convert("RGBA")
    cut_out.putalpha(0)
    files = {
        "phone.png": saved(turned, exif=exif),
        "upright.png": saved(picture().crop((0, 0, 64, 48))),
        "cut.png": saved(cut_out),
        "white.png": saved(Image.new("RGB", (64, 64), "white")),
        "wide.png": saved(stored_in(P3, picture()), icc_profile=P3),
    }
    with closing(Decoder(Limits())) as decoder:
        seen = {}
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
            height, width = decode_image(data, 10**8)[0].size[::-1]
            seen[name] = read_picture(decoder, tmp_path / name, (height, width))
            assert np.array_equal(seen[name], np.asarray(decode_image(data, 10**8)[0]))
        assert np.array_equal(seen["phone.png"], seen["upright.png"])
        assert np.array_equal(seen["cut.png"], seen["white.png"])
        assert np.abs(seen["wide.png"].astype(int)[32, 32] - COLOUR).max() <= 1
        (tmp_path / "text.png").write_bytes(b"text")
        with pytest.raises(CurationError, match="no picture that can be read"):
            read_picture(decoder, tmp_path / "text.png", (8, 8))


P3 = rgb_profile("Display P3", None)


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (b"\0" * 200, "ignored: a damaged profile"),
        (b"not a profile at all", "ignored: a damaged profile"),
        (P3[:140], "ignored"),
        (P3[: len(P3) // 2], "ignored"),
        (grey_profile(2.2), "ignored: grey gamma 2.2, a profile of GRAY in a picture of RGB"),
        (bytes(17 << 20), "ignored: a profile of 17,825,792 bytes"),
    ],
)
def test_a_profile_that_cannot_be_applied_is_left_out_and_said(profile: bytes, words: str) -> None:
    rgb, found = decoded(saved(picture(), "TIFF", icc_profile=profile))
    assert found.startswith(words) and np.array_equal(rgb, np.asarray(picture()))


def test_a_profiles_name_is_one_short_line_without_control_characters() -> None:
    label = "evil\x1b[31m\nname\t" + 200 * "x"
    _, found = decoded(saved(picture(), icc_profile=rgb_profile("Display P3", None, label)))
    assert found.startswith("evil [31m name x") and len(found) == 80 and found.isprintable()


def test_random_damage_never_ends_the_decoder() -> None:
    random, plain = np.random.default_rng(0), np.asarray(picture())
    for name in PRIMARIES:
        profile = bytearray(rgb_profile(name, 2.2))
        for _ in range(25):
            broken = bytearray(profile)
            for at in random.integers(0, len(broken), 6):
                broken[at] = random.integers(256)
            rgb, found = decoded(saved(picture(), icc_profile=bytes(broken)))
            assert rgb.shape == plain.shape and isinstance(found, str)
