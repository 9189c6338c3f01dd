"""Measures order pictures as their defects do, and cost and mean the same at every size."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data

from curation.media import measures
from curation.pixels import Pixels

PHOTOS = {name: Image.fromarray(getattr(data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")}
MEASURES = (
    "sharpness", "exposure", "clipped", "contrast", "colourfulness", "entropy", "flat", "brisque",
    "blockiness",
)  # fmt: skip


def of(image: Image.Image) -> Pixels:
    return Pixels.of(np.asarray(image.convert("RGB")))


def flat(colour: str, size: tuple[int, int] = (100, 80)) -> Pixels:
    return of(Image.new("RGB", size, colour))


def recompressed(image: Image.Image, quality: int) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return of(Image.open(buffer))


@pytest.mark.parametrize("photo", PHOTOS)
def test_blur_lowers_sharpness_step_by_step(photo: str) -> None:
    ladder = [
        PHOTOS[photo],
        *(PHOTOS[photo].filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 2, 4, 8)),
    ]
    values = [measures.sharpness(of(image)) for image in ladder]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 20 < values[0]


@pytest.mark.parametrize("photo", PHOTOS)
def test_recompression_raises_blockiness_step_by_step(photo: str) -> None:
    values = [measures.blockiness(recompressed(PHOTOS[photo], quality)) for quality in (60, 30, 15, 5)]
    assert values == sorted(values)
    assert measures.blockiness(of(PHOTOS[photo])) < 1.3 < values[-1]


@pytest.mark.parametrize("photo", ["astronaut", "chelsea", "coffee"])
def test_blur_and_noise_raise_the_distance_from_natural_photos(photo: str) -> None:
    image = PHOTOS[photo]
    noise = np.random.default_rng(0).normal(0, 40, (*image.size[::-1], 3))
    noisy = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    natural = measures.brisque(of(image))
    assert natural < measures.brisque(of(image.filter(ImageFilter.GaussianBlur(6))))
    assert natural < measures.brisque(of(noisy))


def test_a_web_copy_has_the_values_of_its_original() -> None:
    large = PHOTOS["coffee"].resize((2400, 1600), Image.Resampling.BICUBIC)
    web = large.resize((1200, 800), Image.Resampling.BOX)
    for name in ("sharpness", "exposure", "contrast", "colourfulness", "entropy"):
        measure = getattr(measures, name)
        assert measure(of(web)) == pytest.approx(measure(of(large)), rel=0.06), name


def test_exact_values_of_plain_pictures() -> None:
    assert measures.exposure(flat("black")) == 0
    assert measures.exposure(flat("white")) == pytest.approx(1)
    assert measures.clipped(flat("white")) == 1
    assert measures.clipped(flat("grey")) == 0
    assert measures.contrast(flat("orange")) == pytest.approx(0, abs=1e-6)
    assert measures.entropy(flat("orange")) == 0
    assert measures.flat(flat("orange")) == 1
    assert measures.sharpness(flat("orange")) == pytest.approx(0, abs=1e-6)
    assert measures.blockiness(flat("orange")) == 1
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    assert measures.contrast(Pixels.of(halves)) == pytest.approx(0.5)
    assert measures.entropy(Pixels.of(halves)) == 1


def test_colourfulness_is_hasler_and_suesstrunks() -> None:
    assert measures.colourfulness(of(Image.fromarray(data.camera()))) == pytest.approx(0, abs=1e-4)
    red, green, blue = (np.asarray(PHOTOS["chelsea"])[..., channel].astype(float) for channel in range(3))
    rg, yb = red - green, 0.5 * (red + green) - blue
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert measures.colourfulness(of(PHOTOS["chelsea"])) == pytest.approx(expected, rel=1e-4)


def test_photos_are_not_flat_and_drawings_on_white_are_in_part() -> None:
    assert all(measures.flat(of(photo)) < 0.7 for photo in PHOTOS.values())
    page = Image.new("RGB", (512, 512), "white")
    page.paste(PHOTOS["coffee"].resize((256, 256)), (0, 0))
    assert measures.flat(of(page)) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 4000), (5, 17), (16, 16), (24, 24), (33, 7)])
@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_finite_for_every_size(name: str, size: tuple[int, int]) -> None:
    for image in (Image.new("RGB", size), PHOTOS["coffee"].resize(size)):
        assert np.isfinite(getattr(measures, name)(of(image)))


def test_a_measure_is_computed_once_and_the_same_twice() -> None:
    pixels = of(PHOTOS["rocket"])
    assert measures.grey(pixels) is measures.grey(pixels)
    for name in MEASURES:
        assert getattr(measures, name)(pixels) == getattr(measures, name)(of(PHOTOS["rocket"])), name


def test_the_ladders_of_the_corpus(shared_corpus: Path) -> None:
    for stem in {path.name.rpartition("_")[0] for path in (shared_corpus / "quality").glob("*_blur1.jpg")}:
        steps = {
            kind: [shared_corpus / "quality" / f"{stem}_{kind}{n}.jpg" for n in (1, 2, 3, 4)]
            for kind in ("blur", "jpeg")
        }
        blurred = [measures.sharpness(of(Image.open(path))) for path in steps["blur"]]
        blocky = [measures.blockiness(of(Image.open(path))) for path in steps["jpeg"]]
        assert blurred == sorted(blurred, reverse=True), stem
        assert blocky == sorted(blocky), stem


def test_nine_of_ten_web_photos_are_natural(shared_corpus: Path) -> None:
    values = [measures.brisque(of(Image.open(path))) for path in sorted((shared_corpus / "images").glob("coco_*.jpg"))]
    assert len(values) == 141
    assert 12 < np.median(values) < 20
    assert np.percentile(values, 90) == pytest.approx(28, abs=1)
