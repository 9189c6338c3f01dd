"""Letterboxes are found wherever they are and photos are never cut."""

import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from curation.media.borders import content_box
from curation.pixels import Pixels

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry")
PHOTOS = {name: Image.fromarray(getattr(data, name)()) for name in NAMES}
OTHERS = (
    "camera",
    "moon",
    "page",
    "text",
    "coins",
    "brick",
    "grass",
    "gravel",
    "hubble_deep_field",
    "retina",
)


def of(image: Image.Image) -> Pixels:
    return Pixels.of(np.asarray(image.convert("RGB")))


def planted(
    photo: Image.Image, kind: str, share: float, colour: tuple[int, int, int]
) -> tuple[Image.Image, tuple[int, ...]]:
    """The photo with bars that take `share` of each side, and where the photo lies in it."""
    x, y = (int(np.ceil(side * share / (1 - 2 * share))) for side in photo.size)
    x, y = (0 if kind == "letterbox" else x), (0 if kind == "pillarbox" else y)
    framed = Image.new("RGB", (photo.width + 2 * x, photo.height + 2 * y), colour)
    framed.paste(photo, (x, y))
    return framed, (x, y, x + photo.width, y + photo.height)


KINDS = ("letterbox", "pillarbox", "frame")
BARS = [
    (kind, share, colour)
    for kind, share in product(KINDS, (0.04, 0.08, 0.2))
    for colour in ((0, 0, 0), (16, 16, 16), (255, 255, 255), (30, 60, 200))
    if kind != "frame" or share < 0.2 or max(colour) < 40  # a third of the picture amid a colour is a thing on a page
]


@pytest.mark.parametrize("quality", [None, 90, 60])
@pytest.mark.parametrize(("kind", "share", "colour"), BARS)
def test_bars_are_found(kind: str, share: float, colour: tuple[int, int, int], quality: int | None) -> None:
    for name, photo in PHOTOS.items():
        framed, expected = planted(photo, kind, share, colour)
        if quality:
            buffer = io.BytesIO()
            framed.save(buffer, "JPEG", quality=quality)
            framed = Image.open(buffer)
        found = content_box(of(framed))
        assert found is not None, name
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= (3 if quality else 0), name


@pytest.mark.parametrize("name", [*NAMES, *OTHERS])
def test_a_photo_without_bars_has_none(name: str) -> None:
    image = Image.fromarray(getattr(data, name)())
    assert content_box(of(image)) is None


def test_one_bar_is_no_border() -> None:
    sky = Image.new("RGB", (600, 500), "white")
    sky.paste(PHOTOS["coffee"], (0, 100))
    assert content_box(of(sky)) is None


def test_bars_of_two_colours_are_no_border() -> None:
    picture = Image.new("RGB", (600, 600), "white")
    picture.paste((0, 0, 0), (0, 500, 600, 600))
    picture.paste(PHOTOS["coffee"], (0, 100))
    assert content_box(of(picture)) is None


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 900), (16, 16), (100, 100)])
def test_a_single_colour_has_no_content_to_box(size: tuple[int, int]) -> None:
    assert content_box(of(Image.new("RGB", size, "teal"))) is None


def test_an_object_on_a_plain_ground_is_not_boxed() -> None:
    ground = Image.new("RGB", (400, 400), "black")
    y, x = np.mgrid[:400, :400]
    disc = Image.fromarray((((x - 200) ** 2 + (y - 200) ** 2 < 120**2) * 255).astype(np.uint8))
    ground.paste(PHOTOS["astronaut"].resize((400, 400)), (0, 0), disc)
    assert content_box(of(ground)) is None


PAGES = [(255, 255, 255), (240, 235, 225), (200, 200, 210), (30, 60, 200), (20, 20, 20), (0, 0, 0)]


@pytest.mark.parametrize("colour", PAGES)
def test_a_thing_on_a_page_is_the_picture(colour: tuple[int, int, int]) -> None:
    """A book, a phone, a print: straight edges, in the middle of a page of one colour."""
    for name, photo in PHOTOS.items():
        for size in ((150, 193), (110, 170), (244, 217), (200, 90)):
            page = Image.new("RGB", (400, 400), colour)
            page.paste(photo.resize(size), ((400 - size[0]) // 2, (400 - size[1]) // 2))
            assert content_box(of(page)) is None, name


@pytest.mark.parametrize("colour", PAGES[:3])
def test_a_thing_with_two_straight_edges_is_no_letterbox(colour: tuple[int, int, int]) -> None:
    """A box seen from the side: its top and bottom are straight, its sides slant."""
    for name, photo in PHOTOS.items():
        thing = (
            photo.resize((300, 200))
            .convert("RGBA")
            .transform((300, 200), Image.Transform.QUAD, (60, 0, -60, 200, 360, 200, 240, 0), fillcolor=(0, 0, 0, 0))
        )
        page = Image.new("RGBA", (400, 400), (*colour, 255))
        page.alpha_composite(thing, (50, 100))
        assert content_box(of(page)) is None, name


def test_a_mat_round_a_photo_is_a_border() -> None:
    for photo in PHOTOS.values():
        framed, expected = planted(photo, "frame", 0.09, (250, 250, 245))
        assert content_box(of(framed)) == expected


def test_no_web_photo_is_cut(shared_corpus: Path) -> None:
    photos = [*(shared_corpus / "images").glob("coco_*.jpg"), *(shared_corpus / "images").glob("mdn_*")]
    assert len(photos) == 151
    assert [path.name for path in photos if content_box(of(Image.open(path)))] == []
