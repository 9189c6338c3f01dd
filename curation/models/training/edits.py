"""Edits that make a near-copy of a picture: what people and web sites do to pictures before they are found again.

Every edit takes an RGB picture and a random generator, and draws how strong it is.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]
Generator = np.random.Generator


def crop(least: float, most: float) -> Edit:
    """Keep a random part whose sides have between `least` and `most` of the picture's."""

    def edit(image: Image.Image, rng: Generator) -> Image.Image:
        share = rng.uniform(least, most)
        width, height = (max(8, round(side * share * rng.uniform(0.97, 1.03))) for side in image.size)
        width, height = min(width, image.width), min(height, image.height)
        left, top = (int(rng.integers(0, room + 1)) for room in (image.width - width, image.height - height))
        return image.crop((left, top, left + width, top + height))

    return edit


def mirror(image: Image.Image, rng: Generator) -> Image.Image:
    """Left and right exchanged."""
    return ImageOps.mirror(image)


def jpeg(image: Image.Image, rng: Generator) -> Image.Image:
    """Compressed at quality 15-70."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(15, 71)))
    return Image.open(buffer).convert("RGB")


def resize(image: Image.Image, rng: Generator) -> Image.Image:
    """To 30-150 % of its sides, the aspect ratio changed by up to 5 %."""
    share = rng.uniform(0.3, 1.5)
    size = [max(16, round(side * share * rng.uniform(0.975, 1.025))) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling(int(rng.choice([1, 2, 3]))))


def colour(image: Image.Image, rng: Generator) -> Image.Image:
    """Brightness, contrast, saturation by up to 30 %, and the white balance by up to 8 %."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(float(rng.uniform(0.75, 1.3)))
    gains = rng.uniform(0.92, 1.08, 3)
    return Image.fromarray(np.clip(np.asarray(image) * gains, 0, 255).astype(np.uint8))


def blur(image: Image.Image, rng: Generator) -> Image.Image:
    """Out of focus by up to 0.6 % of the longer side."""
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.001, 0.006)) * max(image.size)))


def noise(image: Image.Image, rng: Generator) -> Image.Image:
    """Gaussian noise of 4-12 levels."""
    pixels = np.asarray(image) + rng.normal(0, rng.uniform(4, 12), (image.height, image.width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def text(image: Image.Image, rng: Generator) -> Image.Image:
    """A line of white or black letters across it, as high as 5-9 % of the picture."""
    out = image.copy()
    font = ImageFont.load_default(max(8, round(image.height * rng.uniform(0.05, 0.09))))
    words = "".join(chr(int(code)) for code in rng.integers(97, 123, 14))
    at = (image.width * rng.uniform(0, 0.4), image.height * rng.uniform(0, 0.85))
    ImageDraw.Draw(out).text(at, words, font=font, fill=str(rng.choice(["white", "black"])))
    return out


def watermark(image: Image.Image, rng: Generator) -> Image.Image:
    """Half transparent letters over the middle."""
    layer = Image.new("RGBA", image.size)
    font = ImageFont.load_default(max(10, image.width // 8))
    ImageDraw.Draw(layer).text((image.width * 0.15, image.height * rng.uniform(0.2, 0.7)), "SAMPLE", font=font,
                               fill=(255, 255, 255, 110))  # fmt: skip
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def logo(image: Image.Image, rng: Generator) -> Image.Image:
    """A coloured patch with a sign in a corner, 8-14 % of the sides."""
    out, side = image.copy(), round(min(image.size) * rng.uniform(0.08, 0.14))
    left, top = (int(rng.choice([3, room - side - 3])) for room in image.size)
    fill = tuple(int(value) for value in rng.integers(0, 256, 3))
    draw = ImageDraw.Draw(out)
    draw.rectangle((left, top, left + side, top + side), fill=fill)
    draw.ellipse((left + side // 4, top + side // 4, left + 3 * side // 4, top + 3 * side // 4), fill="white")
    return out


def border(image: Image.Image, rng: Generator) -> Image.Image:
    """A frame, or two bars, of black, white or a colour."""
    fill = tuple(int(value) for value in rng.choice([np.zeros(3), np.full(3, 255), rng.integers(0, 256, 3)]))
    wide, high = (round(side * rng.uniform(0.04, 0.12)) for side in image.size)
    kind = rng.integers(3)
    return ImageOps.expand(image, (wide if kind != 1 else 0, high if kind != 2 else 0), fill)


def rotate(image: Image.Image, rng: Generator) -> Image.Image:
    """By 1-4 degrees, the empty corners cut off."""
    turned = image.rotate(float(rng.uniform(1, 4) * rng.choice([-1, 1])), Image.Resampling.BICUBIC)
    cut = round(0.05 * max(image.size))
    return turned.crop((cut, cut, image.width - cut, image.height - cut))


EDITS: Mapping[str, Edit] = {
    "mirror": mirror,
    "crop 85-95 %": crop(0.85, 0.95),
    "crop 70-85 %": crop(0.7, 0.85),
    "crop 50-70 %": crop(0.5, 0.7),
    "jpeg": jpeg,
    "resize": resize,
    "colour": colour,
    "blur": blur,
    "noise": noise,
    "text": text,
    "watermark": watermark,
    "logo": logo,
    "border": border,
    "rotate": rotate,
}


def several(image: Image.Image, rng: Generator) -> Image.Image:
    """Two or three edits, one after another: a mirrored crop, saved small ..."""
    for name in rng.choice(list(EDITS), int(rng.integers(2, 4)), replace=False):
        image = EDITS[str(name)](image, rng)
    return image
