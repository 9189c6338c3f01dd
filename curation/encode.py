"""Makes one shard: fetch, decode and standardize in the sandbox, VAE and text in batches, write, commit. Knows no Ray."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.buckets import Bucket, recipe
from curation.errors import CurationError
from curation.jobs import WORK, ShardJob
from curation.manifest import EncodeSection
from curation.models import ModelInfo, open_model
from curation.plan import digest
from curation.sandbox import Decoder, Limits
from curation.score import RunContext
from curation.shards.containers import CONTAINERS, container_of
from curation.shards.sample import Halfs, Sample
from curation.standardize import Recipe, Standardized
from curation.stage import sentence

STAGED = f"{WORK}/staged"


@dataclass(frozen=True)
class EncodeSettings:
    """What every encode worker of a run shares."""

    encode: EncodeSection
    vae: ModelInfo
    text: ModelInfo
    context: RunContext
    limits: Limits
    device: str = "cpu"


class ShardEncoder:
    """One worker: its models are loaded when the first latent has to be computed."""

    def __init__(self, settings: EncodeSettings) -> None:
        self.settings, self.store = settings, settings.context.store
        self._decoder: Decoder | None = None
        self._vae: Any = None
        self._text: Any = None
        self._fetchers = ThreadPoolExecutor(4, thread_name_prefix="fetch")

    @property
    def vae(self) -> Any:
        if self._vae is None:
            self._vae = open_model("vae", self.settings.encode.vae, self.settings.device)
        return self._vae

    @property
    def text(self) -> Any:
        if self._text is None:
            self._text = open_model("text", self.settings.encode.text, self.settings.device)
        return self._text

    def encode_item(self, item: dict[str, Any]) -> dict[str, Any]:
        """Make the shard of a job, or report the records that cannot be encoded; the report is committed last."""
        job = ShardJob(**item)
        rows = pq.read_table(pa.BufferReader(self.store.read(f"{WORK}/{job.name}.parquet"))).to_pylist()
        bucket = Bucket(*(int(side) for side in job.bucket.split("x")))
        samples, failures = self._samples(rows, bucket)
        report: dict[str, Any] = {"job": item, "failures": failures}
        if not failures:
            report |= self._commit(job, samples) | {"members": [self._keys(row) for row in rows]}
        self.store.write(f"{WORK}/{job.name}.json", json.dumps(report, sort_keys=True).encode())
        return {"job": item, "failures": failures, "samples": len(samples)}

    def _keys(self, row: dict[str, Any]) -> dict[str, str]:
        """What a record's latents and text states depend on: equal keys, equal bytes."""
        settings = self.settings
        wanted = self._recipe(row)
        captions = row["captions"][: settings.encode.captions]
        latent = [row["content_sha256"], repr(wanted), settings.vae.sha256, settings.vae.id, settings.encode.logvar]
        return {"id": row["id"], "key": digest(latent), "text_key": digest([captions, settings.text.sha256, settings.text.id])}

    def _recipe(self, row: dict[str, Any]) -> Recipe:
        return recipe(row["width"], row["height"], row["content_box"], self.settings.encode)

    def _samples(self, rows: Sequence[dict[str, Any]], bucket: Bucket) -> tuple[list[Sample], list[dict[str, str]]]:
        done: dict[str, Sample] = {}
        failures: list[dict[str, str]] = []
        todo = []
        for row in rows:
            sample = self._reuse(row, bucket)
            if sample is None:
                todo.append(row)
            else:
                done[row["id"]] = sample
        size = self.settings.encode.batch
        for part in (todo[i : i + size] for i in range(0, len(todo), size)):
            for row, sample in zip(part, self._encode(part, bucket), strict=True):
                if isinstance(sample, Sample):
                    done[row["id"]] = sample
                else:
                    failures.append({"id": row["id"], "error": sample})
        return [done[row["id"]] for row in rows if row["id"] in done], failures

    def _reuse(self, row: dict[str, Any], bucket: Bucket) -> Sample | None:
        """The same latents and texts out of an earlier shard of this run, if they are there and still sound."""
        if row["earlier"] is None:
            return None
        earlier, keys = json.loads(row["earlier"]), self._keys(row)
        if (earlier["key"], earlier["text_key"]) != (keys["key"], keys["text_key"]):
            return None
        try:
            old = _shard(self.store.child("shards"), earlier["path"]).get(row["id"])
        except CurationError:
            return None  # already replaced or lost: it is computed again
        if old is None:
            return None
        fitted = {name: old.meta[name] for name in ("crop_ltrb", "resized_width", "resized_height", "original_width", "original_height")}
        return Sample(old.id, old.mean, old.logvar, old.texts, self._meta(row, bucket) | fitted)

    def _encode(self, rows: Sequence[dict[str, Any]], bucket: Bucket) -> list[Sample | str]:
        """One batch: a sample per row, or the sentence why there is none."""
        pictures = list(self._fetchers.map(self.standardized, rows))
        good = [i for i, picture in enumerate(pictures) if isinstance(picture, Standardized)]
        out: list[Sample | str] = [picture if isinstance(picture, str) else "" for picture in pictures]
        if not good:
            return out
        pixels = np.stack([pictures[i].rgb for i in good])  # type: ignore[union-attr]
        means, logvars = self._posterior(pixels)
        for at, i in enumerate(good):
            picture = pictures[i]
            assert isinstance(picture, Standardized)
            if not np.isfinite(means[at]).all():
                out[i] = "the VAE gave values that are NaN or infinite"
                continue
            fitted = {
                "crop_ltrb": list(picture.crop_ltrb),
                "resized_width": picture.resized[0],
                "resized_height": picture.resized[1],
                "original_width": picture.info["original_width"],
                "original_height": picture.info["original_height"],
            }
            captions = rows[i]["captions"][: self.settings.encode.captions]
            texts = self.text.tokens(captions) if captions else []
            out[i] = Sample(rows[i]["id"], means[at], None if logvars is None else logvars[at], texts, self._meta(rows[i], bucket) | fitted)
        return out

    def standardized(self, row: dict[str, Any]) -> Standardized | str:
        """A record's pixels for its bucket, or the sentence why there are none."""
        self._decoder = self._decoder or Decoder(self.settings.limits)
        try:
            data = self.settings.context.fetch(row["source_uri"])
            if hashlib.sha256(data).hexdigest() != row["content_sha256"]:
                return "the file changed since it was scored: `curate run --retry` scores it again"
            return self._decoder.standardize(data, self._recipe(row))
        except CurationError as error:
            return str(error)

    def _posterior(self, pixels: NDArray[np.uint8]) -> tuple[Halfs, Halfs | None]:
        """uint8 [B, H, W, 3] -> raw mean and log-variance, fp16 [B, C, 1, h, w]; a constant log-variance as [B, C, 1, 1, 1]."""
        import torch

        with _one_thread():
            values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
            try:
                mean, logvar = self.vae.encode(values)
            except (RuntimeError, ValueError) as error:
                raise CurationError(f"the VAE {self.settings.vae.id} cannot encode {tuple(values.shape)}: {sentence(error)}") from error
        if logvar is None or not self.settings.encode.logvar:
            return _half(mean), None
        logvar = logvar.clamp(-30, 20)
        constant = bool((logvar == logvar[..., :1, :1]).all())
        return _half(mean), _half(logvar[..., :1, :1] if constant else logvar)

    def _meta(self, row: dict[str, Any], bucket: Bucket) -> dict[str, Any]:
        kept = self.settings.encode.captions
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
            "captions": row["captions"][:kept],
            "caption_sources": row["caption_sources"][:kept],
            "scores": json.loads(row["scores"]),
        }

    def _commit(self, job: ShardJob, samples: Sequence[Sample]) -> dict[str, Any]:
        """Write the staged shard; returns what the index says of it."""
        container = CONTAINERS[self.settings.encode.shards.format]
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / f"shard{container.suffix}"
            container.write(local, samples)
            sha256, size = hashlib.sha256(local.read_bytes()).hexdigest(), local.stat().st_size
            self.store.put(f"{STAGED}/{job.name}{container.suffix}", local)
        entry = {"path": job.path(container.suffix), "bucket": job.bucket, "samples": len(samples), "bytes": size, "sha256": sha256}
        return {"shard": entry, "sums": channel_sums(samples)}


def channel_sums(samples: Iterable[Sample]) -> dict[str, Any]:
    """Per channel: how many values, their sum and sum of squares (float64), and how many are not finite."""
    means = np.stack([sample.mean for sample in samples]).astype(np.float64)
    axes = (0, 2, 3, 4)
    return {
        "values": int(means.size // means.shape[1]),
        "sum": means.sum(axes).tolist(),
        "squares": np.square(means).sum(axes).tolist(),
        "nan": int((~np.isfinite(means)).sum()),
    }


def _half(tensor: Any) -> Halfs:
    """fp16 with a time axis: [B, C, h, w] -> [B, C, 1, h, w]."""
    return tensor.cpu().numpy().astype(np.float16)[:, :, None]  # type: ignore[no-any-return]


class _one_thread:  # noqa: N801 (used as a statement)
    """Results must not depend on how many threads a worker happens to have."""

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_num_threads(self.before)


@lru_cache(maxsize=4)
def _shard(store: Any, path: str) -> dict[str, Sample]:
    return {sample.id: sample for sample in container_of(path).read(store.read(path), path)}
