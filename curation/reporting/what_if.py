"""The decision of `curate select` as data, from which the report page decides again under other thresholds.

Whatever no threshold changes is computed here, once for each record or caption: the outcome of a test that compares no
number, the errors, what cannot be encoded, which records are near duplicates. A comparison of a column with a number
or a percentile is handed over as the column's values, so that the page can move the number.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.captions.flat import TEXT, Flat, counts_of, is_of_captions
from curation.expression import Expression, parse
from curation.manifest import Manifest
from curation.plan import Plan
from curation.predicates import (
    Captions,
    Column,
    Comparison,
    Constant,
    Junction,
    Not,
    OfCaptions,
    Percentile,
    Rows,
    Test,
    conjuncts,
)
from curation.reporting.packing import packed
from curation.selection.decisions import error_class
from curation.selection.select import small_records
from curation.selection.table import GENERATED_HASH, HASHES, Scores

Ints = NDArray[np.int64]
EXACT = 2.0**53
"""Whole numbers beyond it are compared digit by digit by select, which the page does not do."""


@dataclass(frozen=True)
class Threshold:
    """A number of the manifest that the page can move.

    line      the gate's place: `score.NAME` or `select.keep.N`
    stage     at which the gate drops
    name      of the column, as it is written
    column    its place among the columns
    value     the number; None for a percentile
    percent   the percentile; None for a number
    start     where the number stands in the gate's text, `end` exclusive
    """

    line: str
    stage: str
    name: str
    column: int
    operator: str
    reversed: bool
    value: float | None
    percent: float | None
    start: int
    end: int


@dataclass
class WhatIf:
    """Everything that the page needs to decide again; `to_json` is its form there.

    columns     (name, whether its values are the captions' own, values) that thresholds cut
    outcomes    tests that no threshold changes: uint8, 0 false, 1 true, 2 null
    gates       in the order in which records meet them
    texts       line -> the gate's text, as the manifest says it
    """

    scores: Scores
    rows: Ints
    each: Mapping[str, str]
    columns: list[tuple[str, bool, NDArray[np.float64]]] = field(default_factory=list)
    outcomes: list[NDArray[np.uint8]] = field(default_factory=list)
    thresholds: list[Threshold] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = pa.array(self.rows)
        hashes, generated = self.scores[HASHES].take(taken), self.scores[GENERATED_HASH].take(taken)
        self.own = counts_of(hashes, None)
        self.all = counts_of(hashes, generated)
        self.slots = _slots(self.own, self.all)
        self._columns_of: dict[tuple[str, bool], int] = {}

    def add_plan(self, plan: Plan) -> None:
        """The gates of `score:`, then those of `select: keep`."""
        for stage in plan.stages:
            when = None
            if stage.when:
                expression = parse(stage.when)
                when = self._node(expression._test, expression, "", False)
            keep = None
            if stage.keep:
                keep = self._keep(parse(stage.keep), f"score.{stage.factory.name}", stage.name)
            self.gates.append({"stage": stage.name, "when": when, "keep": keep, "late": stage.late, "scored": True})
        for i, text in enumerate(plan.loaded.manifest.select.keep):
            keep = self._keep(parse(text), f"select.keep.{i}", "select")
            self.gates.append({"stage": "select", "when": None, "keep": keep, "late": True, "scored": False})

    def _keep(self, expression: Expression, line: str, stage: str) -> dict[str, Any]:
        self.texts[line] = expression.text
        single = is_of_captions(expression, self.each)
        parts = []
        self._cursor = 0
        for test in conjuncts(expression._test):
            words = r"\s+".join(map(re.escape, test.text.split()))
            found = re.compile(words).search(expression.text, self._cursor)
            start, end = found.span() if found else (-1, -1)
            node = self._node(test, expression, line, single, stage)
            parts.append({"text": test.text, "start": start, "end": end, "node": node})
        return {"line": line, "captions": single, "parts": parts}

    def _node(self, test: Test, expression: Expression, line: str, single: bool, stage: str = "") -> dict[str, Any]:
        """A test as the page evaluates it; `single`: of captions, otherwise of records."""
        if isinstance(test, Junction):
            return {
                "is": test.operator,
                "of": [self._node(part, expression, line, single, stage) for part in test.tests],
            }
        if isinstance(test, Not):
            return {"is": "not", "of": [self._node(test.test, expression, line, single, stage)]}
        if isinstance(test, OfCaptions):
            return {"is": test.which, "of": [self._node(test.test, expression, line, True, stage)]}
        if line and isinstance(test, Comparison) and (found := self._comparison(test, line, single, stage)) is not None:
            return found
        return {"is": "known", "at": self._outcome(test, single), "captions": single}

    def _comparison(self, test: Comparison, line: str, single: bool, stage: str) -> dict[str, Any] | None:
        """A comparison with a number or a percentile; None where the page cannot move or compare it exactly."""
        is_reversed = not isinstance(test.left, Column)
        column, other = (test.right, test.left) if is_reversed else (test.left, test.right)
        if not isinstance(column, Column) or not isinstance(other, Constant | Percentile):
            return None
        rows = self._rows(single)
        if test._kinds(rows) != ("number",) or not self._is_exact(column, other, rows):
            return None
        of_captions = single and (column.name in self.each or column.name == TEXT)
        at = self._column(column, of_captions)
        return {
            "is": "compare",
            "threshold": self._threshold(test, column, other, is_reversed, at, line, stage),
            "captions": single,
        }

    def _is_exact(self, column: Column, other: Constant | Percentile, rows: Rows) -> bool:
        values = column.values(rows, "number").drop_null().to_numpy()
        given = float(other.value) if isinstance(other, Constant) else 0.0
        return not (np.abs(values[np.isfinite(values)]) >= EXACT).any() and abs(given) < EXACT

    def _column(self, column: Column, of_captions: bool) -> int:
        key = column.text, of_captions
        if key not in self._columns_of:
            values = column.values(self._rows(of_captions), "number").to_numpy(zero_copy_only=False)
            self._columns_of[key] = len(self.columns)
            self.columns.append((column.text, of_captions, values.astype(np.float64)))
        return self._columns_of[key]

    def _threshold(
        self,
        test: Comparison,
        column: Column,
        other: Constant | Percentile,
        is_reversed: bool,
        at: int,
        line: str,
        stage: str,
    ) -> int:
        """The place of the threshold; a second turn of a stage shares those of its first."""
        sides = (other.text, column.text) if is_reversed else (column.text, other.text)
        start = self._place(sides[0], test.operator, sides[1], is_reversed, self.texts[line])
        value = float(other.value) if isinstance(other, Constant) else None
        percent = other.percent if isinstance(other, Percentile) else None
        made = Threshold(
            *(line, stage, column.text, at, test.operator, is_reversed, value, percent),
            *(start, start + len(other.text)),
        )
        for i, known in enumerate(self.thresholds):
            if (known.line, known.start, known.column) == (line, start, at):
                return i
        self.thresholds.append(made)
        return len(self.thresholds) - 1

    def _place(self, left: str, operator: str, right: str, is_reversed: bool, text: str) -> int:
        """Where the number of a comparison stands in the gate's text; -1 where it is not found, and then not moved."""
        one, other = (r"\s+".join(map(re.escape, part.split())) for part in (left, right))
        found = re.compile(rf"({one})\s*{re.escape(operator)}\s*({other})").search(text, self._cursor)
        if found is None:
            return -1
        self._cursor = found.start(2) if is_reversed else found.end(2)
        return found.start(1 if is_reversed else 2)

    def _outcome(self, test: Test, single: bool) -> int:
        outcome = test.outcome(self._rows(single))
        numbers = outcome.cast(pa.uint8()).fill_null(2).to_numpy(zero_copy_only=False)
        self.outcomes.append(numbers.astype(np.uint8))
        return len(self.outcomes) - 1

    def _rows(self, single: bool) -> Rows:
        """All records of the page, or all their captions."""
        taken = pa.array(self.rows)
        if not single:
            return Rows(_Lazy(lambda name: self.scores[name].take(taken)), len(self.rows))
        names = set(self.each) | {TEXT}

        def get(name: str) -> pa.Array:
            return self.scores[name].take(taken)

        columns = _Lazy(lambda name: self.slots.captions([name], self.each, get).columns[name])
        record = self.slots.record
        return Rows(columns, len(record), Captions(columns, record, len(self.rows), frozenset(names)), single=True)

    def to_json(self) -> dict[str, Any]:
        scored = self.scores.scored()
        nothing = np.zeros(self.scores.rows, bool)
        for gate in self.gates:
            if gate["scored"]:
                gate["scored"] = packed(scored.get(gate["stage"], nothing)[self.rows].astype(np.uint8))
        return {
            "columns": [
                {"name": name, "captions": of_captions, "values": packed(values)}
                for name, of_captions, values in self.columns
            ],
            "outcomes": [packed(outcome) for outcome in self.outcomes],
            "thresholds": [vars(threshold) for threshold in self.thresholds],
            "gates": self.gates,
            "texts": self.texts,
            "own": packed(self.own),
            "captions": packed(self.all),
        }


class _Lazy(dict[str, Any]):
    """Columns that are made when they are first asked for."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> Any:
        self[name] = self._make(name)
        return self[name]


def _slots(own: Ints, every: Ints) -> Flat:
    """A row for each caption of each record, the generated one last; before them one for the record itself where the
    source gave it no caption, by which it is judged while none was generated."""
    counts = every + (own == 0)
    record = np.repeat(np.arange(len(own)), counts)
    place = np.arange(len(record)) - np.repeat(np.cumsum(counts) - counts, counts) - (own == 0)[record]
    return Flat(record, place, len(own))


def errors_of(scores: Scores, rows: Ints, stages: Sequence[str], failed: Mapping[str, str]) -> dict[str, Any]:
    """Where each record was quarantined: the gate's place, -1 for before all gates, -2 for nowhere; and the reason.

    failed  ids that could not be encoded -> the sentence why
    """
    taken = pa.array(rows)
    at, code = np.full(len(rows), -2, np.int16), np.full(len(rows), -1, np.int32)
    late = np.full(len(rows), -1, np.int32)
    reasons: dict[tuple[str, str], int] = {}
    columns = (scores["error"].take(taken).to_pylist(), scores["error_stage"].take(taken).to_pylist())
    for i, (error, stage) in enumerate(zip(*columns, strict=True)):
        if error is not None:
            stage = stage or "source"
            at[i] = stages.index(stage) if stage in stages else -1
            code[i] = reasons.setdefault((stage, error_class(error)), len(reasons))
    if failed:
        for i, identity in enumerate(scores.ids.take(taken).to_pylist()):
            if identity in failed:
                late[i] = reasons.setdefault(("encode", error_class(failed[identity])), len(reasons))
    return {"at": packed(at), "code": packed(code), "late": packed(late), "reasons": list(reasons)}


def small_of(scores: Scores, manifest: Manifest, rows: Ints) -> dict[str, Any]:
    """Which records could not be encoded for their size or length: place among the reasons, -1 for none."""
    code = np.full(scores.rows, -1, np.int16)
    reasons = sorted(small_records(scores, manifest, rows).items())
    for i, (_, at) in enumerate(reasons):
        code[at] = i
    return {"code": packed(code[rows]), "reasons": [reason for reason, _ in reasons]}
