"""(l) Peak memory of the child process for a video of 4 s and one of two hours: scan, sample and cut a clip of 4 s."""

from pathlib import Path

from benchmarks.common import Row
from benchmarks.videos import FPS, encode, pan, repeated
from curation.media.sandbox import Limits
from curation.media.standardize import Recipe
from curation.record import Span
from curation.video.clips import ClipRules
from curation.video.reader import VideoReader

SIZE, CLIP_S, LOOP_S = (1920, 1080), 4, 12
ROUNDS = 5
"""Until an allocator's leavings no longer add up."""


def peak_mib(path: Path, start_s: float) -> float:
    """VmHWM of a child that has done all that is done with a video."""
    reader = VideoReader(Limits(seconds=120))
    span = Span(round(start_s * FPS), round((start_s + CLIP_S) * FPS), start_s, start_s + CLIP_S)
    try:
        reader.scan(str(path), "content", None, vars(ClipRules()))
        for _ in range(ROUNDS):
            reader.sample(str(path), span, {})
            reader.cut(str(path), (span.start_s, span.end_s), FPS, CLIP_S * FPS - 3, Recipe(256, 256))
        status = Path(f"/proc/{reader.decoder.pid}/status").read_text()
    finally:
        reader.close()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(folder: Path, minutes: int) -> Row:
    fast = {"preset": "ultrafast", "crf": "30"}
    short = encode(folder / "short.mp4", pan(SIZE, CLIP_S * FPS), SIZE, fast)
    loop = encode(folder / "loop.mp4", pan(SIZE, LOOP_S * FPS), SIZE, fast)
    long = repeated(loop, folder / "long.mp4", minutes * 60 // LOOP_S)
    small, large = peak_mib(short, 0.0), peak_mib(long, minutes * 60 - CLIP_S - 1)
    what, note = f"(l) peak memory, {minutes} min of 1080p / {CLIP_S} s", "of the child that decodes; H.264"
    return Row(what, f"{large:.0f} MiB", f"{small:.0f} MiB", f"{large / small:.2f}", "<= 1.10", note)
