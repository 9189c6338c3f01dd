"""Makes one shard: fetch, decode and standardize in the sandbox, VAE and media, text, commit. Knows no Ray."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.ahead import ahead
from curation.encoding.account import ChannelSums, Footage
from curation.encoding.buckets import Bucket, Clip, length, recipe
from curation.encoding.earlier import FITTED, EarlierShards, Keys, Parts
from curation.encoding.jobs import CODE_VERSION, ShardJob, content_of
from curation.errors import CurationError, TimedOut, Unavailable
from curation.inference.client import waited
from curation.manifest import EncodeSection
from curation.media.sandbox import Decoder, Limits
from curation.media.standardize import Recipe, Standardized, size_conditioning
from curation.models import ModelInfo, open_model
from curation.models.text_spec import TextStates, encoded
from curation.models.vae import Vae
from curation.plan import digest
from curation.scoring.score import RunContext
from curation.shards.containers import CONTAINERS
from curation.shards.sample import Sample
from curation.stage import sentence
from curation.stores.scratch import scratch
from curation.video.mp4 import media_file, versions
from curation.video.reader import VideoReader, on_disk

FETCHERS = 4
BATCH_PIXELS = 24_000_000
"""Of records that are decoded at once, as scoring has it: 72 MB of RGB; one clip may be more. Three such batches are in
work: one is decoded, one is with the VAE, one is written."""
CHANGED = "the file changed since it was scored: `curate run --retry` scores it again"


@dataclass(frozen=True)
class EncodeSettings:
    """What every encode worker of a run shares."""

    encode: EncodeSection
    vae: ModelInfo | None
    text: ModelInfo | None
    context: RunContext
    limits: Limits
    vae_device: str = "cpu"
    text_device: str = "cpu"
    video_decoder: str = "pyav"

    @property
    def on_gpu(self) -> bool:
        return "cuda" in (self.vae_device, self.text_device)


@dataclass
class Batch:
    """Records that are decoded and encoded together, on their way.

    parts   what there is of each sample
    pixels  place -> what the VAE has yet to see
    failed  place -> why the record cannot be decoded
    unread  place -> why its captions cannot be encoded
    """

    rows: Sequence[dict[str, Any]]
    keys: Sequence[Keys]
    parts: list[Parts] = field(default_factory=list)
    pixels: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)


class ShardEncoder:
    """One worker: its models are loaded when the first latent has to be computed."""

    def __init__(self, settings: EncodeSettings) -> None:
        self.settings, self.store = settings, settings.context.store
        self._decoder = Decoder(settings.limits)
        self._videos = VideoReader(settings.limits, settings.video_decoder)
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._earlier = EarlierShards(self.store)
        self._timed_out: set[str] = set()

    @property
    def vae(self) -> Vae:
        encode = self.settings.encode
        return Vae(encode.vae, self.settings.vae_device, encode.precision)

    @property
    def text(self) -> Any:
        return open_model("text", self.settings.encode.text_model, self.settings.text_device)

    def encode_item(self, item: dict[str, Any]) -> dict[str, Any]:
        """Make the shard of a job, or report the records that cannot be encoded; the report comes last.

        The shard is written only when all its records could be encoded: otherwise they are dealt anew. The report then
        names those of them that a limit of wall-clock time ended.
        """
        job = ShardJob(**{key: value for key, value in item.items() if key != "again"})
        rows = members_of(self.store, job)
        keys = [self._keys(row) for row in rows]
        failures: list[dict[str, str]] = []
        report: dict[str, Any] = {"job": job.as_item(), "failures": failures}
        self._timed_out.clear()
        container = CONTAINERS[self.settings.encode.shards.format]
        with scratch() as folder:
            local, sums, footage = folder / f"shard{container.suffix}", ChannelSums(), Footage()
            container.write(local, self._samples(rows, keys, Bucket.named(job.bucket), failures, (sums, footage)))
            if not failures:
                report["shard"] = {
                    "path": job.path(container.suffix),
                    "bucket": job.bucket,
                    "samples": len(rows),
                } | file_facts(local)
                report["sums"], report["footage"] = sums.as_json(), footage.as_json()
                report["members"] = [
                    {"id": row["id"], "content": content_of(row), **asdict(each)}
                    for row, each in zip(rows, keys, strict=True)
                ]
                self.store.put(job.staged(container.suffix), local)
        if failures:
            report |= {"timed_out": sorted(self._timed_out), "again": item.get("again", False)}
        name = job.failed if failures else job.done
        self.store.write(name, json.dumps(report, sort_keys=True).encode())
        return {"job": job.as_item(), "failures": failures, "samples": len(rows), "waited": waited()}

    def close(self) -> None:
        """End the decoder's process and the threads."""
        self._fetchers.shutdown()
        self._decoder.close()
        self._videos.close()

    def _keys(self, row: dict[str, Any]) -> Keys:
        settings, encode = self.settings, self.settings.encode
        clip = self._clip_of(row)
        span = [row["start_s"], row["end_s"], _rate(row), clip.fps, length(clip, encode)] if clip else []
        span += [settings.video_decoder] if clip else []
        pixels = [row["content_sha256"], repr(self._recipe(row)), *span, CODE_VERSION, PIL.__version__]
        latents = text = media = None
        if settings.vae:
            latents = digest([*pixels, settings.vae.id, settings.vae.sha256, encode.logvar, encode.precision])
        if settings.text:
            text = digest([self._captions(row), settings.text.id, settings.text.sha256])
        if encode.media:
            words = encode.media.model_dump(mode="json")
            pictures = words.pop("images")
            media = digest([*pixels, words if clip else pictures, versions()])
        return Keys(latents, text, media)

    def _clip_of(self, row: dict[str, Any]) -> Clip | None:
        scores = json.loads(row["scores"])
        return Clip.of({**row, "fps": scores.get("fps"), "fps_fraction": _rate(row)}, self.settings.encode)

    def _recipe(self, row: dict[str, Any]) -> Recipe:
        return recipe(row["width"], row["height"], row["content_box"], self.settings.encode)

    def _captions(self, row: dict[str, Any]) -> list[str]:
        captions: list[str] = row["captions"][: self.settings.encode.captions]
        return captions

    def _samples(
        self,
        rows: Sequence[dict[str, Any]],
        keys: Sequence[Keys],
        bucket: Bucket,
        failures: list[dict[str, str]],
        accounts: Sequence[ChannelSums | Footage],
    ) -> Iterator[Sample]:
        """The samples in order; records without one are added to `failures`.

        While a batch is written, the VAE and the text encoder are at the next and the decoder at the one after it.
        """
        size = rows_at_once(bucket, self.settings.encode.batch)
        batches = [Batch(rows[at : at + size], keys[at : at + size]) for at in range(0, len(rows), size)]
        for batch in ahead(map(self._computed, ahead(map(self._seen, batches)))):
            for i, row in enumerate(batch.rows):
                # The shard is lost after a failure: the rest is only looked at, to find all failures at once.
                sample = batch.failed.get(i) or (None if failures else self._sample(row, i, bucket, batch))
                if isinstance(sample, str):
                    failures.append({"id": row["id"], "error": sample})
                elif isinstance(sample, Sample):
                    for account in accounts:
                        account.add(sample)
                    yield sample

    def _seen(self, batch: Batch) -> Batch:
        """Fetch, decode and standardize what is not there from earlier."""
        batch.parts = [self._earlier.find(row, each) for row, each in zip(batch.rows, batch.keys, strict=True)]
        new = [i for i in range(len(batch.rows)) if batch.parts[i].lacks_pixels(batch.keys[i])]
        found = self._fetchers.map(lambda i: self._see(batch.rows[i], batch.keys[i], batch.parts[i]), new)
        for i, seen in zip(new, found, strict=True):
            if isinstance(seen, str):
                batch.failed[i] = seen
            elif seen is not None:
                batch.pixels[i] = seen
        return batch

    def _computed(self, batch: Batch) -> Batch:
        """Ask the VAE for the batch's posteriors, and the text encoder for its captions' states."""
        if batch.pixels:
            made = self.vae.posteriors(list(batch.pixels.values()), self.settings.encode.logvar)
            for i, posterior in zip(batch.pixels, made, strict=True):
                batch.parts[i].posterior = posterior
            batch.pixels.clear()
        for i, row in enumerate(batch.rows):
            parts = batch.parts[i]
            if parts.texts is None and i not in batch.failed:
                try:
                    wanted = batch.keys[i].text_key is not None
                    states = encoded(self.text, self._captions(row)) if wanted else TextStates([])
                    parts.texts, parts.more = states.main, states.more
                except Unavailable:
                    raise
                except Exception as error:  # noqa: BLE001 (one caption must not cost a shard)
                    batch.unread[i] = f"the text encoder failed on its captions: {sentence(error)}"
        return batch

    def _see(self, row: dict[str, Any], keys: Keys, parts: Parts) -> NDArray[np.uint8] | str | None:
        """Fill in what the pixels give at once; returns them where the VAE has yet to see them."""
        picture = self.standardized(row)
        if isinstance(picture, str):
            return picture
        original = (picture.info["original_width"], picture.info["original_height"])
        parts.fitted = dict(zip(FITTED, (list(picture.crop_ltrb), *picture.resized, *original), strict=True))
        encode = self.settings.encode
        if encode.media and parts.lacks_media(keys):
            clip = self._clip_of(row)
            parts.media = media_file(picture.rgb, clip.fps if clip else 1.0, encode.media)
        return picture.rgb if parts.lacks_latents(keys) else None

    def _sample(self, row: dict[str, Any], place: int, bucket: Bucket, batch: Batch) -> Sample | str:
        parts = batch.parts[place]
        mean, logvar = parts.posterior or (None, None)
        if not all(np.isfinite(part).all() for part in (mean, logvar) if part is not None):
            return "the VAE gave values that are NaN or infinite in fp16"
        if parts.texts is None:
            return batch.unread[place]
        clip = self._clip_of(row)
        meta = metadata(row, bucket, self._captions(row), clip.fps if clip else None) | (parts.fitted or {})
        if "crop_ltrb" in meta:  # of one type in all samples
            box, resized = self._recipe(row).box, (meta["resized_width"], meta["resized_height"])
            box = box or (0, 0, row["width"], row["height"])
            meta |= size_conditioning(box, tuple(meta["crop_ltrb"]), resized, (bucket.width, bucket.height))
            meta["crop_ltrb"] = [float(edge) for edge in meta["crop_ltrb"]]
        return Sample(row["id"], mean, logvar, parts.texts, meta, parts.media, parts.more)

    def standardized(self, row: dict[str, Any]) -> Standardized | str:
        """A record's pixels for its bucket, or the sentence why there are none."""
        try:
            if row["start_s"] is not None:
                return self._clip(row)
            data = self.settings.context.fetch(row["source_uri"])
            if hashlib.sha256(data).hexdigest() != row["content_sha256"]:
                return CHANGED
            return self._decoder.standardize(data, self._recipe(row))
        except Unavailable:
            raise
        except CurationError as error:
            if isinstance(error, TimedOut):
                self._timed_out.add(row["id"])
            return str(error)

    def _clip(self, row: dict[str, Any]) -> Standardized | str:
        with on_disk(row["source_uri"], self.settings.context.fetch) as (path, sha256):
            if sha256 != row["content_sha256"]:
                return CHANGED
            clip = self._clip_of(row)
            assert clip
            count = length(clip, self.settings.encode)
            return self._videos.cut(path, _span(row), clip.fps, count, self._recipe(row), _rate(row))


def _span(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["start_s"], row["end_s"]


def _rate(row: Mapping[str, Any]) -> str | None:
    """Of the grid on which the frames of a clip's video lie."""
    rate: str | None = json.loads(row["scores"]).get("fps_fraction")
    return rate


def rows_at_once(bucket: Bucket, batch: int) -> int:
    """How many records of a bucket are decoded together: at most `batch`, and what bounds a worker's memory."""
    return max(1, min(batch, BATCH_PIXELS // (bucket.frames * bucket.height * bucket.width)))


def members_of(store: Any, job: ShardJob) -> list[dict[str, Any]]:
    """The records of a job's shard, in order."""
    rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(store.read(job.members))).to_pylist()
    return rows


def file_facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def metadata(row: dict[str, Any], bucket: Bucket, captions: list[str], fps: float | None) -> dict[str, Any]:
    """What a sample says of its record, beside how it was fitted into its bucket.

    Of a clip: its span in the source, the rate it was encoded at, and `seconds_unused` that its bucket had no room for.
    """
    scores = json.loads(row["scores"])
    own = {"extra": json.loads(row["extra"])} if row.get("extra") else {}
    clip: dict[str, Any] = {}
    if fps is not None:
        seconds = row["end_s"] - row["start_s"]
        clip = {
            "fps": fps,
            "original_fps": scores.get("fps"),
            "original_fps_fraction": scores.get("fps_fraction"),
            "original_frames": row["end_frame"] - row["start_frame"],
            "start_s": row["start_s"],
            "end_s": row["end_s"],
            "frame_start": row["start_frame"],
            "seconds_unused": round(max(0.0, seconds - bucket.frames / fps), 6),
        }
    return {
        "media": row["media"],
        "source_key": row["source_key"],
        "bucket": bucket.name,
        "frames": bucket.frames,
        "original_frames": 1,
        "width": row["width"],
        "height": row["height"],
        "target_width": bucket.width,
        "target_height": bucket.height,
        "frame_start": 0,
        "frame_step": 1,
        "captions": captions,
        "caption_sources": row["caption_sources"][: len(captions)],
        "caption_scores": json.loads(row["caption_scores"])[: len(captions)],
        "scores": scores,
    } | (clip | own)
