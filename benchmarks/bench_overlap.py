"""(o) How well a GPU and the CPUs beside it overlap: a network that sleeps as an H100 computes, on a pretended GPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench_engine import manifest
from benchmarks.common import Row, corpus, curate

CPU = "  - resolution\n  - phash\n"
MODEL = '  - "benchmarks.timed:Timed": {milliseconds: %s}\n'
SMALL = 8


@contextmanager
def pretended_gpu() -> Iterator[None]:
    os.environ["CURATION_PRETEND_GPUS"] = "1"
    try:
        yield
    finally:
        del os.environ["CURATION_PRETEND_GPUS"]


def overlap(folder: Path, count: int, engines: tuple[str, ...] = ("inline", "ray")) -> list[Row]:
    """The slower of (CPU side alone, model alone) over both together, score phase, start-up apart.

    Once at 0.4 ms a picture, as CLIP ViT-L/14 takes on an H100, where the CPUs of this machine are the limit; and once
    at as many as the CPU side takes here, where neither can wait for the other.
    """
    table = corpus(folder / "photos", count, (800, 600))
    few = corpus(folder / "few", SMALL, (800, 600))
    rows = []
    with pretended_gpu():
        for engine in engines:
            options = ("--engine", engine)

            def seconds(stages: str, name: str, options: tuple[str, ...] = options) -> float:
                times = []
                for which, photos in (("few", few), ("all", table)):
                    place = folder / f"{options[1]}-{name}-{which}"
                    place.mkdir()
                    path = manifest(place, photos, stages)
                    path.write_text(path.read_text() + "engine: {rows_per_chunk: 32}\n")
                    times.append(curate(path, place / "run", *options)["score"]["seconds"])
                return times[1] - times[0]

            cpu = seconds(CPU + MODEL % 0, "cpu")
            for label, ms in (("0.4 ms", 0.4), ("as long as the CPU side", round(1000 * cpu / count, 3))):
                both = seconds(CPU + MODEL % ms, label.split()[0])
                slower = max(cpu, count * ms / 1000)
                rows.append(
                    Row(
                        f"(o) {engine}: slower side alone / both, model {label} a picture",
                        f"{both:.1f} s",
                        f"{slower:.1f} s",
                        f"{slower / both:.2f}",
                        ">= 0.85",
                        f"{count} photos of 800x600; CPU side {cpu:.1f} s, model {count * ms / 1000:.1f} s",
                    )
                )
    return rows
