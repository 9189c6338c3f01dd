"""How many frames a picture file holds, counted without decoding them and never beyond a bound."""

from PIL import Image

FRAMES_COUNTED = 1000
"""A file may claim or hold millions; counting ends here."""
_EXTENSION, _PICTURE = 0x21, 0x2C
_DAMAGE = (EOFError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def count_frames(image: Image.Image, data: bytes) -> int:
    """Frames of an animation, pages of a TIFF or MPO, 1 for a still; at most FRAMES_COUNTED.

    Damage behind the first frame only ends the count: the first frame is all that is used.
    """
    if image.format == "GIF":
        return max(1, gif_frames(data))
    if image.format == "TIFF":
        return _pages(image)
    return max(1, min(int(getattr(image, "n_frames", 1)), FRAMES_COUNTED))


def gif_frames(data: bytes) -> int:
    """Image blocks of a GIF (GIF89a, sections 17-27). Pillow's `seek` would decode every frame."""
    position = 13 + _palette_bytes(data[10]) if len(data) > 13 else len(data)
    frames = 0
    while position + 10 < len(data) and frames < FRAMES_COUNTED:
        if data[position] == _PICTURE:
            frames += 1
            position += 10 + _palette_bytes(data[position + 9]) + 1  # one byte of LZW code size
        elif data[position] == _EXTENSION:
            position += 2
        else:
            break
        position = _after_sub_blocks(data, position)
    return frames


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, position: int) -> int:
    while position < len(data) and data[position]:
        position += data[position] + 1
    return position + 1


def _pages(image: Image.Image) -> int:
    """Pages of a TIFF, read from its directories; the image is left at its first page."""
    pages = 1
    try:
        while pages < FRAMES_COUNTED:
            image.seek(pages)
            pages += 1
    except _DAMAGE:
        return pages
    finally:
        image.seek(0)
    return pages
