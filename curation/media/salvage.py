"""Files that are damaged where it does no harm: every pixel is there, and decoders refuse them all the same."""

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

END = b"\xff\xd9"
OTHERS = (b"\0" * 64, *(hashlib.sha512(b"%d" % i).digest().replace(b"\xff", b"\xfe") for i in range(10)))
"""What may follow the data of a cut JPEG: where bits are missing, one of these is read as other pixels."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_SCAN = 0xDA
_PNG = b"\x89PNG\r\n\x1a\n"
_NEEDED = frozenset((b"IHDR", b"PLTE", b"IDAT", b"tRNS"))
"""Chunks of a PNG that its pixels are made of; others are read past when they are damaged, as viewers do."""


class Damaged(ValueError):
    """The file lacks something that its pixels depend on; the message says what."""


class Salvaged(NamedTuple):
    """A file's bytes without its harmless damage, and whether a damaged colour profile went with it."""

    data: bytes
    profile_lost: bool = False


def salvage(data: bytes) -> Salvaged | None:
    """The file without its harmless damage; None where there is none that is known.

    A JPEG without its end marker gets it, when all of its pixels are there. Text, a profile and the like are left out
    of a PNG when their checksum is wrong. Raises Damaged where the pixels themselves are.
    """
    if data.startswith(b"\xff\xd8"):
        return _ended(data)
    return _without_damaged_chunks(data) if data.startswith(_PNG) else None


def ends_in_zeros(data: bytes) -> bool:
    """Whether a JPEG has zeros in place of its end, as broken downloads do; decoders make grey blocks of them."""
    return data.startswith(b"\xff\xd8") and data.endswith(b"\0\0") and data.rfind(END) < data.rfind(b"\xff\xda")


def _ended(data: bytes) -> Salvaged | None:
    """A JPEG with an end marker. Its pixels are all there when they do not depend on what is put behind the data."""
    data = data.rstrip(b"\0") if ends_in_zeros(data) else data
    end = len(data) - 1 if data.endswith(b"\xff") else len(data)  # half of the marker
    data = data[:end]
    pixels = _pixels(data + END)
    if pixels is None:
        return None
    if not _all_scans(data) or any(_pixels(data + more + END) != pixels for more in (_restarts(data), *OTHERS)):
        raise Damaged("the file is cut short: the end of its pixels is missing")
    return Salvaged(data + END)


def _pixels(data: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.tobytes()
    except (OSError, SyntaxError):
        return None


def _restarts(data: bytes) -> bytes:
    """Restart markers as they would go on, with data between: a decoder that waits for one reads what follows it."""
    last = max(data.rfind(b"\xff%c" % marker) for marker in range(0xD0, 0xD8))
    following = data[last + 1] + 1 if last >= 0 else 0xD0
    return b"".join(b"\xff%c" % (0xD0 + (following + i) % 8) + b"\x55" * 64 for i in range(8))


def _all_scans(data: bytes) -> bool:
    """Whether the scans give every coefficient of every component to its last bit (ITU-T T.81, B.2.3 and G.1.1)."""
    components: set[int] = set()
    exact: set[tuple[int, int]] = set()
    for marker, body in _segments(data):
        if marker in _FRAMES:
            components = set(body[6 : 6 + 3 * body[5] : 3])
        elif marker == _SCAN:
            count = body[0]
            first, last, approximation = body[1 + 2 * count : 4 + 2 * count]
            if approximation & 15 == 0:
                exact |= {(one, k) for one in body[1 : 1 + 2 * count : 2] for k in range(first, min(last, 63) + 1)}
    return bool(components) and exact >= {(one, k) for one in components for k in range(64)}


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of a JPEG's marker segments that are whole."""
    at = 2
    while found := _MARKER.search(data, at):
        at = found.end()
        if at + 2 > len(data):
            return
        (size,) = struct.unpack(">H", data[at : at + 2])
        body = data[at + 2 : at + size]
        if len(body) < size - 2:
            return
        yield data[at - 1], body
        at += size


def _without_damaged_chunks(data: bytes) -> Salvaged | None:
    """A PNG without chunks of a wrong checksum, None where there is none (PNG, third edition, 5.3 and 13.2)."""
    kept, at, dropped = [_PNG], len(_PNG), set[bytes]()
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        end = at + 12 + size
        kind = data[at + 4 : at + 8]
        if end > len(data):
            break
        (checksum,) = struct.unpack(">I", data[end - 4 : end])
        sound = zlib.crc32(data[at + 4 : end - 4]) == checksum
        if not sound and kind in _NEEDED:
            raise Damaged(f"the PNG is damaged: the checksum (CRC) of its {kind.decode()} chunk is wrong")
        if sound:
            kept.append(data[at:end])
        else:
            dropped.add(kind)
        at = end
    return Salvaged(b"".join([*kept, data[at:]]), b"iCCP" in dropped) if dropped else None
