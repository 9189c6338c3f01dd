"""The rows of one chunk on their way through the stages: what is scored, what is still missing."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from curation import extra
from curation.captions.flat import Flat, counts_of, is_of_captions
from curation.captions.stage import GENERATED, GENERATED_SOURCE, texts_of
from curation.expression import Expression
from curation.plan import PlannedStage
from curation.record import BASE_SCHEMA, SourceRow, record_id
from curation.stage import Columns, Failure

Aside = defaultdict[int, set[int]]
"""row -> places of its captions that failed a gate."""
_GENERATED = (GENERATED, GENERATED_SOURCE)


OUTSIDE = ("source", "read", "decode", "worker")
"""Where a record can fail that is no stage."""


class Cells:
    """Rows of a chunk as column lists; a stage's cell exists where `scored` has the stage's name.

    alive      per row: no error, and every gate so far passed. Rows that are not alive get no further stage.
    set_aside  per row: places of captions that failed a gate so far, while others of the record passed
    """

    def __init__(self, rows: Sequence[SourceRow], stages: Sequence[PlannedStage]) -> None:
        n = len(rows)
        self.stages = tuple(stages)
        self.size = n
        self.set_aside: Aside = defaultdict(set)
        self._types = {field.name: field.type for field in BASE_SCHEMA}
        self._types |= {name: column.type for stage in stages for name, column in stage.writes.items()}
        columns = (item for stage in stages for item in stage.writes.items())
        self._each = {name: column.each for name, column in columns if column.each}
        self.columns: dict[str, list[Any]] = {name: [None] * n for name in BASE_SCHEMA.names}
        self.columns["source_key"] = [row.key for row in rows]
        self.columns["source_uri"] = [row.uri for row in rows]
        self.columns["media"] = [row.media for row in rows]
        self.columns["caption"] = [row.captions[0] if row.captions else None for row in rows]
        self.columns["captions"] = [list(row.captions) for row in rows]
        self.columns["extra"] = [json.dumps(row.extra, sort_keys=True) if row.extra else None for row in rows]
        for name in ("start_s", "end_s", "start_frame", "end_frame"):
            self.columns[name] = [getattr(row.span, name) if row.span else None for row in rows]
        self.columns["scored"] = [[] for _ in rows]
        for stage in stages:
            for name in stage.writes:
                self.columns[name] = [None] * n
        self.alive = [True] * n
        for i, row in enumerate(rows):
            if row.error:
                self.fail(i, "source", row.error)

    @classmethod
    def stored(cls, table: pa.Table, stages: Sequence[PlannedStage]) -> "Cells":
        """The cells of a committed chunk (or some of its columns), to see what is missing in it."""
        cells = cls([], stages)
        cells.size = table.num_rows
        cells.columns = {name: table[name].to_pylist() for name in table.column_names}
        cells.columns["scored"] = [names or [] for names in cells.columns["scored"]]
        cells.alive = [error is None for error in cells.columns["error"]]
        return cells

    @classmethod
    def of_row(cls, row: dict[str, Any], stages: Sequence[PlannedStage]) -> "Cells":
        """One committed row, to tell what its gates say."""
        cells = cls([], stages)
        cells.size, cells.alive = 1, [True]
        cells.columns = {name: [value] for name, value in row.items()}
        cells.columns["scored"] = [row["scored"] or []]
        return cells

    def fail(self, row: int, stage: str, error: str) -> None:
        """Quarantine a row: the first error stays."""
        if self.columns["error"][row] is None:
            self.columns["error_stage"][row] = stage
            self.columns["error"][row] = error
        self.alive[row] = False

    def missing(self, stage: PlannedStage, rows: Iterable[int]) -> list[int]:
        """The rows among `rows` that are alive, meet the stage's `when`, and lack its cell."""
        lacking = [i for i in rows if self.alive[i] and stage.name not in self.columns["scored"][i]]
        if not lacking or stage.when is None or stage.condition is None:
            return lacking
        holds = self._holds(stage.condition, lacking, stage.late, self.set_aside)
        return [i for i, ok in zip(lacking, holds, strict=True) if ok]

    def lacking(self, rows: Iterable[int]) -> dict[int, set[str]]:
        """Rows that need work -> the stages that may have to run on them, judged by the cells there are.

        A row that stored gates already stop needs nothing. Behind a first missing cell every later stage counts:
        whether its `when` holds is only known once that cell is there.
        """
        rows = list(rows)
        open_rows = {i for i in rows if self.alive[i]}
        out: dict[int, set[str]] = {}
        aside: Aside = defaultdict(set)
        for stage in self.stages:
            judged = sorted(i for i in open_rows if stage.name in self.columns["scored"][i])
            if judged and (gate := stage.gate) is not None:
                passed = self._passes(gate, judged, stage.late, aside)
                open_rows -= {i for i, ok in zip(judged, passed, strict=True) if not ok}
            unscored = [i for i in rows if i in open_rows and stage.name not in self.columns["scored"][i]]
            certain = [i for i in unscored if i not in out]
            if certain and (condition := stage.condition) is not None:
                holds = self._holds(condition, certain, stage.late, aside)
                excused = {i for i, ok in zip(certain, holds, strict=True) if not ok}
                unscored = [i for i in unscored if i not in excused]
            for i in unscored:
                out.setdefault(i, set()).add(stage.name)
        return out

    def put(self, stage: PlannedStage, rows: Sequence[int], columns: Columns) -> None:
        """Store a stage's values; a `Failure` in any column quarantines its row."""
        for position, i in enumerate(rows):
            values = {name: columns[name][position] for name in stage.factory.writes}
            if stage.second:
                values = self._appended(stage, i, values)
            failure = next((value for value in values.values() if isinstance(value, Failure)), None)
            if failure is not None:
                self.fail(i, stage.name, str(failure))
                continue
            for name, value in values.items():
                self.columns[name][i] = value
            self.columns["scored"][i] = [*self.columns["scored"][i], stage.name]

    def gate(self, stage: PlannedStage, rows: Iterable[int]) -> None:
        """Rows that have the stage's cell and do not pass its `keep` are no longer alive."""
        gate = stage.gate
        judged = [i for i in rows if self.alive[i] and stage.name in self.columns["scored"][i]]
        if gate is None or not judged:
            return
        for i, ok in zip(judged, self._passes(gate, judged, stage.late, self.set_aside), strict=True):
            self.alive[i] = self.alive[i] and bool(ok)

    def _appended(self, stage: PlannedStage, row: int, values: dict[str, Any]) -> dict[str, Any]:
        """A second turn's values as they are stored: the generated caption's, behind those of the source's captions."""
        own = len(self.columns["captions"][row] or ())
        out: dict[str, Any] = {}
        for name, column in stage.factory.writes.items():
            if column.each is not None:
                known = (self.columns[column.each][row] or [None] * own)[:own]
                new = values[name] if isinstance(values[name], Failure) else values[column.each]
                out[column.each] = new if isinstance(new, Failure) else [*known, *new]
        return out

    def _passes(self, gate: Expression, rows: Sequence[int], late: bool, aside: Aside) -> Sequence[bool]:
        """Which rows pass a gate. On captions: those with one that passes; the others' places are put into `aside`.

        late  whether captions may have been generated already
        """
        if not is_of_captions(gate, self._each):
            return self._holds(gate, rows, late, aside)
        flat, get = self._flat(rows, late, aside)
        keep = gate.explain_captions(flat.captions(gate.names, self._each, get)).keep
        for record, place in zip(flat.record[~keep].tolist(), flat.place[~keep].tolist(), strict=True):
            if place >= 0:
                aside[rows[record]].add(place)
        passed = np.zeros(len(rows), bool)
        passed[flat.record[keep]] = True
        return passed.tolist()

    def _holds(self, expression: Expression, rows: Sequence[int], late: bool, aside: Aside) -> Sequence[bool]:
        """Of which rows an expression on records is true; any(), all() and main() look at captions still in."""
        if not expression.asks:
            return expression.evaluate(self.take(expression.names, rows)).tolist()
        flat, get = self._flat(rows, late, aside)
        captions = flat.captions(expression.names, self._each, get)
        return expression.evaluate(self.take(expression.plain, rows), captions).tolist()

    def _flat(self, rows: Sequence[int], late: bool, aside: Aside) -> tuple[Flat, Any]:
        """The captions of some rows that are still in, and what gives their columns."""

        @cache
        def get(name: str) -> pa.Array:
            values = self.take([name], rows)[name]
            if extra.is_extra(name):
                return extra.column(values)
            return pa.array(_clean(values, self._types[name]), self._types[name])

        flat = Flat.of(counts_of(get("captions"), get(GENERATED) if late else None))
        places = zip(flat.record.tolist(), flat.place.tolist(), strict=True)
        return flat.where(np.array([place not in aside[rows[record]] for record, place in places], bool)), get

    def take(self, names: Iterable[str], rows: Sequence[int]) -> dict[str, list[Any]]:
        """Columns for some rows; `extra.NAME` is looked up in the row's extra."""
        out: dict[str, list[Any]] = {}
        for name in names:
            if extra.is_extra(name):
                path = extra.path_of(name)
                out[name] = [extra.look_up(json.loads(self.columns["extra"][i] or "{}"), path) for i in rows]
            else:
                out[name] = [self.columns[name][i] for i in rows]
        return out

    def name_rows(self) -> None:
        """Give every row its id; equal rows within the chunk are numbered (across chunks: see `ids.py`)."""
        seen: dict[str, int] = {}
        for i in range(self.size):
            parts = self.columns["source_key"][i], self.columns["content_sha256"][i] or "", self.columns["captions"][i]
            start, end = self.columns["start_frame"][i], self.columns["end_frame"][i]
            span = None if start is None else (start, end)
            first = record_id(*parts, span=span)
            occurrence = seen.get(first, 0)
            seen[first] = occurrence + 1
            self.columns["id"][i] = record_id(*parts, occurrence, span) if occurrence else first

    def adopt(self, table: pa.Table, fresh: set[str], again: Collection[int] = ()) -> None:
        """Take over the cells of an earlier scoring of the same rows; stages in `fresh` are left to be computed.

        again  rows whose stored failure is forgotten; they are named anew, since a file's bytes are in its name
        """
        kept = [
            stage for stage in self.stages if stage.name not in fresh and set(stage.writes) <= set(table.column_names)
        ]
        names = {stage.name for stage in kept}
        for name in ["id", "content_sha256", *(column for stage in kept for column in stage.writes)]:
            self.columns[name] = table[name].to_pylist()
        old = table.select(["scored", "error_stage", "error"]).to_pylist()
        for i, row in enumerate(old):
            self.columns["scored"][i] = [stage for stage in row["scored"] or [] if stage in names]
            at = row["error_stage"]
            if i in again:
                self.columns["id"][i] = None
                continue
            if row["error"] is not None and at not in fresh and self.alive[i] and self._still_failed(i, at):
                self.fail(i, at, row["error"])
        for stage in kept:
            if GENERATED not in stage.reads:
                self._forget_generated(stage)

    def _still_failed(self, row: int, failed: str) -> bool:
        """Whether a stage's stored failure on a row counts under this plan.

        It does while the stage is planned and every stage before it that the row reaches has its cell: otherwise these
        are computed now, and the stage is tried again behind them. What happened outside of stages (reading, decoding)
        counts in any case.
        """
        if failed in OUTSIDE:
            return True
        names = [stage.name for stage in self.stages]
        return failed in names and not any(self.missing(stage, [row]) for stage in self.stages[: names.index(failed)])

    def _forget_generated(self, stage: PlannedStage) -> None:
        """Cut from the lists of a stage what an earlier plan's second turn had put behind them."""
        second = next((other.name for other in self.stages if other.second and other.factory is stage.factory), None)
        for column in stage.writes.values():
            for i, values in enumerate(self.columns[column.each] if column.each else ()):
                scored = self.columns["scored"][i]
                if column.each and values is not None and second not in scored:
                    own = len(self.columns["captions"][i])
                    self.columns[column.each][i] = values[:own] if stage.name in scored else None

    def table(self, metadata: dict[str, Any]) -> pa.Table:
        """The rows as they are stored in scores/; pixels never are."""
        fields = list(BASE_SCHEMA)
        fields += [pa.field(name, column.type) for stage in self.stages for name, column in stage.writes.items()]
        schema = pa.schema(fields, metadata={"curation": json.dumps(metadata, sort_keys=True)})
        order = {stage.name: i for i, stage in enumerate(self.stages)}
        self.columns["scored"] = [sorted(names, key=order.__getitem__) for names in self.columns["scored"]]
        self.columns["caption_sources"] = [self._sources(i) for i in range(self.size)]
        return pa.table([pa.array(_clean(self.columns[f.name], f.type), f.type) for f in fields], schema=schema)

    def _sources(self, row: int) -> list[str]:
        """Where each caption is from: `source`, or which captioner."""
        generated, maker = (self.columns[name][row] if name in self.columns else None for name in _GENERATED)
        own = self.columns["captions"][row] or []
        return (["source"] * len(own) + [maker or "generated"])[: len(texts_of(own, generated))]


def _clean(values: list[Any], kind: pa.DataType) -> list[Any]:
    """Text that Arrow can hold: lone surrogates become U+FFFD."""
    if pa.types.is_string(kind):
        return [_text(value) for value in values]
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return [None if value is None else [_text(item) for item in value] for value in values]
    return values


def _text(value: Any) -> str | None:
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8")
