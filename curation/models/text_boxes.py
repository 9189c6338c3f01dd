"""RapidOCR (PP-OCRv6 small, Apache-2.0): where text stands on a picture, and what it says."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.models.packaged import packaged_info
from curation.models.registry import ModelInfo
from curation.models.text_engines import DETECTOR, RECOGNIZER, Engine, LocalEngine, ServedEngine
from curation.pixels import Pixels

DETECT_SIDE = 544
"""Longer side for detection, px: about 0.2 s on one core; letters below ~1/30 of the picture's height are missed."""
READ_SIDE = 1280
"""Longer side of the picture that lines are cut out of to be read, px."""
MOST_BOXES = 100
GPU_MB = 2500
SURE = 0.7
"""Confidence from which a reading counts: railings and waves read as letters stay below."""
Box = NDArray[np.float32]


class RapidOcr:
    """The role overlay. On a CPU one picture and one line at a time on one core, on a GPU in batches."""

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        info = packaged_info("embedded:rapidocr-ppocrv6-small", DETECTOR, RECOGNIZER)
        return replace(info, devices=("cpu", "cuda"), gpu_mb=GPU_MB)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        self.engine: Engine = LocalEngine(DETECT_SIDE) if device == "cpu" else ServedEngine(DETECT_SIDE, device)

    def boxes(self, pixels: Sequence[Pixels]) -> list[list[Box]]:
        """Quadrilaterals shaped like lines of text, float32 [4, 2] (x, y) in upright px, at most 100 a picture.

        The corners go clockwise from the line's own top left. Some hold no text: `read` tells.
        """
        inputs = [resized(picture, detect_size(picture.width, picture.height)) for picture in pixels]
        found = self.engine.detect([image for image, _ in inputs])
        return [
            [line for box in boxes if is_line(line := box / scale, picture.height)][:MOST_BOXES]
            for picture, (_, scale), boxes in zip(pixels, inputs, found, strict=True)
        ]

    def read(self, pixels: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[str]]:
        """What each of a picture's boxes says; empty where it cannot be read with confidence or is shorter than 3."""
        lines = [line for picture, part in zip(pixels, boxes, strict=True) for line in cut_out(picture, part)]
        texts = iter([text if is_text(text, score) else "" for text, score in self.engine.read(lines)])
        return [[next(texts) for _ in part] for part in boxes]


def cut_out(pixels: Pixels, boxes: Sequence[Box]) -> list[NDArray[np.uint8]]:
    """The lines in `boxes`, turned upright, BGR."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    if not boxes:
        return []
    shrink = min(1.0, READ_SIDE / max(pixels.width, pixels.height))
    image, scale = resized(pixels, (max(1, round(pixels.width * shrink)), max(1, round(pixels.height * shrink))))
    return [get_rotate_crop_image(image, box * scale) for box in boxes]


def detect_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) for the detector: multiples of 32, the longer side at most 544, nothing enlarged."""
    scale = min(1.0, DETECT_SIDE / max(width, height))
    return max(32, round(width * scale / 32) * 32), max(32, round(height * scale / 32) * 32)


def resized(pixels: Pixels, size: tuple[int, int]) -> tuple[NDArray[np.uint8], Box]:
    """The picture as OCR wants it, BGR uint8 [h, w, 3], antialiased; and its scale against the original, (x, y)."""
    image = Image.fromarray(pixels.rgb).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    scale = np.array([size[0] / pixels.width, size[1] / pixels.height], np.float32)
    return np.ascontiguousarray(np.asarray(image)[..., ::-1]), scale


def is_line(box: Box, height: int) -> bool:
    """Whether a box is longer than high and at most a third of the picture high; a ball or a hill is not."""
    long = max(float(np.linalg.norm(box[1] - box[0])), float(np.linalg.norm(box[2] - box[1])))
    short = min(float(np.linalg.norm(box[1] - box[0])), float(np.linalg.norm(box[2] - box[1])))
    return long >= 1.3 * short and short <= height / 3


def is_text(text: str, score: float) -> bool:
    """At least three letters or digits, read with a confidence of at least 0.7."""
    return score >= SURE and sum(character.isalnum() for character in text) >= 3
