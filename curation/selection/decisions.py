"""What becomes of each record, and the rows of selection.parquet that say so."""

import re
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.selection.captions import FIELDS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("decision", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("duplicate_of", pa.string()),
        ("error", pa.string()),
        *FIELDS,
    ]
)
BLOCK = 1_000_000
"""Rows of a column in one piece: the text of more than 2 GiB fits no `string`. A multiple of the rows of a row group,
so that the pieces do not show in the file."""
_KEPT = ("kept", None, None)


class Decisions:
    """The fate of each row while the decision is being made; `is_alive` rows have met nothing yet."""

    def __init__(self, rows: int) -> None:
        self.is_alive = np.ones(rows, bool)
        self._fates: dict[tuple[str, str | None, str | None], int] = {_KEPT: 0}
        self._fate = np.zeros(rows, np.int32)
        self._value, self._threshold = np.full(rows, np.nan), np.full(rows, np.nan)
        self._kept_instead = np.full(rows, -1, np.int64)
        self._errors: dict[int, str] = {}

    def alive(self) -> Ints:
        return np.flatnonzero(self.is_alive)

    def drop(
        self,
        rows: Ints,
        stage: str,
        reason: str,
        value: Floats | float = np.nan,
        threshold: Floats | float = np.nan,
    ) -> None:
        """Rows (all alive until now) fall here."""
        if len(rows):
            self._fate[rows] = self._fates.setdefault(("dropped", stage, reason), len(self._fates))
            self._value[rows], self._threshold[rows] = value, threshold
            self.is_alive[rows] = False

    def drop_duplicates(self, rows: Ints, kept: Ints, reason: str, value: Floats, threshold: float) -> None:
        """Rows fall because of a better one; where that falls to a still better one later, they name the last."""
        self._kept_instead[rows] = kept
        self.drop(rows, "duplicates", reason, value, threshold)

    def orphans(self) -> Ints:
        """Rows that fell because of one that fell later, for another reason than a better one."""
        last = _last(self._kept_instead.copy())
        return np.flatnonzero((last >= 0) & ~self.is_alive[last])

    def revive(self, rows: Ints) -> None:
        """Rows that fell as duplicates are alive again."""
        self._fate[rows], self._kept_instead[rows], self.is_alive[rows] = 0, -1, True
        self._value[rows] = self._threshold[rows] = np.nan

    def quarantine(self, rows: Ints, stage: str, errors: Sequence[str]) -> None:
        """Rows in which something failed, each with its sentence."""
        for row, error in zip(rows.tolist(), errors, strict=True):
            fate = ("quarantined", stage, error_class(error))
            self._fate[row] = self._fates.setdefault(fate, len(self._fates))
            self._errors[row] = error
        self.is_alive[rows] = False

    def table(self, ids: pa.Array, captions: Sequence[pa.Array]) -> pa.Table:
        """The rows of selection.parquet, in the order of the ids; `captions` are the columns about captions."""
        words = [pa.array(column, pa.string()) for column in zip(*self._fates, strict=True)]
        instead = _last(self._kept_instead)
        errors = sorted(self._errors)
        blocks = []
        for start in range(0, max(1, len(ids)), BLOCK):
            some = slice(start, min(start + BLOCK, len(ids)))
            codes, twins = pa.array(self._fate[some]), instead[some]
            failed = errors[bisect_left(errors, some.start) : bisect_left(errors, some.stop)]
            sentences = np.full(some.stop - some.start, None, object)
            sentences[[row - some.start for row in failed]] = [self._errors[row] for row in failed]
            columns = [
                ids.take(pa.array(np.arange(some.start, some.stop))),
                *(word.take(codes) for word in words),
                *(pa.array(column[some], from_pandas=True) for column in (self._value, self._threshold)),
                ids.take(pa.array(twins, mask=twins < 0)),
                pa.array(sentences, pa.string()),
                *(column.slice(some.start, some.stop - some.start) for column in captions),
            ]
            blocks.append(
                pa.table([_typed(column, each.type) for column, each in zip(columns, SCHEMA, strict=True)], SCHEMA)
            )
        return pa.concat_tables(blocks)


def _typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column.cast(kind) if pa.types.is_large_string(column.type) else column


def _last(links: Ints) -> Ints:
    """The end of each row's chain of links; -1 for none."""
    while len(further := np.flatnonzero((links >= 0) & (links[links] >= 0))):
        links[further] = links[links[further]]
    return links


_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\b(?!\d{3}\b)\d[\d.,x]*")


def error_class(error: str) -> str:
    """An error without what differs from record to record, for counting: at most 80 characters, never empty.

    Quotations, paths and numbers go; numbers of three digits, such as HTTP's, stay.
    """
    first = error.split(": it ")[0] if error.startswith("not a picture") else error
    return " ".join(_PARTICULAR.sub("…", first).split())[:80].strip(" :;,") or "unknown error"
