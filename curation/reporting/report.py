"""`curate report`: gathers what a run directory holds into one page for a person to look at."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray
from PIL import Image

from curation import rundir
from curation.errors import CurationError, UsageError
from curation.expression import parse
from curation.manifest import Manifest
from curation.media.sandbox import Decoder, Limits
from curation.predicates import Column, Comparison, Constant, Percentile, Test, conjuncts, kind_of
from curation.reporting import ledger
from curation.reporting.report_html import Cut, Errors, Measured, Picture, page
from curation.scoring import chunkfile
from curation.scoring.score import RunContext
from curation.selection.table import Scores
from curation.stores import jsontext
from curation.stores.storage import Store

REPORT = "report.html"
THUMBNAILS = 30
SIDE = 160
NEAR = 3
PAIRS = 3
EXAMPLES = 3
REASONS = 30

Ints = NDArray[np.int64]


def write_report(directory: str) -> str:
    """Write report.html into a run directory (a path or URL) and return where it is.

    It holds the funnel, the phases, a histogram of each score that a threshold cuts, pictures next to the
    thresholds, duplicates beside what was kept instead, and why records were quarantined. Raises UsageError
    where no run has been finished.
    """
    store = Store(directory)
    manifest = rundir.load_manifest(store, ()).manifest
    if not store.exists(ledger.RUN):
        raise UsageError(f"{store.root} holds no {ledger.RUN} yet: `curate run` makes it")
    account = jsontext.read_object(store, ledger.RUN)
    decided = Decided(store, rundir.read_selection(store), cuts_of(manifest))
    pairs = decided.pairs()
    side = min(NEAR, (THUMBNAILS - 2 * len(pairs)) // max(2 * decided.dropping, 1))
    near = [decided.near(cut, side) for cut in decided.cuts]
    rows = [row for part in near for row in (*part.kept, *part.dropped)]
    facts = look_up(store, [decided.ids[row].as_py() for row in rows] + [i for _, *both in pairs for i in both])
    with closing(Album(store, manifest, facts)) as album:
        cuts = [decided.illustrated(cut, part, album) for cut, part in zip(decided.cuts, near, strict=True)]
        shown = [(found, album.show(fell), album.show(stayed)) for found, fell, stayed in pairs]
    measured = [decided.measured(column, cuts) for column in dict.fromkeys(cut.column for cut in cuts)]
    errors = list(quarantined(store, decided.selection, account["quarantined"]))
    steps = list(funnel(account, [entry.stage for entry in manifest.score]))
    store.write(REPORT, page(manifest.name, account, steps, measured, shown, errors).encode())
    return store.uri(REPORT)


def cuts_of(manifest: Manifest) -> list[Cut]:
    """The comparisons of numbers that gates and `select: keep` make, each by itself."""
    texts = [(entry.stage, entry.keep) for entry in manifest.score if entry.keep]
    texts += [("select", each) for each in manifest.select.keep]
    tests = [(stage, test) for stage, each in texts for test in conjuncts(parse(each)._test)]
    return [cut for stage, test in tests if (cut := _cut(stage.rpartition(":")[2], test))]


def _cut(stage: str, test: Test) -> Cut | None:
    if not isinstance(test, Comparison):
        return None
    for side, other in ((test.left, test.right), (test.right, test.left)):
        if isinstance(side, Column) and not side.length and isinstance(other, Constant | Percentile):
            if isinstance(other, Percentile):
                return Cut(stage, test.text, side.name, None)
            if isinstance(other.value, int | float) and not isinstance(other.value, bool):
                return Cut(stage, test.text, side.name, float(other.value))
    return None


@dataclass(frozen=True)
class Near:
    """Rows on both sides of a threshold, the nearest first."""

    kept: Sequence[int]
    dropped: Sequence[int]


class Decided:
    """The decision beside the scores that it looked at; row i of both is the same record."""

    def __init__(self, store: Store, selection: pa.Table, cuts: Sequence[Cut]) -> None:
        self.selection = selection
        self.scores = Scores(store, (), optional=[cut.column for cut in cuts])
        self.ids: pa.Array = self.scores.ids
        if not selection["id"].cast(self.ids.type).equals(pa.chunked_array([self.ids])):
            raise CurationError(
                f"{store.root}/selection.parquet is no decision over these scores: run `curate run` again"
            )
        self.kept: NDArray[np.bool_] = pc.equal(selection["decision"], "kept").to_numpy()
        self.cuts = [self._resolved(cut) for cut in cuts if self._is_number(cut.column)]

    def _is_number(self, column: str) -> bool:
        return column in self.scores.known and kind_of(self.scores[column].type) == "number"

    def _fell(self, cut: Cut) -> Ints:
        reason = pc.equal(self.selection["reason"], cut.text)
        return np.flatnonzero(pc.fill_null(reason, False).to_numpy())

    def _resolved(self, cut: Cut) -> Cut:
        """A percentile is what the decision compared with; unknown where it dropped nothing."""
        fell = self._fell(cut)
        if cut.threshold is not None or not len(fell):
            return cut
        return replace(cut, threshold=self.selection["threshold"][int(fell[0])].as_py())

    @property
    def dropping(self) -> int:
        """How many cuts dropped something: the others show no pictures."""
        return sum(len(self._fell(cut)) > 0 for cut in self.cuts)

    def near(self, cut: Cut, count: int) -> Near:
        """Up to `count` kept and `count` dropped rows next to the threshold."""
        if cut.threshold is None or count < 1 or not len(self._fell(cut)):
            return Near((), ())
        distance = np.abs(self.scores.numbers(cut.column) - cut.threshold)
        sides = []
        for rows in (np.flatnonzero(self.kept), self._fell(cut)):
            rows = rows[np.isfinite(distance[rows])]
            sides.append(rows[np.argsort(distance[rows], kind="stable")[:count]].tolist())
        return Near(*sides)

    def illustrated(self, cut: Cut, near: Near, album: "Album") -> Cut:
        values = self.scores.numbers(cut.column)
        sides = [
            [album.show(self.ids[row].as_py(), f"{values[row]:.4g}") for row in rows]
            for rows in (near.kept, near.dropped)
        ]
        return replace(cut, kept=sides[0], dropped=sides[1])

    def measured(self, column: str, cuts: Sequence[Cut]) -> Measured:
        values = self.scores.numbers(column)
        known = np.isfinite(values)
        return Measured(column, values[known], self.kept[known], [cut for cut in cuts if cut.column == column])

    def pairs(self) -> list[tuple[str, str, str]]:
        """(what was found, id that fell, id that stayed): of each kind of duplicate the most doubtful."""
        fell = self.selection.filter(pc.is_valid(self.selection["duplicate_of"]))
        found: dict[str, list[dict[str, Any]]] = {}
        for reason in pc.unique(fell["reason"]).to_pylist():
            some = fell.filter(pc.equal(fell["reason"], reason))
            doubt = pc.fill_null(pc.abs(pc.subtract(some["value"], some["threshold"])), 0.0)
            found[reason] = some.take(pc.sort_indices(doubt)[:PAIRS]).to_pylist()
        turns = (row for turn in zip_longest(*found.values()) for row in turn if row)
        return [(_found(row), row["id"], row["duplicate_of"]) for row in islice(turns, PAIRS)]


def _found(row: Mapping[str, Any]) -> str:
    value = "" if row["value"] is None else f": {row['value']:.4g} (threshold {row['threshold']:.4g})"
    return f"{row['reason']}{value}"


def look_up(store: Store, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """id -> key, place and caption of a few records; ids of other runs are left out."""
    paths = [store.path(entry.name) for entry in store.list(chunkfile.SCORES) if chunkfile.is_scores(entry.name)]
    scores = ds.dataset(sorted(paths), format="parquet", filesystem=store.filesystem)
    columns = ["id", "source_key", "source_uri", "caption"]
    rows = scores.to_table(columns=columns, filter=ds.field("id").isin(pa.array(ids, pa.string())))
    return {row["id"]: row for row in rows.to_pylist()}


class Album:
    """Small pictures of records, decoded where a hostile file can do no harm."""

    def __init__(self, store: Store, manifest: Manifest, facts: Mapping[str, Mapping[str, Any]]) -> None:
        engine = manifest.engine
        self.context = RunContext.of(store, manifest.source)
        self.decoder = Decoder(Limits.of(engine))
        self.facts = facts
        self.close = self.decoder.close

    def show(self, identity: str, note: str = "") -> Picture:
        """A record's picture; one that is gone, or in another run, is shown by the sentence that says so."""
        row = self.facts.get(identity)
        if row is None:
            return Picture(identity, "", note, None, "in another run")
        try:
            rgb = self.decoder.decode(self.context.fetch(row["source_uri"])).rgb
        except CurationError as error:
            return Picture(row["source_key"], row["caption"] or "", note, None, str(error))
        image = Image.fromarray(rgb)
        image.thumbnail((SIDE, SIDE))
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=80)
        return Picture(row["source_key"], row["caption"] or "", note, jpeg.getvalue())


def quarantined(store: Store, selection: pa.Table, counts: Mapping[str, int]) -> Iterator[Errors]:
    """The commonest reasons with a few of their sentences."""
    lost = selection.filter(pc.equal(selection["decision"], "quarantined"))
    names = pc.binary_join_element_wise(lost["stage"], lost["reason"], ": ")
    some = {
        name: lost.filter(pc.equal(names, name)).slice(0, EXAMPLES).to_pylist()
        for name in sorted(counts, key=lambda name: (-counts[name], name))[:REASONS]
    }
    facts = look_up(store, [row["id"] for rows in some.values() for row in rows])
    for name, rows in some.items():
        yield Errors(name, counts[name], [(facts[row["id"]]["source_key"], row["error"] or "") for row in rows])


def funnel(account: Mapping[str, Any], stages: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """(fate, reason, records) in the order of the stages; decoding comes first, encoding last."""
    order = [
        "source",
        "read",
        "decode",
        "worker",
        "probe",
        *stages,
        "select",
        "duplicates",
        "caps",
        "sample",
        "encode",
    ]
    steps = [(fate, *item) for fate in ("quarantined", "dropped") for item in account[fate].items()]

    def place(step: tuple[str, str, int]) -> tuple[int, int, str]:
        stage = step[1].partition(":")[0]
        known = [i for i, name in enumerate(order) if name == stage]
        return (known[0] if known else len(order), -step[2], step[1])

    yield from sorted(steps, key=place)
