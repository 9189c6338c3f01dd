"""Photos inside the wheels of scikit-image and scikit-learn, with captions written for them here."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from curation.errors import CurationError

CAPTIONS = {
    "skimage/data/astronaut.png": "a smiling woman astronaut in an orange space suit before a flag",
    "skimage/data/chelsea.png": "a close-up of a tabby cat looking at the camera",
    "skimage/data/coffee.png": "a cup of coffee with a spoon on a wooden table",
    "skimage/data/rocket.jpg": "a rocket standing on its launch pad at night",
    "skimage/data/retina.jpg": "the retina of an eye with its blood vessels",
    "skimage/data/grass.png": "a lawn of short grass",
    "skimage/data/camera.png": "a man with a camera on a tripod in a field",
    "sklearn/datasets/images/china.jpg": "a chinese temple with a tiled roof under a blue sky",
    "sklearn/datasets/images/flower.jpg": "a red flower with a yellow centre among green leaves",
    "skimage/data/hubble_deep_field.jpg": "galaxies and stars in deep space",
    "skimage/data/motorcycle_left.png": "a motorcycle parked in a garage",
    "skimage/data/coins.png": "old coins laid out in rows",
}
SWAPPED = ("chelsea", "camera", "flower", "rocket", "coffee", "china")
"""Photos that the embedded image-text model is sure of: each gets the next one's caption."""


@dataclass(frozen=True)
class Photo:
    name: str
    image: Image.Image
    caption: str


def photos() -> list[Photo]:
    """Every photo, RGB. Raises CurationError naming the extra when a package is missing."""
    return [
        Photo(Path(path).stem, Image.open(_locate(path)).convert("RGB"), caption) for path, caption in CAPTIONS.items()
    ]


def _locate(path: str) -> Path:
    package, _, rest = path.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.origin:
        raise CurationError(
            f"the quickstart corpus needs photos of the package {package}: pip install 'curation[quickstart]'"
        )
    return Path(spec.origin).parent / rest
