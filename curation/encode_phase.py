"""The encode phase of a run: deal, encode what is not done, decide again where a record failed, publish."""

import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import pyarrow as pa

from curation.encode import STAGED, EncodeSettings
from curation.errors import CurationError
from curation.jobs import DEAL, WORK, ShardJob, buckets_of, encode_fingerprint, plan_jobs, write_deal
from curation.models import open_model
from curation.plan import Plan
from curation.progress import PhaseProgress
from curation.sandbox import Limits
from curation.score import RunContext
from curation.shards import index
from curation.shards.containers import CONTAINERS
from curation.shards.sample import FORMAT_VERSION
from curation.storage import Store
from curation.work import encode_pool

FACTS = f"{WORK}/facts"

if TYPE_CHECKING:
    from curation.run import Run


def encode_phase(run: "Run", selection: pa.Table) -> pa.Table:
    """Bring shards/ up to the decision; returns the decision with records that could not be encoded."""
    encode = run.plan.loaded.manifest.encode
    assert encode
    started = time.monotonic()
    base = buckets_of(run.store, selection, encode)
    final, failed = base, dict[str, str]()
    while True:
        jobs = plan_jobs(run.store, run.plan, base, final)
        found = _encode(run, jobs)
        if not found:
            break
        failed |= found
        selection = run.select(failed)
        final = buckets_of(run.store, selection, encode)
    publish(run.store, run.plan, jobs)
    samples = sum(job.samples for job in jobs)
    run.phases["encode"] = {"seconds": round(time.monotonic() - started, 2), "records": samples, "shards": len(jobs)}
    return selection


def settings_of(plan: Plan, store: Store) -> EncodeSettings:
    """What the workers of this plan share."""
    manifest = plan.loaded.manifest
    assert manifest.encode and plan.vae and plan.text
    limits = Limits(manifest.engine.record_seconds, manifest.engine.max_pixels, manifest.engine.decode_memory_mb)
    return EncodeSettings(manifest.encode, plan.vae, plan.text, RunContext.of(store, manifest.source), limits)


def _encode(run: "Run", jobs: Sequence[ShardJob]) -> dict[str, str]:
    """Encode the jobs without a report; returns ids -> why they cannot be encoded, over all jobs."""
    done = {entry.name for entry in run.store.list(WORK)}
    todo = [job for job in jobs if f"{WORK}/{job.name}.json" not in done]
    with PhaseProgress("encode", sum(job.samples for job in todo), run.console) as progress:
        for report in run.reports([encode_pool(settings_of(run.plan, run.store))], (job.as_item() for job in todo)):
            progress.advance(report["samples"])
    failures = [failure for job in jobs for failure in report_of(run.store, job)["failures"]]
    return {failure["id"]: failure["error"] for failure in failures}


def report_of(store: Store, job: ShardJob) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(store.read(f"{WORK}/{job.name}.json"))
    return report


def publish(store: Store, plan: Plan, jobs: Sequence[ShardJob]) -> None:
    """Move staged shards to their places, sweep what no job names, commit the index last.

    Killed in the middle, it goes on where it was: until the index is back, readers refuse the folder.
    """
    reports = [report_of(store, job) for job in jobs]
    shards = store.child("shards")
    if stale(shards, reports):
        shards.delete(index.NAME)
    suffix = CONTAINERS[plan.loaded.manifest.encode.shards.format].suffix if plan.loaded.manifest.encode else ""
    for job, report in zip(jobs, reports, strict=True):
        staged = f"{STAGED}/{job.name}{suffix}"
        if store.exists(staged):
            store.move(staged, f"shards/{report['shard']['path']}")
        elif not shards.exists(report["shard"]["path"]):
            store.delete(f"{WORK}/{job.name}.json")
            raise CurationError(f"{shards.root}/{report['shard']['path']} was removed; run the same command again to make it anew")
    keep = {report["shard"]["path"] for report in reports} | {index.NAME}
    for entry in shards.list():
        if entry.name not in keep:
            shards.delete(entry.name)
    index.write(shards, index_of(plan, reports, store))
    write_deal(store, [member | {"path": report["shard"]["path"]} for report in reports for member in report["members"]])
    names = {job.name for job in jobs}
    for entry in store.list(WORK):
        stem = entry.name.removeprefix(f"{WORK}/").rpartition(".")[0]
        if stem not in names and not entry.name.startswith((DEAL, FACTS)):
            store.delete(entry.name)
    reconstruct(store, plan, reports)


def stale(shards: Store, reports: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the published index does not describe these shards."""
    if not shards.exists(index.NAME):
        return False
    published = json.loads(shards.read(index.NAME)).get("shards")
    return bool(published != [report["shard"] for report in reports])


def index_of(plan: Plan, reports: Sequence[Mapping[str, Any]], store: Store) -> dict[str, Any]:
    """The index: what a reader must know of how the latents were made."""
    encode = plan.loaded.manifest.encode
    assert encode and plan.vae and plan.text
    vae, text = _vae_facts(plan, store), _text_facts(plan, store)
    statistics = _statistics([report["sums"] for report in reports], vae)
    buckets: dict[str, int] = {}
    for report in reports:
        buckets[report["shard"]["bucket"]] = buckets.get(report["shard"]["bucket"], 0) + report["shard"]["samples"]
    return {
        "format_version": FORMAT_VERSION,
        "shards": [report["shard"] for report in reports],
        "samples": sum(buckets.values()),
        "buckets": buckets,
        "format": encode.shards.format,
        "vae": vae,
        "text": {key: text[key] for key in ("id", "sha256", "dimensions", "max_tokens")},
        "null_text": text["null"],
        "preprocessing": {
            "resize": f"{encode.filter}, antialiased, one resize of the crop",
            "library": f"pillow {PIL.__version__}",
            "crop": encode.crop,
            "remove_letterbox": encode.remove_letterbox,
            "range": "[-1, 1]",
        },
        "config_hash": encode_fingerprint(plan),
        "statistics": statistics,
        "nan_count": sum(report["sums"]["nan"] for report in reports),
    }


def _facts(store: Store, name: str, key: str, compute: Any) -> dict[str, Any]:
    """Facts of a model that need it loaded, remembered in the run: a moved threshold then loads none."""
    path = f"{FACTS}/{name}-{key[:16]}.json"
    if not store.exists(path):
        store.write(path, json.dumps(compute(), sort_keys=True).encode())
    facts: dict[str, Any] = json.loads(store.read(path))
    return facts


def _vae_facts(plan: Plan, store: Store) -> dict[str, Any]:
    assert plan.vae and plan.loaded.manifest.encode
    info, spec = plan.vae, plan.loaded.manifest.encode.vae

    def compute() -> dict[str, Any]:
        vae = open_model("vae", spec)
        return {
            "id": info.id,
            "sha256": info.sha256,
            "dtype": "float32",
            "channels": vae.channels,
            "spatial_factor": vae.spatial_factor,
            "temporal_factor": 1,
            "latents_mean": list(vae.latents_mean),
            "latents_std": list(vae.latents_std),
        }

    return _facts(store, "vae", hashlib.sha256(f"{info.id}{info.sha256}".encode()).hexdigest(), compute)


def _text_facts(plan: Plan, store: Store) -> dict[str, Any]:
    assert plan.text and plan.loaded.manifest.encode
    info, spec = plan.text, plan.loaded.manifest.encode.text

    def compute() -> dict[str, Any]:
        text = open_model("text", spec)
        null = np.asarray(text.tokens([""])[0], np.float16)
        encoded = {"shape": list(null.shape), "fp16": base64.b64encode(null.tobytes()).decode()}
        return {"id": info.id, "sha256": info.sha256, "dimensions": text.dimensions, "max_tokens": text.max_tokens, "null": encoded}

    return _facts(store, "text", hashlib.sha256(f"{info.id}{info.sha256}".encode()).hexdigest(), compute)


def _statistics(sums: Sequence[Mapping[str, Any]], vae: Mapping[str, Any]) -> dict[str, Any]:
    """Mean, standard deviation and RMS per channel of the raw latents, and the RMS of the normalised ones."""
    if not sums:
        return {"mean": [], "std": [], "rms": [], "normalized_rms": 0.0}
    values = sum(part["values"] for part in sums)
    total = np.sum([part["sum"] for part in sums], axis=0) / values
    square = np.sum([part["squares"] for part in sums], axis=0) / values
    centre, scale = np.array(vae["latents_mean"]), np.array(vae["latents_std"])
    normalized = (square - 2 * centre * total + centre**2) / scale**2
    return {
        "mean": total.round(6).tolist(),
        "std": np.sqrt(np.maximum(square - total**2, 0)).round(6).tolist(),
        "rms": np.sqrt(square).round(6).tolist(),
        "normalized_rms": round(float(np.sqrt(normalized.mean())), 6),
    }


def reconstruct(store: Store, plan: Plan, reports: Sequence[Mapping[str, Any]]) -> None:
    """Decode a few samples again: original left, reconstruction right, PSNR in psnr.json. Done once per shard set."""
    from curation.reconstruct import reconstruct_some

    encode = plan.loaded.manifest.encode
    assert encode
    key = hashlib.sha256(json.dumps([report["shard"] for report in reports] + [encode.reconstructions]).encode()).hexdigest()
    marker = f"{FACTS}/reconstructions.txt"
    if store.exists(marker) and store.read(marker).decode() == key:
        return
    reconstruct_some(store, settings_of(plan, store), reports)
    store.write(marker, key.encode())


