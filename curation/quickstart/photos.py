"""Photos inside the wheels of scikit-image and scikit-learn, and parts of them, with captions written for them here."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from curation.errors import CurationError
from curation.install import command

Box = tuple[int, int, int, int]

WHOLE: dict[str, str] = {
    "skimage/data/astronaut.png": "a smiling woman astronaut in an orange space suit before a flag",
    "skimage/data/chelsea.png": "a close-up of a tabby cat looking at the camera",
    "skimage/data/coffee.png": "a red cup of coffee with a spoon on a wooden table",
    "skimage/data/rocket.jpg": "a rocket standing on its launch pad at dusk",
    "skimage/data/retina.jpg": "the retina of an eye with its blood vessels",
    "skimage/data/grass.png": "a lawn of short grass, black and white",
    "skimage/data/camera.png": "a man with a camera on a tripod in a field",
    "sklearn/datasets/images/china.jpg": "a chinese pagoda with tiled roofs on a hill above a lake",
    "sklearn/datasets/images/flower.jpg": "an orange dahlia flower in bloom before dark green leaves",
    "skimage/data/hubble_deep_field.jpg": "stars and galaxies in outer space",
    "skimage/data/motorcycle_left.png": "a red motorcycle parked in a garage",
    "skimage/data/coins.png": "old coins laid out in rows",
    "skimage/data/gravel.png": "gravel, small stones covering the ground",
    "skimage/data/ihc.png": "stained tissue under a microscope, brown and blue cells",
}
PARTS: dict[str, dict[Box, str]] = {
    "skimage/data/astronaut.png": {
        (165, 0, 310, 165): "the smiling face of a woman with short hair",
        (345, 0, 475, 290): "a model of a space shuttle with its rockets",
    },
    "skimage/data/chelsea.png": {
        (110, 50, 240, 150): "the green eye of a cat",
        (190, 150, 340, 300): "the nose and whiskers of a cat",
    },
    "skimage/data/coffee.png": {
        (150, 0, 440, 180): "a cup of coffee, espresso",
        (300, 180, 470, 350): "a metal spoon on a red saucer",
    },
    "skimage/data/rocket.jpg": {(270, 90, 380, 427): "a white rocket on its launch pad"},
    "skimage/data/motorcycle_left.png": {
        (480, 260, 690, 460): "the front wheel of a motorcycle",
        (340, 0, 741, 130): "boxes and tools on the shelves of a garage",
        (50, 20, 260, 200): "a wooden bench in a garage",
    },
    "sklearn/datasets/images/china.jpg": {
        (80, 30, 340, 180): "the tiled roof of a chinese temple",
        (340, 200, 640, 427): "trees on the shore of a misty lake",
        (110, 190, 330, 350): "red pillars and windows of a chinese temple",
    },
    "sklearn/datasets/images/flower.jpg": {(170, 80, 450, 360): "the petals of an orange flower"},
    "skimage/data/camera.png": {
        (210, 290, 512, 512): "the legs of a tripod standing on a lawn",
        (60, 40, 330, 240): "a man in a black coat looking into a camera",
        (330, 90, 512, 240): "buildings of a city on the horizon",
    },
    "skimage/data/gravel.png": {(0, 0, 256, 256): "small grey stones"},
}
"""Regions (left, top, right, bottom) of a photo that do not overlap: pictures of their own.

Photos and regions that the embedded image-text model does not understand (a brick wall, the moon) are left out:
what the quickstart shows is the program, not that model's limits, which its card tells.
"""
SWAPPED = ("chelsea", "camera", "flower", "rocket", "coffee", "china")
"""Photos that the embedded image-text model is sure of: each gets the next one's caption."""


@dataclass(frozen=True)
class Photo:
    name: str
    image: Image.Image
    caption: str


def photos() -> list[Photo]:
    """The whole photos, then the parts, RGB. Raises CurationError naming the extra when a package is missing."""
    whole = [Photo(Path(path).stem, _open(path), caption) for path, caption in WHOLE.items()]
    parts = [
        Photo(f"{Path(path).stem} {box}", _open(path).crop(box), caption)
        for path, boxes in PARTS.items()
        for box, caption in boxes.items()
    ]
    return whole + parts


def _open(path: str) -> Image.Image:
    with Image.open(locate(path)) as image:
        return image.convert("RGB")


def locate(path: str) -> Path:
    package, _, rest = path.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.origin:
        raise CurationError(
            f"the quickstart corpus needs photos of the package {package}, which is not installed; to install it: "
            f"{command('quickstart')}"
        )
    return Path(spec.origin).parent / rest
