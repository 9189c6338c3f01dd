"""scikit-learn's handwritten digits as pictures with captions: 1,797 of them, 8x8 px, enlarged to 64x64."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, SMALL = 64, 8
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAINED = 1300
"""Pictures that the model is trained on; the rest is what samples are measured against."""


def caption(digit: int) -> str:
    """`a handwritten three`."""
    return f"a handwritten {WORDS[digit]}"


def load() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(pictures float64 [1797, 8, 8] in 0-16, digits [1797]) in a fixed shuffled order: training first."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    return digits.images[order], digits.target[order]


def enlarge(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    """[8, 8] in 0-16 -> uint8 [64, 64, 3]: each value a square of 8x8 px, white on black."""
    grey = np.round(picture * 255 / 16).astype(np.uint8)
    big = np.kron(grey, np.ones((SIDE // SMALL, SIDE // SMALL), np.uint8))
    return np.repeat(big[..., None], 3, axis=2)


def reduce(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """uint8 [N, H, W, 3] -> [N, 8, 8] in 0-16, the mean over each of the 8x8 squares: the inverse of `enlarge`."""
    count, height, width, _ = pictures.shape
    cells = pictures.mean(axis=3).reshape(count, SMALL, height // SMALL, SMALL, width // SMALL)
    small: NDArray[np.float64] = cells.mean(axis=(2, 4)) * 16 / 255
    return small


def build(folder: Path, count: int = TRAINED) -> int:
    """Write the (first) training pictures and captions.jsonl; the number of them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for i, (picture, digit) in enumerate(zip(*(part[:count] for part in load()), strict=True)):
        name = f"images/{i:04d}.png"
        Image.fromarray(enlarge(picture)).save(folder / name)
        lines.append(json.dumps({"file": name, "caption": caption(int(digit))}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return len(lines)
