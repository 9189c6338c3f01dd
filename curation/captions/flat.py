"""A record's captions as rows of their own, so that a gate can look at one after another."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.captions.stage import GENERATED
from curation.expression import Expression
from curation.predicates import Captions, as_array

Ints = NDArray[np.int64]
Get = Callable[[str], pa.Array]
"""Gives a column of the records."""
TEXT = "caption"
"""In a gate on captions this is the caption's own text."""


def is_of_captions(expression: Expression, each: Mapping[str, str]) -> bool:
    """Whether a gate is judged caption by caption: it names values of captions outside of any(), all() and main().

    each  columns of the main caption -> their list columns
    """
    return any(name in each or name == TEXT for name in expression.plain)


def columns_read(expression: Expression, each: Mapping[str, str], generated: bool) -> set[str]:
    """The columns that judging takes, of captions and of records."""
    if not (expression.asks or is_of_captions(expression, each)):
        return set(expression.names)
    lists = {each[name] for name in expression.names if name in each}
    return {*expression.names, *lists, "captions", *([GENERATED] if generated else [])}


@dataclass(frozen=True)
class Flat:
    """One row for each caption of some records, in order; a record without captions has one row of its own.

    record  int64 [rows], ascending: the record's place
    place   int64 [rows]: which of its captions, -1 for the row of a record without any
    """

    record: Ints
    place: Ints
    records: int

    @classmethod
    def of(cls, counts: Ints) -> "Flat":
        """`counts`: how many captions each record has."""
        rows = np.maximum(counts, 1)
        record = np.repeat(np.arange(len(counts)), rows)
        place = np.arange(len(record)) - np.repeat(np.cumsum(rows) - rows, rows)
        return cls(record, np.where(counts[record] > 0, place, -1), len(counts))

    def where(self, mask: NDArray[np.bool_]) -> "Flat":
        """Some of the rows."""
        return Flat(self.record[mask], self.place[mask], self.records)

    def captions(self, names: Iterable[str], each: Mapping[str, str], get: Get) -> Captions:
        """What an expression with these names looks at."""
        columns: dict[str, pa.Array] = {}
        own = {name for name in names if name in each or name == TEXT}
        for name in names:
            if name in each:
                columns[name] = self._values(get(each[name]), get(name))
            elif name == TEXT:
                columns[name] = self._texts(get)
            else:
                columns[name] = get(name).take(pa.array(self.record))
        return Captions(columns, self.record, self.records, frozenset(own))

    def _values(self, lists: pa.Array, of_record: pa.Array) -> pa.Array:
        """Each caption's item of its record's list, null where the list does not reach so far; the record's own
        value where it has no caption."""
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        items = pc.list_flatten(lists)
        starts = np.cumsum(lengths) - lengths
        known = (self.place >= 0) & (self.place < lengths[self.record])
        at = np.where(known, starts[self.record] + self.place, len(items) + self.record)
        both = pa.concat_arrays([items, of_record.cast(items.type)])
        return both.take(pa.array(at, mask=~known & (self.place >= 0)))

    def _texts(self, get: Get) -> pa.Array:
        lists = get("captions")
        texts = self._values(lists, get(TEXT))
        generated = self.place == counts_of(lists, None)[self.record]
        if not generated.any():
            return texts
        return pc.if_else(pa.array(generated), get(GENERATED).take(pa.array(self.record)), texts)


def counts_of(captions: pa.Array, generated: pa.Array | None) -> Ints:
    """How many captions each record has, with the generated one where that is given."""
    own = pc.fill_null(pc.list_value_length(as_array(captions)), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return own if generated is None else own + generated.is_valid().to_numpy(zero_copy_only=False)
