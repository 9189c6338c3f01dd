"""The phases of a run, in order, over a run directory: score, select, encode. Each continues where it stopped."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from curation import chunkfile, ids, rundir
from curation.errors import CurationError, NothingKept, UsageError
from curation.estimate import check_room
from curation.ledger import Ledger, funnel, stage_costs
from curation.load import load
from curation.lock import RunLock
from curation.pending import Pending
from curation.plan import Plan, digest, make_plan
from curation.progress import PhaseProgress, console
from curation.score import RunContext
from curation.select import decide
from curation.sources import open_source
from curation.storage import Store
from curation.work import Pool, score_pools, task_item

FAILED_CHUNKS = 3
"""So many chunks or shards that fail as a whole end a phase: the cause (a full disk, a lost source) is common to all."""


class Engine(Protocol):
    """Sends payloads through pools of workers; curation.engine and curation.inline."""

    def map(self, pools: Sequence[Pool], payloads: Iterable[Any]) -> Iterator[Any]: ...

    def describe(self) -> str: ...

    def close(self) -> None: ...


@dataclass
class Run:
    """One run directory in the making."""

    plan: Plan
    store: Store
    engine_kind: str
    address: str | None
    lock: RunLock
    phases: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    engine_name: str = "none was needed"

    def __post_init__(self) -> None:
        self.console = console()
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """Started when the first work item needs it: a moved threshold starts none."""
        if self._engine is None:
            if self.engine_kind == "inline":
                from curation.inline import InlineEngine

                self._engine = InlineEngine()
            else:
                from curation.engine import RayEngine

                self._engine = RayEngine(self.address, self.plan.loaded.manifest.engine.workers)
            self.engine_name = self._engine.describe()
        return self._engine

    def close(self) -> None:
        if self._engine:
            self._engine.close()

    def score(self) -> int:
        """Bring scores/ up to the plan; returns how many records the source has."""
        manifest = self.plan.loaded.manifest
        sources = [
            open_source(section, self.plan.loaded.base, self.store.child("_work")) for section in manifest.source
        ]
        counts = [source.estimate() for source in sources]
        total = sum(count for count in counts if count is not None) if None not in counts else None
        pending = Pending(self.plan, self.store, sources)
        pools = score_pools(self.plan, RunContext.of(self.store, manifest.source))
        with PhaseProgress("score", total, self.console) as progress:
            seen = 0
            for report in self.reports(pools, (task_item(task) for task in pending)):
                stage_costs([report], self.stages)
                progress.advance(report["rows"] + pending.resumed - seen)
                seen = pending.resumed
            progress.advance(pending.resumed - seen)
        pending.finish()
        if self.stages:
            ids.make_unique(self.store, rundir.score_files(self.store))
        self.phases["score"] = {
            "seconds": round(progress.seconds, 2),
            "records": pending.records,
            "resumed": pending.resumed,
        }
        return pending.records

    def reports(self, pools: Sequence[Pool], payloads: Iterator[Any]) -> Iterator[Any]:
        """Results of the engine; the engine starts with the first payload. Raises CurationError after failures."""
        first = next(payloads, None)
        if first is None:
            return
        failures: list[str] = []
        for report in self.engine().map(pools, _chain(first, payloads)):
            self.lock.check()
            if "failed" in report:
                failures.append(report["failed"])
                if len(failures) >= FAILED_CHUNKS:
                    break
            else:
                yield report
        if failures:
            hint = "" if "again" in failures[0] else "; run the same command again to continue"
            raise CurationError(f"{failures[0]}{hint}")

    def select(self, failed: Mapping[str, str]) -> pa.Table:
        """Decide from scores/ and commit selection.parquet."""
        started = time.monotonic()
        selection = decide_run(self.store, self.plan, failed, self.console.print)
        rundir.write_selection(self.store, selection)
        seconds = self.phases.get("select", {}).get("seconds", 0.0) + time.monotonic() - started
        self.phases["select"] = {"seconds": round(seconds, 2), "records": selection.num_rows}
        return selection

    def finish(self, selection: pa.Table, sources_in: int) -> Ledger:
        """Check the account, commit run.json, show the funnel."""
        ledger = Ledger.of(selection, sources_in)
        ledger.phases, ledger.stages = self.phases, self.stages
        ledger.check(scored_rows(self.store))
        ledger.write(self.store, config_hash(self.plan), self.engine_name)
        self.console.print()
        self.console.print(
            funnel(
                ledger,
                [*[s.name for s in self.plan.stages], "select", "duplicates", "caps", "sample", "encode"],
            )
        )
        return ledger


def run(
    manifest: str,
    out: str | None,
    overrides: Sequence[str],
    engine: str = "ray",
    address: str | None = None,
    retry: bool = False,
) -> Ledger:
    """`curate run`. Raises CurationError, UsageError or NothingKept with a sentence."""
    if engine not in ("ray", "inline"):
        raise UsageError(f"--engine {engine}: say ray or inline")
    plan = make_plan(load(manifest, overrides))
    store = Store(out or f"runs/{plan.loaded.manifest.name}")
    with RunLock(store) as lock, closing(Run(plan, store, engine, address, lock)) as work:
        rundir.write_manifest(store, plan)
        if retry:
            forget_failures(store)
        check_room(store, plan)
        sources_in = work.score()
        selection = work.select({})
        if plan.loaded.manifest.encode:
            from curation.encode_phase import encode_phase

            selection = encode_phase(work, selection)
        ledger = work.finish(selection, sources_in)
        show_places(work, ledger)
    if not ledger.kept:
        raise NothingKept(f"nothing was kept: {ledger.emptied_by()}")
    return ledger


def reselect(directory: str, overrides: Sequence[str]) -> Ledger:
    """`curate select`: decide again from what is stored; shards/ then waits for `curate run`."""
    store = Store(directory)
    plan = make_plan(rundir.load_manifest(store, overrides))
    with RunLock(store) as lock, closing(Run(plan, store, "inline", None, lock)) as work:
        selection = work.select({})
        rundir.write_manifest(store, plan)
        ledger = work.finish(selection, scored_rows(store))
        if plan.loaded.manifest.encode:
            work.console.print(
                f"\nshards/ still holds the earlier decision: `curate run {store.root}/manifest.yaml --out {store.root}`"
            )
    if not ledger.kept:
        raise NothingKept(f"nothing would be kept: {ledger.emptied_by()}")
    return ledger


def decide_run(store: Store, plan: Plan, failed: Mapping[str, str], say: Callable[[str], None]) -> pa.Table:
    """The decision of a plan over a run's scores."""
    gates = [(stage.name, stage.keep, stage.when) for stage in plan.stages]
    return decide(store, plan.loaded.manifest, gates, failed, say)


def scored_rows(store: Store) -> int:
    """Rows in scores/, from the files' footers."""
    return sum(pq.read_metadata(store.open(f"scores/{file}")).num_rows for file in rundir.score_files(store))


def config_hash(plan: Plan) -> str:
    """Changes with everything that decides a byte of the output; not with where it runs."""
    return digest(
        [
            {k: v for k, v in rundir.resolved(plan).items() if k not in ("engine", "source", "train")},
            plan.score_fingerprint,
        ]
    )


def forget_failures(store: Store) -> None:
    """Let quarantined records be tried again: drop what holds them of scores/, downloads and shard reports."""
    from curation.sources.download import forget_failed

    forget_failed(store.child("_work").child("downloads"))
    for file in rundir.score_files(store):
        errors = chunkfile.read(store, file, ["error"])["error"]
        if errors.null_count < len(errors):
            store.delete(f"{chunkfile.SCORES}/{file}")
    for entry in store.list("_work/encode"):
        if entry.name.endswith(".failed"):
            store.delete(entry.name)


def show_places(work: Run, ledger: Ledger) -> None:
    """Where the results are."""
    store, say = work.store, work.console.print
    say(f"\nscores     {store.uri('scores')}", soft_wrap=True)
    say(f"decision   {store.uri('selection.parquet')}   (`curate why DIR ID` tells one record's story)", soft_wrap=True)
    if work.plan.loaded.manifest.encode and ledger.kept:
        say(f"shards     {store.uri('shards')}", soft_wrap=True)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
