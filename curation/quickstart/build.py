"""Writes the corpus: images/, captions.jsonl for the run, planted.jsonl for the check. The same bytes every time."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from curation.quickstart import defects
from curation.quickstart.defects import DEFECTS, jpeg, png
from curation.quickstart.photos import SWAPPED, Photo, photos
from curation.quickstart.scenes import scene

CLEAN_SCENES = 92
DRAWN = (
    "truncated file",
    "tiny",
    "blurred",
    "letterboxed",
    "boilerplate caption",
    "overlay text",
    "wrong extension",
)
"""Defects of drawings; those of photos and of nothing at all are made elsewhere."""


@dataclass(frozen=True)
class Record:
    """A file to write and what is true of it; `planted` is None for a clean one, `copy_of` an index of _records()."""

    data: bytes
    caption: str
    kind: str
    planted: str | None = None
    copy_of: int | None = None


def build(folder: Path) -> int:
    """Write the corpus into `folder` and return how many records it has."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records = list(_records())
    order = np.random.default_rng(7).permutation(len(records)).tolist()
    names = {record: f"images/{number:04d}.jpg" for number, record in enumerate(order)}
    captions, planted = [], []
    for i, name in names.items():
        record = records[i]
        (folder / name).write_bytes(record.data)
        captions.append({"file": name, "caption": record.caption, "kind": record.kind})
        copy_of = None if record.copy_of is None else names[record.copy_of]
        planted.append({"file": name, "planted": record.planted, "copy_of": copy_of})
    for name, rows in (("captions.jsonl", captions), ("planted.jsonl", planted)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(records)


def _records() -> Iterator[Record]:
    all_photos, scenes = photos(), (scene(i) for i in count())
    clean = [Record(jpeg(photo.image), photo.caption, "photo") for photo in all_photos]
    clean += [Record(jpeg(image), caption, "drawing") for image, caption in (next(scenes) for _ in range(CLEAN_SCENES))]
    yield from clean
    yield from _copies(clean, len(all_photos))
    yield from _swapped(all_photos)
    for defect in DRAWN:
        for number in range(DEFECTS[defect].count):
            image, caption = next(scenes)
            yield _spoilt(defect, number, image, caption)
    for number in range(DEFECTS["flat colour"].count):
        colour = tuple(int(c) for c in np.random.default_rng(number).integers(0, 256, 3))
        yield Record(jpeg(Image.new("RGB", (320, 240), colour)), "a surface of one colour", "drawing", "flat colour")
    for number in range(DEFECTS["not a picture"].count):
        page = f"<!DOCTYPE html><html><body><h1>404</h1>Not found: {number}</body></html>"
        yield Record(page.encode(), "a picture that is no longer there", "photo", "not a picture")


def _copies(clean: list[Record], photo_count: int) -> Iterator[Record]:
    """Exact and near duplicates, half of photos and half of drawings; no record is copied twice."""
    for i in _halves(DEFECTS["exact duplicate"].count, 0, photo_count):
        yield replace(clean[i], planted="exact duplicate", copy_of=i)
    first = DEFECTS["exact duplicate"].count
    for number, i in enumerate(_halves(DEFECTS["near duplicate"].count, first, photo_count + first)):
        copy, quality = defects.near_copy(_image(clean[i].data), number)
        yield replace(clean[i], data=jpeg(copy, quality), planted="near duplicate", copy_of=i)


def _halves(count: int, photo: int, drawing: int) -> list[int]:
    """Half of `count` indices from `photo` on, the rest from `drawing` on."""
    return [*range(photo, photo + count // 2), *range(drawing, drawing + count - count // 2)]


def _image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _swapped(all_photos: list[Photo]) -> Iterator[Record]:
    """The larger part of each photo with the next one's caption."""
    chosen = [photo for name in SWAPPED for photo in all_photos if photo.name == name]
    for photo, other in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        width, height = photo.image.size
        part = photo.image.crop((width // 8, height // 8, width, height))
        yield Record(jpeg(part), other.caption, "photo", "swapped caption")


def _spoilt(defect: str, number: int, image: Image.Image, caption: str) -> Record:
    data = jpeg(image)
    if defect == "truncated file":
        data = data[: round(len(data) * 0.55)]
    elif defect == "tiny":
        data = jpeg(image.resize((32, 24), Image.Resampling.LANCZOS))
    elif defect == "blurred":
        data = jpeg(defects.blurred(image))
    elif defect == "letterboxed":
        data = jpeg(defects.letterboxed(image, number))
    elif defect == "boilerplate caption":
        caption = defects.BOILERPLATE[number % len(defects.BOILERPLATE)]
    elif defect == "overlay text":
        data = jpeg(defects.with_words(image, number))
    elif defect == "wrong extension":
        data = png(image)
    return Record(data, caption, "drawing", defect)
