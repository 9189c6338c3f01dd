"""The embedded aesthetic: technical quality, measured and summed up, where no model of taste can be had."""

import hashlib
import math
from collections.abc import Sequence

from curation.media import measures
from curation.models.registry import ModelInfo
from curation.pixels import Pixels

ID = "embedded:measured-quality"


class MeasuredQuality:
    """The role aesthetic without a model: sharpness, exposure, contrast, colour, naturalness and JPEG blocks."""

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        return ModelInfo(ID, hashlib.sha256(ID.encode()).hexdigest())

    def __init__(self, argument: str, device: str = "cpu") -> None:
        pass

    def aesthetic(self, pixels: Sequence[Pixels]) -> list[float]:
        """0 poor to 10 good, for each picture."""
        return [quality_mark(picture) for picture in pixels]


def quality_mark(picture: Pixels) -> float:
    """Weighted mean of six marks, each 0-1 and saturating where more is no better, times 10."""
    sharp = _ramp(math.log10(measures.sharpness(picture) + 1), 0.7, 3.2)
    light = 1 - min(1.0, abs(measures.exposure(picture) - 0.47) / 0.47) ** 2
    unclipped = 1 - _ramp(measures.clipped(picture), 0.05, 0.6)
    contrast = _ramp(measures.contrast(picture), 0.03, 0.22)
    colour = _ramp(measures.colourfulness(picture), 0, 45)
    natural = 1 - _ramp(measures.brisque(picture), 15, 60)
    clean = 1 - _ramp(measures.blockiness(picture), 1.05, 3.0)
    marks = (
        (sharp, 3.0),
        (light, 1.0),
        (unclipped, 0.5),
        (contrast, 1.5),
        (colour, 0.75),
        (natural, 1.0),
        (clean, 2.25),
    )
    return 10 * sum(mark * weight for mark, weight in marks) / sum(weight for _, weight in marks)


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, straight between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
