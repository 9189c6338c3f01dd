"""What the index of shards/ says of how latents and media were made."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from curation.encoding.account import Footage
from curation.encoding.jobs import WORK, encode_fingerprint
from curation.encoding.reference import calibration
from curation.manifest import EncodeSection
from curation.models import ModelInfo, open_model
from curation.models.text_spec import described_main, described_parts, encoded
from curation.plan import Plan
from curation.shards.sample import FORMAT_VERSION
from curation.shards.scaling import USUAL_RMS, normalized_rms
from curation.stores import jsontext
from curation.stores.storage import Store
from curation.video.mp4 import facts as media_facts

FACTS = f"{WORK}/facts"
FACTS_VERSION = 2
"""Raise it when the same model gives other facts."""


def index_of(plan: Plan, reports: Sequence[Mapping[str, Any]], store: Store) -> dict[str, Any]:
    """The index: what a reader must know of the samples. `reports` hold each shard's entry and its sums."""
    encode = plan.loaded.manifest.encode
    assert encode
    vae = _vae(plan.vae, encode, store) if plan.vae else None
    text = _text(plan.text, encode.text_model, store) if plan.text else None
    sums = [report["sums"] for report in reports]
    buckets = Counter[str]()
    for report in reports:
        buckets[report["shard"]["bucket"]] += report["shard"]["samples"]
    return {
        "format_version": FORMAT_VERSION,
        "shards": [report["shard"] for report in reports],
        "samples": buckets.total(),
        "buckets": buckets,
        "format": encode.shards.format,
        "vae": vae,
        "text": text and {key: text[key] for key in text if key not in ("null", "parts")},
        "null_text": text and text["null"],
        **({"text_parts": text["parts"]} if text and text.get("parts") else {}),
        "media": media_facts(encode.media, encode.fps) if encode.media else None,
        "footage": Footage.total([report["footage"] for report in reports]),
        "preprocessing": {
            "resize": f"{encode.filter}, antialiased, one resize of the crop",
            "library": f"pillow {PIL.__version__}",
            "crop": encode.crop,
            "remove_letterbox": encode.remove_letterbox,
            "range": "[-1, 1]",
        },
        "config_hash": encode_fingerprint(plan),
        "statistics": vae and statistics(sums, vae["latents_mean"], vae["latents_std"]),
        "nan_count": sum(part["nan"] for part in sums),
    }


def _vae(info: ModelInfo, encode: EncodeSection, store: Store) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        vae = open_model("vae", encode.vae)
        return {
            "id": info.id,
            "sha256": info.sha256,
            "dtype": "float32",
            "channels": vae.channels,
            "spatial_factor": vae.spatial_factor,
            "temporal_factor": getattr(vae, "temporal_factor", 1),
            "latents_mean": list(vae.latents_mean),
            "latents_std": list(vae.latents_std),
            "calibration": calibration(vae),
        }

    return _remembered(store, "vae", info, look) | {"spec": encode.vae, "precision": encode.precision}


def _text(info: ModelInfo, spec: str, store: Store) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        text = open_model("text", spec)
        null = encoded(text, [""])
        sizes = {"dimensions": text.dimensions, "max_tokens": text.max_tokens}
        facts = {"id": info.id, "sha256": info.sha256, "spec": spec, **sizes, "null": _stored(null.main[0])}
        parts = {name: known | {"null": _stored(null.more[name][0])} for name, known in described_parts(text).items()}
        return facts | described_main(text) | ({"parts": parts} if parts else {})

    return _remembered(store, "text", replace(info, id=f"{info.id} {spec}"), look)


def _stored(states: NDArray[np.float16]) -> dict[str, Any]:
    """States of one caption as JSON: their shape, and base64 of the fp16."""
    halfs = np.asarray(states, np.float16)
    return {"shape": list(halfs.shape), "fp16": base64.b64encode(halfs.tobytes()).decode()}


def _remembered(store: Store, role: str, info: ModelInfo, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Facts that need the model loaded, kept in the run: a moved threshold then loads none."""
    path = f"{FACTS}/{role}-{hashlib.sha256(f'{FACTS_VERSION} {info.id} {info.sha256}'.encode()).hexdigest()[:16]}.json"
    if not store.exists(path):
        store.write(path, json.dumps(look(), sort_keys=True).encode())
    return jsontext.read_object(store, path)


def statistics(sums: Sequence[Mapping[str, Any]], mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Over all shards' sums: mean, standard deviation and RMS per channel of the raw latents.

    normalized_rms is that of (z - mean) / std over all channels, from the VAE's own `mean` and `std`.
    """
    if not sums:
        return {"mean": [], "std": [], "rms": [], "normalized_rms": 0.0}
    values = sum(part["values"] for part in sums)
    first = np.sum([part["sum"] for part in sums], axis=0) / values
    second = np.sum([part["squares"] for part in sums], axis=0) / values
    rms = np.sqrt(second)
    return {
        "mean": first.round(6).tolist(),
        "std": np.sqrt(np.maximum(second - first**2, 0)).round(6).tolist(),
        "rms": rms.round(6).tolist(),
        "normalized_rms": round(normalized_rms(first, rms, mean, std), 6),
    }


def warnings(index: Mapping[str, Any]) -> list[str]:
    """A sentence where latents are not like those of photographs: is it the VAE's or the records' doing?"""
    if not index["vae"] or not index["samples"]:
        return []
    own, rms, (low, high) = index["vae"]["calibration"], index["statistics"]["normalized_rms"], USUAL_RMS
    name = index["vae"]["id"]
    if own is None:
        return [f"the VAE {name} gives NaN or infinite latents of a test picture: its weights may be damaged"]
    tested = own["normalized_rms"]
    if not low <= tested <= high:
        return [
            f"the VAE {name} gives normalised latents with an RMS of {tested:.2f} for a test picture, where {low} to "
            f"{high} is usual: compare scaling_factor, latents_mean and latents_std in its config.json with its model "
            "card"
        ]
    if not low <= rms <= high:
        return [
            f"the records' normalised latents have an RMS of {rms:.2f}, those of photographs about 1; the VAE's "
            f"scaling is right (a test picture gives {tested:.2f}), so it is the content, such as line art, scans or "
            "plain colours: a noise schedule made for photographs may not suit it"
        ]
    return []
