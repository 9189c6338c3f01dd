"""An upright picture -> the exact pixels that a bucket wants: crop, then one antialiased resize by Pillow."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Box = tuple[int, int, int, int]
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Recipe:
    """What to make of a picture.

    width, height  of the bucket, px
    crop           centre, or smart: where the window holds most edges; in a clip, of its first frame
    box            left, top, right, bottom of the content, where a letterbox is to be removed
    filter         lanczos, bicubic or box, all antialiased
    """

    width: int
    height: int
    crop: Literal["center", "smart"] = "center"
    box: Box | None = None
    filter: Literal["lanczos", "bicubic", "box"] = "lanczos"


@dataclass(frozen=True)
class Standardized:
    """What came of it.

    rgb        uint8 [height, width, 3]
    resized    width and height that the whole content would have at this scale, px
    crop_ltrb  left, top, right, bottom of the crop in the upright picture, px
    info       what the decoder learnt: see `curation.media.decode.decode_image`
    """

    rgb: NDArray[np.uint8]
    resized: tuple[int, int]
    crop_ltrb: Box
    info: dict[str, Any] = field(default_factory=dict)


def standardize(image: Image.Image, recipe: Recipe, window: Box | None = None) -> Standardized:
    """Crop to the bucket's aspect and resize: bit for bit Pillow's `image.resize((w, h), filter, box=crop)`.

    A letterbox is cut off before: Pillow's filters look beyond `box`, and would draw its colour into the rim.
    `window` is the crop where it is known: a clip's must not jump from frame to frame.
    """
    box = recipe.box or (0, 0, image.width, image.height)
    crop = window or crop_box(image, box, recipe)
    scale = recipe.width / (crop[2] - crop[0])
    resized = (
        max(recipe.width, round((box[2] - box[0]) * scale)),
        max(recipe.height, round((box[3] - box[1]) * scale)),
    )
    content, inner = image, crop
    if recipe.box is not None:
        content = image.crop(box)
        inner = (crop[0] - box[0], crop[1] - box[1], crop[2] - box[0], crop[3] - box[1])
    small = content.resize((recipe.width, recipe.height), FILTERS[recipe.filter], box=inner)
    return Standardized(np.asarray(small), resized, crop)


def size_conditioning(
    content: Box, crop: Box, resized: tuple[int, int], target: tuple[int, int]
) -> dict[str, list[int]]:
    """SDXL's conditioning on sizes, px: (height, width) and (top, left), as diffusers' training script measures them.

    content, crop    left, top, right, bottom in the upright picture; `content` is what is left of it without a border
    resized, target  width and height: of the whole content at the scale of the bucket, and of the bucket

    original_size  of the content before it was resized. A border that was removed is no part of it: the model never
                   sees one, and a crop that counted it would begin at pixels that no sample has.
    crop_top_left  where the bucket's window begins in the resized content
    target_size    of the bucket

    The six numbers in the order original_size, crop_top_left, target_size are add_time_ids of diffusers' SDXL pipeline.
    """
    left = (crop[0] - content[0]) * target[0] / (crop[2] - crop[0])
    top = (crop[1] - content[1]) * target[1] / (crop[3] - crop[1])
    return {
        "original_size": [round(content[3] - content[1]), round(content[2] - content[0])],
        "target_size": [target[1], target[0]],
        "crop_top_left": [min(round(top), resized[1] - target[1]), min(round(left), resized[0] - target[0])],
    }


def crop_box(image: Image.Image, box: Box, recipe: Recipe) -> Box:
    """The largest window of the bucket's aspect inside `box`, in whole upright pixels.

    Raises ValueError when `box` is empty or reaches beyond the picture.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ValueError(f"the content box {list(box)} is not inside the picture, {image.width}x{image.height}")
    width, height = right - left, bottom - top
    if width * recipe.height > height * recipe.width:
        inner_w, inner_h = max(1, round(height * recipe.width / recipe.height)), height
    else:
        inner_w, inner_h = width, max(1, round(width * recipe.height / recipe.width))
    spare_x, spare_y = width - inner_w, height - inner_h
    x, y = spare_x // 2, spare_y // 2
    if recipe.crop == "smart" and (spare_x or spare_y):
        x, y = _busiest(image.crop(box), inner_w, inner_h)
    return (left + x, top + y, left + x + inner_w, top + y + inner_h)


def _busiest(content: Image.Image, width: int, height: int) -> tuple[int, int]:
    """Offset of the window with most edge energy, which leans to the centre when edges are even."""
    scale = min(1.0, 128 / max(content.size))
    size = (max(1, round(content.width * scale)), max(1, round(content.height * scale)))
    small = content.convert("L").resize(size, Image.Resampling.BOX)
    edges = np.array(small.filter(ImageFilter.FIND_EDGES), dtype=np.float64)
    edges[[0, -1]] = edges[:, [0, -1]] = 0  # the filter leaves the picture's own rim as it was
    axis = 0 if content.width > width else 1
    profile = edges.sum(axis=axis)
    window = max(1, round((width if axis == 0 else height) * scale))
    sums = np.convolve(profile, np.ones(min(window, len(profile))), mode="valid")
    offsets = np.arange(len(sums)) - (len(sums) - 1) / 2
    best = int(np.argmax(sums - 1e-3 * (1 + sums.mean()) * np.abs(offsets)))
    spare = (content.width - width) if axis == 0 else (content.height - height)
    offset = round(best / max(1, len(sums) - 1) * spare) if len(sums) > 1 else spare // 2
    return (offset, 0) if axis == 0 else (0, offset)
