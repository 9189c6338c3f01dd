"""What the judges of drawn corpora share: prompts that say what to look for, tallies, and sheets of samples."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from curation.shards.reader import Shards
from curation.trainer.pictures import Frames
from curation.trainer.sample import Painter

Checks = Mapping[str, bool]
"""Each part of a prompt, and whether a sample shows it."""


def agreement(results: Sequence[Checks]) -> float:
    """The share of samples that show all that was asked for."""
    return sum(all(checks.values()) for checks in results) / max(1, len(results))


def in_words(results: Sequence[Checks]) -> str:
    """`84.2 % (colours 97.0 %, shapes 91.4 %)`."""
    parts = {part: float(np.mean([checks[part] for checks in results])) for part in results[0]}
    return f"{percent(agreement(results))} ({', '.join(f'{part} {percent(share)}' for part, share in parts.items())})"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def decoded(painter: Painter, bucket: str, n: int) -> tuple[list[str], Frames]:
    """First captions of samples of the training shards, and what the autoencoder makes of their latents."""
    import torch

    shards = Shards(painter.state["shards"])
    some = [sample for sample in shards if sample.meta["bucket"] == bucket]
    some = some[:: max(1, len(some) // n)][:n]
    latents = torch.from_numpy(np.stack([sample.latents for sample in some]).astype(np.float32))
    return [sample.meta["captions"][0] for sample in some], painter.decode(latents)


def sheet(rows: Iterable[tuple[str, Sequence[NDArray[np.uint8]]]], columns: int, scale: int = 2) -> NDArray[np.uint8]:
    """Captioned rows of pictures (uint8 [H, W, 3] each) in columns, the caption below: uint8 [H', W', 3]."""
    cells = [_cell(caption, np.concatenate(list(pictures), axis=1), scale) for caption, pictures in rows]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    lines = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.concatenate(lines)


def _cell(caption: str, picture: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """One picture enlarged on white, its caption below in lines that fit."""
    big = np.kron(picture, np.ones((scale, scale, 1), np.uint8))
    height, width = big.shape[:2]
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    image = Image.new("RGB", (width + 8, height + 38), "white")
    image.paste(Image.fromarray(big), (4, 4))
    ImageDraw.Draw(image).multiline_text((4, height + 7), "\n".join(lines), fill="black", spacing=2)
    return np.asarray(image)
