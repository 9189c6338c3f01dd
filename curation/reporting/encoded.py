"""What encoding makes of records, for the report page: the part that is encoded, and pictures decoded again."""

import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from PIL import Image

from curation.encoding.buckets import choose, content
from curation.encoding.reconstruct import FOLDER
from curation.errors import CurationError
from curation.manifest import EncodeSection, Manifest
from curation.media.sandbox import Decoder, Limits
from curation.reporting.packing import jpeg
from curation.stores.storage import Store

MOST, WIDEST = 16, 720
"""So many reconstructions are shown, and so wide at most, original and decoded latent together, px."""


def encoded_part(row: Mapping[str, Any], encode: EncodeSection | None) -> list[float] | None:
    """Left, top, right, bottom of what is encoded, as shares of width and height; None where it is all, or not known.

    A smart crop depends on the pixels: for it, what lies inside the borders is given.
    """
    width, height = row.get("width"), row.get("height")
    if encode is None or not width or not height:
        return None
    left, top, right, bottom = (float(side) for side in content(width, height, row.get("content_box"), encode))
    if encode.crop == "center":
        bucket = choose(width, height, row.get("content_box"), encode)
        aspect = bucket.width / bucket.height
        over_x = max(0.0, right - left - (bottom - top) * aspect) / 2
        over_y = max(0.0, bottom - top - (right - left) / aspect) / 2
        left, right, top, bottom = left + over_x, right - over_x, top + over_y, bottom - over_y
    part = [left / width, top / height, right / width, bottom / height]
    return None if all(abs(a - b) < 0.005 for a, b in zip(part, (0, 0, 1, 1), strict=True)) else part


def reconstructions(store: Store, manifest: Manifest) -> list[dict[str, Any]]:
    """Originals beside what their latents decode to, the worst first, with their PSNR in dB."""
    if not store.exists(f"{FOLDER}/psnr.json"):
        return []
    psnr: dict[str, float] = json.loads(store.read(f"{FOLDER}/psnr.json"))["samples"]
    made = []
    with closing(Decoder(Limits.of(manifest.engine))) as decoder:
        for identity in sorted(psnr, key=lambda name: (psnr[name], name))[:MOST]:
            try:
                rgb = decoder.decode(store.read(f"{FOLDER}/{identity}.png")).rgb
            except (CurationError, FileNotFoundError):
                continue  # encoding again replaces them one by one
            image = Image.fromarray(rgb)
            image.thumbnail((WIDEST, WIDEST))
            made.append({"id": identity, "psnr": psnr[identity], "data": jpeg(image, 85)})
    return made
