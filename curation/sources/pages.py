"""Sizes of a Parquet column's pages, from their headers alone, before anything is decompressed.

Page headers are Thrift structs in the compact protocol: https://github.com/apache/thrift/blob/master/doc/specs/
thrift-compact-protocol.md and PageHeader in https://github.com/apache/parquet-format/blob/master/src/main/thrift/
parquet.thrift (field 2 is uncompressed_page_size, field 3 compressed_page_size).
"""

from io import BufferedReader

import pyarrow as pa

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_DEEPEST = 16


def largest_page(file: pa.NativeFile, offset: int, size: int) -> int:
    """Uncompressed bytes of the largest page in a column chunk, which lies at `offset` and has `size` bytes.

    Raises ValueError or EOFError where there are no page headers.
    """
    largest, end = 0, offset + size
    stream = BufferedReader(file, 1 << 12)
    while offset < end:
        stream.seek(offset)
        header = _struct(stream, 0)
        if header.get(2, -1) < 0 or header.get(3, -1) < 0:
            raise ValueError(f"no page header at byte {offset}")
        largest = max(largest, header[2])
        offset = stream.tell() + header[3]
    stream.detach()
    return largest


def _struct(stream: BufferedReader, depth: int) -> dict[int, int]:
    """A struct's integer fields by their numbers; what else it holds is passed over."""
    if depth > _DEEPEST:
        raise ValueError("structs are nested too deep")
    fields: dict[int, int] = {}
    number = 0
    while (head := _byte(stream)) & 15 != _STOP:
        number = number + (head >> 4) if head >> 4 else _zigzag(_varint(stream))
        kind = head & 15
        if _BYTE < kind < _DOUBLE:
            fields[number] = _zigzag(_varint(stream))
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
