"""Samples and folders of shards for the tests of curation.shards."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curation.shards import index
from curation.shards.containers import CONTAINERS
from curation.shards.sample import FORMAT_VERSION, Sample
from curation.stores.storage import Store

VAE = "c0ffee" + "0" * 58


def samples(count: int, seed: int = 0, bucket: str = "1x32x48", logvar: str = "constant") -> list[Sample]:
    """Samples of unit-scale latents [4, T, h, w] with 0, 1, 2 ... captions in turn; each frame is a latent's."""
    rng = np.random.default_rng(seed)
    frames, height, width = (int(side) for side in bucket.split("x"))

    def halfs(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float16)

    made = []
    for i in range(count):
        spread = {
            "constant": np.full((4, 1, 1, 1), -6, np.float16),
            "full": halfs(4, frames, height // 8, width // 8) - 6,
            "none": None,
        }[logvar]
        captions = [f'caption {k} of {i}: \u00e9\u4e2d\U0001f600 "quoted"' for k in range(i % 3)]
        texts = [halfs(3 + k, 8) for k in range(len(captions))]
        meta = {
            "bucket": bucket,
            "media": "image" if frames == 1 else "video",
            "captions": captions,
            "caption_sources": ["source"] * len(captions),
        }
        identity = hashlib.md5(f"{seed} {i}".encode()).hexdigest()
        mean = halfs(4, frames, height // 8, width // 8)
        made.append(Sample(identity, mean, spread, texts, meta | {"scores": {"aesthetic": i / 8}}))
    return made


def same(a: Sample, b: Sample) -> bool:
    """Equal to the byte."""
    pairs = [(a.mean, b.mean), *zip(a.texts, b.texts, strict=True)]
    if a.parts.keys() != b.parts.keys():
        return False
    for name in a.parts:
        pairs += zip(a.parts[name], b.parts[name], strict=True)
    if a.logvar is not None and b.logvar is not None:
        pairs.append((a.logvar, b.logvar))
    arrays = all(
        x.dtype == y.dtype == np.float16 and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs
    )
    return (a.id, a.meta, a.logvar is None) == (b.id, b.meta, b.logvar is None) and arrays


def folder(root: Path, format: str, shards: Sequence[tuple[str, list[Sample]]], **changes: Any) -> Path:
    """A shards/ folder of (bucket, samples); `changes` replace keys of its index."""
    entries: list[dict[str, Any]] = []
    container = CONTAINERS[format]
    for bucket, members in shards:
        path = f"{bucket}/{sum(entry['bucket'] == bucket for entry in entries):05d}{container.suffix}"
        (root / bucket).mkdir(parents=True, exist_ok=True)
        container.write(root / path, members)
        data = (root / path).read_bytes()
        facts = {"samples": len(members), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        entries.append({"path": path, "bucket": bucket, **facts})
    described = {
        "format_version": FORMAT_VERSION,
        "shards": entries,
        "samples": sum(entry["samples"] for entry in entries),
        "vae": {
            "id": "test", "sha256": VAE, "channels": 4, "spatial_factor": 8, "temporal_factor": 1,
            "latents_mean": [0.5, 0, 0, 0], "latents_std": [2.0, 1, 1, 1],
        },
        "text": {"id": "test", "sha256": "", "dimensions": 8, "max_tokens": 16},
        "null_text": {"shape": [1, 2], "fp16": "AAAAPA=="},
        "preprocessing": {},
        "config_hash": "",
        "statistics": {"normalized_rms": 1.0},
        "nan_count": 0,
    }  # fmt: skip
    index.write(Store(str(root)), described | changes)
    return root
