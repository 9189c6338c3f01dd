"""A bucket's pixels are Pillow's own, bit for bit, and say from where in the picture they come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from curation.media.standardize import FILTERS, Recipe, crop_box, standardize

PHOTO = Image.fromarray(data.coffee())  # 600 x 400


@pytest.mark.parametrize("filter", ["lanczos", "bicubic", "box"])
@pytest.mark.parametrize("crop", ["center", "smart"])
def test_the_pixels_are_pillows(filter: str, crop: str) -> None:
    made = standardize(PHOTO, Recipe(192, 256, crop, filter=filter))  # type: ignore[arg-type]
    expected = PHOTO.resize((192, 256), FILTERS[filter], box=made.crop_ltrb)
    assert np.array_equal(made.rgb, np.asarray(expected))


def test_a_centre_crop() -> None:
    made = standardize(PHOTO, Recipe(256, 256))
    assert made.crop_ltrb == (100, 0, 500, 400)
    assert made.resized == (384, 256)
    assert made.rgb.shape == (256, 256, 3)


def test_a_picture_of_the_buckets_size_is_left_as_it_is() -> None:
    made = standardize(PHOTO, Recipe(600, 400))
    assert made.crop_ltrb == (0, 0, 600, 400)
    assert np.array_equal(made.rgb, np.asarray(PHOTO))


def test_a_small_picture_is_enlarged() -> None:
    made = standardize(PHOTO.resize((30, 20)), Recipe(64, 64))
    assert made.crop_ltrb == (5, 0, 25, 20)
    assert made.resized == (96, 64)


def test_only_the_content_box_is_used() -> None:
    framed = Image.new("RGB", (700, 600))
    framed.paste(PHOTO, (40, 90))
    inside = standardize(framed, Recipe(256, 256, box=(40, 90, 640, 490)))
    assert inside.crop_ltrb == (140, 90, 540, 490)
    assert np.array_equal(inside.rgb, standardize(PHOTO, Recipe(256, 256)).rgb)


@pytest.mark.parametrize("box", [(0, 0, 601, 400), (-1, 0, 10, 10), (50, 10, 50, 20), (0, 9, 9, 8)])
def test_a_content_box_that_does_not_fit_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not inside the picture, 600x400"):
        standardize(PHOTO, Recipe(64, 64, box=box))


@pytest.mark.parametrize(("place", "expected"), [(0, 0), (300, 200), (500, 400)])
def test_a_smart_crop_keeps_what_has_edges(place: int, expected: int) -> None:
    picture = Image.new("RGB", (600, 200), (90, 120, 200))
    picture.paste(Image.fromarray(data.astronaut()).resize((100, 200)), (place, 0))
    left, top, right, bottom = standardize(picture, Recipe(128, 128, "smart")).crop_ltrb
    assert (top, right - left, bottom) == (0, 200, 200)
    assert left <= place + 5
    assert right >= place + 95


def test_a_smart_crop_works_downwards_too() -> None:
    picture = Image.new("RGB", (200, 600), (90, 120, 200))
    picture.paste(Image.fromarray(data.astronaut()).resize((200, 100)), (0, 490))
    left, top, right, bottom = standardize(picture, Recipe(128, 128, "smart")).crop_ltrb
    assert (left, right, bottom - top) == (0, 200, 200)
    assert bottom >= 585


@pytest.mark.parametrize("colour", ["black", "white", "orange"])
def test_a_smart_crop_of_nothing_is_the_centre(colour: str) -> None:
    picture = Image.new("RGB", (600, 200), colour)
    left, _, right, _ = standardize(picture, Recipe(128, 128, "smart")).crop_ltrb
    assert abs((left + right) / 2 - 300) <= 4


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    bucket=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop=st.sampled_from(["center", "smart"]),
)
def test_any_picture_fits_any_bucket(size: tuple[int, int], bucket: tuple[int, int], crop: str) -> None:
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    recipe = Recipe(bucket[0] * 8, bucket[1] * 8, crop)  # type: ignore[arg-type]
    left, top, right, bottom = crop_box(picture, (0, 0, *size), recipe)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert right - left == size[0] or bottom - top == size[1]
    made = standardize(picture, recipe)
    assert made.rgb.shape == (recipe.height, recipe.width, 3)
    assert made.resized[0] >= recipe.width
    assert made.resized[1] >= recipe.height
