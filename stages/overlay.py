"""Text that stands on a picture: how much, what it says, and whether it looks like a watermark."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, ModelParams, ModelStage, Resources

Box = NDArray[np.float32]
Found = tuple[int, float, str | None, float]
"""The stage's columns for a picture, in their order."""
OWNERS = re.compile(
    r"shutterstock|istock|getty|alamy|dreamstime|depositphotos|123rf|adobe\s*stock|fotolia|bigstock"
    r"|\b(watermark|preview|sample|copyright|all rights reserved|photo(graphy)? by)\b"
    r"|©|\(c\)\s|www\.|https?:|\.(com|net|org)\b|(?<!\w)@\w{3}",
    re.I,
)
FAINT = ("shutterstock", "depositphotos")
"""Agencies whose translucent marks OCR reads in pieces (`erstock`, `shufferstock`)."""
MOST_READ = 12
MOST_TEXT = 300


class OverlayParams(ModelParams):
    read: bool = Field(
        True, description="read the text; without it only its place is found, and pwatermark knows no words"
    )


class Overlay(ModelStage):
    """Lines of text by OCR and what they say; text in the scene counts like text put over it. A clip's are those of
    the frame with most text, of its first, middle and last sampled ones.

    `pwatermark` is a rule over place and words, NOT a trained probability: see `watermark`.
    """

    name = "overlay"
    version = 2
    reads = ("pixels",)
    writes = {
        "text_boxes": Column(
            pa.int32(),
            "lines of text found, at most 100; with read: true those that proved unreadable are left out",
        ),
        "text_area": Column(pa.float32(), "share of the picture that they cover, 0-1"),
        "overlay_text": Column(
            pa.string(),
            "what the 12 largest say, at most 300 characters; null without text or with read: false",
        ),
        "pwatermark": Column(
            pa.float32(),
            "rule: 0.9 an agency, copyright sign or web address; 0.5 a line across the centre; 0.3 small edge lines; 0",
        ),
    }
    resources = Resources(memory_mb=300, milliseconds=240)
    role = "overlay"
    Params = OverlayParams

    def run(self, batch: Batch) -> Columns:
        looked_at = [_looked_at(picture) for picture in batch["pixels"]]
        found = iter(self._look_at([still for stills in looked_at for still in stills]))
        rows = [max((next(found) for _ in stills), key=lambda row: row[1]) for stills in looked_at]
        return {name: [row[i] for row in rows] for i, name in enumerate(self.writes)}

    def _look_at(self, stills: Sequence[Pixels]) -> list[Found]:
        boxes: list[list[Box]] = self.model.boxes(stills)
        texts: list[list[str]] = [[] for _ in stills]
        if self.params.read:
            boxes, texts = self._readable(stills, boxes)
        return [
            _found(still, lines, " ".join(said)[:MOST_TEXT])
            for still, lines, said in zip(stills, boxes, texts, strict=True)
        ]

    def _readable(
        self, stills: Sequence[Pixels], boxes: Sequence[Sequence[Box]]
    ) -> tuple[list[list[Box]], list[list[str]]]:
        """Of each still, the boxes without those of the 12 largest that say nothing; what these say, from top left."""
        largest = [_largest(part) for part in boxes]
        read = self.model.read(stills, [[part[i] for i in some] for part, some in zip(boxes, largest, strict=True)])
        texts = [dict(zip(some, said, strict=True)) for some, said in zip(largest, read, strict=True)]
        kept = [
            [box for i, box in enumerate(part) if said.get(i, "unread")]
            for part, said in zip(boxes, texts, strict=True)
        ]
        return kept, [[text for text in said.values() if text] for said in texts]


def _looked_at(picture: Pixels) -> list[Pixels]:
    """A clip's first, middle and last sampled frame: OCR is slow."""
    stills = picture.stills
    return [stills[i] for i in sorted({0, len(stills) // 2, len(stills) - 1})]


def _largest(boxes: Sequence[Box]) -> list[int]:
    """The places of the 12 largest boxes, ascending."""
    return sorted(sorted(range(len(boxes)), key=lambda i: (-polygon_area(boxes[i]), i))[:MOST_READ])


def _found(still: Pixels, boxes: Sequence[Box], text: str) -> Found:
    area = min(1.0, sum(map(polygon_area, boxes)) / (still.width * still.height))
    return len(boxes), area, text or None, watermark(boxes, text, still.width, still.height)


def polygon_area(box: Box) -> float:
    """Area of a quadrilateral [4, 2] in px^2 (shoelace formula)."""
    x, y = box[:, 0], box[:, 1]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def watermark(boxes: Sequence[Box], text: str, width: int, height: int) -> float:
    """How much lines of text look like an owner's mark, by rule.

    0.9  the text names an agency, a copyright or a web address
    0.5  a line wider than 30 % of the picture crosses its centre
    0.3  all lines are small and along the edges: a signature, a date, a logo
    0    no text, or text elsewhere, as on signs and shirts
    """
    if OWNERS.search(text) or any(names_agency(word) for word in text.lower().split()):
        return 0.9
    places = [np.concatenate([box.min(0), box.max(0)]) / (width, height, width, height) for box in boxes]
    if any(left < 0.5 < right and top < 0.5 < bottom and right - left > 0.3 for left, top, right, bottom in places):
        return 0.5
    return 0.3 if places and all(is_small_at_edge(*place) for place in places) else 0.0


def names_agency(word: str) -> bool:
    """Whether a word is most of an agency's name, or the name with a letter or two misread; `shutters` passes too."""
    return any(SequenceMatcher(None, word, name, autojunk=False).ratio() >= 0.65 for name in FAINT)


def is_small_at_edge(left: float, top: float, right: float, bottom: float) -> bool:
    """Whether a line (shares of the picture) is at most 6 % high and lies in the outer 12 % of a side."""
    return bottom - top <= 0.06 and (bottom <= 0.12 or top >= 0.88 or right <= 0.12 or left >= 0.88)
