"""Decodes a few samples of finished shards, so that a person sees what the latents hold."""

import heapq
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.encoding.encode import EncodeSettings, ShardEncoder, members_of
from curation.encoding.jobs import WORK, ShardJob
from curation.encoding.publish import report_of
from curation.media.standardize import Standardized
from curation.models.vae import Vae
from curation.plan import digest
from curation.shards.containers import CONTAINERS, open_shard
from curation.shards.sample import Sample
from curation.stores.storage import Store

FOLDER = "reconstructions"
MARK = f"{WORK}/facts/reconstructions.txt"
Wanted = tuple[str, int, ShardJob]
"""A sample: id, position in its shard, the shard's job."""


def reconstruct(store: Store, settings: EncodeSettings, jobs: Sequence[ShardJob]) -> None:
    """Write <id>.png (original left, decoded latent right) for the first ids by order, and psnr.json in dB.

    The ids are hashes, so that the first of them are a random sample. Done once for a set of shards; none are
    made where there are no latents.
    """
    wanted = first_ids(store, jobs, settings.encode.reconstructions if settings.vae else 0)
    key = digest([(identity, position, job.name) for identity, position, job in wanted])
    if store.exists(MARK) and store.read(MARK).decode() == key:
        return
    for entry in store.list(FOLDER):
        store.delete(entry.name)
    with closing(ShardEncoder(settings)) as encoder:
        psnr = dict(_pictures(store, encoder, wanted))
    if psnr:
        summary = {"mean": round(sum(psnr.values()) / len(psnr), 2), "samples": psnr}
        store.write(f"{FOLDER}/psnr.json", json.dumps(summary, indent=1).encode())
    store.write(MARK, key.encode())


def first_ids(store: Store, jobs: Iterable[ShardJob], count: int) -> list[Wanted]:
    """The smallest ids of all shards: a shard's members lie sorted but for a few, so all are looked at."""
    if not count:
        return []
    members = (
        (member["id"], position, job)
        for job in jobs
        for position, member in enumerate(report_of(store, job)["members"])
    )
    return heapq.nsmallest(count, members, key=lambda wanted: wanted[0])


def _pictures(store: Store, encoder: ShardEncoder, wanted: Iterable[Wanted]) -> Iterator[tuple[str, float]]:
    suffix = CONTAINERS[encoder.settings.encode.shards.format].suffix
    for identity, position, job in wanted:
        row = members_of(store, job)[position]
        original = encoder.standardized(row)
        if isinstance(original, Standardized):  # its file may have gone since
            sample = open_shard(store.child("shards"), job.path(suffix))[position]
            decoded = decode(encoder.vae, sample)
            strips = [_strip(original.rgb), _strip(decoded)]
            store.write(f"{FOLDER}/{identity}.png", _png(np.concatenate(strips, axis=1 if decoded.ndim == 3 else 0)))
            yield identity, round(psnr_db(original.rgb, decoded), 2)


def _strip(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as it is; of a clip four frames side by side."""
    if rgb.ndim == 3:
        return rgb
    return np.concatenate([rgb[i] for i in np.linspace(0, len(rgb) - 1, 4).round().astype(int)], axis=1)


def decode(vae: Vae, sample: Sample) -> NDArray[np.uint8]:
    """A sample's mean as pixels: uint8 [H, W, 3], of a clip [T, H, W, 3]."""
    mean = sample.latents[:, 0] if sample.meta.get("frames", 1) == 1 else sample.latents
    image = np.moveaxis(vae.decode(mean), 0, -1)
    pixels: NDArray[np.uint8] = np.round(np.clip(image, -1, 1) * 127.5 + 127.5).astype(np.uint8)
    return pixels


def psnr_db(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, dB; 99 for equal ones."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return 10 * math.log10(255**2 / error) if error else 99.0


def _png(rgb: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()
