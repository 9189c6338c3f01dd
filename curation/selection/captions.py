"""Which captions of each record stay, which are set aside and why, and which are taken over from exact duplicates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.captions.flat import TEXT, Flat, columns_read, counts_of, is_of_captions
from curation.captions.stage import GENERATED
from curation.expression import Explanation, Expression
from curation.predicates import Captions
from curation.selection.table import GENERATED_HASH, HASHES, Scores

Ints = NDArray[np.int64]
ALWAYS = (HASHES, GENERATED_HASH)
"""What every decision reads of captions."""
BLANK, TWICE = "blank", "the same as another caption of the record"
STAGE = "captions"
"""Where captions are set aside that no gate looked at."""

SET_ASIDE = pa.struct(
    [
        ("caption", pa.int32()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
    ]
)
MERGED = pa.struct([("id", pa.string()), ("caption", pa.int32())])
FIELDS = (
    pa.field("captions_kept", pa.list_(pa.int32())),
    pa.field("captions_merged", pa.list_(MERGED)),
    pa.field("captions_set_aside", pa.list_(SET_ASIDE)),
)
"""Columns of selection.parquet, null where a record is not kept or has none.

captions_kept       places among the record's captions, its generated one as the last
captions_merged     captions taken over from its exact duplicates: which record's, and the place among that one's
captions_set_aside  the record's other captions, each with its reason
"""


@dataclass
class CaptionDecisions:
    """The fate of each caption while the decision is being made; captions are numbered through all records."""

    scores: Scores
    each: Mapping[str, str]
    starts: Ints = field(init=False)
    own: Ints = field(init=False)

    def __post_init__(self) -> None:
        hashes = self.scores[HASHES]
        self.own = counts_of(hashes, None)
        counts = counts_of(hashes, self.scores[GENERATED_HASH])
        self.starts = np.cumsum(counts) - counts
        self.owner = np.repeat(np.arange(self.scores.rows), counts)
        total = len(self.owner)
        self.is_in = np.ones(total, bool)
        self._why = np.full(total, -1, np.int32)
        self._reasons: dict[tuple[str, str], int] = {}
        self._value, self._threshold = np.full((2, total), np.nan)
        self._merged_into = np.full(self.scores.rows, -1, np.int64)

    def holds(self, expression: Expression, rows: Ints, late: bool) -> NDArray[np.bool_]:
        """Of which `rows` a condition is true."""
        columns = self.scores.columns(expression.plain, rows)
        return expression.evaluate(columns, self._captions(expression, rows, late) if expression.asks else None)

    def judge(self, expression: Expression, stage: str, rows: Ints, late: bool) -> Explanation:
        """What a gate says of `rows`; captions that fail it are set aside. A percentile is over what is still in.

        late  whether captions may have been generated before this gate

        A record of which no caption passes fails for the reason of its main caption.
        """
        if not is_of_captions(expression, self.each):
            captions = self._captions(expression, rows, late) if expression.asks else None
            return expression.explain(self.scores.columns(expression.plain, rows), captions)
        flat, captions = self._flat(expression, rows, late)
        verdict = expression.explain_captions(captions)
        failed = np.flatnonzero(~verdict.keep & (flat.place >= 0))
        codes = np.array([self._reason(stage, reason) for reason in verdict.reasons], np.int32)
        if len(failed):
            self._set_aside(
                self.starts[rows[flat.record[failed]]] + flat.place[failed],
                codes[verdict.code[failed]],
                verdict.value[failed],
                verdict.threshold[failed],
            )
        keep = np.zeros(len(rows), bool)
        keep[flat.record[verdict.keep]] = True
        first = captions.first
        code = np.where(keep, -1, verdict.code[first])
        return Explanation(keep, verdict.reasons, code, verdict.value[first], verdict.threshold[first])

    def _captions(self, expression: Expression, rows: Ints, late: bool) -> Captions:
        return self._flat(expression, rows, late)[1]

    def _flat(self, expression: Expression, rows: Ints, late: bool) -> tuple[Flat, Captions]:
        """The captions of `rows` that are still in."""
        taken = pa.array(rows)
        counts = self.own[rows]
        if late:
            counts = counts + self.scores[GENERATED_HASH].take(taken).is_valid().to_numpy(zero_copy_only=False)
        flat = Flat.of(counts)
        nowhere = len(self.is_in)
        at = np.where(flat.place < 0, nowhere, self.starts[rows[flat.record]] + flat.place)
        flat = flat.where(np.append(self.is_in, True)[at])
        return flat, flat.captions(expression.names, self.each, lambda name: self.scores[name].take(taken))

    def _reason(self, stage: str, reason: str) -> int:
        return self._reasons.setdefault((stage, reason), len(self._reasons))

    def _set_aside(self, at: Ints, codes: Any, value: Any = np.nan, threshold: Any = np.nan) -> None:
        self.is_in[at] = False
        self._why[at], self._value[at], self._threshold[at] = codes, value, threshold

    def merge(self, rows: Ints, kept: Ints) -> None:
        """The captions of `rows` go to the records that stay in their place; -1 is none of this run."""
        self._merged_into[rows] = kept

    def unmerge(self, rows: Ints) -> None:
        """The captions of `rows` are their own again."""
        self._merged_into[rows] = -1

    def columns(self, is_kept: NDArray[np.bool_]) -> list[pa.Array]:
        """The columns `FIELDS`, once it is known which records are kept."""
        heir = self._heirs(is_kept)
        self._set_aside_doubles(heir)
        own = heir[self.owner] == self.owner
        places = np.arange(len(self.owner)) - self.starts[self.owner]
        kept, aside = own & self.is_in, own & ~self.is_in
        lists = [self._lists(self.owner[kept], pa.array(places[kept], pa.int32()))]
        taken = np.flatnonzero(self.is_in & ~own & (heir[self.owner] >= 0))
        taken = taken[np.argsort(heir[self.owner[taken]], kind="stable")]  # of each heir by the ids, then by place
        donors = self.scores.ids.take(pa.array(self.owner[taken])).cast(pa.string())
        merged = pa.StructArray.from_arrays([donors, pa.array(places[taken], pa.int32())], fields=list(MERGED))
        lists.append(self._lists(heir[self.owner[taken]], merged))
        words = [pa.array([key[i] for key in self._reasons], pa.string()) for i in (0, 1)]
        codes = pa.array(self._why[aside])
        numbers = [pa.array(column[aside], from_pandas=True) for column in (self._value, self._threshold)]
        parts = [pa.array(places[aside], pa.int32()), *(word.take(codes) for word in words), *numbers]
        lists.append(self._lists(self.owner[aside], pa.StructArray.from_arrays(parts, fields=list(SET_ASIDE))))
        return lists

    def _heirs(self, is_kept: NDArray[np.bool_]) -> Ints:
        """row -> the kept row to which its captions go: itself, or one that stays in its place; -1 for none."""
        heir = np.where(is_kept, np.arange(len(is_kept)), self._merged_into)
        while len(further := np.flatnonzero((heir >= 0) & ~is_kept[heir])):
            heir[further] = heir[heir[further]]
        return heir

    def _set_aside_doubles(self, heir: Ints) -> None:
        """Blank captions, and those that another caption of what becomes one record says already: its own come first,
        then those of its duplicates by their ids. Of a duplicate's captions such are no loss, and need no reason."""
        values = self._hashes()
        rows = np.flatnonzero(self.is_in & (heir[self.owner] >= 0))
        to = heir[self.owner[rows]]
        order = np.lexsort((rows, to != self.owner[rows], values[rows], to))
        rows, to = rows[order], to[order]
        twice = np.zeros(len(rows), bool)
        twice[1:] = (to[1:] == to[:-1]) & (values[rows[1:]] == values[rows[:-1]])
        blank = values[rows] == 0
        self._set_aside(rows[twice & ~blank], self._reason(STAGE, TWICE))
        self._set_aside(rows[blank], self._reason(STAGE, BLANK))

    def _hashes(self) -> NDArray[np.uint64]:
        """Of each caption's text, 0 for a blank one."""
        lists, generated = self.scores[HASHES], self.scores[GENERATED_HASH]
        out = np.zeros(len(self.owner), np.uint64)
        is_own = np.arange(len(out)) - self.starts[self.owner] < self.own[self.owner]
        out[is_own] = lists.flatten().to_numpy(zero_copy_only=False)
        out[~is_own] = generated.drop_null().to_numpy(zero_copy_only=False)
        return out

    def _lists(self, rows: Ints, values: pa.Array) -> pa.Array:
        """`values` as lists, one for each row of the run; null for none. `rows` ascend."""
        counts = np.bincount(rows, minlength=self.scores.rows)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        mask = pa.array(counts == 0)
        return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)


def names_read(expression: Expression, each: Mapping[str, str]) -> set[str]:
    """The columns of scores/ that a gate or a condition looks at."""
    names = columns_read(expression, each, generated=False) - {"captions"}
    reads_texts = TEXT in names and (expression.asks or is_of_captions(expression, each))
    return names | (expression.names & {"captions"}) | ({"captions", GENERATED} if reads_texts else set())
