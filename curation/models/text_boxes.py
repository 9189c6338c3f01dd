"""RapidOCR (PP-OCRv6 small, Apache-2.0): where text stands on a picture, and what it says."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.models.packaged import packaged_file, packaged_info
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

DETECTOR = ("rapidocr", "rapidocr/models/PP-OCRv6_det_small.onnx")
RECOGNIZER = ("rapidocr", "rapidocr/models/PP-OCRv6_rec_small.onnx")
DETECT_SIDE = 544
"""Longer side for detection, px: about 0.2 s on one core; letters below ~1/30 of the picture's height are missed."""
READ_SIDE = 1280
"""Longer side of the picture that lines are cut out of to be read, px."""
MOST_BOXES = 100
SURE = 0.7
"""Confidence from which a reading counts: railings and waves read as letters stay below."""
Box = NDArray[np.float32]


class RapidOcr:
    """The role overlay. Runs on one core whatever the device, one picture and one line at a time."""

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        return packaged_info("embedded:rapidocr-ppocrv6-small", DETECTOR, RECOGNIZER)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
        self.engine = RapidOCR(
            params={
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Det.limit_side_len": DETECT_SIDE,
                "Det.limit_type": "max",
                "Det.box_thresh": 0.35,  # faint lines too: reading sorts out what is no text
                # Without the paths it would look its models up on the web.
                "Det.model_path": str(packaged_file(*DETECTOR)),
                "Rec.model_path": str(packaged_file(*RECOGNIZER)),
            }
        )

    def boxes(self, pixels: Pixels) -> list[Box]:
        """Quadrilaterals shaped like lines of text, float32 [4, 2] (x, y) in upright px, at most 100.

        The corners go clockwise from the line's own top left. Some hold no text: `read` tells.
        """
        image, scale = resized(pixels, detect_size(pixels.width, pixels.height))
        found: Any = self.engine(image, use_det=True, use_cls=False, use_rec=False)
        lines = [np.asarray(box, np.float32) / scale for box in (() if found.boxes is None else found.boxes)]
        return [box for box in lines if is_line(box, pixels.height)][:MOST_BOXES]

    def read(self, pixels: Pixels, boxes: Sequence[Box]) -> list[str]:
        """What each of `boxes` says; empty where it cannot be read with confidence or has under three characters."""
        from rapidocr.utils.process_img import get_rotate_crop_image

        shrink = min(1.0, READ_SIDE / max(pixels.width, pixels.height))
        image, scale = resized(pixels, (max(1, round(pixels.width * shrink)), max(1, round(pixels.height * shrink))))
        return [self._read_line(get_rotate_crop_image(image, box * scale)) for box in boxes]

    def _read_line(self, line: NDArray[np.uint8]) -> str:
        found: Any = self.engine(line, use_det=False, use_cls=False, use_rec=True)
        text, score = (str(found.txts[0]), float(found.scores[0])) if found.txts else ("", 0.0)
        return text if is_text(text, score) else ""


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
