"""Two ways to run PP-OCRv6: RapidOCR itself on a CPU, and its steps around networks that a GPU computes in batches.

Torch is imported with `text_networks`, where these are opened: planning needs none of it.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from curation.inference.client import connect
from curation.inference.network import Row, Spec
from curation.models.packaged import packaged_file

DETECTOR = ("rapidocr", "rapidocr/models/PP-OCRv6_det_small.onnx")
RECOGNIZER = ("rapidocr", "rapidocr/models/PP-OCRv6_rec_small.onnx")
Image = NDArray[np.uint8]
"""BGR uint8 [h, w, 3]."""
Boxes = NDArray[np.float32]
"""Quadrilaterals [N, 4, 2] (x, y), px."""
BOX_SURE = 0.35
"""Mean probability inside a box from which it counts. Faint lines too: reading sorts out what is no text."""
READ_HEIGHT, READ_WIDTH = 48, 320
"""Lines are read at this height, px, and padded to at least this width."""


class Engine(Protocol):
    """Both methods answer image by image, in order."""

    def detect(self, images: Sequence[Image]) -> list[Boxes]:
        """Boxes shaped like the text in each image, whose sides are multiples of 32, from the top left."""

    def read(self, lines: Sequence[Image]) -> list[tuple[str, float]]:
        """What each line says, and with which confidence, 0..1; an empty text where nothing was found."""


class LocalEngine:
    """RapidOCR on one core, one image at a time."""

    def __init__(self, side: int) -> None:
        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
        self.engine = RapidOCR(
            params={
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Det.limit_side_len": side,
                "Det.limit_type": "max",
                "Det.box_thresh": BOX_SURE,
                # Without the paths it would look its models up on the web.
                "Det.model_path": str(packaged_file(*DETECTOR)),
                "Rec.model_path": str(packaged_file(*RECOGNIZER)),
            }
        )

    def detect(self, images: Sequence[Image]) -> list[Boxes]:
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Boxes:
        found: Any = self.engine(image, use_det=True, use_cls=False, use_rec=False)
        return none_found() if found.boxes is None else np.asarray(found.boxes, np.float32)

    def read(self, lines: Sequence[Image]) -> list[tuple[str, float]]:
        return [self._read(line) for line in lines]

    def _read(self, line: Image) -> tuple[str, float]:
        found: Any = self.engine(line, use_det=False, use_cls=False, use_rec=True)
        return (str(found.txts[0]), float(found.scores[0])) if found.txts else ("", 0.0)


class ServedEngine:
    """The steps that RapidOCR takes before and after its networks, with its own functions.

    One thing differs: lines longer than 320 px are padded to one of few widths, so that batches fill.
    """

    def __init__(self, side: int, device: str) -> None:
        from rapidocr.ch_ppocr_det.utils import DBPostProcess, DetPreProcess
        from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

        module = "curation.models.text_networks"
        self.detector = connect(Spec(f"{module}:DetectorNetwork", "", device))
        self.reader = connect(Spec(f"{module}:ReaderNetwork", "", device))
        self.sized: Any = DetPreProcess(side, "max").resize
        self.boxes = DBPostProcess(box_thresh=BOX_SURE, unclip_ratio=1.6, use_dilation=True)  # as its config.yaml says
        self.characters = CTCLabelDecode(list(self.reader.facts["characters"]))

    def detect(self, images: Sequence[Image]) -> list[Boxes]:
        padded = [self._padded(image) for image in images]
        answers = self.detector.run("detect", [(self.sized(image),) for image, _ in padded])
        return [
            self._boxes(answer[0], image, above, original)
            for answer, (image, above), original in zip(answers, padded, images, strict=True)
        ]

    def _padded(self, image: Image) -> tuple[Image, int]:
        """Strips longer than 8:1 get space above and below, as RapidOCR's configuration says; and its height, px."""
        from rapidocr.utils.process_img import apply_vertical_padding

        record: dict[str, Any] = {}
        padded, record = apply_vertical_padding(image, record, width_height_ratio=8, min_height=30)
        return padded, int(record["padding_1"]["top"])

    def _boxes(self, heat: NDArray[np.uint8], image: Image, above: int, original: Image) -> Boxes:
        from rapidocr.ch_ppocr_det.main import TextDetector
        from rapidocr.utils.process_img import map_boxes_to_original

        boxes, _ = self.boxes((heat.astype(np.float32) / 255)[None, None], image.shape[:2])
        if not len(boxes):
            return none_found()
        record = {"padding_1": {"top": above, "left": 0}}
        boxes = map_boxes_to_original(TextDetector.sorted_boxes(boxes), record, *original.shape[:2])
        return np.asarray(boxes, np.float32)

    def read(self, lines: Sequence[Image]) -> list[tuple[str, float]]:
        answers = self.reader.run("read", [line_input(line) for line in lines])
        return [self._text(numbers, sureness) for numbers, sureness in answers]

    def _text(self, numbers: NDArray[np.int32], sureness: NDArray[np.float32]) -> tuple[str, float]:
        found, _ = self.characters.decode(numbers[None], sureness[None], remove_duplicate=True)
        text, score = found[0]
        return str(text), float(score)


def line_input(line: Image) -> Row:
    """A line for `ReaderNetwork`: resized to 48 px of height, padded on the right."""
    import cv2
    from rapidocr.utils.process_img import resize_image_within_bounds

    line, _, _ = resize_image_within_bounds(line, 30, 2000)
    # Up to 320 px rounded up, above it down, as RapidOCR does it.
    exact = READ_HEIGHT * line.shape[1] / line.shape[0]
    width = max(1, math.ceil(exact) if exact <= READ_WIDTH else int(exact))
    row = np.zeros((READ_HEIGHT, padded_width(width), 3), np.uint8)
    row[:, :width] = cv2.resize(line, (width, READ_HEIGHT))
    return row, np.array([width], np.int32)


def padded_width(width: int) -> int:
    """320, 480, 640, 960, 1280 ...: the first that is not below `width`."""
    full = READ_WIDTH
    while full < width:
        if width <= full * 3 // 2:
            return full * 3 // 2
        full *= 2
    return full


def none_found() -> Boxes:
    return np.empty((0, 4, 2), np.float32)
