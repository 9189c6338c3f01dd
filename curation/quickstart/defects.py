"""What is planted, how, and how a run shows that it found it."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

BOILERPLATE = (
    "image", "IMG_20190412.jpg", "click here to enlarge", "photo", "https://example.com/p/8812", "untitled 3",
    "stock photo, all rights reserved", "DSC_00412", "<p>buy now</p>", "no description",
)  # fmt: skip
WORDS = (
    "SUMMER SALE",
    "BREAKING NEWS",
    "SUBSCRIBE",
    "ONLY TODAY",
    "50% OFF",
    "WATCH NOW",
    "NEW ARRIVALS",
    "FREE ENTRY",
)


@dataclass(frozen=True)
class Defect:
    """One kind: how many are planted, and which fate of a record counts as found."""

    count: int
    found: Callable[[dict[str, Any]], bool]
    meaning: str


def _dropped(stage: str, *reasons: str) -> Callable[[dict[str, Any]], bool]:
    """Dropped by a stage; for one of the reasons, where some are named."""
    return lambda row: (
        row["decision"] == "dropped"
        and row["stage"] == stage
        and (not reasons or any(each in row["reason"] for each in reasons))
    )


def _quarantined(reason: str) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["decision"] == "quarantined" and reason in row["reason"]


def _kept_with(test: Callable[[dict[str, Any]], bool]) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["decision"] == "kept" and test(row)


DEFECTS: dict[str, Defect] = {
    "exact duplicate": Defect(12, _dropped("duplicates", "bytes", "pixels"), "same bytes under another name"),
    "near duplicate": Defect(
        16, _dropped("duplicates", "phash", "embedding"), "resized, recompressed, brightened, cropped"
    ),
    "truncated file": Defect(8, _quarantined("cannot be decoded"), "cut off at 55 %"),
    "tiny": Defect(8, _dropped("resolution"), "32 px"),
    "blurred": Defect(10, _dropped("quality", "sharpness"), "Gaussian blur of 6 px"),
    "flat colour": Defect(8, _dropped("quality", "flat"), "a single colour"),
    "letterboxed": Defect(8, _kept_with(lambda row: row["content_box"] is not None), "black bars, kept without them"),
    "swapped caption": Defect(6, _dropped("similarity"), "a caption of another photo"),
    "boilerplate caption": Defect(10, _dropped("text"), "file names, URLs, HTML, shop phrases"),
    "overlay text": Defect(8, _dropped("overlay"), "large words across the picture"),
    "wrong extension": Defect(8, _kept_with(lambda row: row["format"] == "PNG"), "PNG named .jpg, kept for what it is"),
    "not a picture": Defect(5, _quarantined("not a picture"), "HTML named .jpg"),
}


def near_copy(image: Image.Image, number: int) -> tuple[Image.Image, int]:
    """A near duplicate and the JPEG quality to store it with."""
    width, height = image.size
    if number % 4 == 0:
        return image, 45
    if number % 4 == 1:
        return image.resize((round(width * 0.7), round(height * 0.7)), Image.Resampling.LANCZOS), 88
    if number % 4 == 2:
        return ImageEnhance.Brightness(image).enhance(1.08), 85
    x, y = max(1, round(width * 0.01)), max(1, round(height * 0.01))
    return image.crop((x, y, width - x, height - y)), 90


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(6))


def letterboxed(image: Image.Image, number: int) -> Image.Image:
    """Black bars above and below, or left and right."""
    width, height = image.size
    bar = round((0.08 + 0.02 * (number % 4)) * (height if number % 2 else width))
    size = (width, height + 2 * bar) if number % 2 else (width + 2 * bar, height)
    framed = Image.new("RGB", size, (0, 0, 0))
    framed.paste(image, (0, bar) if number % 2 else (bar, 0))
    return framed


def with_words(image: Image.Image, number: int) -> Image.Image:
    """Large white words with a dark edge across the middle."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=image.width / 9)
    place = (image.width / 2, image.height * (0.35 + 0.05 * (number % 4)))
    draw.text(
        place, WORDS[number % len(WORDS)], font=font, fill="white", stroke_width=4, stroke_fill="black", anchor="mm"
    )
    return image


def jpeg(image: Image.Image, quality: int = 92) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
