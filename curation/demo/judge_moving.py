"""Do clips show the thing that the prompt names, going where it says? Measured from the decoded frames."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.demo.drawing import SHAPES
from curation.demo.judging import Checks, decoded, in_words, sheet
from curation.demo.moving import FRAMES, MOTIONS, THINGS, Motion
from curation.demo.seeing import best, direction, regions
from curation.trainer import checkpoint
from curation.trainer.pictures import png
from curation.trainer.sample import Painter, Settings

GUIDANCES = (1.0, 2.0, 4.0)
STEPS = 30
CLIP, STILL = f"{FRAMES}x64x64", "1x64x64"


def looked_at(frames: NDArray[np.uint8], motion: Motion) -> Checks:
    """What of a prompt a clip (RGB uint8 [T, 64, 64, 3]) shows.

    A colour counts where most frames have it, and it has to be the only one. The shape is the one that fits best over
    all frames. Without the colour all is wrong.
    """
    seen = [regions(frame) for frame in frames]
    often = Counter(color for frame in seen for color in frame)
    shown = {color for color, count in often.items() if 2 * count > len(frames)}
    path = [frame[motion.color] for frame in seen if motion.color in frame] if motion.color in shown else []
    fits = {shape: float(np.mean([region.fits[shape] for region in path])) if path else 0.0 for shape in SHAPES}
    checks = {"colour": shown == {motion.color}, "shape": best(fits) == motion.shape}
    return checks if motion.way is None else checks | {"direction": direction(path) == motion.way}


def judge(model: str, n: int, picture: Path | None) -> Iterator[str]:
    """Lines: agreement of clips at each guidance; what is possible, and chance; of stills, where it was trained on."""
    painter = Painter.of(checkpoint.find(model))
    known = painter.state["buckets"]
    captions, real = decoded(painter, CLIP, min(n, 200))
    results = [looked_at(frames, Motion.of(caption)) for frames, caption in zip(real, captions, strict=True)]
    yield f"real clips, through the autoencoder and back: {in_words(results)}"
    asked = [MOTIONS[i % len(MOTIONS)] for i in range(n)]
    for guidance in GUIDANCES:
        settings = Settings(steps=STEPS, guidance=guidance, bucket=CLIP, batch=100)
        clips = painter.paint([motion.caption for motion in asked], 0, settings)
        results = [looked_at(*pair) for pair in zip(clips, asked, strict=True)]
        yield f"agreement {in_words(results)} at guidance {guidance:g}"
        if guidance == GUIDANCES[1]:
            others = np.random.default_rng(4).permutation(n)
            turned = [looked_at(frames, asked[other]) for frames, other in zip(clips, others, strict=True)]
            chance = f"chance, the same clips against each other's prompts: {in_words(turned)}"
            if picture:
                shown = [(asked[i].caption, clips[i][::2]) for i in range(0, min(n, 48), 4 + 1)]
                picture.write_bytes(png(sheet(shown, columns=2)))
    yield chance
    if STILL in known:
        asked = [THINGS[i % len(THINGS)] for i in range(n)]
        settings = Settings(steps=STEPS, guidance=GUIDANCES[1], bucket=STILL, batch=250)
        stills = painter.paint([thing.caption for thing in asked], 0, settings)
        results = [looked_at(*pair) for pair in zip(stills, asked, strict=True)]
        yield f"stills: agreement {in_words(results)} at guidance {GUIDANCES[1]:g}"
