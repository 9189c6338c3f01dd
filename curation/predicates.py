"""The parts of an expression, each a vectorised test with three outcomes: true, false, null (SQL's logic).

A NaN counts as null: it is a score that could not be had, and must not pass `not (x < 1)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import extra

Columns = Mapping[str, Sequence[Any] | pa.Array | pa.ChunkedArray]

OPERATORS = {
    "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
}  # fmt: skip
FLOAT32_WHOLE = 2.0**24


class Mismatch(Exception):
    """Two sides of a comparison can never be compared: a text with a number. The message is a sentence."""


@dataclass(frozen=True)
class Captions:
    """The captions of some records, one row each: what `any(...)`, and a gate on captions, look at.

    columns  per caption; a column of the record has its value in each of the record's rows
    record   int64 [rows], ascending: whose caption a row is. Every record has at least one row
    records  how many records
    names    the columns whose values are the captions' own
    """

    columns: Columns
    record: NDArray[np.int64]
    records: int
    names: frozenset[str]

    @property
    def first(self) -> NDArray[np.int64]:
        """The row of each record's main caption."""
        return np.searchsorted(self.record, np.arange(self.records))


class Rows:
    """Columns of equal length as Arrow arrays, converted when first asked for.

    captions  those of the records, where an expression asks for them
    single    whether the rows are these captions, and not the records
    """

    def __init__(self, columns: Columns, length: int, captions: Captions | None = None, single: bool = False) -> None:
        self._columns, self.length = columns, length
        self.captions, self.single = captions, single
        self._arrays: dict[str, pa.Array] = {}

    @classmethod
    def of_captions(cls, captions: Captions) -> "Rows":
        return cls(captions.columns, len(captions.record), captions, single=True)

    def column(self, name: str) -> pa.Array:
        """The column's values; those of `extra.NAME` as `extra.TYPE`."""
        if name not in self._arrays:
            values = self._columns[name]
            plain = not extra.is_extra(name) or isinstance(values, pa.Array | pa.ChunkedArray)
            self._arrays[name] = as_array(values) if plain else extra.column(values)
        return self._arrays[name]


def as_array(values: Sequence[Any] | pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    array = values if isinstance(values, pa.Array) else _typed(values)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _typed(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, from_pandas=True)
    except OverflowError:  # hashes fill all 64 bits, of which Arrow takes 63 unless it is told
        return pa.array(values, pa.uint64(), from_pandas=True)


def kind_of(kind: pa.DataType) -> str:
    """`number`, `text`, `flag`, `list` or `null`: what may be compared with what. `any` where each row has its own."""
    t = pa.types
    if kind == extra.TYPE:
        return "any"
    if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind):
        return "number"
    if t.is_string(kind) or t.is_large_string(kind):
        return "text"
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        return "list"
    return "flag" if t.is_boolean(kind) else "null" if t.is_null(kind) else str(kind)


def as_kind(array: pa.Array, kind: str) -> pa.Array:
    """Numbers as float64 without NaN, text in Unicode's NFC, flags as booleans; what cannot be read so is null."""
    if array.type == extra.TYPE:
        array = array.field(kind)
    if kind == "number":
        numbers = array.cast(pa.float64(), safe=False)
        return in_stored_precision(pc.if_else(pc.is_nan(numbers), None, numbers))
    return pc.utf8_normalize(array.cast(pa.string()), "NFC") if kind == "text" else array.cast(pa.bool_())


def in_stored_precision(numbers: pa.Array | pa.Scalar) -> pa.Array | pa.Scalar:
    """Whole numbers as they are, fractions rounded to float32.

    A float32 of 2^24 and more is whole: a fraction up there is no stored value, and stays as it is.
    """
    stored = pc.cast(pc.cast(numbers, pa.float32(), safe=False), pa.float64())
    whole = pc.or_(pc.equal(pc.trunc(numbers), numbers), pc.greater_equal(pc.abs(numbers), FLOAT32_WHOLE))
    return pc.if_else(whole, numbers, stored)


class Operand(Protocol):
    def kind(self, rows: Rows) -> str: ...

    def values(self, rows: Rows, kind: str) -> pa.Array | pa.Scalar: ...

    def rest(self, rows: Rows) -> Any:
        """What whole numbers exceed the float64 in `values` by; 0 for nothing, None where that is not known."""


@dataclass(frozen=True)
class Column:
    """A column's values; with `length` the number of its characters or items."""

    name: str
    text: str
    length: bool = False

    def kind(self, rows: Rows) -> str:
        """`any` for a column of the source, which is read as what it is compared with."""
        return "number" if self.length else kind_of(rows.column(self.name).type)

    def values(self, rows: Rows, kind: str) -> pa.Array:
        array = rows.column(self.name)
        if not self.length:
            return as_kind(array, kind)
        if array.type == extra.TYPE:
            return extra.lengths(array)
        if kind_of(array.type) == "null":
            return array.cast(pa.float64())
        if kind_of(array.type) not in ("text", "list"):
            raise Mismatch(f"'{self.text}' wants text or a list, but {self.name} is {array.type}")
        lengths = pc.list_value_length(array) if kind_of(array.type) == "list" else pc.utf8_length(array)
        return lengths.cast(pa.float64())

    def rest(self, rows: Rows) -> Any:
        array = rows.column(self.name)
        if self.length:
            return 0
        rest = array.field("rest") if array.type == extra.TYPE else extra.rest_of(array)
        return 0 if rest is None else rest


@dataclass(frozen=True)
class Constant:
    value: float | str | bool
    text: str

    def kind(self, rows: Rows) -> str:
        return "flag" if isinstance(self.value, bool) else "text" if isinstance(self.value, str) else "number"

    def values(self, rows: Rows, kind: str) -> pa.Scalar:
        if kind == "number":
            return in_stored_precision(pa.scalar(float(self.value)))
        return pa.scalar(extra.nfc(self.value) if isinstance(self.value, str) else self.value)

    def rest(self, rows: Rows) -> Any:
        return self.value - int(float(self.value)) if isinstance(self.value, int) else 0


@dataclass(frozen=True)
class Percentile:
    """The value below which `percent` of the non-null values of `of` lie, with linear interpolation."""

    percent: float
    of: Column
    text: str

    def kind(self, rows: Rows) -> str:
        return "number"

    def values(self, rows: Rows, kind: str) -> pa.Scalar:
        values = self.of.values(rows, "number")
        if rows.single and rows.captions and self.of.name not in rows.captions.names:
            values = values.take(pa.array(rows.captions.first))  # a record counts once, however many captions it has
        known = values.drop_null().to_numpy()
        return in_stored_precision(pa.scalar(percentile(known, self.percent), pa.float64()))

    def rest(self, rows: Rows) -> Any:
        return None


def percentile(known: NDArray[np.float64], percent: float) -> float | None:
    """Of values without NaN, with linear interpolation; None of none. Beside an infinite value, the upper neighbour.

    numpy's own gives NaN for some finite places of arrays that hold infinities.
    """
    if not len(known):
        return None
    place = percent / 100 * (len(known) - 1)
    lower, upper = int(np.floor(place)), int(np.ceil(place))
    below, above = (float(value) for value in np.partition(known, (lower, upper))[[lower, upper]])
    if np.isfinite(known).all():
        return float(np.percentile(known, percent))
    return below + (above - below) * (place - lower) if np.isfinite([below, above]).all() else above


class Test(Protocol):
    @property
    def text(self) -> str: ...

    def outcome(self, rows: Rows) -> pa.Array: ...


@dataclass(frozen=True)
class Comparison:
    left: Operand
    operator: str
    right: Operand
    text: str

    def outcome(self, rows: Rows) -> pa.Array:
        kinds = self._kinds(rows)
        return reduce(pc.coalesce, [self._compared(rows, kind) for kind in kinds], pa.nulls(rows.length, pa.bool_()))

    def _kinds(self, rows: Rows) -> tuple[str, ...]:
        """As what the sides are compared; two columns of the source as the first that both of a row's values are.

        None where a side has no values at all. Raises Mismatch for sides that cannot be compared.
        """
        kinds = [self.left.kind(rows), self.right.kind(rows)]
        if "null" in kinds:
            return ()
        ordered = self.operator not in ("==", "!=")
        plain = {kind for kind in kinds if kind != "any"}
        if not plain:
            return ("number", "text") if ordered else ("number", "flag", "text")
        kind = plain.pop()
        if plain or kind not in ("number", "text", "flag"):
            raise Mismatch(f"'{self.text}' compares {kinds[0]} with {kinds[1]}")
        if kind == "flag" and ordered:
            raise Mismatch(f"'{self.text}' orders true and false; say == or !=")
        return (kind,)

    def _compared(self, rows: Rows, kind: str) -> pa.Array:
        left, right = self.left.values(rows, kind), self.right.values(rows, kind)
        outcome = getattr(pc, OPERATORS[self.operator])(left, right)
        if kind != "number":
            return outcome
        rests = self.left.rest(rows), self.right.rest(rows)
        if any(rest is None for rest in rests) or all(isinstance(rest, int) and rest == 0 for rest in rests):
            return outcome
        return pc.if_else(pc.equal(left, right), getattr(pc, OPERATORS[self.operator])(*rests), outcome)

    def numbers(self, rows: Rows) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """The measured value and the threshold, [N] or [1], NaN for null; None where they are no numbers."""
        if "number" not in self._kinds(rows):
            return None, None
        left, right = (_shown(side, side.values(rows, "number")) for side in (self.left, self.right))
        return (left, right) if isinstance(self.left, Column) else (right, left)


def _shown(operand: Operand, side: pa.Array | pa.Scalar) -> NDArray[np.float64]:
    """A side as the ledger shows it: a constant as it was written."""
    if isinstance(operand, Constant):
        return np.array([operand.value], np.float64)
    array = pa.array([side.as_py()], pa.float64()) if isinstance(side, pa.Scalar) else side
    return array.to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class IsNull:
    column: Column
    negated: bool
    text: str

    def outcome(self, rows: Rows) -> pa.Array:
        array = rows.column(self.column.name)
        missing = pc.is_null(array, nan_is_null=pa.types.is_floating(array.type))
        return pc.invert(missing) if self.negated else missing


@dataclass(frozen=True)
class Membership:
    """`column in [...]`; null where the column is null, or a value of the source's that none of these compares with."""

    column: Column
    constants: tuple[Constant, ...]
    negated: bool
    text: str

    def outcome(self, rows: Rows) -> pa.Array:
        tests = [Comparison(self.column, "==", constant, self.text).outcome(rows) for constant in self.constants]
        known = pc.coalesce(*tests)  # false and null is false here: a value need not compare with every constant
        found = pc.or_kleene(known, reduce(pc.or_, (pc.fill_null(test, False) for test in tests)))
        return pc.invert(found) if self.negated else found


@dataclass(frozen=True)
class Contains:
    """`"word" in column` of a list column: one of its items; of a text column: a part of it.

    A column of the source may hold both; what is neither is null.
    """

    constant: Constant
    column: Column
    negated: bool
    text: str

    def outcome(self, rows: Rows) -> pa.Array:
        array = rows.column(self.column.name)
        kind = kind_of(array.type)
        if kind == "null":
            return pa.nulls(rows.length, pa.bool_())
        if kind == "any":
            found = extra.contains(array, self.constant.value)
        elif kind == "text" and isinstance(self.constant.value, str):
            found = pc.match_substring(as_kind(array, "text"), extra.nfc(self.constant.value))
        elif kind == "list" and kind_of(array.type.value_type) in (self.constant.kind(rows), "null"):
            found = self._items(array)
        else:
            raise Mismatch(f"'{self.text}' looks for a {self.constant.kind(rows)} in a column of type {array.type}")
        return pc.invert(found) if self.negated else found

    def _items(self, array: pa.Array) -> pa.Array:
        items, wanted = pc.list_flatten(array), self.constant.value
        if isinstance(wanted, str):
            items, wanted = as_kind(items, "text"), extra.nfc(wanted)
        hits = pc.fill_null(pc.equal(items, wanted), False)
        found = np.zeros(len(array), bool)
        found[pc.list_parent_indices(array).filter(hits).to_numpy()] = True
        return pa.array(found, mask=pc.is_null(array).to_numpy(zero_copy_only=False))


@dataclass(frozen=True)
class Truth:
    """A column of booleans, standing alone."""

    column: Column
    text: str

    def outcome(self, rows: Rows) -> pa.Array:
        kind = self.column.kind(rows)
        if kind not in ("flag", "null", "any"):
            raise Mismatch(f"'{self.text}' is {kind}, not true or false; compare it with something")
        return self.column.values(rows, "flag")


@dataclass(frozen=True)
class Junction:
    """`and` and `or` of two or more tests."""

    operator: str
    tests: tuple[Test, ...]
    text: str

    def outcome(self, rows: Rows) -> pa.Array:
        combine = pc.and_kleene if self.operator == "and" else pc.or_kleene
        return reduce(combine, (test.outcome(rows) for test in self.tests))


@dataclass(frozen=True)
class Not:
    test: Test
    text: str

    def outcome(self, rows: Rows) -> pa.Array:
        return pc.invert(self.test.outcome(rows))


@dataclass(frozen=True)
class OfCaptions:
    """`any(test)`, `all(test)`, `main(test)`: of a record, from the same test of each of its captions.

    `any` and `all` are never null: a caption for which the test is null is none for which it is true.
    """

    which: str
    test: Test
    text: str

    def outcome(self, rows: Rows) -> pa.Array:
        captions = rows.captions
        if captions is None:  # a record is its only caption
            outcome = self.test.outcome(rows)
            return outcome if self.which == "main" else pc.fill_null(outcome, False)
        outcome = self.test.outcome(Rows.of_captions(captions))
        found = self._of_records(outcome, captions)
        return found.take(pa.array(captions.record)) if rows.single else found

    def _of_records(self, outcome: pa.Array, captions: Captions) -> pa.Array:
        if self.which == "main":
            return outcome.take(pa.array(captions.first))
        is_true = pc.fill_null(outcome, False).to_numpy(zero_copy_only=False)
        found = np.full(captions.records, self.which == "all")
        found[captions.record[is_true == (self.which == "any")]] = self.which == "any"
        return pa.array(found)


def conjuncts(test: Test) -> Iterator[Test]:
    """The tests that must all hold, in the order in which they stand."""
    if isinstance(test, Junction) and test.operator == "and":
        for part in test.tests:
            yield from conjuncts(part)
    else:
        yield test
