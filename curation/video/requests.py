"""What the child process is asked about videos: the path comes in the header, arrays go back in the body."""

import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from curation.media.decode_worker import Ask
from curation.media.standardize import Recipe
from curation.video.clips import ClipRules

BEAT_S = 1.0


def answer_video(
    request: dict[str, Any], recipe: Recipe | None, beat: Callable[[], None], ask: Ask | None = None
) -> tuple[dict[str, Any], bytes | memoryview]:
    """Header and body; `beat` is called about once a second while frames keep coming. Raises Refused.

    ask  computes windows of frames for TransNetV2, where the request says that it is `served`
    """
    from curation.video.cut import cut
    from curation.video.sampling import let_go, sample
    from curation.video.scan import scan

    alive, path, bound, engine = _Pulse(beat), request["path"], request["max_pixels"], request["engine"]
    if request["video"] != "sample":
        let_go()
    if request["video"] == "scan":
        rules = ClipRules(**request["rules"])
        given = request["given"]
        predict = ask if request["served"] else None
        return scan(path, request["method"], request["threshold"], rules, bound, alive, given, engine, predict), b""
    span = request["start_s"], request["end_s"]
    rate = Fraction(request["rate"]) if request["rate"] else None
    if request["video"] == "sample":
        header, arrays = sample(path, *span, request["count"], request["longest"], bound, alive, engine, rate)
        shapes = [list(array.shape) for array in arrays]
        return header | {"shapes": shapes}, np.concatenate([array.ravel() for array in arrays]).data
    assert recipe is not None
    header, clip = cut(path, *span, request["fps"], request["count"], recipe, bound, alive, engine, rate)
    return header | {"shape": list(clip.shape)}, np.ascontiguousarray(clip).reshape(-1).data


class _Pulse:
    """Passes on a call a second."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self.beat, self.last = beat, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.last > BEAT_S:
            self.last = time.monotonic()
            self.beat()
