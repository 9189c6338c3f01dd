"""Pictures in other colours than sRGB's, brought to sRGB by their embedded ICC profile (LittleCMS, through Pillow).

Every ICC profile that fits its picture is applied: Display P3, Adobe RGB, ProPhoto, those of CMYK and grey pictures.
The intent is perceptual, LittleCMS's and browsers' default; for profiles of a matrix and curves all intents are one.
What PNG's gAMA and cHRM chunks say is not applied: nearly all that have them hold sRGB.
"""

import hashlib
import io
import re
from functools import lru_cache
from typing import Any

from PIL import Image, ImageCms

LARGEST = 16 << 20
"""Bytes of a profile: the largest printing profiles have 3 MB."""
LONGEST = 80
"""Characters of a profile's name, which comes from the file."""
SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour spaces of profiles, and Pillow's mode of the pictures that they describe."""
STEPS = 9
SAME = 1
"""Levels of 255 by which a profile may differ from sRGB, at each of 9 x 9 x 9 colours, to be taken for it."""
DAMAGED_PROFILE = "ignored: a damaged profile"
SRGB = "sRGB"


def to_srgb(image: Image.Image) -> tuple[Image.Image, str | None]:
    """The picture in sRGB, its transparency kept, and what its profile is called; the picture as it is without one.

    image  of mode 1, L, LA, P, PA, RGB, RGBA or CMYK
    name   None without a profile; "sRGB" for one that says so, whatever it is called; otherwise its own description.
           One that is damaged, too large or of another kind of picture is left out, and the name says so
    """
    raw = image.info.get("icc_profile")
    if not isinstance(raw, bytes) or not raw:
        return image, None
    if len(raw) > LARGEST:
        return image, f"ignored: a profile of {len(raw):,} bytes"
    try:
        name, space = described(raw)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, SyntaxError):
        return image, DAMAGED_PROFILE
    colours = _colours(image)
    if SPACES.get(space) != colours.mode:
        return image, f"ignored: {name}, a profile of {space.strip() or 'nothing'} in a picture of {image.mode}"
    try:
        transform = _transform(raw, colours.mode)
        if transform is None:
            return image, SRGB
        managed = _applied(colours, transform)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image, f"ignored: {name}, which cannot be applied"
    if (alpha := _alpha(image)) is not None:
        managed.putalpha(alpha)
    return managed, name


def described(raw: bytes) -> tuple[str, str]:
    """A profile's description, one bounded line without control characters, and its colour space, such as "RGB "."""
    profile: Any = ImageCms.ImageCmsProfile(io.BytesIO(raw)).profile
    text = str(profile.profile_description or "unnamed").encode("utf-8", "replace").decode()
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return re.sub(r"\s+", " ", printable).strip()[:LONGEST] or "unnamed", str(profile.xcolor_space)


def _colours(image: Image.Image) -> Image.Image:
    """The picture without its transparency, in a mode that profiles know: L, RGB or CMYK."""
    if image.mode in ("1", "L", "LA", "La"):
        return image.convert("L")
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGBA").convert("RGB")


def _alpha(image: Image.Image) -> Image.Image | None:
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        return image.convert("RGBA").getchannel("A")
    return None


def _transform(raw: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None where that would change nothing."""
    return _made(hashlib.sha256(raw).digest(), _Bytes(raw), mode)


class _Bytes(bytes):
    """Compared by the hash beside it alone: the cache holds no comparison of megabytes."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bytes)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=32)
def _made(_digest: bytes, raw: _Bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(bytes(raw))), ImageCms.createProfile("sRGB")
    # LittleCMS's shortcut for grey curves is off by ten levels in the dark; a table of 256 values needs none
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    transform = ImageCms.buildTransform(profile, srgb, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)
    if mode == "CMYK":
        return transform
    probe = _cube() if mode == "RGB" else _ramp()
    before, after = probe.convert("RGB").tobytes(), _applied(probe, transform).tobytes()
    same = all(abs(a - b) <= SAME for a, b in zip(before, after, strict=True))
    return None if same else transform


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """The picture in sRGB; a grey one by a table of its 256 values."""
    if image.mode == "L" and image.size != _ramp().size:
        table = _applied(_ramp(), transform)
        return Image.merge("RGB", [image.point(channel.tobytes()) for channel in table.split()])
    made = ImageCms.applyTransform(image, transform)
    assert made is not None  # only an in-place conversion returns None
    return made


@lru_cache(maxsize=1)
def _ramp() -> Image.Image:
    return Image.frombytes("L", (256, 1), bytes(range(256)))


@lru_cache(maxsize=1)
def _cube() -> Image.Image:
    levels = [round(255 * i / (STEPS - 1)) for i in range(STEPS)]
    values = bytes(level for r in levels for g in levels for b in levels for level in (r, g, b))
    return Image.frombytes("RGB", (STEPS**3, 1), values)
