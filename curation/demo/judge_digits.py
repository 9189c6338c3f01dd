"""Do samples show the digit that was asked for? A classifier fitted on real digits says so; it never saw samples."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.demo.digits import TRAINED, caption, load, reduce
from curation.trainer import checkpoint
from curation.trainer.metrics import frechet_distance
from curation.trainer.pictures import grid, labelled, png
from curation.trainer.sample import Painter, Settings

GUIDANCES = (1.0, 2.0, 3.0)
STEPS = 30


def gaussian_space(small: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, 8, 8] in 0-16 -> [N, 64] in [-1, 1], as the Fréchet distance here is taken."""
    return small.reshape(len(small), -1) / 8 - 1


def judge(model: str, n: int, picture: Path | None) -> Iterator[str]:
    """Lines: agreement and Fréchet distance at each guidance; what noise and real digits would get."""
    from sklearn.linear_model import LogisticRegression

    pictures, digits = load()
    real, held = (gaussian_space(part) for part in (pictures[:TRAINED], pictures[TRAINED:]))
    classifier = LogisticRegression(max_iter=2000).fit(real, digits[:TRAINED])
    noise = np.random.default_rng(0).standard_normal((n, 64))
    right = classifier.score(held, digits[TRAINED:])
    yield f"a classifier fitted on {TRAINED} real digits is right on {right:.1%} of {len(held)} others"
    floor, ceiling = frechet_distance(real, held), frechet_distance(noise, held)
    yield f"Fréchet distance to them, 8x8 px: {floor:.2f} of real digits, {ceiling:.1f} of noise"
    painter = Painter.of(checkpoint.find(model))
    wanted = np.arange(n) % 10
    for guidance in GUIDANCES:
        settings = Settings(steps=STEPS, guidance=guidance, batch=250)
        frames = painter.paint([caption(int(digit)) for digit in wanted], 0, settings)
        small = gaussian_space(reduce(frames[:, 0]))
        agreement, distance = (classifier.predict(small) == wanted).mean(), frechet_distance(small, held)
        yield f"agreement {agreement:.1%} at guidance {guidance:g}, Fréchet distance {distance:.2f}".replace("%", " %")
        if picture and guidance == 2:
            _save(picture, painter)


def _save(path: Path, painter: Painter, each: int = 12) -> None:
    digits = [digit for digit in range(10) for _ in range(each)]
    frames = painter.paint([caption(digit) for digit in digits], 1, Settings(steps=STEPS, guidance=2, batch=250))
    path.write_bytes(png(labelled(grid(frames, columns=each)[0], [caption(digit) for digit in range(10)])))
