"""Arrow arrays as Python values: whatever a cell holds, it costs no other cell."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.sources.cells import Unread
from curation.sources.lines import MAX_LINE

MAX_CELL = MAX_LINE
"""Bytes of a cell that is not media; larger ones are not read, as longer lines of a text file are not."""
SHORT = 64
"""Binary cells of a fixed size up to so many bytes (hashes, UUIDs) are given as hex digits."""
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def is_binary(kind: pa.DataType) -> bool:
    """Whether cells hold bytes, in any of Arrow's encodings."""
    if pa.types.is_dictionary(kind):
        return is_binary(kind.value_type)
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in _LISTS)


def leaves(kind: pa.DataType) -> Iterator[pa.DataType]:
    """The types of the Parquet columns that a field of this type is stored in, in order."""
    if isinstance(kind, pa.BaseExtensionType):
        yield from leaves(kind.storage_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from leaves(field.type)
    elif pa.types.is_map(kind):
        yield from leaves(kind.key_type)
        yield from leaves(kind.item_type)
    elif is_list(kind):
        yield from leaves(kind.value_type)
    else:
        yield kind


def values_of(array: pa.Array, text: bool = False) -> list[Any]:
    """A Python value for each cell.

    Text that is not UTF-8 gets U+FFFD for its bad bytes. Times that Python cannot express become text, or the
    number that is stored. A cell of more than MAX_CELL bytes becomes an `Unread`.

    text  bytes are UTF-8 text (old writers of Parquet do not mark it); otherwise short ones become hex digits
    """
    if array.nbytes > MAX_CELL:
        cells: list[Any] = [_bounded(array, row) for row in range(len(array))]
    else:
        cells = _values(array)
    if pa.types.is_fixed_size_binary(array.type) and not text:
        return [cell.hex() if isinstance(cell, bytes) else cell for cell in cells]
    return [_as_text(cell) for cell in cells] if text else cells


def _bounded(array: pa.Array, row: int) -> Any:
    cell = array.slice(row, 1)
    size = _size(cell)
    return Unread(f"has {size} bytes; at most {MAX_CELL} are read") if size > MAX_CELL else _values(cell)[0]


def _size(cell: pa.Array) -> int:
    """Bytes of a single cell; an upper bound for encodings that share values between cells."""
    if pa.types.is_dictionary(cell.type):
        cell = cell.dictionary_decode()
    if pa.types.is_string_view(cell.type) or pa.types.is_binary_view(cell.type):
        cell = cell.cast(pa.large_binary())
    if pa.types.is_string(cell.type) or pa.types.is_large_string(cell.type) or is_binary(cell.type):
        return int(pc.binary_length(cell)[0].as_py() or 0)
    return int(cell.nbytes)


def _values(array: pa.Array) -> list[Any]:
    try:
        return list(array.to_pylist())
    except Exception:  # noqa: BLE001  a cell that Python cannot express: pyarrow and its time zones raise what they like
        return [_value(array[row]) for row in range(len(array))]


def _value(scalar: pa.Scalar) -> Any:
    """One cell, with what Python cannot express replaced inside it."""
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        return _value(scalar.value)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return scalar.as_buffer().to_pybytes().decode("utf-8", "replace")
    if pa.types.is_struct(kind):
        return {field.name: _value(scalar[position]) for position, field in enumerate(kind)}
    if pa.types.is_map(kind):
        return [[_value(item) for item in (pair[0], pair[1])] for pair in scalar.values]
    if is_list(kind):
        return [_value(item) for item in scalar.values]
    try:
        return scalar.as_py()
    except Exception:  # noqa: BLE001  as above
        return _stored(scalar)


def _stored(scalar: pa.Scalar) -> Any:
    """A time out of Python's range: as Arrow writes it, or the number that stands for it."""
    try:
        text = None if pa.types.is_duration(scalar.type) else pc.cast(scalar, pa.string()).as_py()
    except (pa.ArrowException, ValueError):
        text = None
    return text if text and not text.startswith("<") else getattr(scalar, "value", None)


def _as_text(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return [_as_text(item) for item in cell] if isinstance(cell, list) else cell
