"""From staged shards to shards/: every file in its place, nothing else there, the index last."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.encoding.jobs import DEAL, DEAL_SCHEMA, WORK, ShardJob
from curation.encoding.latent_facts import FACTS, index_of
from curation.errors import CurationError
from curation.plan import Plan
from curation.shards import index
from curation.shards.containers import CONTAINERS
from curation.stores import jsontext
from curation.stores.storage import Store


def publish(store: Store, plan: Plan, jobs: Sequence[ShardJob], rounds: Iterable[ShardJob]) -> dict[str, Any]:
    """Move staged shards to their places, sweep what no job names, commit the index; returns it.

    rounds  jobs of earlier rounds of this phase, whose outcome is remembered

    Killed in the middle, it goes on where it was: while shards move there is no index, and readers refuse. A
    `done` report without a staged shard always means that the shard is in its place; for that, reports of
    other jobs are removed before anything is moved over their shards.
    """
    shards = store.child("shards")
    reports = [summary_of(store, job) for job in jobs]
    entries = [report["shard"] for report in reports]
    if shards.exists(index.NAME) and jsontext.read_object(shards, index.NAME).get("shards") != entries:
        shards.delete(index.NAME)
    remember(store, jobs, rounds)
    sweep(store, jobs, rounds)
    place(store, jobs, entries)
    keep = {entry["path"] for entry in entries} | {index.NAME}
    for found in shards.list():
        if found.name not in keep:
            shards.delete(found.name)
    if not shards.exists(index.NAME):
        write_deal(store, jobs)
    described = index_of(plan, reports, store)
    index.write(shards, described)
    return described


def report_of(store: Store, job: ShardJob) -> dict[str, Any]:
    """What the worker said of a shard that it made."""
    return jsontext.read_object(store, job.done)


def summary_of(store: Store, job: ShardJob) -> dict[str, Any]:
    """The report without its list of members: what the driver may hold of every shard."""
    report = report_of(store, job)
    return {name: report[name] for name in ("shard", "sums", "footage")}


def remember(store: Store, jobs: Iterable[ShardJob], rounds: Iterable[ShardJob]) -> None:
    """Mark shards that were encoded but whose records were reassigned later, so that the next run does not encode them
    again."""
    there, final = {entry.name for entry in store.list(WORK)}, set(jobs)
    for job in rounds:
        if job not in final and job.done in there:
            store.write(job.sound, b"")


def sweep(store: Store, jobs: Iterable[ShardJob], rounds: Iterable[ShardJob]) -> None:
    """Delete the work files of all other jobs: reports first, then what they speak of."""
    keep = {name for job in jobs for name in (job.members, job.done, *_staged(job))} | {DEAL}
    keep |= {name for job in rounds for name in (job.failed, job.sound)}
    for entry in store.list(WORK):
        if entry.name not in keep and not entry.name.startswith(f"{FACTS}/"):
            store.delete(entry.name)


def place(store: Store, jobs: Iterable[ShardJob], entries: Iterable[dict[str, Any]]) -> None:
    """Move what is staged. Raises CurationError where a published shard is gone or was cut short."""
    there = {entry.name: entry.size for folder in (WORK, "shards") for entry in store.list(folder)}
    for job, entry in zip(jobs, entries, strict=True):
        published = f"shards/{entry['path']}"
        staged = next((name for name in _staged(job) if name in there), None)
        if staged:
            store.move(staged, published)
        elif there.get(published) != entry["bytes"]:
            store.delete(job.done)
            raise CurationError(f"{store.uri(published)} was altered; run the same command again to make it anew")


def _staged(job: ShardJob) -> list[str]:
    return [job.staged(container.suffix) for container in CONTAINERS.values()]


def write_deal(store: Store, jobs: Iterable[ShardJob]) -> None:
    """Remember where each latent now is, for the next encode; a shard at a time."""
    with store.workspace() as folder:
        local = folder / "deal.parquet"
        with pq.ParquetWriter(local, DEAL_SCHEMA, compression="zstd") as writer:
            for job in jobs:
                writer.write_table(pa.Table.from_pylist(list(_dealt_rows(report_of(store, job))), DEAL_SCHEMA))
        store.put(DEAL, local)


def _dealt_rows(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    where = {name: report["shard"][name] for name in ("path", "sha256")}
    for position, member in enumerate(report["members"]):
        yield {**where, "position": position, **member}
