"""RapidOCR (PP-OCRv6, Apache-2.0): where text stands on a picture, and what it says."""

import importlib.util
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.models.packaged import packaged_file, packaged_info
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

DETECTOR = ("rapidocr", "rapidocr/models/PP-OCRv6_det_small.onnx")
RECOGNIZER = ("rapidocr", "rapidocr/models/PP-OCRv6_rec_small.onnx")
DETECT_SIDE = 416
"""Longer side for detection, px: about 0.2 s on one core; text below ~1/35 of the picture's height is missed."""
Box = NDArray[np.float32]
READ_SIDE = 1280
MOST_BOXES = 12


class RapidOcr:
    """The role overlay."""

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        info = packaged_info("embedded:rapidocr-ppocrv6-small", DETECTOR, RECOGNIZER)
        if info.problem is None and importlib.util.find_spec("cv2") is None:
            return ModelInfo(info.id, info.sha256, "the package opencv-python-headless is not installed")
        return info

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
                "Det.model_path": str(packaged_file(*DETECTOR)),
                "Rec.model_path": str(packaged_file(*RECOGNIZER)),
            }
        )

    def boxes(self, pixels: Pixels) -> list[Box]:
        """Quadrilaterals shaped like lines of text, float32 [4, 2] (x, y) in upright px, from the top left; at most 12."""
        found, scale = self._run(pixels, read=False)
        boxes = [] if found is None or found.boxes is None else [np.asarray(box, np.float32) / scale for box in found.boxes]
        return [box for box in boxes if is_line(box, pixels.height)][:MOST_BOXES]

    def read(self, pixels: Pixels) -> tuple[list[Box], list[str]]:
        """The boxes whose text could be read with confidence, and what they say; letters seen in shapes are left out."""
        found, scale = self._run(pixels, read=True)
        if found is None or found.boxes is None or found.txts is None:
            return [], []
        rows = zip(found.boxes, found.txts, found.scores, strict=True)
        read = [(np.asarray(box, np.float32) / scale, str(text)) for box, text, score in rows if is_text(str(text), float(score))]
        read = [(box, text) for box, text in read if is_line(box, pixels.height)][:MOST_BOXES]
        return [box for box, _ in read], [text for _, text in read]

    def _run(self, pixels: Pixels, read: bool) -> tuple[Any, float]:
        scale = min(1.0, READ_SIDE / max(pixels.width, pixels.height))
        size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
        if min(size) < 16:
            return None, scale
        rgb = np.asarray(Image.fromarray(pixels.rgb).resize(size, Image.Resampling.BOX)) if scale < 1 else pixels.rgb
        return self.engine(np.ascontiguousarray(rgb[..., ::-1]), use_det=True, use_cls=False, use_rec=read), scale


def is_line(box: Box, height: int) -> bool:
    """Whether a box is longer than high and at most a third of the picture high: what the detector takes a ball or a hill for is not."""
    long = max(float(np.linalg.norm(box[1] - box[0])), float(np.linalg.norm(box[2] - box[1])))
    short = min(float(np.linalg.norm(box[1] - box[0])), float(np.linalg.norm(box[2] - box[1])))
    return long >= 1.3 * short and short <= height / 3


def is_text(text: str, score: float) -> bool:
    """At least three letters or digits, read with a confidence of at least 0.7."""
    return score >= 0.7 and sum(character.isalnum() for character in text) >= 3
