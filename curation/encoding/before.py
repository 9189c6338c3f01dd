"""Which of the records to be encoded have latents from earlier: by their id, or else by the same pixels."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from curation.encoding.deal import Ints
from curation.encoding.jobs import DEAL, content_of, dealt
from curation.encoding.scored import ScoredRows
from curation.encoding.spool import Spool

ROW = "row in the decision"
"""A column that goes with the records while they are sorted."""
_CONTENT = ("content_sha256", "start_frame", "end_frame")


class Before:
    """Sorts the rows of the last deal (`DEAL`) to the parts of the records that they are of.

    A new record has the latents of one with the same pixels where there is one: other captions make another record. Of
    several the one with the smallest id serves. Holds 16 bytes for each new record.
    """

    def __init__(self, scored: ScoredRows, part_of: NDArray[np.int32], spool: Spool) -> None:
        self._scored, self._part_of, self._spool = scored, part_of, spool
        self._is_new = part_of >= 0
        self._hashes: list[NDArray[np.uint64]] = []
        self._rows: list[Ints] = []
        self._there = scored.store.exists(DEAL)
        for table in dealt(scored.store):
            rows = scored.places.of(table["id"].combine_chunks())
            some = (rows >= 0) & (part_of[rows] >= 0)  # -1 looks up the last record, which the first test leaves out
            self._add(rows[some], table.filter(pa.array(some)))
            self._is_new[rows[some]] = False

    def note(self, rows: Ints, table: pa.Table) -> None:
        """See the records as they pass: the pixels of new ones are looked for in `finish`."""
        if self._there and (some := self._is_new[rows]).any():
            found = table.select(_CONTENT).filter(pa.array(some)).to_pylist()
            self._hashes.append(np.array([_hash(content_of(row)) for row in found], np.uint64))
            self._rows.append(rows[some])

    def finish(self) -> None:
        """All records have passed."""
        if self._hashes:
            hashes, rows = np.concatenate(self._hashes), np.concatenate(self._rows)
            order = np.argsort(hashes, kind="stable")
            hashes, rows = hashes[order], rows[order]
            for table in dealt(self._scored.store):
                asked = np.array([_hash(content or "") for content in table["content"].to_pylist()], np.uint64)
                low, high = (np.searchsorted(hashes, asked, side) for side in ("left", "right"))
                counts = high - low
                at = np.repeat(np.arange(len(asked)), counts)
                place = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
                self._add(rows[place], table.take(pa.array(at)))
        self._spool.finish()

    def _add(self, rows: Ints, table: pa.Table) -> None:
        if len(rows):
            self._spool.add(self._part_of[rows], table.append_column(ROW, pa.array(rows)))

    def read(self, part: int, records: pa.Table) -> dict[int, str]:
        """Row -> the row of `DEAL` that serves it, as JSON; `records` are those of the part."""
        table = self._spool.read(part)
        if table is None:
            return {}
        names = ("id", *_CONTENT, ROW)
        own = {row.pop(ROW): row for row in records.select(names).to_pylist()}
        best: dict[int, dict[str, Any]] = {}
        for found in table.to_pylist():
            row = found.pop(ROW)
            if self._is_new[row] and found["content"] != content_of(own[row]):
                continue  # only its hash is the same
            if row not in best or found["id"] < best[row]["id"]:
                best[row] = found
        return {row: json.dumps(found, sort_keys=True) for row, found in best.items()}


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())
