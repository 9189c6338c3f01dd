"""From the decision to shard jobs: who goes into which shard, and what earlier latents can be used again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.captions.stage import GENERATED, GENERATED_SOURCE
from curation.encoding.buckets import Clip, choose, nearest_shapes
from curation.encoding.buckets import table as shapes_of
from curation.encoding.captions import Choice, choices_of
from curation.encoding.deal import NOBODY, Ints, deal_all
from curation.encoding.extras import Extras, extras_of
from curation.encoding.scored import ScoredRows
from curation.extra import is_extra
from curation.manifest import EncodeSection
from curation.plan import Plan, digest
from curation.shards.sample import FORMAT_VERSION
from curation.stores.storage import Store
from curation.video.mp4 import versions

WORK = "_work/encode"
DEAL = f"{WORK}/deal.parquet"
CODE_VERSION = 6
"""Raise it when the same record gives other bytes in a shard."""
META_VERSION = 2
"""Raise it when a sample says other things of the same record: shards are written anew, latents are kept."""


@dataclass(frozen=True)
class ShardJob:
    """One shard to make. Its files in the run directory:

    members   the records' rows, written before it is sent to a worker
    staged    the shard, until it is published
    done      the report of a shard that was made, committed after it
    failed    the report of a shard with records that cannot be encoded; none was made
    sound     an empty marker file: the shard was encoded before, but its records have since been reassigned because
              another shard failed
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


def buckets_of(scored: ScoredRows, selection: pa.Table, encode: EncodeSection) -> dict[str, Ints]:
    """Rows of kept records by bucket name, ascending."""
    kept = pc.equal(selection["decision"], "kept").to_numpy().astype(bool)
    bucket, names = np.full(len(kept), -1, np.int32), dict[str, int]()
    for rows, table in scored.scan((*_SIZES, "content_box", "fps", "fps_fraction"), kept):
        bucket[rows] = [names.setdefault(name, len(names)) for name in _bucket_names(table, encode)]
    return {name: np.flatnonzero(bucket == code) for name, code in names.items()}


def _bucket_names(table: pa.Table, encode: EncodeSection) -> list[str]:
    """The bucket of each record. Pictures are many and take a table of ratios; all others are looked at one by one."""
    plain = pc.is_null(table["start_s"])
    if "content_box" in table.column_names:
        plain = pc.and_(plain, pc.is_null(table["content_box"]))
    places = np.full(table.num_rows, -1, np.int64)
    at = np.flatnonzero(plain.to_numpy().astype(bool))
    width, height = (table[name].take(pa.array(at)).to_numpy().astype(np.int64) for name in ("width", "height"))
    places[at] = nearest_shapes(width, height, encode)
    shapes = [replace(shape, frames=1).name for shape in shapes_of(encode)]
    names = [shapes[place] if place >= 0 else "" for place in places.tolist()]
    rest = np.flatnonzero(places < 0)
    for i, row in zip(rest.tolist(), table.take(pa.array(rest)).to_pylist(), strict=True):
        names[i] = choose(row["width"], row["height"], row.get("content_box"), encode, Clip.of(row, encode)).name
    return names


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
    def of(cls, scored: ScoredRows, plan: Plan, selection: pa.Table, final: Mapping[str, Ints]) -> "Contents":
        encode = plan.loaded.manifest.encode
        assert encode
        wanted = scored.marked(np.concatenate([NOBODY, *final.values()]))
        extras = extras_of(scored, wanted, encode.extra) if encode.extra else None
        contents = cls(extras, choices_of(selection), plan.each)
        wanted[scored.rows_of(contents.donors(contents.choices))] = True
        return replace(contents, unsure=_unsure(scored, plan, wanted))

    def decides(self, ids: Sequence[str]) -> list[Any]:
        """What of it decides the bytes of a shard with these records."""
        chosen = {identity: asdict(self.choices[identity]) for identity in ids if identity in self.choices}
        unsure = [self.unsure[each] for each in sorted({*ids, *self.donors(ids)}) if each in self.unsure]
        return [*filter(None, (chosen, unsure)), *(self.extras.of(ids) if self.extras else ())]

    def donors(self, ids: Iterable[str]) -> set[str]:
        """The records whose captions these took over."""
        return {donor for each in ids if each in self.choices for donor, _ in self.choices[each].merged}


def _unsure(scored: ScoredRows, plan: Plan, wanted: NDArray[np.bool_]) -> dict[str, str]:
    """id -> a hash of what may differ though the record and the plan are the same: which stages scored it, where a
    condition looks at the source's columns; and its generated caption, as a server may answer otherwise another
    time. Empty where the plan has neither."""
    conditions = (stage.condition for stage in plan.stages)
    by_extra = any(is_extra(name) for condition in conditions if condition for name in condition.names)
    if not by_extra and all(GENERATED not in stage.writes for stage in plan.stages):
        return {}
    tables = (table for _, table in scored.scan(("scored", GENERATED, GENERATED_SOURCE), wanted))
    return {row.pop("id"): digest(row) for table in tables for row in table.to_pylist()}


def deal_jobs(
    plan: Plan, base: Mapping[str, Ints], final: Mapping[str, Ints], contents: Contents, ids: pa.Array
) -> dict[ShardJob, Ints]:
    """Every shard's job and the rows of its records, in order; it is another job where other captions are kept."""
    encode = plan.loaded.manifest.encode
    assert encode
    settings = encode_fingerprint(plan)
    jobs: dict[ShardJob, Ints] = {}
    for bucket, shards in deal_all(base, final, encode.shards.samples).items():
        for number, rows in enumerate(shards):
            own = ids.take(pa.array(rows)).to_pylist()
            jobs[ShardJob(bucket, number, len(rows), digest([settings, bucket, own, *contents.decides(own)]))] = rows
    return jobs


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
_SIZES = ("id", "width", "height", "start_s", "end_s")


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


def content_of(row: Mapping[str, Any]) -> str:
    """Which pixels a record has: of the same ones the latents are the same, whatever its key and its captions."""
    return f"{row['content_sha256']} {row['start_frame']} {row['end_frame']}"


def dealt(store: Store, which: pc.Expression | None = None) -> Iterator[pa.Table]:
    """What the last finished encode dealt (`DEAL`), a part at a time; nothing where there was none."""
    if store.exists(DEAL):
        import pyarrow.dataset as ds  # it imports pandas, which takes half a second; most runs do without

        # With the schema of today: a deal of an earlier version lacks columns, which are null then.
        dataset = ds.dataset(store.path(DEAL), schema=DEAL_SCHEMA, format="parquet", filesystem=store.filesystem)
        for batch in dataset.to_batches(filter=which, batch_size=1 << 16):
            yield pa.Table.from_batches([batch])


def find_shard(store: Store, identity: str) -> str | None:
    """The shard under shards/ that holds a record's latents, None when none does."""
    found = (row for part in dealt(store, pc.field("id") == identity) for row in part.to_pylist())
    row = next(found, None)
    return f"{store.root}/shards/{row['path']}" if row else None
