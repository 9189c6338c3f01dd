"""Planted against found: what a run made of the quickstart corpus."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from curation import rundir
from curation.errors import CurationError
from curation.quickstart.defects import DEFECTS
from curation.scoring import chunkfile
from curation.stores.storage import Store


@dataclass(frozen=True)
class Tally:
    """For one defect: how many were planted and found, and how many clean records met the same fate."""

    planted: int
    found: int
    false_alarms: int


def check(run: str, planted: Path) -> dict[str, Tally]:
    """Compare a run with the ground truth, by defect.

    A planted copy counts as found when one of it and its original fell to the other: the run keeps the better, which
    may be either. Every other clean record that met a defect's fate is a false alarm.
    """
    rows = [truth | row for truth, row in _pairs(_read(planted), _rows(Store(run)))]
    ids = {row["source_key"]: row["id"] for row in rows}
    halves = {frozenset((row["id"], ids[row["copy_of"]])): row["planted"] for row in rows if row["copy_of"]}
    tallies: dict[str, Tally] = {}
    for name, defect in DEFECTS.items():
        met = [row for row in rows if defect.found(row)]
        paired = [row for row in met if halves.get(frozenset((row["id"], row["duplicate_of"]))) == name]
        copies = name in halves.values()
        found = paired if copies else [row for row in met if row["planted"] == name]
        alarms = [row for row in met if row["planted"] is None and row not in paired]
        tallies[name] = Tally(sum(row["planted"] == name for row in rows), len(found), len(alarms))
    return tallies


def _read(planted: Path) -> dict[str, dict[str, Any]]:
    """What is true of each file, by its name; raises CurationError for a file that holds something else."""
    try:
        rows = [json.loads(line) for line in planted.read_text().splitlines()]
        return {row["file"]: {"planted": row["planted"], "copy_of": row["copy_of"]} for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CurationError(
            f"{planted} is no planted.jsonl of the quickstart corpus ({error}); build it first"
        ) from error


def _pairs(
    truth: dict[str, dict[str, Any]], rows: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Truth and record, side by side; raises CurationError where the run is of another corpus."""
    if truth.keys() != {row["source_key"] for row in rows}:
        raise CurationError("the run is not of this corpus: their files differ; run it again after building")
    return ((truth[row["source_key"]], row) for row in rows)


def _rows(store: Store) -> list[dict[str, Any]]:
    """Decision and the few scores that the check looks at, by record."""
    decided = {row["id"]: row for row in rundir.read_selection(store).to_pylist()}
    scores = chunkfile.dataset(store).to_table(columns=["id", "source_key", "format", "content_box"])
    return [row | decided[row["id"]] for row in scores.to_pylist()]


def table(tallies: dict[str, Tally]) -> Table:
    """As it is printed at the end of the quickstart."""
    out = Table(box=None, pad_edge=False, header_style="bold", title="planted against found", title_justify="left")
    for heading in ("defect", "planted", "found", "false alarms", ""):
        out.add_column(heading, justify="right" if heading in ("planted", "found", "false alarms") else "left")
    for name, tally in tallies.items():
        out.add_row(name, str(tally.planted), str(tally.found), str(tally.false_alarms), DEFECTS[name].meaning)
    return out
