"""Sizes of a Parquet column's pages, from their headers alone, before anything is decompressed.

Page headers are Thrift structs in the compact protocol: https://github.com/apache/thrift/blob/master/doc/specs/
thrift-compact-protocol.md and PageHeader in https://github.com/apache/parquet-format/blob/master/src/main/thrift/
parquet.thrift (field 2 is uncompressed_page_size, field 3 compressed_page_size; fields 5, 7 and 8 are headers of data
pages, dictionaries and data pages of version 2, and in each of these field 1 is num_values).
"""

from dataclasses import dataclass
from io import BufferedReader
from typing import Any

import pyarrow as pa

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_DEEPEST = 16


@dataclass(frozen=True)
class Sizes:
    """Of a column chunk.

    page   bytes of its largest page, uncompressed
    value  a lower bound of its largest value's bytes: the most that a page has for each of its values
    """

    page: int = 0
    value: int = 0


def sizes_of(file: pa.NativeFile, offset: int, size: int) -> Sizes:
    """The sizes in a column chunk, which lies at `offset` and has `size` bytes.

    Raises ValueError or EOFError where there are no page headers; those behind a damaged one are not seen.
    """
    page, value, end = 0, 0, offset + size
    stream = BufferedReader(file, 1 << 12)
    while offset < end:
        stream.seek(offset)
        try:
            header = _struct(stream, 0)
        except (ValueError, EOFError):
            if page:
                break
            raise
        unpacked, packed = header.get(2), header.get(3)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
            if page:
                break
            raise ValueError(f"no page header at byte {offset}")
        own: dict[int, Any] = next((header[field] for field in (5, 7, 8) if isinstance(header.get(field), dict)), {})
        values = own.get(1)
        page = max(page, unpacked)
        value = max(value, unpacked // values if isinstance(values, int) and values > 0 else 0)
        offset = stream.tell() + packed
    stream.detach()
    return Sizes(page, value)


def _struct(stream: BufferedReader, depth: int) -> dict[int, Any]:
    """A struct's integers and structs by their fields' numbers; what else it holds is passed over."""
    if depth > _DEEPEST:
        raise ValueError("structs are nested too deep")
    fields: dict[int, Any] = {}
    number = 0
    while (head := _byte(stream)) & 15 != _STOP:
        number = number + (head >> 4) if head >> 4 else _zigzag(_varint(stream))
        kind = head & 15
        if _BYTE < kind < _DOUBLE:
            fields[number] = _zigzag(_varint(stream))
        elif kind == _STRUCT:
            fields[number] = _struct(stream, depth + 1)
        elif kind > _FALSE:  # a flag's value is its type
            _skip(stream, kind, depth)
    return fields


def _skip(stream: BufferedReader, kind: int, depth: int) -> None:
    if kind in (_TRUE, _FALSE, _BYTE):  # inside a list a flag has a byte of its own
        _byte(stream)
    elif kind < _DOUBLE:
        _varint(stream)
    elif kind == _DOUBLE:
        stream.seek(8, 1)
    elif kind == _BINARY:
        stream.seek(_varint(stream), 1)
    elif kind in (_LIST, _SET):
        head = _byte(stream)
        for _ in range(_varint(stream) if head >> 4 == 15 else head >> 4):
            _skip(stream, head & 15, depth + 1)
    elif kind == _STRUCT:
        _struct(stream, depth + 1)
    else:
        raise ValueError(f"no page header has a field of the type {kind}")


def _byte(stream: BufferedReader) -> int:
    data = stream.read(1)
    if not data:
        raise EOFError("the file ends inside a page header")
    return data[0]


def _varint(stream: BufferedReader) -> int:
    value = shift = 0
    while (byte := _byte(stream)) & 128:
        value |= (byte & 127) << shift
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
    return value | byte << shift


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)
