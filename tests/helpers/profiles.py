"""ICC profiles of a matrix and curves, or of a curve for grey, made from their primaries (ICC.1:2001-04, clause 6)."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

D50, D65 = np.array([0.9642, 1.0, 0.8249]), np.array([0.95047, 1.0, 1.08883])
CONE = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""Bradford's cone responses: white D65 is adapted to the profile's D50 through them."""
PRIMARIES = {
    "Display P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "Adobe RGB (1998)": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
    "ProPhoto RGB": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
    "sRGB IEC61966-2.1": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
}


def colorants(primaries: Sequence[tuple[float, float]], white: NDArray[np.float64]) -> NDArray[np.float64]:
    """XYZ of the three primaries under D50, as columns."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    scaled = columns * np.linalg.solve(columns, white)
    gain = (CONE @ D50) / (CONE @ white)
    return np.asarray(np.linalg.inv(CONE) @ np.diag(gain) @ CONE @ scaled)


def curve(gamma: float | None) -> bytes:
    """A tone curve: a power, or sRGB's own as 1,024 points."""
    if gamma is not None:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    x = np.linspace(0, 1, 1024)
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + (y * 65535).round().astype(">u2").tobytes()


def xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def description(name: str) -> bytes:
    raw = name.encode("latin-1") + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(raw)) + raw + bytes(78)


def assembled(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 display profile of these tags beside its description and white point."""
    tags = {b"desc": description(name), b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": xyz(D50)} | tags
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for key, data in tags.items():
        table += key + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"test", 0x02400000, b"mntr", space, b"XYZ ")
    return head + date + b"acsp" + bytes(28) + xyz(D50)[8:] + bytes(48) + table + body


def rgb_profile(name: str, gamma: float | None, label: str | None = None) -> bytes:
    """One of PRIMARIES; ProPhoto's white is D50, the others' D65."""
    white = D50 if name.startswith("ProPhoto") else D65
    matrix = colorants(PRIMARIES[name], white)
    tags = {key: xyz(column) for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)}
    return assembled(b"RGB ", label or name, tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


def grey_profile(gamma: float) -> bytes:
    return assembled(b"GRAY", f"grey gamma {gamma:g}", {b"kTRC": curve(gamma)})
