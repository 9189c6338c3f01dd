"""Text found and read by networks that are batched for a GPU, against RapidOCR itself."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from curation.inference.network import Signature
from curation.models.registry import open_model
from curation.models.text_boxes import RapidOcr
from curation.models.text_engines import line_input, padded_width
from curation.models.text_networks import DETECT_PIXELS, READ_PIXELS, rows_of
from curation.pixels import Pixels

LINES = ("BIG SALE", "(c) Jane Doe 2024", "a long line of small words that goes on over most of the picture, and on")


def written(size: tuple[int, int], lines: Sequence[str], points: int, over: np.ndarray | None = None) -> Pixels:
    photo = Image.fromarray(skimage.data.coffee() if over is None else over).resize(size)
    font = ImageFont.load_default(size=points)
    for i, line in enumerate(lines):
        place = (10, 10 + i * 2 * points)
        ImageDraw.Draw(photo).text(place, line, font=font, fill="white", stroke_width=2, stroke_fill="black")
    return Pixels.of(np.asarray(photo))


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    """Of several shapes; among them one without text, and a strip that RapidOCR pads to 8:1."""
    return [
        written((600, 400), LINES[:2], 30),
        written((400, 600), LINES[:1], 40),
        written((1200, 700), LINES, 32),
        written((1600, 180), LINES[2:], 32),
        Pixels.of(skimage.data.chelsea()),
        written((600, 400), LINES[1:2], 26, skimage.data.astronaut()),
    ]


@pytest.fixture(scope="module")
def served() -> Iterator[RapidOcr]:
    """As on a GPU, but computed here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATION_PRETEND_GPUS", "1")
        yield open_model("overlay", "embedded", "cuda")


def test_boxes_and_readings_are_those_of_rapidocr(pictures: list[Pixels], served: RapidOcr) -> None:
    local: RapidOcr = open_model("overlay", "embedded")
    boxes, found = local.boxes(pictures), served.boxes(pictures)
    assert [len(each) for each in found] == [len(each) for each in boxes] and not boxes[4]
    for mine, theirs in zip(found, boxes, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=3)  # px; bytes move the edge of a box by at most one of 544 px
    texts = local.read(pictures, boxes)
    assert served.read(pictures, boxes) == texts
    assert [text.replace(" ", "") for text in texts[0]] == [line.replace(" ", "") for line in LINES[:2]]
    assert len(texts[2][2]) > 40 and len(texts[3][0]) > 40


def test_a_line_is_padded_to_one_of_few_widths() -> None:
    assert [padded_width(width) for width in (1, 320, 321, 480, 481, 640, 961)] == [320, 320, 480, 480, 640, 640, 1280]
    row, width = line_input(np.full((30, 100, 3), 255, np.uint8))
    assert (
        row.shape == (48, 320, 3) and width.tolist() == [160] and row[:, :160].min() == 255 and not row[:, 160:].any()
    )


@pytest.mark.parametrize(
    ("shape", "pixels", "rows"),
    [
        ((544, 544, 3), DETECT_PIXELS, 32),
        ((352, 544, 3), DETECT_PIXELS, 32),
        ((32, 32, 3), DETECT_PIXELS, 64),
        ((48, 320, 3), READ_PIXELS, 64),
        ((48, 480, 3), READ_PIXELS, 32),
        ((48, 81920, 3), READ_PIXELS, 1),
    ],
)
def test_a_batch_holds_about_as_many_pixels_whatever_their_shape(
    shape: tuple[int, ...], pixels: int, rows: int
) -> None:
    assert rows_of(Signature("call", (shape,), ("|u1",)), pixels) == rows
