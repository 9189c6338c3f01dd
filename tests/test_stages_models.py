"""Stages with embedded models on photos that ship with scikit-image, and the captions made of what they saw."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from curation.models.measured_quality import quality_mark
from curation.models.tag_sentence import TagSentence
from curation.pixels import Pixels
from curation.stage import Stage
from stages.aesthetic import Aesthetic
from stages.caption import Caption, CaptionParams
from stages.overlay import Overlay, OverlayParams
from stages.safety import Safety, SafetyParams

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def photo(name: str) -> Image.Image:
    return Image.open(Path(skimage.data.__path__[0]) / name).convert("RGB")


def pixels(image: Image.Image) -> Pixels:
    return Pixels.of(np.asarray(image))


def loaded(stage: Stage) -> Stage:
    stage.load()
    return stage


def test_everyday_photos_are_safe() -> None:
    safety = loaded(Safety(SafetyParams()))
    assert max(safety.run({"pixels": [pixels(photo(name)) for name in PHOTOS[1:]]})["punsafe"]) < 0.05


@pytest.fixture(scope="module")
def overlay() -> Stage:
    return loaded(Overlay(OverlayParams()))


def test_words_over_a_photo_are_found_and_read(overlay: Stage) -> None:
    image = photo("coffee.png")
    font = ImageFont.load_default(size=60)
    ImageDraw.Draw(image).text(
        (300, 200), "BIG SALE", font=font, fill="white", stroke_width=4, stroke_fill="black", anchor="mm"
    )
    found = overlay.run({"pixels": [pixels(image)]})
    assert found["text_boxes"] == [1] and "SALE" in found["overlay_text"][0]
    assert 0.03 < found["text_area"][0] < 0.2 and found["pwatermark"] == [0.5]


def test_photos_without_text_have_none(overlay: Stage) -> None:
    found = overlay.run({"pixels": [pixels(photo(name)) for name in ("chelsea.png", "coffee.png")]})
    assert found["text_boxes"] == [0, 0] and found["overlay_text"] == [None, None] and found["pwatermark"] == [0, 0]


@pytest.mark.parametrize("name", PHOTOS)
def test_the_quality_mark_falls_with_every_step_of_blur(name: str) -> None:
    image = photo(name)
    marks = [
        quality_mark(pixels(image.filter(ImageFilter.GaussianBlur(radius)) if radius else image))
        for radius in (0, 1, 2, 4)
    ]
    assert marks == sorted(marks, reverse=True) and len(set(marks)) == len(marks)
    assert loaded(Aesthetic(Aesthetic.Params())).run({"pixels": [pixels(image)]})["aesthetic"] == [marks[0]]


@pytest.mark.parametrize(
    ("tags", "scores", "text", "expected"),
    [
        (["tabby", "tiger cat"], [0.7, 0.2], None, "a photo of a tabby"),
        (["tabby", "tiger cat"], [0.3, 0.2], None, "a photo of a tabby or a tiger cat"),
        (["orange"], [0.9], "SALE", 'a photo of an orange, with the text "SALE"'),
        (["tabby"], [0.05], " SALE ", 'a picture with the text "SALE"'),
        (["tabby"], [0.05], None, None),
        ([], [], None, None),
    ],
)
def test_a_caption_says_what_is_certain(
    tags: list[str], scores: list[float], text: str | None, expected: str | None
) -> None:
    assert TagSentence("").sentence(tags, scores, text, sure=0.35, least=0.12) == expected
    batch = {"tags": [tags], "tag_scores": [scores], "overlay_text": [text]}
    made = loaded(Caption(CaptionParams())).run(batch | {"media": ["image"]})
    assert made == {
        "generated_caption": [expected],
        "generated_caption_source": ["embedded:tags+ocr" if expected else None],
    }


def test_a_clips_caption_says_video() -> None:
    batch = {"tags": [["tabby"], []], "tag_scores": [[0.7], []], "overlay_text": [None, "SALE"]}
    made = loaded(Caption(CaptionParams())).run(batch | {"media": ["video", "video"]})
    assert made["generated_caption"] == ["a video of a tabby", 'a video with the text "SALE"']
