"""The encode phase of a run: deal, encode what is not done, decide again where a record failed, publish."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from curation.encoding.encode import EncodeSettings
from curation.encoding.jobs import WORK, Contents, ShardJob, buckets_of, deal_jobs, write_members
from curation.encoding.latent_facts import warnings
from curation.encoding.publish import publish
from curation.encoding.reconstruct import reconstruct
from curation.media.sandbox import Limits
from curation.plan import Plan
from curation.progress import PhaseProgress
from curation.reporting.models import busy
from curation.scoring.score import RunContext
from curation.session import Run
from curation.shards.containers import CONTAINERS
from curation.stores import jsontext
from curation.stores.storage import Store
from curation.work import encode_pool


def encode_phase(run: Run, selection: pa.Table) -> pa.Table:
    """Bring shards/ up to the decision; returns the decision with records that could not be encoded.

    Every run, fresh or resumed, goes through the same rounds from a decision without failures, and a round's
    failures are all those of its shards: so the end does not depend on where earlier runs were interrupted.
    """
    encode = run.plan.loaded.manifest.encode
    assert encode
    started = time.monotonic()
    base = final = buckets_of(run.store, selection, encode)
    failed: dict[str, str] = {}
    rounds: list[ShardJob] = []
    while True:
        contents = Contents.of(run.store, run.plan, selection, final)
        members = deal_jobs(run.plan, base, final, contents)
        jobs = list(members)
        found = _round(run, members, contents)
        if not found:
            break
        rounds += jobs
        failed |= found
        selection = run.select(failed)
        final = buckets_of(run.store, selection, encode)
    index = publish(run.store, run.plan, jobs, rounds)
    reconstruct(run.store, replace(settings_of(run.plan, run.store), vae_device="cpu"), jobs)
    samples = sum(job.samples for job in jobs)
    seconds = round(time.monotonic() - started, 2)
    run.phases["encode"] = {"seconds": seconds, "records": samples, "shards": len(jobs), **index["footage"]}
    if told := warnings(index):
        run.phases["encode"]["warnings"] = told
    return selection


def _round(run: Run, members: dict[ShardJob, list[str]], contents: Contents) -> dict[str, str]:
    """Make every shard that is not made yet; returns ids -> why they cannot be encoded.

    First those whose outcome is not known at all: when one of them fails, bytes of the others are not needed.
    """
    for made in (False, True):
        if todo := _unknown(run, members, made):
            _encode(run, members, todo, contents)
        _try_again(run, members, contents)
        if found := failures(run.store, members):
            return found
    return {}


def _try_again(run: Run, members: dict[ShardJob, list[str]], contents: Contents) -> None:
    """Make once more, one after another, the shards with records that a limit of wall-clock time ended."""
    there = {entry.name for entry in run.store.list(WORK)}
    for job in [job for job in members if job.failed in there]:
        report = jsontext.read_object(run.store, job.failed)
        if report.get("timed_out") and not report.get("again"):
            records = len(report["timed_out"])
            run.console.print(f"trying again: {records:,} records of {job.name} that a time limit ended")
            run.store.delete(job.failed)
            _encode(run, members, [job], contents, again=True)


def settings_of(plan: Plan, store: Store) -> EncodeSettings:
    """What the workers of this plan share."""
    manifest = plan.loaded.manifest
    assert manifest.encode
    return EncodeSettings(
        manifest.encode,
        plan.vae,
        plan.text,
        RunContext.of(store, manifest.source),
        Limits.of(manifest.engine),
        plan.encode_device(plan.vae),
        plan.encode_device(plan.text),
        manifest.engine.video_decoder,
    )


def _encode(
    run: Run, members: dict[ShardJob, list[str]], todo: Sequence[ShardJob], contents: Contents, again: bool = False
) -> None:
    """Make the shards of `todo`; afterwards each has its report. `again`: those of failures say that they stay."""
    write_members(run.store, todo, members, contents)
    with PhaseProgress("encode", sum(job.samples for job in todo), run.console) as progress:
        pool = encode_pool(settings_of(run.plan, run.store))
        progress.note(busy(run.servers) if pool.on_gpu else None)
        for report in run.reports(pool, (job.as_item() | {"again": again} for job in todo)):
            run.note_waiting(report)
            progress.advance(report["samples"])


def _unknown(run: Run, jobs: Iterable[ShardJob], made: bool) -> list[ShardJob]:
    """The jobs whose outcome is not known; with `made`, also those that were only once found sound.

    A report whose shard is gone counts for nothing.
    """
    encode = run.plan.loaded.manifest.encode
    assert encode
    suffix = CONTAINERS[encode.shards.format].suffix
    there = {entry.name for folder in (WORK, "shards") for entry in run.store.list(folder)}

    def known(job: ShardJob) -> bool:
        placed = there & {job.staged(suffix), f"shards/{job.path(suffix)}"}
        return (job.done in there and bool(placed)) or job.failed in there or (not made and job.sound in there)

    return [job for job in jobs if not known(job)]


def failures(store: Store, jobs: Iterable[ShardJob]) -> dict[str, str]:
    """The records of failed shards that cannot be encoded -> the sentence why."""
    there = {entry.name for entry in store.list(WORK)}
    return _failures(store, [job.failed for job in jobs if job.failed in there])


def all_failures(store: Store) -> dict[str, str]:
    """The records that the last encode phase could not encode -> why: a decision without encoding must know them."""
    return _failures(store, [entry.name for entry in store.list(WORK) if entry.name.endswith(".failed")])


def _failures(store: Store, names: Iterable[str]) -> dict[str, str]:
    reports = [jsontext.read_object(store, name) for name in names]
    return {failure["id"]: failure["error"] for report in reports for failure in report["failures"]}
