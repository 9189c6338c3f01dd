"""What a captioner is shown and asked, the same for every backend."""

from dataclasses import dataclass

from PIL import Image

from curation.models.open_clip import image_of
from curation.pixels import Pixels


@dataclass(frozen=True)
class Scene:
    """One record as a captioner sees it: RGB pictures in order of time (one for a picture), and the question.

    beginning  the words with which a model that takes no questions begins its caption
    """

    images: tuple[Image.Image, ...]
    prompt: str
    beginning: str = ""


@dataclass(frozen=True)
class Effort:
    """How long an answer may be, and how hard a server is tried."""

    max_tokens: int = 256
    concurrency: int = 8
    timeout_s: float = 120.0
    retries: int = 4


def shown(pixels: Pixels, frames: int, max_side: int) -> tuple[Image.Image, ...]:
    """At most `frames` of a clip's sampled frames, or the picture; no side longer than `max_side` px."""
    chosen = [pixels.stills[i] for i in spread(len(pixels.stills), frames)]
    return tuple(fitted(still, max_side) for still in chosen)


def spread(available: int, wanted: int) -> list[int]:
    """Indices of `wanted` of the available frames, evenly spread: 4 of 8 are 1, 3, 5, 7, and 1 is the middle."""
    count = min(available, wanted)
    return [(2 * i + 1) * available // (2 * count) for i in range(count)]


def fitted(pixels: Pixels, max_side: int) -> Image.Image:
    """The picture, made smaller where a side is longer than `max_side`; of one longer than 20:1 the middle."""
    image = image_of(pixels)
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
