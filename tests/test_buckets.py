"""Which bucket a picture goes to, and what part of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.encoding.buckets import Bucket, choose, content, recipe, table, unencodable
from curation.manifest import EncodeSection

ASPECT = EncodeSection(size=256, buckets="aspect")
sides = st.integers(8, 8000)


def test_a_bucket_is_named_frames_height_width() -> None:
    assert Bucket(1, 192, 320).name == "1x192x320"
    assert Bucket.named("1x192x320") == Bucket(1, 192, 320)


def test_square_is_one_bucket() -> None:
    assert table(EncodeSection(size=256)) == (Bucket(1, 256, 256),)


def test_aspect_buckets_have_one_area_and_reach_from_1_2_to_2_1() -> None:
    buckets = table(ASPECT)
    assert {b.name for b in buckets} >= {"1x256x256", "1x176x368", "1x368x176", "1x224x288", "1x192x336"}
    assert {(b.height, b.width) for b in buckets} == {(b.width, b.height) for b in buckets}
    for b in buckets:
        assert b.width % 16 == b.height % 16 == 0
        assert 0.9 < b.width * b.height / 256**2 < 1.1
    assert max(b.width / b.height for b in buckets) == pytest.approx(2, rel=0.05)


def test_a_list_is_given_as_width_x_height() -> None:
    encode = EncodeSection(buckets=("320x192", "256x256"))
    assert table(encode) == (Bucket(1, 192, 320), Bucket(1, 256, 256))


@pytest.mark.parametrize("text", ["320", "320x190", "x192", "0x64", "320X192", "-64x64", "²x8"])
def test_what_is_no_bucket_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=f"'{text}' is no bucket; say WIDTHxHEIGHT in multiples of 8"):
        EncodeSection(buckets=(text,))


def test_an_empty_list_of_buckets_is_refused() -> None:
    with pytest.raises(ValidationError, match="an empty list leaves nothing to encode into"):
        EncodeSection(buckets=())


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [
        (1000, 1000, "1x256x256"),
        (1920, 1080, "1x192x336"),
        (1080, 1920, "1x336x192"),
        (640, 480, "1x224x288"),
        (8000, 100, "1x176x368"),
        (1, 65535, "1x368x176"),
    ],
)
def test_the_nearest_aspect_is_chosen(width: int, height: int, name: str) -> None:
    assert choose(width, height, None, ASPECT).name == name


@given(width=sides, height=sides)
def test_no_other_bucket_is_nearer(width: int, height: int) -> None:
    def distance(bucket: Bucket) -> float:
        return abs(math.log(bucket.width / bucket.height * height / width))

    chosen = choose(width, height, None, ASPECT)
    assert distance(chosen) <= min(map(distance, table(ASPECT))) + 1e-8


def test_of_two_sizes_of_one_aspect_the_larger_is_chosen() -> None:
    assert choose(50, 50, None, EncodeSection(buckets=("64x64", "128x128"))).name == "1x128x128"


def test_a_letterbox_is_no_content() -> None:
    wide = [0, 100, 640, 380]
    assert content(640, 480, wide, ASPECT) == (0, 100, 640, 380)
    assert content(640, 480, wide, ASPECT.model_copy(update={"remove_letterbox": False})) == (0, 0, 640, 480)
    assert content(640, 480, [0, 237, 640, 243], ASPECT) == (
        0,
        0,
        640,
        480,
    )  # a sliver would be enlarged 30-fold
    assert choose(640, 480, wide, ASPECT).width > choose(640, 480, None, ASPECT).width
    assert recipe(640, 480, wide, ASPECT).box == (0, 100, 640, 380)


def test_without_enlarging_small_records_cannot_be_encoded() -> None:
    strict = EncodeSection(size=256, upscale=False)
    assert unencodable(256, 256, None, strict) is None
    assert unencodable(300, 255, None, strict) == "smaller than its bucket 1x256x256"
    assert unencodable(300, 300, [0, 50, 300, 250], strict) == "smaller than its bucket 1x256x256"
    assert unencodable(1, 1, None, EncodeSection(size=256)) is None
