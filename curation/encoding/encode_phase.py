"""The encode phase of a run: deal, encode what is not done, decide again where a record failed, publish."""

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import pyarrow as pa

from curation.encoding.deal import Ints
from curation.encoding.encode import EncodeSettings
from curation.encoding.jobs import WORK, Contents, ShardJob, buckets_of, deal_jobs
from curation.encoding.latent_facts import warnings
from curation.encoding.members import write_members
from curation.encoding.publish import publish
from curation.encoding.reconstruct import reconstruct
from curation.encoding.scored import ScoredRows
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
    scored = ScoredRows(run.store, selection["id"])
    deal = first = Deal.of(scored, run.plan, selection)
    failed: dict[str, str] = {}
    rounds: list[ShardJob] = []
    while found := _round(run, deal):
        rounds += deal.members
        failed |= found
        selection = run.select(failed)
        deal = Deal.of(scored, run.plan, selection, first.buckets)
    jobs = list(deal.members)
    rounds += jobs
    index = publish(run.store, run.plan, jobs, rounds)
    reconstruct(run.store, replace(settings_of(run.plan, run.store), vae_device="cpu"), jobs)
    samples = sum(job.samples for job in jobs)
    seconds = round(time.monotonic() - started, 2)
    run.phases["encode"] = {"seconds": seconds, "records": samples, "shards": len(jobs), **index["footage"]}
    if notes := warnings(index):
        run.phases["encode"]["warnings"] = notes
    return selection


@dataclass(frozen=True)
class Deal:
    """Who goes into which shard.

    buckets  rows of kept records by bucket name
    members  rows of each shard's records, in order
    """

    scored: ScoredRows
    buckets: Mapping[str, Ints]
    members: Mapping[ShardJob, Ints]
    contents: Contents

    @classmethod
    def of(cls, scored: ScoredRows, plan: Plan, selection: pa.Table, base: Mapping[str, Ints] | None = None) -> "Deal":
        """`base`: the buckets of the decision without failures, None where this is the one."""
        encode = plan.loaded.manifest.encode
        assert encode
        final = buckets_of(scored, selection, encode)
        contents = Contents.of(scored, plan, selection, final)
        members = deal_jobs(plan, final if base is None else base, final, contents, scored.ids)
        return cls(scored, final, members, contents)

    def write_members(self, jobs: Sequence[ShardJob]) -> Generator[ShardJob, None, None]:
        return write_members(self.scored, jobs, self.members, self.contents)


def _round(run: Run, deal: Deal) -> dict[str, str]:
    """Make every shard that is not made yet; returns ids -> why they cannot be encoded.

    First those whose outcome is not known at all: when one of them fails, bytes of the others are not needed.
    """
    for made in (False, True):
        if todo := _unknown(run, deal.members, made):
            _encode(run, deal, todo)
        _try_again(run, deal)
        if found := failures(run.store, deal.members):
            return found
    return {}


def _try_again(run: Run, deal: Deal) -> None:
    """Make once more, one after another, the shards with records that a limit of wall-clock time ended."""
    there = {entry.name for entry in run.store.list(WORK)}
    for job in [job for job in deal.members if job.failed in there]:
        report = jsontext.read_object(run.store, job.failed)
        if report.get("timed_out") and not report.get("again"):
            records = len(report["timed_out"])
            run.console.print(f"trying again: {records:,} records of {job.name} that a time limit ended")
            run.store.delete(job.failed)
            _encode(run, deal, [job], again=True)


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


def _encode(run: Run, deal: Deal, todo: Sequence[ShardJob], again: bool = False) -> None:
    """Make the shards of `todo`; afterwards each has its report. `again`: those of failures say that they stay."""
    with PhaseProgress("encode", sum(job.samples for job in todo), run.console) as progress:
        pool = encode_pool(settings_of(run.plan, run.store))
        progress.note(busy(run.servers) if pool.on_gpu else None)
        with closing(deal.write_members(todo)) as written:
            for report in run.reports(pool, (job.as_item() | {"again": again} for job in written)):
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
