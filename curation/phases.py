"""The phases of a run, in order, over a run directory: score, select, encode. Each continues where it stopped."""

import os
from collections.abc import Sequence
from contextlib import closing

from curation import rundir
from curation.encoding.encode_phase import all_failures, encode_phase
from curation.engine.choice import GIVEN, INLINE, RAY
from curation.engine.pool import Engine
from curation.errors import CurationError, NothingKept, UsageError
from curation.load import Loaded, load
from curation.memory import peak_noted
from curation.plan import Plan, make_plan
from curation.repair import note_sound, repair
from curation.reporting.estimate import check_room, count_records, suited
from curation.reporting.ledger import Ledger, footage
from curation.scoring import chunkfile
from curation.session import Run, scored_rows
from curation.sources.download import forget_failed
from curation.stores.lock import RunLock
from curation.stores.storage import Store


def run(
    manifest: str,
    out: str | None,
    overrides: Sequence[str],
    engine: str = "auto",
    address: str | None = None,
    retry: bool = False,
    report: bool = False,
) -> Ledger:
    """`curate run`. Raises CurationError, UsageError or NothingKept with a sentence.

    engine  "ray"; "inline", in this process alone; "auto": Ray with an address, with GPUs and for much work, otherwise
            as many processes as there are cores
    report  write report.html at the end
    """
    if engine not in ("auto", "ray", "inline"):
        raise UsageError(f"--engine {engine}: say auto, ray or inline")
    loaded = load(manifest, overrides)
    address = address or os.environ.get("RAY_ADDRESS")
    plan, started = planned(loaded, engine, address)
    choice = GIVEN.get(engine) or (RAY if address or plan.on_gpu else None)
    store = Store(out or f"runs/{plan.loaded.manifest.name}")
    with RunLock(store) as lock, closing(Run(plan, store, choice, address, lock)) as work:
        work.begin(started)
        repair(store, work.console.print)
        rundir.write_manifest(store, plan)
        if retry:
            forget_failures(store)
        count = count_records(plan, store) if store.local or work.choice is None else None
        check_room(store, plan, count)
        work.choice = work.choice or suited(plan, count)
        with peak_noted(work.phases, "score"):
            sources_in = work.score()
        selection = work.select({})
        if plan.loaded.manifest.encode:
            with peak_noted(work.phases, "encode"):
                selection = encode_phase(work, selection)
        ledger = work.finish(selection, sources_in)
        note_sound(store)
        show_places(work, ledger)
        if report:
            show_report(work)
    if not ledger.kept:
        raise NothingKept(f"nothing was kept: {ledger.emptied_by()}")
    return ledger


def planned(loaded: Loaded, kind: str, address: str | None) -> tuple[Plan, Engine | None]:
    """The plan; and, where `device: auto` depends on the GPUs of a cluster to be joined, its engine, started."""
    if loaded.manifest.device != "auto" or kind == "inline" or not address:
        return make_plan(loaded), None
    plan = make_plan(loaded, gpus=0)  # a mistake in the manifest is said before the cluster is asked
    from curation.engine.ray_engine import RayEngine

    engine = RayEngine(address, plan.loaded.manifest.engine.workers)
    return make_plan(loaded, engine.gpus()), engine


def reselect(directory: str, overrides: Sequence[str]) -> Ledger:
    """`curate select`: decide again from what is stored; shards/ then waits for `curate run`."""
    store = Store(directory)
    plan = make_plan(rundir.load_manifest(store, overrides))
    with RunLock(store) as lock, closing(Run(plan, store, INLINE, None, lock)) as work:
        refuse_stale(store, plan)
        selection = work.select(all_failures(store))
        rundir.write_manifest(store, plan)
        ledger = work.finish(selection, scored_rows(store)[1])
        if plan.loaded.manifest.encode:
            work.console.print(
                f"\nshards/ holds the earlier decision: `curate run {store.uri('manifest.yaml')} --out {store.root}`",
                soft_wrap=True,
            )
    if not ledger.kept:
        raise NothingKept(f"nothing would be kept: {ledger.emptied_by()}")
    return ledger


def refuse_stale(store: Store, plan: Plan) -> None:
    """Raise UsageError where scores/ holds values of other stages or parameters than the plan's.

    A decision over them would be another than that of `curate run` with the same manifest. Gates are no part of this.
    """
    wanted = {stage.name: stage.fingerprint for stage in plan.stages}
    for _, noted in rundir.footers(store):
        stored = noted.get("stages", {})
        for name, fingerprint in wanted.items():
            if stored.get(name) != fingerprint:
                what = "was never scored" if name not in stored else "was scored with other parameters or models"
                raise UsageError(
                    f"the stage {name} {what} in {store.root}: `curate run` with these settings scores it anew; "
                    "`curate select` changes gates and what stands under select: alone"
                )


def forget_failures(store: Store) -> None:
    """Let quarantined records be tried again: drop what holds them of scores/, downloads and shard reports."""
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
        if unused := footage(ledger.phases):
            say(f"           {unused}", soft_wrap=True)
        for warning in ledger.phases.get("encode", {}).get("warnings", []):
            say(f"\nwarning    {warning}", soft_wrap=True)


def show_report(work: Run) -> None:
    """Write report.html and say where. The run is complete without it: what stops the page stops nothing else."""
    from curation.reporting.report import report_of

    say = work.console.print
    try:
        say(f"report     {report_of(work.store, work.plan)}   (open it in a browser)", soft_wrap=True)
    except CurationError as error:
        say(f"report     not written: {error}", markup=False, soft_wrap=True)
