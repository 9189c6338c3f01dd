"""A coloured shape that moves, as mp4 files with captions (`a red circle moving right`), and stills without motion.

The stills (`a red circle`) are for the two usual ways to train on both: together, or images first.
"""

import json
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.demo.drawing import COLORS, SHAPES, Thing, background, draw
from curation.trainer.pictures import mp4

CLIPS, STILLS = 720, 240
FRAMES, FPS = 9, 12
SIZE, WAY = 24.0, 16.0
PLACES = (16, 24, 32, 40, 48)
WAYS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Motion:
    """What a caption says: a thing, and where it goes; `way` None for a still."""

    color: str
    shape: str
    way: str | None

    @classmethod
    def of(cls, caption: str) -> "Motion":
        """What a caption says. Raises ValueError for one that is not of this corpus."""
        said = re.fullmatch(rf"a (\w+) (\w+)(?: moving ({'|'.join(WAYS)}))?", caption)
        if not said:
            raise ValueError(f"'{caption}' is no caption of a moving shape")
        return cls(said[1], said[2], said[3])

    @property
    def caption(self) -> str:
        return f"a {self.color} {self.shape}" + (f" moving {self.way}" if self.way else "")


MOTIONS = [Motion(*parts) for parts in product(COLORS, SHAPES, WAYS)]
THINGS = [Motion(*parts, None) for parts in product(COLORS, SHAPES)]


def clip(motion: Motion, rng: np.random.Generator) -> NDArray[np.uint8]:
    """RGB uint8 [9, 64, 64, 3]: 16 px at an even pace, never out of the picture; a still is one frame.

    Places are multiples of 8 px, the autoencoder's patches: a small model learns them in minutes.
    """
    behind, (dx, dy) = background(rng), WAYS.get(motion.way or "", (0, 0))
    x, y = (float(rng.choice(PLACES[1:-1] if moves else PLACES)) for moves in (dx, dy))
    steps = np.linspace(-WAY / 2, WAY / 2, FRAMES) if motion.way else [0.0]
    things = (Thing(motion.shape, motion.color, x + dx * step, y + dy * step, SIZE) for step in steps)
    return np.stack([draw(behind, [thing]) for thing in things])


def build(folder: Path, clips: int = CLIPS, stills: int = STILLS) -> int:
    """Write clips/, stills/ and captions.jsonl; the number of files."""
    lines = []
    for kind, count, told in (("clips", clips, MOTIONS), ("stills", stills, THINGS)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            motion = told[i % len(told)]
            frames = clip(motion, np.random.default_rng([3, len(told), i]))
            name = f"{kind}/{i:05d}." + ("mp4" if motion.way else "png")
            if motion.way:
                (folder / name).write_bytes(mp4(frames, FPS))
            else:
                Image.fromarray(frames[0]).save(folder / name)
            lines.append(json.dumps({"file": name, "caption": motion.caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return len(lines)
