"""One run directory in the making: its engine, its phases' costs, and the steps that they share."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curation import rundir
from curation.devices import check_gpus
from curation.engine.choice import RAY, Choice, cores
from curation.engine.layout import workers_per_core
from curation.engine.pool import Engine, Pool
from curation.errors import CurationError, UsageError
from curation.memory import peak_noted
from curation.plan import Plan, digest
from curation.progress import PhaseProgress, console
from curation.reporting.ledger import Ledger, caption_lines, funnel, stage_costs
from curation.reporting.models import busy, sentences, summary
from curation.scoring import ids, second_try
from curation.scoring.pending import Pending
from curation.scoring.score import RunContext
from curation.selection.select import decide, gates_of
from curation.selection.table import Damaged
from curation.sources import open_source
from curation.sources.base import total_of
from curation.stores.lock import RunLock
from curation.stores.storage import Store
from curation.work import score_pool, task_item

FAILED_CHUNKS = 3
"""So many chunks or shards that fail as a whole end a phase: a full disk or a lost source is common to all."""


@dataclass
class Run:
    """One run directory in the making."""

    plan: Plan
    store: Store
    choice: Choice | None
    address: str | None
    lock: RunLock
    phases: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    waited: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.console = console()
        self._engine: Engine | None = None

    def begin(self, started: Engine | None) -> None:
        """Use an engine that runs already; check that the plan's GPUs are there before anything is written."""
        self._engine = started
        if self.plan.on_gpu:
            self.engine()

    def engine(self) -> Engine:
        """Started when the first work item needs it: a moved threshold starts none."""
        if self._engine is None:
            choice = self.choice or RAY
            if choice.line:
                self.console.print(f"engine  {choice.line}")
            self._engine = make_engine(self.plan, choice, self.address)
        return self._engine

    def servers(self) -> list[dict[str, Any]]:
        """What the engine's servers of networks report, [] where there are none."""
        return self._engine.servers() if self._engine else []

    def close(self) -> None:
        if self._engine:
            self._engine.close()

    def score(self) -> int:
        """Bring scores/ up to the plan; returns how many records the source has."""
        manifest = self.plan.loaded.manifest
        sources = [
            open_source(section, self.plan.loaded.base, self.store.child("_work")) for section in manifest.source
        ]
        total = total_of([source.estimate() for source in sources])
        pending = Pending(self.plan, self.store, sources)
        pool = score_pool(self.plan, RunContext.of(self.store, manifest.source))
        expected, exact = (total.records, total.exact) if total else (None, True)
        with PhaseProgress("score", expected, self.console, exact) as progress:
            progress.note(busy(self.servers) if pool.on_gpu else None)
            seen = 0
            for report in self.reports(pool, (task_item(task) for task in pending)):
                self._note_costs(report)
                progress.advance(report["rows"] + pending.resumed - seen)
                seen = pending.resumed
            progress.advance(pending.resumed - seen)
        self._try_again(pool, pending)
        pending.finish()
        if self.stages:
            ids.make_unique(self.store, rundir.score_files(self.store))
        self.phases["score"] = {
            "seconds": round(progress.seconds, 2),
            "records": pending.records,
            "resumed": pending.resumed,
        }
        return pending.records

    def _try_again(self, pool: Pool, pending: Pending) -> None:
        """Score once more what a limit of wall-clock time ended, one chunk after another: a busy machine decides
        nothing."""
        tasks = list(second_try.tasks(self.store, pending.files))
        if not tasks:
            return
        records = sum(rows for rows, _ in tasks)
        self.console.print(f"trying again, one after another: {records:,} records that a time limit ended")
        with PhaseProgress("score", records, self.console) as progress:
            for rows, task in tasks:
                for report in self.reports(pool, iter([task_item(task)])):
                    self._note_costs(report)
                progress.advance(rows)

    def reports(self, pool: Pool, payloads: Iterator[Any]) -> Iterator[Any]:
        """Results of the engine; the engine starts with the first payload. Raises CurationError after failures."""
        first = next(payloads, None)
        if first is None:
            return
        failures: list[str] = []
        for report in self.engine().map(pool, _chain(first, payloads)):
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

    def _note_costs(self, report: Mapping[str, Any]) -> None:
        """Add up what a chunk cost."""
        stage_costs([report], self.stages)
        self.note_waiting(report)

    def note_waiting(self, report: Mapping[str, Any]) -> None:
        """Add up how long workers waited for each model."""
        for model, seconds in report.get("waited", {}).items():
            self.waited[model] = self.waited.get(model, 0.0) + seconds

    def select(self, failed: Mapping[str, str]) -> pa.Table:
        """Decide from scores/ and commit selection.parquet."""
        with peak_noted(self.phases, "select"):
            return self._selected(failed)

    def _selected(self, failed: Mapping[str, str]) -> pa.Table:
        started = time.monotonic()
        try:
            selection = decide_run(self.store, self.plan, failed, self.console.print)
        except Damaged as error:
            self.store.delete(error.name)
            raise CurationError(
                f"{error}. It was removed: run the same command again to score its rows anew"
            ) from error
        rundir.write_selection(self.store, selection)
        seconds = self.phases.get("select", {}).get("seconds", 0.0) + time.monotonic() - started
        self.phases["select"] = {"seconds": round(seconds, 2), "records": selection.num_rows}
        return selection

    def finish(self, selection: pa.Table, sources_in: int) -> Ledger:
        """Check the account, commit run.json, show the funnel."""
        encode = self.plan.loaded.manifest.encode
        ledger = Ledger.of(selection, sources_in, encode.captions if encode else None)
        ledger.phases, ledger.stages = self.phases, self.stages
        ledger.models = summary(self.servers(), self.waited)
        ledger.check(*scored_rows(self.store))
        ledger.write(self.store, config_hash(self.plan), self._engine.describe() if self._engine else "none was needed")
        self.console.print()
        self.console.print(
            funnel(
                ledger,
                [*[s.name for s in self.plan.stages], "select", "duplicates", "caps", "sample", "encode"],
            )
        )
        for line in sentences(ledger.models):
            self.console.print(line, soft_wrap=True)
        for line in caption_lines(ledger.captions):
            self.console.print(line, markup=False, soft_wrap=True)
        return ledger


def make_engine(plan: Plan, choice: Choice, address: str | None) -> Engine:
    """The engine that was chosen, started. Raises UsageError where the plan's models need GPUs that it has not."""
    workers = plan.loaded.manifest.engine.workers
    engine: Engine
    if choice.kind == "inline":
        from curation.engine.inline import InlineEngine

        asked = workers or workers_per_core(True) * int(cores())
        engine = InlineEngine(asked if plan.on_gpu else choice.processes)
    else:
        from curation.engine.ray_engine import RayEngine

        engine = RayEngine(address, workers)
    try:
        check_gpus(plan.on_gpu, engine.gpus(), plan.loaded.manifest.engine.gpu_memory_gb)
    except UsageError:
        engine.close()
        raise
    return engine


def decide_run(store: Store, plan: Plan, failed: Mapping[str, str], say: Callable[[str], None]) -> pa.Table:
    """The decision of a plan over a run's scores."""
    return decide(store, plan.loaded.manifest, gates_of(plan), failed, say, plan.each)


def scored_rows(store: Store) -> tuple[int, int]:
    """Rows in scores/ and of the source (a video's clips are one of its rows), from the files' footers."""
    rows = sources = 0
    for count, known in rundir.footers(store):
        rows += count
        sources += known.get("sources", count)
    return rows, sources


def config_hash(plan: Plan) -> str:
    """Changes with everything that decides a byte of the output; not with where it runs."""
    return digest(
        [
            {k: v for k, v in rundir.resolved(plan).items() if k not in ("engine", "source", "train")},
            plan.score_fingerprint,
        ]
    )


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
