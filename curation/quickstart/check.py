"""Planted against found: what a run made of the quickstart corpus."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from rich.table import Table

from curation import chunkfile, rundir
from curation.quickstart.defects import DEFECTS
from curation.storage import Store


@dataclass(frozen=True)
class Tally:
    """For one defect: how many were planted and found, and how many clean records met the same fate."""

    planted: int
    found: int
    false_alarms: int


def check(run: str, planted: Path) -> dict[str, Tally]:
    """Compare a run with the ground truth, by defect. A clean record is kept, or falls as a duplicate's other half."""
    truth = {row["file"]: row["planted"] for row in map(json.loads, planted.read_text().splitlines())}
    rows = [row | {"planted": truth[row["source_key"]]} for row in _rows(Store(run)) if row["source_key"] in truth]
    clean = [row for row in rows if row["planted"] is None]
    found: dict[str, Tally] = {}
    for name, defect in DEFECTS.items():
        mine = [row for row in rows if row["planted"] == name]
        alarms = [row for row in clean if defect.found(row) and not (name == "exact duplicate" and _excused(row, rows))]
        alarms = [] if name in ("near duplicate", "not a picture") else alarms
        found[name] = Tally(len(mine), sum(_found(row, rows) for row in mine), len(alarms))
    return found


def _found(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """A duplicate is also found when it stayed and its original fell to it."""
    by_id = {other["id"]: other for other in rows}
    if "duplicate" in row["planted"] and row["decision"] == "kept":
        return any(other["duplicate_of"] == row["id"] for other in by_id.values())
    return DEFECTS[row["planted"]].found(row)


def _excused(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """A clean record that fell to its planted copy was rightly found to be one of two."""
    kept = next((other for other in rows if other["id"] == row["duplicate_of"]), None)
    return kept is not None and kept["planted"] in ("exact duplicate", "near duplicate")


def _rows(store: Store) -> list[dict[str, Any]]:
    """Decision and the few scores that the check looks at, by record."""
    decided = {row["id"]: row for row in rundir.read_selection(store).to_pylist()}
    paths = [store.path(entry.name) for entry in store.list(chunkfile.SCORES) if chunkfile.is_scores(entry.name)]
    columns = ["id", "source_key", "format", "content_box"]
    scores = (
        ds.dataset(sorted(paths), format="parquet", filesystem=store.filesystem).to_table(columns=columns).to_pylist()
    )
    return [row | decided[row["id"]] for row in scores]


def table(tallies: dict[str, Tally]) -> Table:
    """As it is printed at the end of the quickstart."""
    out = Table(box=None, pad_edge=False, header_style="bold", title="planted against found", title_justify="left")
    for heading in ("defect", "planted", "found", "false alarms", ""):
        out.add_column(heading, justify="right" if heading in ("planted", "found", "false alarms") else "left")
    for name, tally in tallies.items():
        out.add_row(name, str(tally.planted), str(tally.found), str(tally.false_alarms), DEFECTS[name].meaning)
    return out
