"""Decodes a few samples of finished shards, so that a person sees what the latents hold."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from curation.encode import EncodeSettings, ShardEncoder
from curation.jobs import WORK, ShardJob
from curation.shards.containers import container_of
from curation.shards.sample import Sample
from curation.standardize import Standardized
from curation.storage import Store

FOLDER = "reconstructions"


def reconstruct_some(store: Store, settings: EncodeSettings, reports: Sequence[Mapping[str, Any]]) -> None:
    """Write <id>.png (original left, decoded latent right) for the first ids by order, and psnr.json in dB."""
    wanted = sorted((member["id"], i) for i, report in enumerate(reports) for member in report["members"])
    wanted = wanted[: settings.encode.reconstructions]
    psnr: dict[str, float] = {}
    for entry in store.list(FOLDER):
        store.delete(entry.name)
    encoder = ShardEncoder(settings)
    for number in sorted({i for _, i in wanted}):
        report = reports[number]
        ids = {identity for identity, i in wanted if i == number}
        job = ShardJob(**report["job"])
        rows = {row["id"]: row for row in pq.read_table(pa.BufferReader(store.read(f"{WORK}/{job.name}.parquet"))).to_pylist()}
        path = report["shard"]["path"]
        for sample in container_of(path).read(store.read(f"shards/{path}"), path):
            picture = encoder.standardized(rows[sample.id]) if sample.id in ids else None
            if isinstance(picture, Standardized):
                decoded = decode(encoder.vae, sample)
                psnr[sample.id] = round(psnr_db(picture.rgb, decoded), 2)
                store.write(f"{FOLDER}/{sample.id}.png", _png(np.concatenate([picture.rgb, decoded], axis=1)))
    if psnr:
        store.write(f"{FOLDER}/psnr.json", json.dumps({"mean": round(sum(psnr.values()) / len(psnr), 2), "samples": psnr}, indent=1).encode())


def decode(vae: Any, sample: Sample) -> NDArray[np.uint8]:
    """A sample's mean as pixels: uint8 [H, W, 3]."""
    import torch

    image = vae.decode(torch.from_numpy(sample.mean.astype(np.float32))[None, :, 0])[0]
    return ((image.clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(1, 2, 0)).numpy()  # type: ignore[no-any-return]


def psnr_db(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, dB; 99 for equal ones."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return 10 * math.log10(255**2 / error) if error else 99.0


def _png(rgb: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()
