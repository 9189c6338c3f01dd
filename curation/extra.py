"""The source's own values, as expressions, `caps:` and `prefer:` read them: `extra.width`, `extra["aesthetic score"]`.

Each value keeps the JSON type that its source gave it, and so no row's type depends on other rows. Tables of text (csv,
tsv) have no types: there a text that is written as a number, or as true or false, is also one.
"""

import ast
import json
import keyword
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

TYPE = pa.struct(
    [
        ("text", pa.string()),
        ("number", pa.float64()),
        ("rest", pa.int64()),  # what a whole number of more than 53 bits exceeds `number` by
        ("flag", pa.bool_()),
        ("items", pa.list_(pa.string())),  # of a list, each as `_token` writes it
        ("other", pa.string()),  # what is no text, as JSON
    ]
)
"""A column of the source's own values. The parts that a value cannot be read as are null."""

_NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", re.ASCII)
_NOTHING = (None, None, None, None, None, None)


def is_extra(name: str) -> bool:
    """Whether a column's name is one of the source's own."""
    return name.startswith(("extra.", "extra["))


@lru_cache(maxsize=1024)
def path_of(name: str) -> tuple[str, ...]:
    """The keys that `extra.meta.width` or `extra["meta"]["width"]` leads through. ValueError where it is neither."""
    try:
        path = path_in(ast.parse(name, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        path = None
    if path is None:
        raise ValueError(f"'{name}' is no name of a column of the source{meant(name)}")
    return path


def path_in(node: ast.expr) -> tuple[str, ...] | None:
    """The keys behind `extra` in a syntax tree; None where it is something else, or `extra` alone."""
    keys: list[str] = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            keys.append(node.attr)
        elif isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            keys.append(node.slice.value)
        else:
            return None
        node = node.value
    return tuple(reversed(keys)) if keys and isinstance(node, ast.Name) and node.id == "extra" else None


def name_of(path: Iterable[str]) -> str:
    """The one name of a path: with dots where that can be read, otherwise with brackets."""
    steps = (f".{key}" if _is_plain(key) else f"[{json.dumps(key, ensure_ascii=False)}]" for key in path)
    return "extra" + "".join(steps)


def _is_plain(key: str) -> bool:
    return key.isidentifier() and key.isascii() and not keyword.iskeyword(key)


def meant(text: str) -> str:
    """`; did you mean extra["content-type"]?` where an unquoted name has blanks, dashes or a word of Python's."""
    if match := re.search(r"\bextra\[\s*([^\W\d]\w*)\s*\]", text):
        return f"; did you mean {name_of((match[1],))}?"
    words = r"(?!(?:and|or|not|in|is)\b)[\w-]+"
    match = re.search(rf"\bextra\.([\w-]+(?: {words})*)", text)
    if match and not _is_plain(match[1]):
        return f"; did you mean extra[{json.dumps(match[1], ensure_ascii=False)}]?"
    return ""


def look_up(extra: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at the end of a path; None where a key is missing on the way."""
    value: Any = extra
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def column(values: Iterable[Any]) -> pa.Array:
    """JSON values as an array of TYPE; None and NaN are null."""
    rows = [_parts(value) for value in values]
    missing = np.array([row is _NOTHING for row in rows], bool)
    parts = zip(*rows, strict=True) if rows else [()] * len(TYPE)
    arrays = [pa.array(part, field.type) for part, field in zip(parts, TYPE, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(TYPE), mask=pa.array(missing))


def _parts(value: Any) -> tuple[Any, ...]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _NOTHING
    if isinstance(value, str):
        flag = {"true": True, "false": False}.get(value.strip().lower()) if len(value) < 16 else None
        return _sound(value), *_written(value), flag, None, None
    if isinstance(value, bool):
        return None, None, None, value, None, json.dumps(value)
    if isinstance(value, int | float):
        return None, *_number(value), None, None, _digits(value)
    items = [_token(item) for item in value] if isinstance(value, list) else None
    return None, None, None, None, items, _json(value)


def _written(text: str) -> tuple[float | None, int | None]:
    """The number that a text is written as."""
    if len(text) > 400 or not _NUMBER.fullmatch(text):
        return None, None
    return _number(float(text) if any(sign in text for sign in ".eE") else int(text))


def _number(value: int | float) -> tuple[float, int]:
    """The nearest float64, and what is left of a whole number beyond 53 bits."""
    try:
        near = float(value)
    except OverflowError:
        return math.copysign(math.inf, value), 0
    rest = value - int(near) if isinstance(value, int) else 0
    return near, max(-(2**63), min(rest, 2**63 - 1))


def rest_of(numbers: pa.Array) -> pa.Array | None:
    """The same of whole numbers in an Arrow array; None where float64 holds them all."""
    if not pa.types.is_integer(numbers.type) or numbers.type.bit_width < 64 or not len(numbers):
        return None
    bounds = pc.min_max(numbers).as_py()
    if bounds["max"] is None or max(abs(bounds["min"]), bounds["max"]) <= 2**53:
        return None
    return pa.array([None if value is None else _number(value)[1] for value in numbers.to_pylist()], pa.int64())


def _token(item: Any) -> str:
    """An item of a list as text of which each type has its own: an item 3 is no item "3"."""
    if isinstance(item, str):
        return f"t{nfc(_sound(item))}"
    if isinstance(item, bool):
        return f"b{json.dumps(item)}"
    return f"n{_digits(item)}" if isinstance(item, int | float) else f"j{_json(item)}"


def _digits(number: int | float) -> str:
    whole = isinstance(number, int) or (math.isfinite(number) and number.is_integer())
    return _json(int(number) if whole else number)


def _json(value: Any) -> str:
    return _sound(json.dumps(value, sort_keys=True, ensure_ascii=False))


def _sound(text: str) -> str:
    """Lone surrogates are legal in JSON but no UTF-8, and so no Arrow string."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def nfc(text: str) -> str:
    """One of the ways in which Unicode writes an accented letter, so that equal texts are equal."""
    return unicodedata.normalize("NFC", text)


def contains(array: pa.Array, value: str | float | bool) -> pa.Array:
    """Whether lists have the item, and texts the part; null for what is neither, or no text beside one."""
    lists, texts = array.field("items"), array.field("text")
    hits = pc.equal(pc.list_flatten(lists), _token(value))
    found = np.zeros(len(array), bool)
    found[pc.list_parent_indices(lists).filter(hits).to_numpy()] = True
    of_lists = pa.array(found, mask=pc.is_null(lists).to_numpy(zero_copy_only=False))
    if not isinstance(value, str):
        return of_lists
    return pc.coalesce(of_lists, pc.match_substring(pc.utf8_normalize(texts, "NFC"), nfc(value)))


def lengths(array: pa.Array) -> pa.Array:
    """Characters of a text, items of a list; null for anything else."""
    counts = [pc.list_value_length(array.field("items")), pc.utf8_length(array.field("text"))]
    return pc.coalesce(*(count.cast(pa.float64()) for count in counts))


def codes_of(array: pa.Array) -> NDArray[np.int64]:
    """Equal values -> equal numbers >= 0, a number and the text of its digits alike; null -> -1."""
    keys = pc.coalesce(pc.utf8_normalize(array.field("text"), "NFC"), array.field("other"))
    codes = keys.dictionary_encode().indices.fill_null(-1)
    return codes.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]
