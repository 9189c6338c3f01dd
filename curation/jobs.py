"""From the decision to shard jobs: who goes into which shard, and what of earlier latents can be used again."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from curation import chunkfile
from curation.buckets import choose
from curation.deal import deal_all
from curation.manifest import EncodeSection
from curation.plan import Plan, digest
from curation.shards.sample import FORMAT_VERSION
from curation.storage import Store

WORK = "_work/encode"
DEAL = f"{WORK}/deal.parquet"
CODE_VERSION = 1
"""Raise it when the same record gives other bytes in a shard."""
MEMBERS_AT_ONCE = 20_000
"""Records whose rows are held while job files are written: bounds memory, costs a pass over scores/ each."""


@dataclass(frozen=True)
class ShardJob:
    """One shard to make. `name` is its stem under _work/encode: `<bucket>/<number>-<fingerprint>`."""

    bucket: str
    number: int
    samples: int
    fingerprint: str

    @property
    def name(self) -> str:
        return f"{self.bucket}/{self.number:05d}-{self.fingerprint}"

    def path(self, suffix: str) -> str:
        """The shard's path under shards/."""
        return f"{self.bucket}/{self.number:05d}{suffix}"

    def as_item(self) -> dict[str, Any]:
        return asdict(self)


def encode_fingerprint(plan: Plan) -> str:
    """Hash of every setting that decides a byte of a shard beside its members."""
    encode = plan.loaded.manifest.encode
    assert encode and plan.vae and plan.text
    settings = encode.model_dump(mode="json", exclude={"reconstructions": True, "vae": True, "text": True, "shards": {"samples": True}})
    return digest([CODE_VERSION, FORMAT_VERSION, settings, plan.vae.sha256, plan.vae.id, plan.text.sha256, plan.score_fingerprint])


def buckets_of(store: Store, selection: pa.Table, encode: EncodeSection) -> dict[str, list[str]]:
    """Kept ids by bucket name."""
    kept = selection.filter(pc.equal(selection["decision"], "kept"))["id"].combine_chunks()
    out: dict[str, list[str]] = {}
    for batch in _batches(store, ["id", "width", "height", "content_box"]):
        rows = batch.filter(pc.is_in(batch["id"], value_set=kept)).to_pylist()
        for row in rows:
            name = choose(row["width"], row["height"], row.get("content_box"), encode).name
            out.setdefault(name, []).append(row["id"])
    return out


def _batches(store: Store, columns: list[str]) -> Iterator[pa.RecordBatch]:
    paths = [store.path(entry.name) for entry in store.list(chunkfile.SCORES) if chunkfile.is_scores(entry.name)]
    dataset = ds.dataset(sorted(paths), format="parquet", filesystem=store.filesystem)
    present = [name for name in columns if name in dataset.schema.names]
    yield from dataset.to_batches(columns=present, batch_size=8192)


def plan_jobs(store: Store, plan: Plan, base: Mapping[str, list[str]], final: Mapping[str, list[str]]) -> list[ShardJob]:
    """Deal, and write the members of each shard that is not done yet to its job file."""
    encode = plan.loaded.manifest.encode
    assert encode
    settings = encode_fingerprint(plan)
    dealt = deal_all(base, final, encode.shards.samples)
    members: dict[ShardJob, list[str]] = {}
    for bucket, shards in dealt.items():
        for number, ids in enumerate(shards):
            members[ShardJob(bucket, number, len(ids), digest([settings, bucket, ids]))] = ids
    done = {entry.name for entry in store.list(WORK)}
    todo = [job for job in members if f"{WORK}/{job.name}.json" not in done and f"{WORK}/{job.name}.parquet" not in done]
    while todo:
        group, size = [], 0
        while todo and (not group or size + todo[0].samples <= MEMBERS_AT_ONCE):
            group.append(todo.pop(0))
            size += group[-1].samples
        _write_members(store, {job: members[job] for job in group})
    return list(members)


def _write_members(store: Store, members: Mapping[ShardJob, list[str]]) -> None:
    """One pass over scores/ and the earlier deal for a group of jobs."""
    place = {identity: (job, i) for job, ids in members.items() for i, identity in enumerate(ids)}
    wanted = pa.array(list(place), pa.string())
    earlier = _earlier(store, wanted)
    rows: dict[ShardJob, dict[int, dict[str, Any]]] = {job: {} for job in members}
    paths = [store.path(entry.name) for entry in store.list(chunkfile.SCORES) if chunkfile.is_scores(entry.name)]
    dataset = ds.dataset(sorted(paths), format="parquet", filesystem=store.filesystem)
    scalars = [f.name for f in dataset.schema if _is_scalar(f.type) and f.name not in _NOT_SCORES]
    columns = [name for name in (*_MEMBER, *scalars) if name in dataset.schema.names]
    for batch in dataset.to_batches(columns=columns, filter=pc.field("id").isin(wanted), batch_size=2048):
        for row in batch.to_pylist():
            job, position = place[row["id"]]
            rows[job][position] = member(row, scalars) | {"earlier": earlier.get(row["id"])}
    for job, found in rows.items():
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([found[i] for i in range(job.samples)], MEMBER_SCHEMA), buffer, compression="zstd")
        store.write(f"{WORK}/{job.name}.parquet", buffer.getvalue())


_MEMBER = (
    "id", "source_key", "source_uri", "media", "content_sha256", "width", "height", "original_width", "original_height",
    "content_box", "captions", "generated_caption", "generated_caption_source",
)  # fmt: skip
_NOT_SCORES = {*_MEMBER, "caption", "extra", "error", "error_stage", "start_s", "end_s", "start_frame", "end_frame", "sha256", "pixel_sha256"}
MEMBER_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source_key", pa.string()),
        ("source_uri", pa.string()),
        ("media", pa.string()),
        ("content_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("content_box", pa.list_(pa.int32())),
        ("captions", pa.list_(pa.string())),
        ("caption_sources", pa.list_(pa.string())),
        ("scores", pa.string()),
        ("earlier", pa.string()),  # JSON: the shard of the last finished encode that may hold the same latents
    ]
)


def _is_scalar(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind))


def member(row: Mapping[str, Any], scalars: list[str]) -> dict[str, Any]:
    """A record as its shard job holds it: the source's captions first, then the generated one, each with its source."""
    captions = [caption for caption in row["captions"] or [] if caption.strip()]
    sources = ["source"] * len(captions)
    if row.get("generated_caption"):
        captions.append(row["generated_caption"])
        sources.append(row.get("generated_caption_source") or "generated")
    scores = {name: row[name] for name in sorted(scalars) if row.get(name) is not None}
    kept = {name: row.get(name) for name in MEMBER_SCHEMA.names}
    return kept | {"captions": captions, "caption_sources": sources, "scores": json.dumps(scores, sort_keys=True)}


def _earlier(store: Store, wanted: pa.Array) -> dict[str, str]:
    """Where the last finished encode put these ids."""
    if not store.exists(DEAL):
        return {}
    table = pq.read_table(pa.BufferReader(store.read(DEAL)), filters=[("id", "in", wanted)])
    names = table.column_names
    return {row["id"]: json.dumps({n: row[n] for n in names if n != "id"}, sort_keys=True) for row in table.to_pylist()}


def write_deal(store: Store, rows: list[dict[str, Any]]) -> None:
    """Remember where each latent now is, for the next encode: id, path, key (of latents), text_key."""
    schema = pa.schema([("id", pa.string()), ("path", pa.string()), ("key", pa.string()), ("text_key", pa.string())])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(sorted(rows, key=lambda row: row["id"]), schema), buffer, compression="zstd")
    store.write(DEAL, buffer.getvalue())


def find_shard(store: Store, identity: str) -> str | None:
    """The shard under shards/ that holds a record's latents, None when none does."""
    if not store.exists(DEAL):
        return None
    table = pq.read_table(pa.BufferReader(store.read(DEAL)), filters=[("id", "=", identity)])
    return f"{store.root}/shards/{table['path'][0].as_py()}" if table.num_rows else None
