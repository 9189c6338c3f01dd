"""Two coloured shapes a picture, with captions that say which lies where: `a red circle left of a blue square`.

Some pairs of things are never drawn: what a model makes of them shows whether it composes.
"""

import json
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.demo.drawing import COLORS, SHAPES, Thing, background, draw

COUNT, SIZE = 3000, 24.0
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
Name = tuple[str, str]
"""Colour and shape."""


@dataclass(frozen=True)
class Scene:
    """What a caption says: two things, and how the first lies to the second."""

    first: Name
    relation: str
    second: Name

    @classmethod
    def of(cls, caption: str) -> "Scene":
        """What a caption says. Raises ValueError for one that is not of this corpus."""
        said = re.fullmatch(rf"a (\w+) (\w+) ({'|'.join(OPPOSITE)}) a (\w+) (\w+)", caption)
        if not said:
            raise ValueError(f"'{caption}' is no caption of two shapes")
        return cls((said[1], said[2]), said[3], (said[4], said[5]))

    @property
    def caption(self) -> str:
        return f"a {' '.join(self.first)} {self.relation} a {' '.join(self.second)}"

    @property
    def turned(self) -> "Scene":
        """The same picture told from the other thing."""
        return Scene(self.second, OPPOSITE[self.relation], self.first)


def pairs() -> tuple[list[tuple[Name, Name]], list[tuple[Name, Name]]]:
    """Pairs of things of two colours: those that are drawn, and every ninth, which never is."""
    things = [(color, shape) for color in COLORS for shape in SHAPES]
    both = [pair for pair in combinations(things, 2) if pair[0][0] != pair[1][0]]
    order = [both[i] for i in np.random.default_rng(0).permutation(len(both))]
    return [pair for i, pair in enumerate(order) if i % 9], order[::9]


def scenes(some: list[tuple[Name, Name]]) -> list[Scene]:
    """Every caption about these pairs."""
    straight = [Scene(a, relation, b) for a, b in some for relation in OPPOSITE]
    return straight + [scene.turned for scene in straight]


def place(scene: Scene, rng: np.random.Generator) -> list[Thing]:
    """The two things where a scene allows: 32 px apart one way, up to 16 px the other.

    Places are multiples of 8 px, the autoencoder's patches: a small model learns them in minutes.
    """
    near, far = 16.0, 48.0
    along = (near, far) if scene.relation in ("left of", "above") else (far, near)
    things = []
    for (color, shape), a in zip((scene.first, scene.second), along, strict=True):
        b = float(rng.choice((24, 32, 40)))
        x, y = (a, b) if scene.relation in ("left of", "right of") else (b, a)
        things.append(Thing(shape, color, x, y, SIZE))
    return things


def picture(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """RGB uint8 [64, 64, 3]."""
    return draw(background(rng), place(scene, rng))


def build(folder: Path, count: int = COUNT) -> int:
    """Write pictures, and captions.jsonl with two captions for each; the number of them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    drawn, lines = scenes(pairs()[0]), []
    for i in range(count):
        rng = np.random.default_rng([1, i])
        scene = drawn[int(rng.integers(len(drawn)))]
        name = f"images/{i:05d}.png"
        Image.fromarray(picture(scene, rng)).save(folder / name)
        lines.append(json.dumps({"file": name, "captions": [scene.caption, scene.turned.caption]}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return len(lines)
