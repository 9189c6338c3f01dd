"""Bytes -> one upright RGB picture. Runs in a child process (curation.media.sandbox): what it meets is hostile.

Bounded before decoding: the format is on a list, the header's size is checked, text chunks are capped.
Formats that call other programs (EPS, WMF) or hold documents (PDF, PSD) are not opened.
"""

import hashlib
import io
import warnings
from typing import Any

import numpy as np
from PIL import (  # each plugin registers its format; Image.init() would register every other one too
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from curation.media.colour import DAMAGED_PROFILE, to_srgb
from curation.media.frames import count_frames
from curation.media.salvage import Damaged, ends_in_zeros, salvage

PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA")
DECODE_VERSION = 3
"""Raised when a file gives other pixels than before: what was made of pixels is then made anew."""
MAX_SIDE = 65_500
BOMB = "a decompression bomb, or raise engine.max_pixels"
NO_MEMORY = "decoding it takes more memory than engine.decode_memory_mb allows"

ImageFile.LOAD_TRUNCATED_IMAGES = False
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 20
PngImagePlugin.MAX_TEXT_MEMORY = 8 << 20
warnings.simplefilter("ignore")


class Refused(ValueError):
    """The picture will not be decoded; the message is the sentence for the ledger."""


def decode_image(data: bytes, max_pixels: int) -> tuple[Image.Image, dict[str, Any]]:
    """The first frame, EXIF orientation applied, RGB over white, and what was learnt on the way.

    info: format, mode, original_width, original_height (as stored), width, height (upright), orientation
    (1-8), colour_profile (its name, None without one), frames (at most 1000), file_bytes, sha256 (of the bytes),
    pixel_sha256 (of the upright RGB values and size). Raises Refused with a sentence.
    """
    if not data:
        raise Refused("the file is empty")
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image, info = _decode_mended(data, max_pixels)
        check_size(image.size, max_pixels)
        size = {"width": image.width, "height": image.height}
        file = {"file_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return image, info | size | file | {"pixel_sha256": pixel_sha256(image)}
    except Refused:
        raise
    except Damaged as error:
        raise Refused(f"cannot be decoded: {error}") from error
    except Image.DecompressionBombError as error:
        raise Refused(f"it has more than {max_pixels:,} pixels: {BOMB}") from error
    except Image.UnidentifiedImageError as error:
        raise Refused(f"not a picture: {_looks_like(data)}") from error
    except MemoryError as error:
        raise Refused(NO_MEMORY) from error
    except Exception as error:  # decoders raise anything: struct.error, SyntaxError, KeyError ...
        words = " ".join(str(error).split())[:200]
        raise Refused(f"cannot be decoded: {type(error).__name__}: {words}") from error


def _decode_mended(data: bytes, max_pixels: int) -> tuple[Image.Image, dict[str, Any]]:
    """Once more without its harmless damage, where a file cannot be decoded as it is, or only seems to be whole."""
    try:
        found = _decode(data, max_pixels)
        if not ends_in_zeros(data):
            return found
        salvaged = salvage(data)
    except (OSError, SyntaxError):
        salvaged = salvage(data)
        if salvaged is None:
            raise
    if salvaged is None:
        return found
    image, info = _decode(salvaged.data, max_pixels)
    return image, info | ({"colour_profile": DAMAGED_PROFILE} if salvaged.profile_lost else {})


def _decode(data: bytes, max_pixels: int) -> tuple[Image.Image, dict[str, Any]]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        check_size(opened.size, max_pixels)
        stored_size, in_file = _as_stored(opened)
        info = {
            "format": str(opened.format),
            "mode": opened.mode,
            "original_width": stored_size[0],
            "original_height": stored_size[1],
            "frames": count_frames(opened, data),
        }
        opened.load()
        orientation = _orientation(opened)
        rgb, profile = to_rgb(opened, data)
        return upright(rgb, orientation), info | {"orientation": in_file or orientation, "colour_profile": profile}


def pixel_sha256(image: Image.Image) -> str:
    """Hex digest of an RGB picture's size and values, whatever file it came from."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _as_stored(image: Image.Image) -> tuple[tuple[int, int], int | None]:
    """Size in the file, and its orientation where Pillow applies it by itself while loading (TIFF)."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.size, None
    orientation = image.tag_v2.get(0x0112, 1)
    return (image.size[::-1] if orientation in (5, 6, 7, 8) else image.size), orientation


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise Refused for a picture with no pixels, too many, or too long a side."""
    width, height = size
    if width < 1 or height < 1:
        raise Refused(f"it has no pixels ({width}x{height})")
    if max(size) > MAX_SIDE:
        raise Refused(f"a side of {max(size):,} px is longer than {MAX_SIDE:,}")
    if width * height > max_pixels:
        raise Refused(f"{width}x{height} is more than {max_pixels:,} pixels: {BOMB}")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; 1 where it is absent, damaged, or was already applied by the decoder."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 (damaged EXIF is common on the web and costs nobody a picture)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Apply an EXIF orientation (EXIF 2.32, tag 0x0112)."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return image.transpose(turn) if turn is not None else image


def to_rgb(image: Image.Image, data: bytes) -> tuple[Image.Image, str | None]:
    """Any mode -> sRGB, and the name of its colour profile (`curation.media.colour.to_srgb`).

    Transparency lies over white; 16 bits and floats are scaled and not clipped; CMYK without a profile by Pillow.
    `data` is the file's.
    """
    if image.mode == "LAB":
        return _lab(image), None
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _deep_grey(image)
    elif image.mode == "RGB" and _is_deep_png(image, data):
        image = _with_deep_key(image, data)
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper()[:-1] + "A")
    managed, profile = to_srgb(image)
    if managed.mode in ("RGBA", "LA", "PA") or "transparency" in managed.info:
        return _over_white(managed), profile
    return managed.convert("RGB"), profile


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _lab(image: Image.Image) -> Image.Image:
    """CIE L*a*b* -> sRGB through Pillow's colour management."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # only an in-place conversion returns None
    return converted


def _deep_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey -> 8 bits, by the range that its values were meant for."""
    values = np.asarray(image).astype(np.float32)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise Refused("it has no finite pixel values")
    low, high = _range(image.mode, float(finite.min()), float(finite.max()))
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    grey = Image.fromarray(np.clip(np.round((values - low) * (255.0 / (high - low))), 0, 255).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):  # the one 16-bit value that is transparent
        grey.putalpha(Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)))
    if "icc_profile" in image.info:
        grey.info["icc_profile"] = image.info["icc_profile"]
    return grey


def _is_deep_png(image: Image.Image, data: bytes) -> bool:
    """Whether it is a PNG of 16 bits a channel with a transparent colour, of which Pillow keeps 8 bits."""
    return image.format == "PNG" and isinstance(image.info.get("transparency"), tuple) and data[24] == 16


def _with_deep_key(image: Image.Image, data: bytes) -> Image.Image:
    """RGBA, transparent just where all 16 bits of a pixel are those of the transparent colour."""
    import cv2

    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.shape[:2] != image.size[::-1]:
        raise Refused("its 16-bit transparency cannot be read")
    if deep.shape[2] == 4:
        opaque = deep[..., 3] > 0
    else:
        opaque = (deep[..., ::-1] != np.array(image.info["transparency"], np.uint16)).any(axis=2)
    rgba = image.copy()
    del rgba.info["transparency"]
    rgba.putalpha(Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8)))
    return rgba


def _range(mode: str, low: float, high: float) -> tuple[float, float]:
    """Black and white of a deep grey: 0-65535 for 16 bits.

    Floats and 32 bits have no fixed white: it is the smallest of 1 (floats), 255 and 65535 that holds the
    values; where none does, black and white are the least and the greatest value.
    """
    if mode.startswith("I;16"):
        return 0.0, 65535.0
    for white in (1.0, 255.0, 65535.0)[mode != "F" :]:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, high if high > low else low + 1


def _looks_like(data: bytes) -> str:
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")) or b"<html" in head:
        return "it holds HTML or XML"
    if head.startswith(b"%pdf") or head.startswith(b"%!ps"):
        return "it holds a PDF or PostScript document"
    if not any(data[:64]):
        return "it begins with zeros"
    return "its bytes are of no format that is read here (" + ", ".join(FORMATS) + ")"
