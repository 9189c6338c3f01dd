"""Text that stands on a picture: how much, what it says, and whether it looks like a watermark."""

import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from curation.models.registry import open_model
from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, Params, Resources, Stage, rowwise

_MARKS = re.compile(
    r"shutterstock|istock|getty|alamy|dreamstime|depositphotos|123rf|adobe\s*stock|fotolia|bigstock|watermark|preview|sample"
    r"|©|\(c\)\s|copyright|www\.|https?:|\.com\b|\.net\b|\.org\b|@\w",
    re.I,
)
MOST_TEXT = 300


class OverlayParams(Params):
    model: str | None = None
    device: str = "cpu"
    read: bool = Field(True, description="also read the text; without it only its place is found, in a third of the time")


class Overlay(Stage):
    """Lines of text by OCR and what they say; `pwatermark` is a rule over both, not a trained probability."""

    name = "overlay"
    reads = ("pixels",)
    writes = {
        "text_boxes": Column(pa.int32(), "lines of text found (with read: true, those that could be read), at most 12"),
        "text_area": Column(pa.float32(), "share of the picture that they cover, 0-1"),
        "overlay_text": Column(pa.string(), "what they say, at most 300 characters; null without text or with read: false"),
        "pwatermark": Column(pa.float32(), "rule: 0.9 for an agency, copyright sign or web address in the text; 0.5 for text across the centre; 0"),
    }
    resources = Resources(memory_mb=300, milliseconds=300)
    role = "overlay"
    Params = OverlayParams

    def load(self) -> None:
        self.model = open_model("overlay", self.params.model or "embedded", self.params.device)

    def run(self, batch: Batch) -> Columns:
        return rowwise(list(self.writes), self._look, batch["pixels"])

    def _look(self, picture: Pixels) -> tuple[int, float, str | None, float]:
        boxes, texts = self.model.boxes(picture), []
        if boxes and self.params.read:
            boxes, texts = self.model.read(picture)
        area = min(1.0, sum(map(polygon_area, boxes)) / (picture.width * picture.height))
        text = " ".join(texts)[:MOST_TEXT] or None
        return len(boxes), area, text, watermark(boxes, text or "", picture.width, picture.height)


def polygon_area(box: NDArray[np.float32]) -> float:
    """Area of a quadrilateral [4, 2] in px^2 (shoelace formula)."""
    x, y = box[:, 0], box[:, 1]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def watermark(boxes: list[NDArray[np.float32]], text: str, width: int, height: int) -> float:
    """0.9 where the text names its owner, 0.5 where text crosses the middle of the picture, else 0."""
    if _MARKS.search(text):
        return 0.9
    for box in boxes:
        left, top, right, bottom = box[:, 0].min(), box[:, 1].min(), box[:, 0].max(), box[:, 1].max()
        if left < width / 2 < right and top < height / 2 < bottom and right - left > 0.3 * width:
            return 0.5
    return 0.0
