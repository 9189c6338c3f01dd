"""Writes the corpus: images/, captions.jsonl for the run, planted.jsonl for the check. The same bytes every time."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from curation.quickstart import defects
from curation.quickstart.defects import DEFECTS, jpeg, png
from curation.quickstart.photos import SWAPPED, Photo, photos
from curation.quickstart.scenes import scene

CLEAN_SCENES = 92


@dataclass(frozen=True)
class Record:
    """A file to write and what is true of it; `planted` is None for a clean one."""

    data: bytes
    caption: str
    kind: str
    planted: str | None = None


def build(folder: Path) -> int:
    """Write the corpus into `folder` and return how many records it has."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records = list(_records())
    order = np.random.default_rng(7).permutation(len(records))
    with (folder / "captions.jsonl").open("w") as captions, (folder / "planted.jsonl").open("w") as planted:
        for number, i in enumerate(order):
            record = records[i]
            name = f"images/{number:04d}.jpg"
            (folder / name).write_bytes(record.data)
            captions.write(json.dumps({"file": name, "caption": record.caption, "kind": record.kind}) + "\n")
            planted.write(json.dumps({"file": name, "planted": record.planted}) + "\n")
    return len(records)


def _records() -> Iterator[Record]:
    all_photos, scenes = photos(), (scene(i) for i in count())
    clean = [Record(jpeg(photo.image), photo.caption, "photo") for photo in all_photos]
    clean += [Record(jpeg(image), caption, "drawing") for image, caption in (next(scenes) for _ in range(CLEAN_SCENES))]
    yield from clean
    yield from _copies(clean)
    yield from _swapped(all_photos)
    for defect in (
        "truncated file",
        "tiny",
        "blurred",
        "letterboxed",
        "boilerplate caption",
        "overlay text",
        "wrong extension",
    ):
        for number in range(DEFECTS[defect].count):
            image, caption = next(scenes)
            yield _spoilt(defect, number, image, caption)
    for number in range(DEFECTS["flat colour"].count):
        colour = tuple(int(c) for c in np.random.default_rng(number).integers(0, 256, 3))
        yield Record(jpeg(Image.new("RGB", (320, 240), colour)), "a surface of one colour", "drawing", "flat colour")
    for number in range(DEFECTS["not a picture"].count):
        page = f"<!DOCTYPE html><html><body><h1>404</h1>Not found: {number}</body></html>"
        yield Record(page.encode(), "a picture that is no longer there", "photo", "not a picture")


def _copies(clean: list[Record]) -> Iterator[Record]:
    """Exact and near duplicates of clean records, no record twice."""
    exact = DEFECTS["exact duplicate"].count
    for record in clean[2 : 2 + exact]:
        yield Record(record.data, record.caption, record.kind, "exact duplicate")
    for number in range(DEFECTS["near duplicate"].count):
        original = clean[2 + exact + number]
        copy, quality = defects.near_copy(_image(original.data), number)
        yield Record(jpeg(copy, quality), original.caption, original.kind, "near duplicate")


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
