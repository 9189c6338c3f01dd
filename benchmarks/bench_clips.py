"""(j) Clips sampled and scored against a plain PyAV loop, by one thread, that only decodes the same frames."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np

from benchmarks.common import Row, seconds
from benchmarks.videos import encode, pan
from curation import catalog
from curation.media.sandbox import Limits
from curation.record import Span
from curation.stage import Stage, run_guarded
from curation.threads import one_core
from curation.video.reader import VideoReader

STAGES = ("quality", "motion", "temporal", "phash")
ROUNDS, CLIPS, CLIP_S = 5, 6, 5


def plain(path: Path) -> int:
    """Decode all, and count."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def scored(path: Path, reader: VideoReader, ahead: Executor, spans: Sequence[Span], stages: Sequence[Stage]) -> None:
    """As a worker of the engine does it: the child process decodes the next clip while this one is scored."""
    sizes = {"width": 1280, "height": 720}
    coming = ahead.submit(reader.sample, str(path), spans[0], sizes)
    for following in [*spans[1:], None]:
        clip = coming.result()
        if following:
            coming = ahead.submit(reader.sample, str(path), following, sizes)
        for stage in stages:
            run_guarded(stage, {"pixels": [clip]})


def measure(path: Path, what: str) -> Row:
    stages = [catalog.find(name)(catalog.find(name).Params()) for name in STAGES]
    for stage in stages:
        stage.load()
    frames = plain(path)
    step = frames // CLIPS
    spans = [Span(i * step, (i + 1) * step, i * CLIP_S, (i + 1) * CLIP_S) for i in range(CLIPS)]
    reader, ahead = VideoReader(Limits(seconds=120)), ThreadPoolExecutor(1)  # its thread starts the child process
    try:
        with one_core():
            scored(path, reader, ahead, spans, stages)
            pairs = [
                (seconds(lambda: scored(path, reader, ahead, spans, stages)), seconds(lambda: plain(path)))
                for _ in range(ROUNDS)
            ]
    finally:
        reader.close()
        ahead.shutdown()
    ours, theirs = (frames / float(np.median(side)) for side in zip(*pairs, strict=True))
    ratio = float(np.median([b / a for a, b in pairs]))
    note = f"{what}; {', '.join(STAGES)} of {CLIPS} clips of {CLIP_S} s; the plain loop only decodes, by one thread"
    return Row("(j) decode + sample + score, frames/s", f"{ours:.0f}", f"{theirs:.0f}", f"{ratio:.2f}", ">= 0.7", note)


def clips(corpus: Path | None, folder: Path) -> list[Row]:
    size = (1280, 720)
    made = encode(folder / "pan.mp4", pan(size, 24 * CLIPS * CLIP_S), size, {"preset": "veryfast"})
    rows = [measure(made, "H.264, 720p, made here")]
    if corpus:
        rows.append(measure(next((corpus / "videos").glob("*big_buck_bunny*")), "VP8, 720p, of the corpus"))
    return rows
