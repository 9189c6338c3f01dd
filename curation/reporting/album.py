"""Small pictures of records for the report page, decoded where a hostile file can do no harm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.errors import CurationError
from curation.manifest import Manifest
from curation.media.sandbox import Decoder, Limits
from curation.record import Span
from curation.reporting.packing import jpeg
from curation.scoring.score import RunContext
from curation.stores.storage import Store
from curation.video.reader import VideoReader, on_disk

SIDE = 144
"""Longer side of a picture, and height and width of a clip's frames at most, px."""
FRAMES = 6
"""Of a clip's sampled frames so many stand in its strip."""
GIVE_UP = 20
"""After so many failures in a row, and not one picture, the source is taken for lost."""
QUALITY = 72


@dataclass(frozen=True)
class Picture:
    """A JPEG in base64; of a clip its frames side by side. `problem` says why there is none."""

    data: str = ""
    width: int = 0
    height: int = 0
    frames: int = 1
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        if self.problem:
            return {"problem": self.problem}
        return {"data": self.data, "width": self.width, "height": self.height, "frames": self.frames}


class Album:
    """Decodes pictures and clips of a run again, as small as the page shows them."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        engine = manifest.engine
        self.context = RunContext.of(store, manifest.source)
        self.decoder = Decoder(Limits.of(engine))
        self._limits, self._engine = Limits.of(engine), engine.video_decoder
        self._videos: VideoReader | None = None
        self._failed, self._shown = 0, 0

    def show(self, row: Mapping[str, Any]) -> Picture:
        """A record's picture. One that cannot be had is described by the sentence that says why."""
        if self._failed >= GIVE_UP and not self._shown:
            return Picture(problem="not tried: none of the pictures before it could be read")
        try:
            frames = self._clip(row) if row["start_frame"] is not None else [self._still(row)]
        except CurationError as error:
            self._failed += 1
            return Picture(problem=str(error))
        self._shown += 1
        return strip(frames)

    def _still(self, row: Mapping[str, Any]) -> NDArray[np.uint8]:
        return self.decoder.decode(self.context.fetch(row["source_uri"])).rgb

    def _clip(self, row: Mapping[str, Any]) -> list[NDArray[np.uint8]]:
        self._videos = self._videos or VideoReader(self._limits, self._engine)
        span = Span(row["start_frame"], row["end_frame"], row["start_s"], row["end_s"])
        with on_disk(row["source_uri"], self.context.fetch) as (path, _):
            stills = self._videos.sample(path, span, {}, row.get("fps_fraction")).stills
        at = np.linspace(0, len(stills) - 1, min(FRAMES, len(stills))).round().astype(int)
        return [stills[i].rgb for i in at.tolist()]

    def close(self) -> None:
        """Stop the child processes."""
        self.decoder.close()
        if self._videos:
            self._videos.close()


def strip(frames: list[NDArray[np.uint8]]) -> Picture:
    """Frames uint8 [H, W, 3] of one size, made small and put side by side."""
    height, width = frames[0].shape[:2]
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = Image.new("RGB", (size[0] * len(frames), size[1]))
    for i, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame).resize(size, Image.Resampling.BOX, reducing_gap=2.0), (i * size[0], 0))
    return Picture(jpeg(sheet, QUALITY), size[0], size[1], len(frames))
