"""A clip's exact frames at a constant rate, chosen by timestamps, cropped and resized for a bucket."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from curation.media.decode import Refused
from curation.media.standardize import Recipe, standardize
from curation.video.container import Engine, Video, frames, open_video, rgb_of
from curation.video.rates import ROUNDED, on_grid

EXACT_S = 2e-6
"""s by which times on a grid may be off: stored seconds are rounded to the microsecond."""
NEVER_CLOSER = 1e-4
"""s: no two frames follow each other so fast."""


def at_constant_rate(
    video: Video, start_s: float, end_s: float, fps: float, count: int, rate: Fraction | None = None
) -> Iterator[tuple[float, Any]]:
    """`count` (time, frame) pairs: at start_s + k / fps the frame that is on show then, never one of end_s or later.

    rate  of the grid on which the video's frames lie (`curation.video.rates`): they are then taken at their exact
          times. Without one, a frame counts as on show from one tick of the container's time base before its timestamp
          on, since that may be rounded up.
    """
    wanted, made, step = start_s, 0, 1 / float(rate or video.rate)
    early = EXACT_S if rate else max(NEVER_CLOSER, rounding(video))
    shown: tuple[float, Any] | None = None
    until = end_s
    for time, frame in on_grid(frames(video, start_s), start_s, rate):
        if time >= end_s - NEVER_CLOSER:
            break
        step = max(step, time - shown[0]) if shown is not None else step
        while shown is not None and made < count and time > wanted + early:
            yield shown
            made += 1
            wanted = start_s + made / fps
        if made >= count:
            return
        shown = (time, frame)
    else:  # the stream ended: its last frame stays for a step, not for ever
        until = min(end_s, shown[0] + step) if shown is not None else start_s
    while shown is not None and made < count and wanted < until - 1e-6:
        yield shown
        made += 1
        wanted = start_s + made / fps


def rounding(video: Video) -> float:
    """Seconds by which timestamps may be off: a tick of the time base, 0 where a tick is a whole frame, as in AVI."""
    tick = ROUNDED * float(video.stream.time_base)
    return tick if tick < 0.25 / video.rate else 0.0


def cut(path: str, start_s: float, end_s: float, fps: float, count: int, recipe: Recipe, max_pixels: int,
        alive: Callable[[], None], engine: Engine = "pyav",
        rate: Fraction | None = None) -> tuple[dict[str, Any], Any]:  # fmt: skip
    """A clip for its bucket: (header, uint8 [count, height, width, 3]). Raises Refused where frames are missing."""
    out = np.empty((count, recipe.height, recipe.width, 3), np.uint8)
    header: dict[str, Any] = {"crop_ltrb": None}
    made, last, size = 0, -1.0, (0, 0)
    with open_video(path, max_pixels, engine) as video:
        for time, frame in at_constant_rate(video, start_s, end_s, fps, count, rate):
            if made and (frame.width, frame.height) != size:
                raise Refused(f"its frames change from {size[0]}x{size[1]} px to {frame.width}x{frame.height} px")
            size = frame.width, frame.height
            if time != last:
                fitted = standardize(Image.fromarray(rgb_of(video, frame)), recipe, header["crop_ltrb"])
                header = {"resized": fitted.resized, "crop_ltrb": fitted.crop_ltrb}
                out[made], last = fitted.rgb, time
            else:
                out[made] = out[made - 1]
            made += 1
            alive()
        header |= {"original_width": size[0], "original_height": size[1]}
    if made < count:
        raise Refused(f"only {made} of {count} frames can be had between {start_s:.2f} s and {end_s:.2f} s")
    return header, out
