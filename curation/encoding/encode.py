"""Makes one shard: fetch, decode and standardize in the sandbox, VAE, text, commit. Knows no Ray."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.encoding.buckets import Bucket, length, recipe
from curation.encoding.earlier import EarlierShards, Keys
from curation.encoding.jobs import CODE_VERSION, ShardJob, seconds_of
from curation.errors import CurationError
from curation.manifest import EncodeSection
from curation.media.sandbox import Decoder, Limits
from curation.media.standardize import Recipe, Standardized
from curation.models import ModelInfo, open_model
from curation.plan import digest
from curation.scoring.score import RunContext
from curation.shards.containers import CONTAINERS
from curation.shards.sample import Halfs, Sample
from curation.stage import sentence
from curation.video.reader import VideoReader, on_disk

FETCHERS = 4
CHANGED = "the file changed since it was scored: `curate run --retry` scores it again"
FITTED = ("crop_ltrb", "resized_width", "resized_height", "original_width", "original_height")
Posterior = tuple[Halfs, Halfs | None]


@dataclass(frozen=True)
class EncodeSettings:
    """What every encode worker of a run shares."""

    encode: EncodeSection
    vae: ModelInfo
    text: ModelInfo
    context: RunContext
    limits: Limits
    device: str = "cpu"
    video_decoder: str = "pyav"


class ShardEncoder:
    """One worker: its models are loaded when the first latent has to be computed."""

    def __init__(self, settings: EncodeSettings) -> None:
        self.settings, self.store = settings, settings.context.store
        self._decoder = Decoder(settings.limits)
        self._videos = VideoReader(settings.limits, settings.video_decoder)
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._earlier = EarlierShards(self.store)

    @property
    def vae(self) -> Any:
        return open_model("vae", self.settings.encode.vae, self.settings.device)

    @property
    def text(self) -> Any:
        return open_model("text", self.settings.encode.text, self.settings.device)

    def encode_item(self, item: dict[str, Any]) -> dict[str, Any]:
        """Make the shard of a job, or report the records that cannot be encoded; the report comes last.

        The shard is written only when all its records could be encoded: otherwise they are dealt anew.
        """
        job = ShardJob(**item)
        rows = members_of(self.store, job)
        failures: list[dict[str, str]] = []
        report: dict[str, Any] = {"job": item, "failures": failures}
        container = CONTAINERS[self.settings.encode.shards.format]
        with tempfile.TemporaryDirectory() as folder:
            local, sums = Path(folder) / f"shard{container.suffix}", ChannelSums()
            container.write(local, self._samples(rows, Bucket.named(job.bucket), failures, sums))
            if not failures:
                report["shard"] = {
                    "path": job.path(container.suffix),
                    "bucket": job.bucket,
                    "samples": len(rows),
                } | file_facts(local)
                report["sums"] = sums.as_json()
                report["members"] = [{"id": row["id"], **asdict(self._keys(row))} for row in rows]
                self.store.put(job.staged(container.suffix), local)
        name = job.failed if failures else job.done
        self.store.write(name, json.dumps(report, sort_keys=True).encode())
        return {"job": item, "failures": failures, "samples": len(rows)}

    def close(self) -> None:
        """End the decoder's process and the threads."""
        self._fetchers.shutdown()
        self._decoder.close()
        self._videos.close()

    def _keys(self, row: dict[str, Any]) -> Keys:
        settings = self.settings
        row = row | {"frames": self._frames(row)}
        span = [row["start_s"], row["end_s"], settings.encode.fps, row["frames"], settings.video_decoder]
        span = span if row["media"] == "video" else []
        made = [*span, CODE_VERSION, PIL.__version__, settings.vae.id, settings.vae.sha256, settings.encode.logvar]
        latents = digest([row["content_sha256"], repr(self._recipe(row)), *made])
        return Keys(latents, digest([self._captions(row), settings.text.id, settings.text.sha256]))

    def _frames(self, row: dict[str, Any]) -> int:
        return length(seconds_of(row), self.settings.encode)

    def _recipe(self, row: dict[str, Any]) -> Recipe:
        return recipe(row["width"], row["height"], row["content_box"], self.settings.encode)

    def _captions(self, row: dict[str, Any]) -> list[str]:
        captions: list[str] = row["captions"][: self.settings.encode.captions]
        return captions

    def _samples(
        self,
        rows: Sequence[dict[str, Any]],
        bucket: Bucket,
        failures: list[dict[str, str]],
        sums: "ChannelSums",
    ) -> Iterator[Sample]:
        """The samples in order; records without one are added to `failures`."""
        size = self.settings.encode.batch
        for part in (rows[i : i + size] for i in range(0, len(rows), size)):
            # The shard is lost after a failure: the rest is only looked at, to find all failures at once.
            made = self._checked(part) if failures else self._encode(part, bucket)
            for row, sample in zip(part, made, strict=True):
                if isinstance(sample, str):
                    failures.append({"id": row["id"], "error": sample})
                elif isinstance(sample, Sample):
                    sums.add(sample)
                    yield sample

    def _checked(self, rows: Sequence[dict[str, Any]]) -> list[str | None]:
        pictures = self._fetchers.map(self.standardized, rows)
        return [picture if isinstance(picture, str) else None for picture in pictures]

    def _encode(self, rows: Sequence[dict[str, Any]], bucket: Bucket) -> list[Sample | str]:
        """One batch: a sample per row, or the sentence why there is none."""
        earlier = [self._earlier.find(row, self._keys(row)) for row in rows]
        new = [i for i, found in enumerate(earlier) if found is None]
        pictures = dict(zip(new, self._fetchers.map(self.standardized, [rows[i] for i in new]), strict=True))
        good = {i: picture for i, picture in pictures.items() if isinstance(picture, Standardized)}
        posteriors = dict(zip(good, self._posteriors([picture.rgb for picture in good.values()]), strict=True))
        out: list[Sample | str] = []
        for i, row in enumerate(rows):
            found = earlier[i]
            if found is not None:
                out.append(self._again(row, bucket, *found))
            elif i in good:
                out.append(self._fresh(row, bucket, good[i], posteriors[i]))
            else:
                out.append(str(pictures[i]))
        return out

    def _fresh(self, row: dict[str, Any], bucket: Bucket, picture: Standardized, posterior: Posterior) -> Sample | str:
        if not all(np.isfinite(part).all() for part in posterior if part is not None):
            return "the VAE gave values that are NaN or infinite in fp16"
        original = (picture.info["original_width"], picture.info["original_height"])
        fitted = dict(zip(FITTED, (list(picture.crop_ltrb), *picture.resized, *original), strict=True))
        return self._sample(
            row, posterior, None, metadata(row, bucket, self._captions(row), self.settings.encode.fps) | fitted
        )

    def _again(self, row: dict[str, Any], bucket: Bucket, old: Sample, texts_hold: bool) -> Sample | str:
        fitted = {name: old.meta[name] for name in FITTED}
        texts = old.texts if texts_hold else None
        return self._sample(
            row,
            (old.mean, old.logvar),
            texts,
            metadata(row, bucket, self._captions(row), self.settings.encode.fps) | fitted,
        )

    def _sample(
        self, row: dict[str, Any], posterior: Posterior, texts: list[Halfs] | None, meta: dict[str, Any]
    ) -> Sample | str:
        if texts is None:
            try:
                texts = self.text.tokens(self._captions(row))
            except Exception as error:  # noqa: BLE001 (one caption must not cost a shard)
                return f"the text encoder failed on its captions: {sentence(error)}"
        return Sample(row["id"], *posterior, texts, meta)

    def standardized(self, row: dict[str, Any]) -> Standardized | str:
        """A record's pixels for its bucket, or the sentence why there are none."""
        try:
            if row["start_s"] is not None:
                return self._clip(row)
            data = self.settings.context.fetch(row["source_uri"])
            if hashlib.sha256(data).hexdigest() != row["content_sha256"]:
                return CHANGED
            return self._decoder.standardize(data, self._recipe(row))
        except CurationError as error:
            return str(error)

    def _clip(self, row: dict[str, Any]) -> Standardized | str:
        with on_disk(row["source_uri"], self.settings.context.fetch) as (path, sha256):
            if sha256 != row["content_sha256"]:
                return CHANGED
            span = row["start_s"], row["end_s"]
            return self._videos.cut(path, span, self.settings.encode.fps, self._frames(row), self._recipe(row))

    def _posteriors(self, pictures: Sequence[NDArray[np.uint8]]) -> Iterator[Posterior]:
        """uint8 [(T,) H, W, 3] each -> raw mean and log-variance, fp16 [C, t, h, w]; constant ones [C, 1, 1, 1].

        On a CPU one by one: that costs nothing, and no convolution's choice of algorithm can make a latent
        depend on its neighbours in the batch.
        """
        size = 1 if self.settings.device == "cpu" else max(1, len(pictures))
        for batch in (pictures[i : i + size] for i in range(0, len(pictures), size)):
            means, logvars = self._posterior(np.stack(batch))
            for i in range(len(batch)):
                yield _half(means[i]), None if logvars is None else _half(_spatially_constant(logvars[i]))

    def _posterior(self, pixels: NDArray[np.uint8]) -> tuple[Any, Any]:
        """uint8 [B, (T,) H, W, 3] -> float32 mean and log-variance (None where it is not stored) [B, C, (t,) h, w]."""
        import torch

        with one_thread():
            # contiguous: the last bit of a convolution depends on the memory layout
            values = torch.from_numpy(pixels).movedim(-1, 1).contiguous().float() / 127.5 - 1
            try:
                mean, logvar = self.vae.encode(values.to(self.settings.device))
            except (RuntimeError, ValueError, AssertionError) as error:  # the last: torch without CUDA
                what = f"the VAE {self.settings.vae.id} cannot encode {tuple(values.shape)}"
                raise CurationError(f"{what}: {sentence(error)}") from error
        return mean, logvar.clamp(-30, 20) if logvar is not None and self.settings.encode.logvar else None


def members_of(store: Any, job: ShardJob) -> list[dict[str, Any]]:
    """The records of a job's shard, in order."""
    rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(store.read(job.members))).to_pylist()
    return rows


def file_facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def metadata(row: dict[str, Any], bucket: Bucket, captions: list[str], fps: float) -> dict[str, Any]:
    """What a sample says of its record, beside how it was fitted into its bucket.

    Of a clip: its span in the source, the rate it was encoded at, and `seconds_unused` that its bucket had no room for.
    """
    scores = json.loads(row["scores"])
    clip: dict[str, Any] = {}
    if row["start_s"] is not None:
        seconds = row["end_s"] - row["start_s"]
        clip = {
            "fps": fps,
            "original_fps": scores.get("fps"),
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
        "scores": scores,
    } | clip


class ChannelSums:
    """Per channel of the stored means: how many values, their sum and sum of squares; how many not finite."""

    def __init__(self) -> None:
        self.values, self.nan = 0, 0
        self.sum: NDArray[np.float64] = np.zeros(0)
        self.squares: NDArray[np.float64] = np.zeros(0)

    def add(self, sample: Sample) -> None:
        mean = sample.mean.astype(np.float64).reshape(len(sample.mean), -1)
        if not self.values:
            self.sum, self.squares = np.zeros(len(mean)), np.zeros(len(mean))
        self.values += mean.shape[1]
        self.nan += int((~np.isfinite(mean)).sum())
        self.sum += mean.sum(1)
        self.squares += np.square(mean).sum(1)

    def as_json(self) -> dict[str, Any]:
        return {
            "values": self.values,
            "sum": self.sum.tolist(),
            "squares": self.squares.tolist(),
            "nan": self.nan,
        }


def _half(tensor: Any) -> Halfs:
    """fp16 with a time axis: [C, h, w] -> [C, 1, h, w]; a clip has its own."""
    with np.errstate(over="ignore"):  # becomes infinite, which the caller looks for
        values = tensor.cpu().numpy().astype(np.float16)
    return values if values.ndim == 4 else values[:, None]  # type: ignore[no-any-return]


def _spatially_constant(logvar: Any) -> Any:
    """[C, (t,) h, w], or [C, (1,) 1, 1] where that says the same."""
    corner = logvar.flatten(1)[:, 0].view(-1, *[1] * (logvar.ndim - 1))
    return corner if bool((logvar == corner).all()) else logvar


@contextmanager
def one_thread() -> Iterator[None]:
    """Results must not depend on how many threads a worker happens to have."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
