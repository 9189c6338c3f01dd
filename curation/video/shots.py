"""Shot boundaries found while frames stream by: TransNetV2, or PySceneDetect's content and adaptive detectors."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
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
    """AcceptedSizes every frame once, in order; holds a bounded window of them."""

    size: tuple[int, int]
    """Width and height of the frames it wants, px."""

    def feed(self, frame: Rgb) -> None: ...

    def finish(self) -> list[Cut]: ...


Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""TransNetV2 on windows: uint8 [N, 100, 27, 48, 3] RGB -> for the middle 50 frames of each, the probability that a
transition is at its middle there, and that the frame is in one: float32 [N, 2, 50]."""
WINDOWS = 8
"""So many are asked for together where a network elsewhere computes them: 3 MB."""


def open_detector(
    method: str, threshold: float | None = None, fps: float = 25.0, predict: Predict | None = None
) -> Detector:
    """A detector for one video; TransNetV2 computes here without `predict`. Raises ValueError for unknown methods."""
    if method == "transnetv2":
        limit = 0.5 if threshold is None else threshold
        return TransNet(limit, predict, WINDOWS) if predict else TransNet(limit, predict_here, 1)
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

    def __init__(self, threshold: float, predict: Predict, windows: int) -> None:
        self.threshold, self.predict, self.windows = threshold, predict, windows
        self.window: list[Rgb] = []
        self.full: list[NDArray[np.uint8]] = []
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
            self._next_window()

    def _next_window(self) -> None:
        self.full.append(np.stack(self.window))
        self.window = self.window[self.STEP :]
        if len(self.full) == self.windows:
            self._predict()

    def _predict(self) -> None:
        if self.full:
            marks = self.predict(np.stack(self.full))
            self.single += marks[:, 0].ravel().tolist()
            self.every += marks[:, 1].ravel().tolist()
            self.full = []

    def finish(self) -> list[Cut]:
        while self.frames and len(self.single) + len(self.full) * self.STEP < self.frames:
            self.window += [self.window[-1]] * (self.WINDOW - len(self.window))
            self._next_window()
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


def predict_here(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`Predict` in this process, one window at a time, by a network that is loaded once."""
    import torch

    from curation.models.transnet import load_transnet, probabilities

    if not _model:
        _model.append(load_transnet())
    with one_thread(), torch.inference_mode():
        parts = [probabilities(_model[0], torch.from_numpy(window[None])) for window in windows]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


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
