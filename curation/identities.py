"""Hashes that are written as hex digits, as numbers: many at once, without a Python object for each."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_BLOCK = 1 << 16
IDENTITY = pa.binary(16)
"""The type of `identities`."""


def first_halves(ids: pa.Array) -> NDArray[np.uint64] | None:
    """The first 64 bits of ids of 32 hex digits, as every run writes them; None where one is anything else."""
    packed = _first_bytes(ids, 32, 8)
    return None if packed is None else packed.view(">u8")[:, 0].astype(np.uint64)


def identities(texts: pa.Array) -> pa.Array:
    """16 bytes for each text, equal where the texts are: of a sha256 its first half, of any other text its 128-bit
    hash; null for null. Two of a hundred million records share one by chance once in 10^22 runs."""
    packed = _first_bytes(texts.fill_null("0" * 64), 64, 16)
    if packed is None:
        return pa.array([None if text is None else _identity(text) for text in texts.to_pylist()], IDENTITY)
    is_there = texts.is_valid().buffers()[1] if texts.null_count else None
    return pa.Array.from_buffers(IDENTITY, len(texts), [is_there, pa.py_buffer(packed)])


def _identity(text: str) -> bytes:
    packed = _first_bytes(pa.array([text]), 64, 16)
    return xxhash.xxh3_128_digest(text.encode()) if packed is None else packed.tobytes()


def _first_bytes(texts: pa.Array, digits: int, size: int) -> NDArray[np.uint8] | None:
    """uint8 [n, size] of texts of so many hex digits each; None where one is anything else."""
    texts = texts.cast(pa.large_string())
    if texts.null_count or not pc.all(pc.equal(pc.binary_length(texts), digits), min_count=0).as_py():
        return None
    out = np.empty((len(texts), size), np.uint8)
    if not len(texts):
        return out
    start = int(np.frombuffer(texts.buffers()[1], np.int64, 1, texts.offset * 8)[0])
    letters = np.frombuffer(texts.buffers()[2], np.uint8, digits * len(texts), start).reshape(-1, digits)
    for at in range(0, len(texts), _BLOCK):
        values = _DIGITS[letters[at : at + _BLOCK]]
        if (values > 15).any():
            return None
        out[at : at + _BLOCK] = values[:, : 2 * size : 2] << 4 | values[:, 1 : 2 * size : 2]
    return out
