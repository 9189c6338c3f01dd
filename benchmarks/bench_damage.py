"""(k) Generated videos, one in twenty cut short or with flipped bits: all have a row, none is lost, none hangs."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.common import Row, seconds
from benchmarks.videos import Rgb, damaged, encode
from curation.phases import run

EVERY = 20
SIZE = (96, 72)
MANIFEST = """\
name: damage
source: {{folder: {folder}}}
score: [probe, {{shots: {{method: content}}}}, {{clips: {{min_s: 0.5}}}}, motion]
"""


def pattern(rng: np.random.Generator) -> Iterator[Rgb]:
    """Two seconds of blocks that move."""
    base = rng.integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return (np.ascontiguousarray(np.roll(base, i, 1)) for i in range(48))


def damage(folder: Path, count: int) -> Row:
    videos, out, rng = folder / "videos", folder / "run", np.random.default_rng(0)
    videos.mkdir(parents=True)
    for i in range(count):
        path = encode(videos / f"{i:05d}.mp4", pattern(rng), SIZE, {"preset": "ultrafast"})
        if i % EVERY == 0:
            path.write_bytes(damaged(path.read_bytes(), i % (2 * EVERY) == 0, rng))
    manifest = folder / "m.yaml"
    manifest.write_text(MANIFEST.format(folder=videos))
    took = seconds(lambda: run(str(manifest), str(out), [], engine="inline"))
    rows: list[dict[str, Any]] = []
    for file in (out / "scores").glob("*.parquet"):
        rows += pq.read_table(file, columns=["source_key", "error"]).to_pylist()
    sound = Counter(row["source_key"] for row in rows if row["error"] is None)
    lost = [i for i in range(count) if i % EVERY and f"{i:05d}.mp4" not in sound]
    there = len({row["source_key"] for row in rows})
    refused = sum(row["error"] is not None for row in rows)
    note = f"{refused} refused of {-(-count // EVERY)} damaged, {len(lost)} sound ones lost; {took:.0f} s in one worker"
    return Row("(k) damaged videos, accounted for", f"{there:,}", f"{count:,}", f"{there / count:.2f}", "1.00", note)
