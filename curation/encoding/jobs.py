"""From the decision to shard jobs: who goes into which shard, and what earlier latents can be used again."""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import PIL
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from curation.encoding.buckets import Clip, choose
from curation.encoding.deal import deal_all
from curation.encoding.extras import Extras, extras_of
from curation.manifest import EncodeSection
from curation.plan import Plan, digest
from curation.record import BASE_SCHEMA
from curation.scoring import chunkfile
from curation.shards.sample import FORMAT_VERSION
from curation.stores.storage import Store
from curation.video.mp4 import versions

WORK = "_work/encode"
DEAL = f"{WORK}/deal.parquet"
CODE_VERSION = 6
"""Raise it when the same record gives other bytes in a shard."""
META_VERSION = 1
"""Raise it when a sample says other things of the same record: shards are written anew, latents are kept."""
MEMBERS_AT_ONCE = 20_000
"""Records whose rows are held while job files are written: bounds memory, costs a pass over scores/ each."""


@dataclass(frozen=True)
class ShardJob:
    """One shard to make. Its files in the run directory:

    members   the records' rows, written before it is sent to a worker
    staged    the shard, until it is published
    done      the report of a shard that was made, committed after it
    failed    the report of a shard with records that cannot be encoded; none was made
    sound     an empty mark: it was made once, but its records were dealt anew after another shard failed
    """

    bucket: str
    number: int
    samples: int
    fingerprint: str

    @property
    def name(self) -> str:
        return f"{self.bucket}/{self.number:05d}-{self.fingerprint}"

    @property
    def members(self) -> str:
        return f"{WORK}/{self.name}.parquet"

    @property
    def done(self) -> str:
        return f"{WORK}/{self.name}.json"

    @property
    def failed(self) -> str:
        return f"{WORK}/{self.name}.failed"

    @property
    def sound(self) -> str:
        return f"{WORK}/{self.name}.sound"

    def staged(self, suffix: str) -> str:
        return f"{WORK}/staged/{self.name}{suffix}"

    def path(self, suffix: str) -> str:
        """The shard's path under shards/."""
        return f"{self.bucket}/{self.number:05d}{suffix}"

    def as_item(self) -> dict[str, Any]:
        return asdict(self)


def encode_fingerprint(plan: Plan) -> str:
    """Hash of every setting that decides a byte of a shard beside its members."""
    encode, decoder = plan.loaded.manifest.encode, plan.loaded.manifest.engine.video_decoder
    assert encode
    left_out = {"reconstructions", "vae", "text", "upscale", "shards"}
    settings = {**encode.model_dump(mode="json", exclude=left_out), "format": encode.shards.format}
    models = [model and (model.id, model.sha256) for model in (plan.vae, plan.text)]
    made = [CODE_VERSION, META_VERSION, FORMAT_VERSION, PIL.__version__, decoder, *(versions() if encode.media else [])]
    return digest([*made, settings, models, plan.score_fingerprint])


def buckets_of(store: Store, selection: pa.Table, encode: EncodeSection) -> dict[str, list[str]]:
    """Kept ids by bucket name."""
    kept = selection.filter(pc.equal(selection["decision"], "kept"))["id"].combine_chunks()
    out: dict[str, list[str]] = {}
    dataset = _scores(store)
    columns = [name for name in (*_SIZES, "content_box", "fps", "fps_fraction") if name in dataset.schema.names]
    for batch in dataset.to_batches(columns=columns, batch_size=8192):
        for row in batch.filter(pc.is_in(batch["id"], value_set=kept)).to_pylist():
            name = choose(row["width"], row["height"], row.get("content_box"), encode, Clip.of(row, encode)).name
            out.setdefault(name, []).append(row["id"])
    return out


def _scores(store: Store) -> ds.Dataset:
    paths = [store.path(entry.name) for entry in store.list(chunkfile.SCORES) if chunkfile.is_scores(entry.name)]
    return ds.dataset(sorted(paths), format="parquet", filesystem=store.filesystem)


def kept_extras(store: Store, final: Mapping[str, list[str]], encode: EncodeSection) -> Extras | None:
    """What the manifest's `extra` finds in the kept records, None where it asks for nothing."""
    ids = (identity for bucket in final.values() for identity in bucket)
    return extras_of(_scores(store), ids, encode.extra) if encode.extra else None


def deal_jobs(
    plan: Plan, base: Mapping[str, list[str]], final: Mapping[str, list[str]], extras: Extras | None = None
) -> dict[ShardJob, list[str]]:
    """Every shard's job and the ids of its records, in order."""
    encode = plan.loaded.manifest.encode
    assert encode
    settings = encode_fingerprint(plan)
    return {
        ShardJob(bucket, number, len(ids), digest([settings, bucket, ids, *(extras.of(ids) if extras else ())])): ids
        for bucket, shards in deal_all(base, final, encode.shards.samples).items()
        for number, ids in enumerate(shards)
    }


def write_members(
    store: Store, jobs: Sequence[ShardJob], members: Mapping[ShardJob, list[str]], extras: Extras | None = None
) -> None:
    """Write the job files of `jobs`, anew where they exist: a record's source may have moved since."""
    group: list[ShardJob] = []
    for job in jobs:
        if group and sum(other.samples for other in group) + job.samples > MEMBERS_AT_ONCE:
            _write_group(store, {job: members[job] for job in group}, extras)
            group = []
        group.append(job)
    if group:
        _write_group(store, {job: members[job] for job in group}, extras)


def _write_group(store: Store, members: Mapping[ShardJob, list[str]], extras: Extras | None) -> None:
    """One pass over scores/ and the earlier deal for a group of jobs."""
    place = {identity: (job, i) for job, ids in members.items() for i, identity in enumerate(ids)}
    wanted = pa.array(list(place), pa.string())
    earlier = _earlier(store, wanted)
    rows: dict[ShardJob, dict[int, dict[str, Any]]] = {job: {} for job in members}
    dataset = _scores(store)
    scalars = [field.name for field in dataset.schema if _is_scalar(field.type) and field.name not in _NO_SCORES]
    columns = [name for name in (*_MEMBER, *scalars) if name in dataset.schema.names]
    # As numbers, hashes above 2^63 are more than the 64 bits with a sign that readers of JSON have.
    hashes = [name for name in scalars if pa.types.is_uint64(dataset.schema.field(name).type)]
    for batch in dataset.to_batches(columns=columns, filter=pc.field("id").isin(wanted), batch_size=2048):
        for row in batch.to_pylist():
            job, position = place[row["id"]]
            for name in hashes:
                row[name] = None if row[name] is None else f"{row[name]:016x}"
            own = json.dumps(extras.typed(row["extra"]), sort_keys=True) if extras else None
            rows[job][position] = member(row, scalars) | {"extra": own, "earlier": earlier.get(row["id"])}
    for job, found in rows.items():
        buffer = io.BytesIO()
        table = pa.Table.from_pylist([found[i] for i in range(job.samples)], MEMBER_SCHEMA)
        pq.write_table(table, buffer, compression="zstd")
        store.write(job.members, buffer.getvalue())


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
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("captions", pa.list_(pa.string())),
        ("caption_sources", pa.list_(pa.string())),
        ("scores", pa.string()),
        ("extra", pa.string()),  # JSON: the source's columns that the manifest wants, None where it wants none
        ("earlier", pa.string()),  # JSON: the row of `DEAL`, where the same latents may already be
    ]
)
_STORED = tuple(MEMBER_SCHEMA.names[:12])
_SIZES = ("id", "width", "height", "start_s", "end_s")
_MEMBER = (*_STORED, "captions", "extra", "generated_caption", "generated_caption_source")
_NO_SCORES = frozenset(_MEMBER) | {field.name for field in BASE_SCHEMA} | {"sha256", "pixel_sha256"}
_NO_SCORES |= {"original_width", "original_height"}


def _is_scalar(kind: pa.DataType) -> bool:
    types = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
    return any(is_type(kind) for is_type in types)


def member(row: Mapping[str, Any], scalars: Sequence[str]) -> dict[str, Any]:
    """A record as its job holds it: the source's captions, a video's title, the generated one, each with its source."""
    captions = [caption for caption in row["captions"] or [] if caption.strip()]
    sources = ["source"] * len(captions)
    title = json.loads(row.get("extra") or "{}").get("title") if row["media"] == "video" else None
    if isinstance(title, str) and title.strip() and title not in captions:
        captions.append(title)
        sources.append("title")
    if row.get("generated_caption"):
        captions.append(row["generated_caption"])
        sources.append(row.get("generated_caption_source") or "generated")
    scores = {name: row[name] for name in sorted(scalars) if _is_value(row.get(name))}
    kept = {name: row.get(name) for name in _STORED}
    return kept | {
        "captions": captions,
        "caption_sources": sources,
        "scores": json.dumps(scores, sort_keys=True),
    }


def _is_value(value: Any) -> bool:
    """JSON knows no NaN."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


DEAL_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("position", pa.int32()),
        ("sha256", pa.string()),
        ("key", pa.string()),
        ("text_key", pa.string()),
        ("media_key", pa.string()),
    ]
)


def _earlier(store: Store, wanted: pa.Array) -> dict[str, str]:
    """Where the last finished encode put these ids: a row of `DEAL` as JSON."""
    return {row["id"]: json.dumps(row, sort_keys=True) for row in _dealt(store, pc.field("id").isin(wanted))}


def _dealt(store: Store, which: pc.Expression) -> Iterator[dict[str, Any]]:
    if store.exists(DEAL):
        dataset = ds.dataset(store.path(DEAL), format="parquet", filesystem=store.filesystem)
        for batch in dataset.to_batches(filter=which, batch_size=8192):
            yield from batch.to_pylist()


def find_shard(store: Store, identity: str) -> str | None:
    """The shard under shards/ that holds a record's latents, None when none does."""
    row = next(_dealt(store, pc.field("id") == identity), None)
    return f"{store.root}/shards/{row['path']}" if row else None
