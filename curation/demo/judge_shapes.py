"""Do samples show the two things, in their colours, where the prompt says? Measured from the decoded pixels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.demo.judging import Checks, agreement, decoded, in_words, percent, sheet
from curation.demo.seeing import regions, relation
from curation.demo.shapes import Scene, pairs, scenes
from curation.trainer import checkpoint
from curation.trainer.pictures import png
from curation.trainer.sample import Painter, Settings

GUIDANCES = (1.0, 2.0, 4.0)
STEPS = 30
BUCKET = "1x64x64"


def looked_at(picture: NDArray[np.uint8], scene: Scene) -> Checks:
    """What of a scene an RGB picture (uint8 [64, 64, 3]) shows; a third colour makes the colours wrong."""
    seen = regions(picture)
    first, second = (seen.get(color) for color, _ in (scene.first, scene.second))
    if first is None or second is None:
        return {"colours": False, "shapes": False, "relation": False}
    return {
        "colours": set(seen) == {scene.first[0], scene.second[0]},
        "shapes": (first.shape, second.shape) == (scene.first[1], scene.second[1]),
        "relation": relation(first, second) == scene.relation,
    }


def wanted(n: int) -> list[Scene]:
    """n prompts, every second one about a pair that was never drawn."""
    rng, (drawn, never) = np.random.default_rng(2), map(scenes, pairs())
    return [some[int(rng.integers(len(some)))] for _, some in zip(range(n), [drawn, never] * n, strict=False)]


def judge(model: str, n: int, picture: Path | None) -> Iterator[str]:
    """Lines: agreement at each guidance, of pairs that were drawn and that never were; what is possible, and chance."""
    painter = Painter.of(checkpoint.find(model))
    captions, real = decoded(painter, BUCKET, min(n, 500))
    results = [looked_at(frames[0], Scene.of(caption)) for frames, caption in zip(real, captions, strict=True)]
    yield f"real pictures, through the autoencoder and back: {in_words(results)}"
    asked = wanted(n)
    for guidance in GUIDANCES:
        settings = Settings(steps=STEPS, guidance=guidance, batch=250)
        frames = painter.paint([scene.caption for scene in asked], 0, settings)[:, 0]
        results = [looked_at(*pair) for pair in zip(frames, asked, strict=True)]
        yield f"agreement {in_words(results)} at guidance {guidance:g}"
        known, new = agreement(results[::2]), agreement(results[1::2])
        yield f"  pairs that were drawn {percent(known)}, pairs that it never saw together {percent(new)}"
        if guidance == GUIDANCES[1]:
            turned = [looked_at(*pair) for pair in zip(frames, asked[1:] + asked[:1], strict=True)]
            chance = f"chance, the same samples against each other's prompts: {in_words(turned)}"
            if picture:
                shown = ((scene.caption, [frame]) for scene, frame in zip(asked[:24], frames, strict=False))
                picture.write_bytes(png(sheet(shown, columns=8)))
    yield chance
