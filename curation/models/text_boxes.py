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

    def boxes(self, pixels: Pixels) -> list[NDArray[np.float32]]:
        """Quadrilaterals of text, float32 [4, 2] (x, y) in upright px, clockwise from the top left; at most 12."""
        return self._run(pixels, read=False)[0]

    def read(self, pixels: Pixels) -> tuple[list[NDArray[np.float32]], list[str]]:
        """The boxes that could be read, and what they say."""
        return self._run(pixels, read=True)

    def _run(self, pixels: Pixels, read: bool) -> tuple[list[NDArray[np.float32]], list[str]]:
        scale = min(1.0, READ_SIDE / max(pixels.width, pixels.height))
        size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
        if min(size) < 16:
            return [], []
        rgb = np.asarray(Image.fromarray(pixels.rgb).resize(size, Image.Resampling.BOX)) if scale < 1 else pixels.rgb
        found: Any = self.engine(np.ascontiguousarray(rgb[..., ::-1]), use_det=True, use_cls=False, use_rec=read)
        boxes = [] if found.boxes is None else [np.asarray(box, np.float32) / scale for box in found.boxes[:MOST_BOXES]]
        texts = [] if not read or found.txts is None else [str(text) for text in found.txts[:MOST_BOXES]]
        return boxes, texts
