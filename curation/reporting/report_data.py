"""What the report page shows, computed from a run directory: plain values that become JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import rundir
from curation.captions.stage import GENERATED
from curation.encoding.encode_phase import all_failures
from curation.errors import CurationError
from curation.plan import Plan, PlannedStage
from curation.reporting import corpus, ledger
from curation.reporting.album import Album
from curation.reporting.encoded import encoded_part, reconstructions
from curation.reporting.models import sentences
from curation.reporting.packing import packed
from curation.reporting.pictured import wanted
from curation.reporting.what_if import WhatIf, errors_of, small_of
from curation.reporting.what_if_after import after_gates
from curation.scoring import chunkfile
from curation.selection.select import gates_of, read_scores
from curation.session import decide_run, scored_rows
from curation.stores import jsontext
from curation.stores.storage import Store

Ints = NDArray[np.int64]
MOST_ROWS = 20_000
"""The page of a larger run holds a sample of so many records."""
PICTURES = 1200
PICTURE_BYTES = 9_000_000
"""The page's pictures in base64 take at most so many bytes."""
CAPTION, KEY = 300, 160
EXAMPLES, REASONS = 3, 30
UNSAFE = 0.5
SCORES = 24
"""Columns of scores without a threshold that the page shows at most."""
_DETAILS = (
    *("source_key", "source_uri", "caption", "start_s", "end_s", "start_frame", "end_frame", "fps_fraction"),
    *("width", "height", "content_box"),
)


@dataclass
class RunData:
    """One run directory, read once; `rows` are those of the page."""

    store: Store
    plan: Plan

    def __post_init__(self) -> None:
        manifest = self.manifest = self.plan.loaded.manifest
        more = (*self._score_columns(), *corpus.COLUMNS, "punsafe")
        self.scores = read_scores(self.store, manifest, gates_of(self.plan), self.plan.each, more)
        self.failed = all_failures(self.store)
        self.notices: list[str] = []
        self.selection = self._selection()
        self.account = self._account()
        every = np.arange(self.scores.rows)
        if len(every) > MOST_ROWS:
            drawn = np.random.default_rng(manifest.seed).permutation(every)[:MOST_ROWS]
            every = np.sort(drawn)
            self.notices.append(
                f"This page holds a sample of {MOST_ROWS:,} of {self.scores.rows:,} records, drawn with the seed "
                f"{manifest.seed}. Counts under moved thresholds are those of the sample, and percentiles are taken "
                "over it; `curate select` decides over all records."
            )
        self.rows = every

    def _score_columns(self) -> list[str]:
        """Fractions that stages measured; what a file says of itself is no score."""
        stages = (stage for stage in self.plan.stages if stage.name not in ("probe", "resolution"))
        columns = (item for stage in stages for item in stage.writes.items())
        return [name for name, column in columns if pa.types.is_floating(column.type)][:SCORES]

    def _selection(self) -> pa.Table:
        """What was decided; of an unfinished run what would be."""
        if not self.store.exists(rundir.SELECTION):
            self.notices.append(
                "This run is not finished: nothing was decided yet. The page shows the decision over the scores that "
                "there are so far."
            )
            return decide_run(self.store, self.plan, self.failed, lambda _: None)
        selection = rundir.read_selection(self.store)
        if not self.scores.ids.equals(selection["id"].cast(self.scores.ids.type).combine_chunks()):
            raise CurationError(
                f"{self.store.root}/selection.parquet is no decision over these scores: run `curate run` again"
            )
        return selection

    def _account(self) -> dict[str, Any]:
        if self.store.exists(ledger.RUN):
            return jsontext.read_object(self.store, ledger.RUN)
        if self.store.exists(rundir.SELECTION):
            self.notices.append("This run is not finished: there is no account of it (run.json) yet.")
        sources = scored_rows(self.store)[1]
        counted = ledger.Ledger.of(self.selection, sources)
        return {"kept": counted.kept, "dropped": counted.dropped, "quarantined": counted.quarantined, "phases": {}}

    @cached_property
    def taken(self) -> pa.Table:
        """The decision over the page's records."""
        return self.selection.take(pa.array(self.rows))

    @cached_property
    def fates(self) -> tuple[Ints, list[tuple[str, str, str]]]:
        """Per record its place among the reasons, which are (decision, stage, reason); 0 is kept."""
        reasons: dict[tuple[str, str, str], int] = {("kept", "", ""): 0}
        columns = [pc.fill_null(self.taken[name], "").to_pylist() for name in ("decision", "stage", "reason")]
        code = [reasons.setdefault(key, len(reasons)) for key in zip(*columns, strict=True)]
        return np.array(code, np.int64), list(reasons)

    @cached_property
    def duplicate_of(self) -> Ints:
        """Per record the one that stayed in its place; -1 for none, or one that the page does not hold."""
        ids = self.scores.ids.take(pa.array(self.rows))
        return (
            pc.fill_null(pc.index_in(self.taken["duplicate_of"].cast(ids.type), value_set=ids), -1)
            .to_numpy()
            .astype(np.int64)
        )

    def scores_shown(self) -> list[tuple[str, NDArray[np.float64]]]:
        """Scores beside those that thresholds cut, as numbers."""
        names = [name for name in self._score_columns() if name in self.scores.known]
        shown = [(name, self.scores.numbers(name)[self.rows]) for name in names]
        return [(name, values) for name, values in shown if np.isfinite(values).any()]

    def unsafe(self) -> NDArray[np.bool_]:
        """Which pictures are blurred until they are clicked."""
        if "punsafe" not in self.scores.known:
            return np.zeros(len(self.rows), bool)
        return np.asarray(self.scores.numbers("punsafe")[self.rows] >= UNSAFE)


def page_data(store: Store, plan: Plan) -> dict[str, Any]:
    """Everything that the page shows, as JSON values. Raises UsageError where the directory holds no scores, and
    CurationError where its decision is not over them."""
    run = RunData(store, plan)
    manifest = run.manifest
    model = WhatIf(run.scores, run.rows, plan.each)
    model.add_plan(plan)
    fates, reasons = run.fates
    kept = pc.equal(run.selection["decision"], "kept").to_numpy()
    if not kept.any():
        run.notices.append("Nothing was kept: see the funnel for what took the records.")
    shown = run.scores_shown()
    run.notices += [
        f"The score {name} has no value in any record." for name, _, values in model.columns if np.isnan(values).all()
    ]
    pictures, lost = _pictures(run, model)
    if lost:
        run.notices.append(lost)
    return {
        "name": manifest.name,
        "notices": run.notices,
        "records": run.scores.rows,
        "kept": int(kept.sum()),
        "rows": len(run.rows),
        "sampled": len(run.rows) < run.scores.rows,
        "account": {key: run.account.get(key, {}) for key in ("phases", "stages", "engine", "config_hash")},
        "costs": _cost_lines(run.account),
        "totals": _totals(run.selection),
        "fates": packed(fates),
        "reasons": reasons,
        "duplicate_of": packed(run.duplicate_of),
        "model": model.to_json(),
        "errors": errors_of(run.scores, run.rows, [stage.name for stage in plan.stages], run.failed),
        "small": small_of(run.scores, manifest, run.rows),
        "after": after_gates(run.scores, manifest, run.rows),
        "lines": _lines(plan),
        "shown": [{"name": name, "values": packed(values)} for name, values in shown],
        "unsafe": packed(run.unsafe().astype(np.uint8)),
        "pictures": pictures,
        "reconstructions": reconstructions(store, manifest),
        "corpus": corpus.charts(run.scores, kept, manifest),
        "map": _map(run),
        "quarantined": list(_quarantined(store, run.selection)),
        "seed": manifest.seed,
    }


def _cost_lines(account: Mapping[str, Any]) -> list[str]:
    """How much of the clips the shards hold, and how busy the GPUs were, as the end of a run says it."""
    unused = ledger.footage(account.get("phases", {}))
    return [*([unused] if unused else []), *sentences(account.get("models", {}))]


def _totals(selection: pa.Table) -> list[tuple[str, str, str, int]]:
    """(decision, stage, reason, records) of the whole run."""
    columns = [pc.fill_null(selection[name], "") for name in ("decision", "stage", "reason")]
    table = pa.table(dict(zip(("decision", "stage", "reason"), columns, strict=True)))
    counted = table.group_by(table.column_names).aggregate([([], "count_all")])
    return [tuple(row.values()) for row in counted.sort_by([(n, "ascending") for n in table.column_names]).to_pylist()]  # type: ignore[misc]


def _lines(plan: Plan) -> dict[str, dict[str, str]]:
    """How a gate's line is written into the manifest: what stands before its `keep`, and after it."""
    lines, manifest = {}, plan.loaded.manifest
    for entry in manifest.score:
        name = entry.stage.rpartition(":")[2]
        stage = next((s for s in plan.stages if s.factory.name == entry.stage or s.factory.__name__ == name), None)
        if stage is not None:
            usual = {"model": manifest.models, "device": plan.device} | _defaults(stage)
            params = {key: value for key, value in entry.params.items() if value != usual.get(key)}
            rest = ({"when": entry.when} if entry.when else {}) | params
            after = "".join(f", {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in rest.items())
            lines[f"score.{stage.factory.name}"] = {"key": entry.stage, "after": after}
    return lines


def _defaults(stage: PlannedStage) -> dict[str, Any]:
    """The values of the stage's parameters that need not be said, as YAML has them; None is as good as left out."""
    fields = stage.factory.Params.model_fields
    values = {key: one.get_default(call_default_factory=True) for key, one in fields.items() if not one.is_required()}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items() if v is not None}


def look_up(store: Store, ids: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """id -> those of the columns that the run has, of a few records; ids of other runs are left out."""
    scores = chunkfile.dataset(store)
    there = ["id", *(name for name in columns if name in scores.schema.names)]
    rows = scores.to_table(columns=there, filter=pc.field("id").isin(pa.array(ids, pa.string())))
    return {row["id"]: row for row in rows.to_pylist()}


def _pictures(run: RunData, model: WhatIf) -> tuple[list[dict[str, Any]], str]:
    """The pictures of the page in the order in which they are wanted, and a sentence where some could not be had."""
    records = [values for name, of_captions, values in model.columns if not of_captions]
    names = [name for name, of_captions, _ in model.columns if not of_captions]
    cuts = [
        (records[names.index(each.name)], each.value)
        for each in model.thresholds
        if each.value is not None and each.name in names
    ]
    fates, reasons = run.fates
    rows = list(wanted(fates, run.duplicate_of, cuts, run.manifest.seed))[:PICTURES]
    ids = run.scores.ids.take(pa.array(run.rows[rows])).to_pylist()
    facts = look_up(run.store, ids, (*_DETAILS, GENERATED))
    album = Album(run.store, run.manifest)
    made, used, problems = list[dict[str, Any]](), 0, list[str]()
    try:
        for row, identity in zip(rows, ids, strict=True):
            fact = facts[identity]
            picture = album.show({"start_frame": None, **fact})
            used += len(picture.data)
            if used > PICTURE_BYTES:
                break
            if picture.problem and reasons[fates[row]][0] != "quarantined":
                problems.append(picture.problem)
            part = encoded_part(fact, run.manifest.encode)
            made.append({"row": row, "id": identity, **_words(fact), **picture.to_json(), "part": part})
    finally:
        album.close()
    if not problems:
        return made, ""
    return made, f"{len(problems):,} pictures of scored records could not be read again: {problems[0]}"


def _words(fact: Mapping[str, Any]) -> dict[str, str]:
    """A record's key and captions, cut to what fits under a picture."""
    words = {"key": _cut(fact["source_key"], KEY), "caption": _cut(fact["caption"], CAPTION)}
    if fact.get(GENERATED):
        words["generated"] = _cut(fact[GENERATED], CAPTION)
    return words


def _cut(text: str | None, most: int) -> str:
    text = text or ""
    return text if len(text) <= most else text[: most - 1] + "…"


def _map(run: RunData) -> dict[str, Any] | None:
    """The two directions in which embeddings differ most (principal components), of the page's records."""
    if "embedding" not in run.scores.known:
        return None
    rows, vectors = run.scores.vectors("embedding", run.rows)
    if len(rows) < 3:
        return None
    unit = vectors.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit -= unit.mean(0)
    _, directions = np.linalg.eigh(unit.T @ unit)
    found = unit @ directions[:, -2:]
    found *= np.sign(directions[np.abs(directions[:, -2:]).argmax(0), [-2, -1]])
    places = np.searchsorted(run.rows, rows)
    share = found.var(0).sum() / max(float(unit.var(0).sum()), 1e-12)
    return {
        "rows": packed(places),
        "x": packed(found[:, 1].astype(np.float64)),
        "y": packed(found[:, 0].astype(np.float64)),
        "share": round(float(share), 4),
    }


def _quarantined(store: Store, selection: pa.Table) -> Iterator[dict[str, Any]]:
    """The commonest reasons with a few of their sentences."""
    lost = selection.filter(pc.equal(selection["decision"], "quarantined"))
    names = pc.binary_join_element_wise(pc.fill_null(lost["stage"], ""), lost["reason"], ": ")
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(names).to_pylist()}
    commonest = sorted(counts, key=lambda name: (-counts[name], name))[:REASONS]
    some = {name: lost.filter(pc.equal(names, name)).slice(0, EXAMPLES).to_pylist() for name in commonest}
    facts = look_up(store, [row["id"] for rows in some.values() for row in rows], ["source_key"])
    for name, rows in some.items():
        examples = [[_cut(facts[row["id"]]["source_key"], KEY), _cut(row["error"], CAPTION)] for row in rows]
        yield {"reason": name, "count": counts[name], "examples": examples}
