"""Hashes of one picture in several packings are near, those of different pictures far."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from skimage import data

from curation.media.decode import decode_image
from curation.pixels import Pixels
from curation.stage import Params, run_guarded
from stages.phash import PHash, look_of, phash

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina", "hubble_deep_field")
PHOTOS = {name: Image.fromarray(getattr(data, name)()) for name in NAMES}


def of(image: Image.Image) -> int:
    value = phash(Pixels.of(np.asarray(image.convert("RGB"))))
    assert value is not None
    return value


def apart(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_near(name: str) -> None:
    photo = PHOTOS[name]
    copies = [
        photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS),
        photo.resize((photo.width * 3 // 4, photo.height * 3 // 4)),
        jpeg(photo, 20),
        photo.filter(ImageFilter.GaussianBlur(2)),
        photo.point(lambda value: min(255, round(value * 1.15))),
    ]
    assert [apart(of(photo), of(copy)) <= 6 for copy in copies] == [True] * 5


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_framed_copy_is_near(name: str) -> None:
    framed = ImageOps.expand(PHOTOS[name].convert("RGB"), (0, 60), "black")
    assert apart(of(PHOTOS[name]), of(framed)) <= 2


def test_different_pictures_are_far() -> None:
    hashes = [of(photo) for photo in PHOTOS.values()]
    distances = [apart(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) > 12


def test_a_mirrored_picture_has_the_mirrored_hash() -> None:
    look, turned = (look_of(Pixels.of(np.asarray(p))) for p in (PHOTOS["coffee"], ImageOps.mirror(PHOTOS["coffee"])))
    assert look is not None and turned is not None
    assert apart(look.hash, turned.hash) > 20
    assert apart(look.mirrored, turned.hash) == apart(look.hash, turned.mirrored) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (31, 33), (64, 64)])
def test_every_size_is_hashed_or_tells_nothing(size: tuple[int, int]) -> None:
    look = look_of(Pixels.of(np.asarray(PHOTOS["rocket"].resize(size))))
    assert (look is not None) == (min(size) > 1)


def plain(draw: Callable[[ImageDraw.ImageDraw], None] = lambda _: None, ground: str = "white") -> Image.Image:
    image = Image.new("RGB", (320, 320), ground)
    draw(ImageDraw.Draw(image))
    return image


FLAT: dict[str, Image.Image] = {
    "one colour": plain(ground="orange"),
    "black": plain(ground="black"),
    "a gradient": Image.linear_gradient("L").convert("RGB"),
    "two tones": plain(lambda d: d.rectangle((0, 0, 320, 160), fill="navy")),
    "a ring": plain(lambda d: d.ellipse([150, 150, 170, 170], outline="black", width=3)),
    "a cross": plain(lambda d: d.line([150, 150, 170, 170], fill="black", width=4)),
    "a bolt": plain(lambda d: d.polygon([(165, 145), (150, 165), (160, 165), (155, 178), (172, 156)], fill="black")),
    "a star": plain(lambda d: d.regular_polygon((160, 160, 12), 5, fill="black")),
    "noise of one level": Image.fromarray(np.random.default_rng(0).integers(199, 201, (320, 320, 3), dtype=np.uint8)),
}


@pytest.mark.parametrize("name", FLAT)
def test_what_tells_nothing_has_no_hash(name: str) -> None:
    columns = run_guarded(PHash(Params()), {"pixels": [Pixels.of(np.asarray(FLAT[name]))]})
    assert columns["phash"] == [None] and columns["phash_look"] == [None]


def test_the_stage_writes_uint64() -> None:
    pictures = [Pixels.of(np.asarray(photo.convert("RGB"))) for photo in PHOTOS.values()]
    columns = run_guarded(PHash(Params()), {"pixels": pictures})
    assert pa.array(columns["phash"], PHash.writes["phash"].type).to_pylist() == [of(p) for p in PHOTOS.values()]


def test_the_pairs_of_the_corpus(shared_corpus: Path) -> None:
    """Packings, sizes, JPEG quality 20, blur and borders are found at 6 bits, all of them; crops and flips are not."""

    def hashed(name: str) -> int:
        path = next(folder / name for folder in (shared_corpus / "dups", shared_corpus) if (folder / name).exists())
        return of(decode_image(path.read_bytes(), 10**9)[0])

    near: dict[str, list[bool]] = {}
    for row in csv.DictReader((shared_corpus / "dups" / "pairs.csv").open()):
        relation = "orientation" if "orientation" in row["relation"] else row["relation"]
        near.setdefault(relation, []).append(apart(hashed(row["a"]), hashed(row["b"])) <= 6)
    found = {relation: f"{sum(flags)}/{len(flags)}" for relation, flags in near.items()}
    assert found == {
        "orientation": "4/4",
        "re-encode/format": "7/7",
        "derived:jpeg20": "6/6",
        "derived:half": "7/7",
        "derived:blur2": "7/7",
        "derived:bright": "7/8",
        "derived:border": "6/6",
        "derived:crop85": "0/7",
        "derived:hflip": "0/7",
        "different": "0/12",
    }
