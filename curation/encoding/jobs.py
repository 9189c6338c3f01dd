"""From the decision to shard jobs: who goes into which shard, and what earlier latents can be used again."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import PIL
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from curation.captions.stage import GENERATED, GENERATED_SOURCE
from curation.encoding.buckets import Clip, choose
from curation.encoding.captions import Caption, Choice, captions_of, choices_of, is_value, own_captions
from curation.encoding.deal import deal_all
from curation.encoding.extras import Extras, extras_of
from curation.extra import is_extra
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
META_VERSION = 2
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


@dataclass(frozen=True)
class Contents:
    """What shards hold of records beside pixels.

    extras   the source's columns that the manifest wants, None where it wants none
    choices  id -> the captions left to the record, where these are not just all of its own
    lists    a score of captions -> the column of scores/ with its value for each caption
    unsure   id -> a hash of what neither the id nor the settings decide: see `_unsure`
    """

    extras: Extras | None
    choices: Mapping[str, Choice]
    lists: Mapping[str, str]
    unsure: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, plan: Plan, selection: pa.Table, final: Mapping[str, list[str]]) -> "Contents":
        encode = plan.loaded.manifest.encode
        assert encode
        ids = [identity for bucket in final.values() for identity in bucket]
        extras = extras_of(_scores(store), ids, encode.extra) if encode.extra else None
        contents = cls(extras, choices_of(selection), plan.each)
        return replace(contents, unsure=_unsure(store, plan, {*ids, *contents.donors(ids)}))

    def decides(self, ids: Sequence[str]) -> list[Any]:
        """What of it decides the bytes of a shard with these records."""
        chosen = {identity: asdict(self.choices[identity]) for identity in ids if identity in self.choices}
        unsure = [self.unsure[each] for each in sorted({*ids, *self.donors(ids)}) if each in self.unsure]
        return [*filter(None, (chosen, unsure)), *(self.extras.of(ids) if self.extras else ())]

    def donors(self, ids: Iterable[str]) -> set[str]:
        """The records whose captions these took over."""
        return {donor for each in ids if each in self.choices for donor, _ in self.choices[each].merged}


def _unsure(store: Store, plan: Plan, ids: set[str]) -> dict[str, str]:
    """id -> a hash of what may differ though the record and the plan are the same: which stages scored it, where a
    condition looks at the source's columns; and its generated caption, as a server may answer otherwise another
    time. Empty where the plan has neither."""
    conditions = (stage.condition for stage in plan.stages)
    by_extra = any(is_extra(name) for condition in conditions if condition for name in condition.names)
    if not by_extra and all(GENERATED not in stage.writes for stage in plan.stages):
        return {}
    dataset = _scores(store)
    columns = [name for name in ("id", "scored", GENERATED, GENERATED_SOURCE) if name in dataset.schema.names]
    wanted = pc.field("id").isin(pa.array(sorted(ids), pa.string()))
    batches = dataset.to_batches(columns=columns, filter=wanted, batch_size=8192)
    return {row.pop("id"): digest(row) for batch in batches for row in batch.to_pylist()}


def deal_jobs(
    plan: Plan, base: Mapping[str, list[str]], final: Mapping[str, list[str]], contents: Contents
) -> dict[ShardJob, list[str]]:
    """Every shard's job and the ids of its records, in order; it is another job where other captions are kept."""
    encode = plan.loaded.manifest.encode
    assert encode
    settings = encode_fingerprint(plan)
    return {
        ShardJob(bucket, number, len(ids), digest([settings, bucket, ids, *contents.decides(ids)])): ids
        for bucket, shards in deal_all(base, final, encode.shards.samples).items()
        for number, ids in enumerate(shards)
    }


def write_members(
    store: Store, jobs: Sequence[ShardJob], members: Mapping[ShardJob, list[str]], contents: Contents
) -> None:
    """Write the job files of `jobs`, anew where they exist: a record's source may have moved since."""
    group: list[ShardJob] = []
    for job in jobs:
        if group and sum(other.samples for other in group) + job.samples > MEMBERS_AT_ONCE:
            _write_group(store, {job: members[job] for job in group}, contents)
            group = []
        group.append(job)
    if group:
        _write_group(store, {job: members[job] for job in group}, contents)


def _write_group(store: Store, members: Mapping[ShardJob, list[str]], contents: Contents) -> None:
    """One pass over scores/ and the earlier deal for a group of jobs, and one for captions of their duplicates."""
    place = {identity: (job, i) for job, ids in members.items() for i, identity in enumerate(ids)}
    wanted = pa.array(list(place), pa.string())
    earlier = _earlier(store, wanted)
    rows: dict[ShardJob, dict[int, dict[str, Any]]] = {job: {} for job in members}
    dataset, extras, lists = _scores(store), contents.extras, contents.lists
    donors = _captions(dataset, contents.donors(place), lists)
    scalars = [field.name for field in dataset.schema if _is_scalar(field.type) and field.name not in _NO_SCORES]
    columns = [name for name in (*_MEMBER, *scalars, *lists.values()) if name in dataset.schema.names]
    # As numbers, hashes above 2^63 are more than the 64 bits with a sign that readers of JSON have.
    hashes = [name for name in scalars if pa.types.is_uint64(dataset.schema.field(name).type)]
    for batch in dataset.to_batches(columns=columns, filter=pc.field("id").isin(wanted), batch_size=2048):
        for row in batch.to_pylist():
            job, position = place[row["id"]]
            for name in hashes:
                row[name] = None if row[name] is None else f"{row[name]:016x}"
            own = json.dumps(extras.typed(row["extra"]), sort_keys=True) if extras else None
            captions = captions_of(own_captions(row, lists), contents.choices.get(row["id"]), donors)
            beside = {"extra": own, "earlier": earlier.get(row["id"])}
            rows[job][position] = member(row, scalars) | captions | beside
    _find_contents(store, [row for found in rows.values() for row in found.values() if row["earlier"] is None])
    for job, found in rows.items():
        buffer = io.BytesIO()
        table = pa.Table.from_pylist([found[i] for i in range(job.samples)], MEMBER_SCHEMA)
        pq.write_table(table, buffer, compression="zstd")
        store.write(job.members, buffer.getvalue())


def _captions(dataset: ds.Dataset, ids: set[str], lists: Mapping[str, str]) -> dict[str, list[Caption]]:
    """All captions of some records."""
    names = ("id", "captions", GENERATED, GENERATED_SOURCE, *lists.values())
    columns = [name for name in names if name in dataset.schema.names]
    wanted = pc.field("id").isin(pa.array(sorted(ids), pa.string()))
    batches = dataset.to_batches(columns=columns, filter=wanted, batch_size=2048) if ids else ()
    return {row["id"]: own_captions(row, lists) for batch in batches for row in batch.to_pylist()}


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
        ("caption_scores", pa.string()),  # JSON: an object of scores for each caption
        ("scores", pa.string()),
        ("extra", pa.string()),  # JSON: the source's columns that the manifest wants, None where it wants none
        ("earlier", pa.string()),  # JSON: the row of `DEAL`, where the same latents may already be
    ]
)
_STORED = tuple(MEMBER_SCHEMA.names[:12])
_SIZES = ("id", "width", "height", "start_s", "end_s")
_MEMBER = (*_STORED, "captions", "extra", GENERATED, GENERATED_SOURCE)
_NO_SCORES = frozenset(_MEMBER) | {field.name for field in BASE_SCHEMA} | {"sha256", "pixel_sha256"}
_NO_SCORES |= {"original_width", "original_height"}


def _is_scalar(kind: pa.DataType) -> bool:
    types = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
    return any(is_type(kind) for is_type in types)


def member(row: Mapping[str, Any], scalars: Sequence[str]) -> dict[str, Any]:
    """A record as its job holds it, beside its captions."""
    scores = {name: row[name] for name in sorted(scalars) if is_value(row.get(name))}
    return {name: row.get(name) for name in _STORED} | {"scores": json.dumps(scores, sort_keys=True)}


DEAL_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("position", pa.int32()),
        ("sha256", pa.string()),
        ("key", pa.string()),
        ("text_key", pa.string()),
        ("media_key", pa.string()),
        ("content", pa.string()),
    ]
)
"""Where each sample lies, its `Keys`, and `content_of` its record."""


def _earlier(store: Store, wanted: pa.Array) -> dict[str, str]:
    """Where the last finished encode put these ids: a row of `DEAL` as JSON."""
    return {row["id"]: json.dumps(row, sort_keys=True) for row in _dealt(store, pc.field("id").isin(wanted))}


def content_of(row: Mapping[str, Any]) -> str:
    """Which pixels a record has: of the same ones the latents are the same, whatever its key and its captions."""
    return f"{row['content_sha256']} {row['start_frame']} {row['end_frame']}"


def _find_contents(store: Store, rows: Sequence[dict[str, Any]]) -> None:
    """Fill in `earlier` for records that are new, where one with the same pixels was encoded: other captions make
    another record."""
    wanted = pa.array(sorted({content_of(row) for row in rows}), pa.string())
    found: dict[str, dict[str, Any]] = {}
    for dealt in _dealt(store, pc.field("content").isin(wanted)) if rows else ():
        known = found.setdefault(dealt["content"], dealt)
        if dealt["id"] < known["id"]:
            found[dealt["content"]] = dealt
    for row in rows:
        if (earlier := found.get(content_of(row))) is not None:
            row["earlier"] = json.dumps(earlier, sort_keys=True)


def _dealt(store: Store, which: pc.Expression) -> Iterator[dict[str, Any]]:
    if store.exists(DEAL):
        # With the schema of today: a deal of an earlier version lacks columns, which are null then.
        dataset = ds.dataset(store.path(DEAL), schema=DEAL_SCHEMA, format="parquet", filesystem=store.filesystem)
        for batch in dataset.to_batches(filter=which, batch_size=8192):
            yield from batch.to_pylist()


def find_shard(store: Store, identity: str) -> str | None:
    """The shard under shards/ that holds a record's latents, None when none does."""
    row = next(_dealt(store, pc.field("id") == identity), None)
    return f"{store.root}/shards/{row['path']}" if row else None
