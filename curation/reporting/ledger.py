"""The account of a run: counts that must add up, the funnel, run.json."""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from curation.captions.flat import counts_of
from curation.errors import CurationError
from curation.stores.storage import Store

RUN = "run.json"
_PACKAGES = ("curation", "ray", "pyarrow", "numpy", "pillow", "torch", "av", "onnxruntime", "faiss-cpu")


@dataclass
class Ledger:
    """What happened to every record, counted."""

    sources_in: int
    records_in: int
    kept: int
    dropped: dict[str, int]
    quarantined: dict[str, int]
    phases: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    captions: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, selection: pa.Table, sources_in: int, most_captions: int | None = None) -> "Ledger":
        """Count a selection; `dropped` and `quarantined` are keyed `stage: reason` and keep the funnel's order.

        most_captions  how many of a record's captions a shard takes
        """
        counts: dict[str, Counter[str]] = {"dropped": Counter(), "quarantined": Counter()}
        names = ["decision", "stage", "reason"]
        grouped = selection.select(names).group_by(names, use_threads=False).aggregate([([], "count_all")])
        for row in grouped.to_pylist():  # in the order in which they first stand there
            decision, stage, reason = (row[name] for name in names)
            if decision != "kept":
                counts[decision][f"{stage}: {reason}" if stage else str(reason)] += row["count_all"]
        kept = pc.sum(pc.equal(selection["decision"], "kept")).as_py() or 0
        ledger = cls(sources_in, selection.num_rows, kept, dict(counts["dropped"]), dict(counts["quarantined"]))
        ledger.captions = count_captions(selection, most_captions)
        return ledger

    def check(self, scored: int, sources: int) -> None:
        """Raise CurationError unless every record of the source is accounted for, once.

        scored, sources  rows in scores/, and the rows of the source that they came from
        """
        lost = sum(self.dropped.values()) + sum(self.quarantined.values()) + self.kept
        if not (self.records_in == lost == scored) or (self.sources_in != sources):
            raise CurationError(
                f"the account does not add up: the source has {self.sources_in} records, "
                f"scores/ {scored} rows of {sources}, "
                f"the selection "
                f"{self.records_in} = {self.kept} kept + {sum(self.dropped.values())} dropped + "
                f"{sum(self.quarantined.values())} quarantined. This is a fault of the program: please report it."
            )

    def write(self, store: Store, config_hash: str, engine: str) -> None:
        """Commit run.json."""
        report = {
            "sources_in": self.sources_in,
            "records_in": self.records_in,
            "kept": self.kept,
            "dropped": self.dropped,
            "quarantined": self.quarantined,
            "captions": self.captions,
            "phases": self.phases,
            "stages": self.stages,
            "models": self.models,
            "engine": engine,
            "config_hash": config_hash,
            "versions": versions(),
        }
        store.write(RUN, json.dumps(report, indent=1).encode())

    def emptied_by(self) -> str:
        """The reason that took most records, for a run that kept none."""
        reasons = Counter(self.dropped) + Counter(self.quarantined)
        if not reasons:
            return "the source has no records"
        reason, count = reasons.most_common(1)[0]
        return f"most fell to '{reason}' ({count:,} of {self.records_in:,})"


def count_captions(selection: pa.Table, most: int | None) -> dict[str, Any]:
    """What became of the captions of kept records.

    kept         their own captions, generated ones among them, that stay
    merged       captions taken over from exact duplicates; `merged_from`: how many records gave some
    set_aside    their own captions that do not stay, by `stage: reason`
    not_stored   captions that stay, but are more than `encode.captions` lets into a shard
    """
    kept, merged, aside = (
        selection[name].combine_chunks() for name in ("captions_kept", "captions_merged", "captions_set_aside")
    )
    own, taken = (counts_of(column, None) for column in (kept, merged))
    parts = pc.list_flatten(aside)
    stages, why = (pc.struct_field(parts, name).to_pylist() for name in ("stage", "reason"))
    reasons = Counter(f"{stage}: {reason}" for stage, reason in zip(stages, why, strict=True))
    return {
        "kept": int(own.sum()),
        "merged": int(taken.sum()),
        "merged_from": len(pc.unique(pc.struct_field(pc.list_flatten(merged), "id"))),
        "set_aside": dict(sorted(reasons.items())),
        "not_stored": 0 if most is None else int((own + taken - most).clip(0).sum()),
    }


def caption_lines(captions: Mapping[str, Any]) -> list[str]:
    """The account of captions in sentences; nothing where every record just keeps its own."""
    merged, aside, left = captions["merged"], captions["set_aside"], captions["not_stored"]
    if not (merged or aside or left):
        return []
    lines = [f"captions   {captions['kept'] + merged:,} in kept records"]
    if merged:
        lines[0] += f", {merged:,} of them taken over from {captions['merged_from']:,} exact duplicates"
    lines += [f"           {count:,} set aside: {reason}" for reason, count in aside.items()]
    if left:
        lines.append(f"           {left:,} are more than encode.captions lets into a shard, and are left out of it")
    return lines


def funnel(ledger: Ledger, order: Sequence[str]) -> Table:
    """The funnel as a table: after each stage, how many records are left; `order` lists the stages' names."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("")
    table.add_column("records", justify="right")
    table.add_column("left", justify="right")
    left = ledger.records_in
    table.add_row("source", f"{ledger.records_in:,}", f"{left:,}")
    for reason, count in _in_order(ledger.quarantined, order):
        left -= count
        table.add_row(_one_line(f"  quarantined  {reason}"), f"-{count:,}", f"{left:,}")
    for reason, count in _in_order(ledger.dropped, order):
        left -= count
        table.add_row(_one_line(f"  dropped      {reason}"), f"-{count:,}", f"{left:,}")
    table.add_row("[bold]kept[/bold]", "", f"[bold]{ledger.kept:,}[/bold]")
    return table


def _one_line(reason: str) -> Text:
    """As it is, brackets and all, and cut where the table has no more room."""
    return Text(reason, no_wrap=True, overflow="ellipsis")


def _in_order(counts: Mapping[str, int], order: Sequence[str]) -> list[tuple[str, int]]:
    rank = {name: i for i, name in enumerate(order)}
    return sorted(counts.items(), key=lambda pair: (rank.get(pair[0].split(":")[0], len(rank)), -pair[1], pair[0]))


def stage_costs(reports: Sequence[Mapping[str, Any]], into: dict[str, dict[str, Any]]) -> None:
    """Add chunk reports' seconds and rows per stage to `into`."""
    for report in reports:
        for name, seconds in report.get("seconds", {}).items():
            cost = into.setdefault(name, {"seconds": 0.0, "records": 0})
            cost["seconds"] = round(cost["seconds"] + seconds, 3)
        for name, rows in report.get("computed", {}).items():
            into.setdefault(name, {"seconds": 0.0, "records": 0})["records"] += rows


def footage(phases: Mapping[str, Mapping[str, Any]]) -> str | None:
    """How much of the kept clips the shards hold, and how much they had no room for; None where there are no clips."""
    encode = phases.get("encode", {})
    if not encode.get("clips"):
        return None
    used, unused = encode["clip_seconds"], encode["clip_seconds_unused"]
    return (
        f"{encode['clips']:,} clips: {used:,.1f} s of them are in shards, {unused:,.1f} s "
        f"({unused / (used + unused):.0%}) had no room: a clip takes the longest of encode.frames that it fills"
    )


def versions() -> dict[str, str]:
    """Versions of what the values depend on; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
