"""Drawn pictures with captions: clean records of known content, all different."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

COLOURS = {
    "red": (200, 45, 40), "green": (50, 150, 70), "blue": (50, 80, 190), "yellow": (230, 200, 50),
    "purple": (130, 60, 160),
    "orange": (235, 130, 40), "white": (240, 240, 235), "black": (30, 30, 35),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star")
PLACES = ("left of", "right of", "above", "below")
SIZE = (400, 300)


def scene(number: int) -> tuple[Image.Image, str]:
    """The picture and caption of a number; the same everywhere."""
    rng = np.random.default_rng(1000 + number)
    return (_hills, _shapes, _rings)[number % 3](rng)


def noise(rng: np.random.Generator, size: tuple[int, int], cell: int, strength: float) -> NDArray[np.float32]:
    """Smooth random texture, float32 [h, w, 3] around 0: what keeps a drawing from being flat."""
    width, height = size
    coarse = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
    layers = [np.asarray(Image.fromarray(coarse[..., i]).resize(size, Image.Resampling.BICUBIC)) for i in range(3)]
    fine = rng.normal(0, 0.35, (height, width, 1)).astype(np.float32)
    return strength * (np.stack(layers, axis=2) + fine)


def _textured(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    values = np.asarray(image, np.float32) + noise(rng, image.size, int(rng.integers(12, 60)), strength)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _pick(rng: np.random.Generator, names: list[str]) -> str:
    return names.pop(int(rng.integers(len(names))))


def _hills(rng: np.random.Generator) -> tuple[Image.Image, str]:
    """Layers of hills under a sky with a sun or a moon."""
    names = [name for name in COLOURS if name not in ("white", "black")]
    sky, ground = _pick(rng, names), _pick(rng, names)
    image = Image.new("RGB", SIZE)
    draw = ImageDraw.Draw(image)
    for y in range(SIZE[1]):
        draw.line([(0, y), (SIZE[0], y)], fill=tuple(int(c * (0.45 + 0.55 * y / SIZE[1])) for c in COLOURS[sky]))
    x, y, r = int(rng.integers(40, 360)), int(rng.integers(30, 110)), int(rng.integers(14, 40))
    draw.ellipse([x - r, y - r, x + r, y + r], fill=COLOURS["yellow" if sky != "yellow" else "white"])
    layers = int(rng.integers(2, 5))
    for layer in range(layers):
        phase, waves, height = rng.uniform(0, 7, 2), rng.uniform(1, 5), 150 + 130 * layer / layers
        ridge = [
            (px, height + 34 * math.sin(waves * px / 60 + phase[0]) + 16 * math.sin(px / 17 + phase[1]))
            for px in range(0, SIZE[0] + 5, 5)
        ]
        shade = 0.4 + 0.6 * (layer + 1) / layers
        draw.polygon([*ridge, (SIZE[0], SIZE[1]), (0, SIZE[1])], fill=tuple(int(c * shade) for c in COLOURS[ground]))
    return _textured(image, rng, 16), f"{layers} rows of {ground} hills under a {sky} sky with a low sun"


def _shapes(rng: np.random.Generator) -> tuple[Image.Image, str]:
    """Two shapes beside or above each other on a textured ground."""
    names = list(COLOURS)
    ground, first, second = _pick(rng, names), _pick(rng, names), _pick(rng, names)
    kinds = [SHAPES[int(rng.integers(4))], SHAPES[int(rng.integers(4))]]
    place = PLACES[int(rng.integers(4))]
    image = _textured(Image.new("RGB", SIZE, COLOURS[ground]), rng, 30)
    draw = ImageDraw.Draw(image)
    spots = [(110, 150), (290, 150)] if place in PLACES[:2] else [(200, 80), (200, 220)]
    if place in ("right of", "below"):
        spots.reverse()
    for (x, y), kind, colour in zip(spots, kinds, (first, second), strict=True):
        jitter = rng.integers(-18, 19, 2)
        _draw_shape(draw, kind, x + int(jitter[0]), y + int(jitter[1]), int(rng.integers(34, 62)), COLOURS[colour])
    return _textured(image, rng, 8), f"a {first} {kinds[0]} {place} a {second} {kinds[1]} on a {ground} ground"


def _draw_shape(draw: ImageDraw.ImageDraw, kind: str, x: int, y: int, r: int, colour: tuple[int, int, int]) -> None:
    if kind == "circle":
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    elif kind == "square":
        draw.rectangle([x - r, y - r, x + r, y + r], fill=colour)
    else:
        corners = 3 if kind == "triangle" else 10
        radii = [r if corners == 3 or i % 2 == 0 else r * 0.42 for i in range(corners)]
        turns = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
        draw.polygon(
            [(x + q * math.cos(t), y + q * math.sin(t)) for q, t in zip(radii, turns, strict=True)], fill=colour
        )


def _rings(rng: np.random.Generator) -> tuple[Image.Image, str]:
    """Waves around two or three points, like drops in water, in two colours."""
    names = list(COLOURS)
    first, second = _pick(rng, names), _pick(rng, names)
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width]
    count = int(rng.integers(2, 4))
    field = np.zeros((height, width))
    for _ in range(count):
        cx, cy, wavelength = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(14, 60)
        field += np.sin(2 * np.pi * np.hypot(x - cx, y - cy) / wavelength)
    mix = (0.5 + 0.5 * np.tanh(field))[..., None]
    values = mix * np.array(COLOURS[first]) + (1 - mix) * np.array(COLOURS[second])
    image = Image.fromarray(values.astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    return _textured(image, rng, 14), f"{first} and {second} rings around {count} points, like drops in water"
