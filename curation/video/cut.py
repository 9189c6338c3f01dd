"""A clip's exact frames at a constant rate, chosen by timestamps, cropped and resized for a bucket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from curation.media.decode import Refused
from curation.media.standardize import Recipe, standardize
from curation.video.container import Engine, Video, frames, open_video, rgb_of


def at_constant_rate(video: Video, start_s: float, end_s: float, fps: float, count: int) -> Iterator[tuple[float, Any]]:
    """`count` (time, frame) pairs: at start_s + k / fps the frame that is on show then, never one of end_s or later."""
    wanted, made, step = start_s, 0, 1 / video.rate
    shown: tuple[float, Any] | None = None
    until = end_s
    for time, frame in frames(video, start_s):
        if time >= end_s - 1e-6:
            break
        step = max(step, time - shown[0]) if shown is not None else step
        while shown is not None and made < count and time > wanted + 1e-4:
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


def cut(path: str, start_s: float, end_s: float, fps: float, count: int, recipe: Recipe, max_pixels: int,
        alive: Callable[[], None], engine: Engine = "pyav") -> tuple[dict[str, Any], Any]:  # fmt: skip
    """A clip for its bucket: (header, uint8 [count, height, width, 3]). Raises Refused where frames are missing."""
    out = np.empty((count, recipe.height, recipe.width, 3), np.uint8)
    header: dict[str, Any] = {"crop_ltrb": None}
    made, last = 0, -1.0
    with open_video(path, max_pixels, engine) as video:
        for time, frame in at_constant_rate(video, start_s, end_s, fps, count):
            if time != last:
                fitted = standardize(Image.fromarray(rgb_of(video, frame)), recipe, header["crop_ltrb"])
                header = {"resized": fitted.resized, "crop_ltrb": fitted.crop_ltrb}
                out[made], last = fitted.rgb, time
            else:
                out[made] = out[made - 1]
            made += 1
            alive()
        header |= {
            "original_width": video.stream.codec_context.width,
            "original_height": video.stream.codec_context.height,
        }
    if made < count:
        raise Refused(f"only {made} of {count} frames can be had between {start_s:.2f} s and {end_s:.2f} s")
    return header, out
