"""Reads the parts of an ONNX file that an inference graph needs: its nodes, its weights, its metadata.

The package `onnx` reads more and takes 35 MB, and `onnx2torch`, which builds on it, does not know the padding of the
text networks (auto_pad SAME_UPPER). The fields are numbered as in
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3, written as protocol buffers:
https://protobuf.dev/programming-guides/encoding
"""

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import CurationError
from curation.inference.network import Array

DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 6: np.dtype("<i4"), 7: np.dtype("<i8"), 11: np.dtype("<f8")}
"""TensorProto.DataType of tensors that can be read."""
Attribute = float | int | str | Array | list[float] | list[int]
Fields = dict[int, list[Any]]
"""The values of a message by field number: an int, or the bytes of what is no int."""


@dataclass(frozen=True)
class Node:
    """One operation. An input that is left out is named ""."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed.

    opset    the version of the operators' definitions
    weights  tensors by name
    inputs   without the weights, which older files list there too
    """

    opset: int
    nodes: tuple[Node, ...]
    weights: dict[str, Array]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str]


def read_graph(path: Path) -> Graph:
    """The graph of an ONNX file. Raises CurationError where it is none, or has weights of a type not known here."""
    try:
        model = _fields(path.read_bytes())
        graph = _fields(model[7][0])
        weights = dict(map(_tensor, graph[5]))
        opsets = map(_fields, model[8])
        return Graph(
            opset=max(int(each[2][0]) for each in opsets if not _text(each, 1)),
            nodes=tuple(map(_node, graph[1])),
            weights=weights,
            inputs=tuple(name for each in graph[11] if (name := _text(_fields(each), 1)) not in weights),
            outputs=tuple(_text(_fields(each), 1) for each in graph[12]),
            metadata={_text(each, 1): _text(each, 2) for each in map(_fields, model[14])},
        )
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise CurationError(
            f"{path} is no ONNX file that can be read here ({error}); install its package anew"
        ) from error


def _node(message: bytes) -> Node:
    fields = _fields(message)
    inputs, outputs = (tuple(name.decode() for name in fields[number]) for number in (1, 2))
    return Node(_text(fields, 4), inputs, outputs, dict(map(_attribute, fields[5])))


def _attribute(message: bytes) -> tuple[str, Attribute]:
    fields = _fields(message)
    kind = int(fields[20][0])
    value: Attribute
    if kind == 1:
        (value,) = struct.unpack("<f", fields[2][0])
    elif kind == 2:
        value = _signed(fields[3][0]) if fields[3] else 0
    elif kind == 3:
        value = _text(fields, 4)
    elif kind == 4:
        value = _tensor(fields[5][0])[1]
    elif kind == 6:
        value = np.frombuffer(b"".join(fields[7]), "<f4").tolist()
    elif kind == 7:
        value = _integers(fields[8])
    else:
        raise ValueError(f"attributes of type {kind}")
    return _text(fields, 1), value


def _tensor(message: bytes) -> tuple[str, Array]:
    fields = _fields(message)
    dtype = DTYPES.get(int(fields[2][0]))
    if dtype is None:
        raise ValueError(f"tensors of type {fields[2][0]}")
    shape = _integers(fields[1])
    if fields[9]:
        values: Array = np.frombuffer(fields[9][0], dtype)
    elif fields[7]:
        values = np.array(_integers(fields[7]), dtype)
    else:
        values = np.frombuffer(b"".join(fields[4]), "<f4").astype(dtype)
    return _text(fields, 8), values.reshape(shape).copy()


def _text(fields: Fields, number: int) -> str:
    return str(fields[number][0].decode()) if fields[number] else ""


def _integers(values: list[Any]) -> list[int]:
    """Of a repeated field: packed into bytes, or one by one."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            numbers.append(_signed(number))
    return numbers


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _fields(message: bytes) -> Fields:
    fields: defaultdict[int, list[Any]] = defaultdict(list)
    for number, value in _pairs(memoryview(message)):
        fields[number].append(value)
    return fields


def _pairs(message: memoryview) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("it ends too early")
        yield number, bytes(message[at : at + size])
        at += size


def _varint(message: memoryview | bytes, at: int) -> tuple[int, int]:
    """The number that starts at byte `at`, seven bits a byte, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
