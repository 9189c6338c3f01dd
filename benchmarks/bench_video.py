"""Videos: shots against ground truth and PySceneDetect's CLI, clip scoring against plain decoding, damaged files.

    python benchmarks/bench_video.py CORPUS [--videos 1000] [--only shots clips damage]

CORPUS holds videos.jsonl with `file` and `shots.cuts` (the first frame of each new shot). Ratios are within one run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq

from curation import catalog
from curation.media.sandbox import Limits
from curation.record import Span
from curation.run import run
from curation.stage import run_guarded
from curation.video.reader import VideoReader
from curation.video.shots import METHODS, open_detector

TOLERANCE = 2


def cuts_of(path: Path, method: str) -> tuple[list[int], int]:
    """Hard cuts and the number of frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        detector, count = open_detector(method, None, float(stream.average_rate or 25)), 0
        width, height = detector.size
        for frame in container.decode(stream):
            detector.feed(frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA"))
            count += 1
    return [cut.start for cut in detector.finish() if cut.start == cut.end], count


def matched(found: list[int], truth: list[int]) -> int:
    """How many true cuts have a found one of their own within the tolerance."""
    free, hits = set(found), 0
    for cut in truth:
        near = min((f for f in free if abs(f - cut) <= TOLERANCE), key=lambda f: abs(f - cut), default=None)
        if near is not None:
            free.discard(near)
            hits += 1
    return hits


def bench_shots(corpus: Path) -> None:
    rows = [json.loads(line) for line in (corpus / "videos.jsonl").open()]
    rows = [row for row in rows if "cuts" in (row.get("shots") or {})]
    for method in METHODS:
        hits = found = true = frames = 0
        started = time.perf_counter()
        for row in rows:
            skipped = row["shots"].get("gradual", []) + row["shots"].get("ignore", [])
            cuts, count = cuts_of(corpus / row["file"], method)
            kept, truth = ([c for c in side if not any(a <= c <= b for a, b in skipped)]
                           for side in (cuts, row["shots"]["cuts"]))  # fmt: skip
            hits, found, true, frames = (
                hits + matched(kept, truth),
                found + len(kept),
                true + len(truth),
                frames + count,
            )
        rate = frames / (time.perf_counter() - started)
        f1 = 2 * hits / (found + true)
        print(
            f"shots {method}: F1 {f1:.3f} ({hits} of {true} cuts, {found - hits} false), {rate:.0f} frames/s",
            flush=True,
        )
    path = next(corpus / row["file"] for row in rows if "testvideo" in row["file"])
    started = time.perf_counter()
    _, count = cuts_of(path, "content")
    ours = count / (time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "scenedetect",
            "-q",
            "-o",
            folder,
            "-i",
            str(path),
            "detect-content",
            "list-scenes",
        ]
        subprocess.run(command, check=True, capture_output=True)
        theirs = count / (time.perf_counter() - started)
    print(f"shots content on {path.name}: ours {ours:.0f}, its CLI {theirs:.0f} frames/s: {ours / theirs:.2f}x")


def bench_clips(corpus: Path) -> None:
    """Sample and score (quality, motion, temporal, phash) whole clips; plain PyAV decodes the same frames.

    As in the engine, the child process decodes the next clip while this one is scored.
    """
    path = next((corpus / "videos").glob("*big_buck_bunny*"))
    stages = [catalog.find(name)(catalog.find(name).Params()) for name in ("quality", "motion", "temporal", "phash")]
    for stage in stages:
        stage.load()
    reader = VideoReader(Limits())
    spans = [Span(i * 120, (i + 1) * 120, i * 5.0, (i + 1) * 5.0) for i in range(6)]
    reader.sample(str(path), spans[0], {})
    executor = ThreadPoolExecutor(1)
    ratios = []
    for _ in range(3):
        started = time.perf_counter()
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            count = sum(1 for _ in container.decode(container.streams.video[0]))
        plain = count / (time.perf_counter() - started)
        started = time.perf_counter()
        sizes = {"width": 1280, "height": 720}
        ahead = [executor.submit(reader.sample, str(path), span, sizes) for span in spans]
        for clip in (future.result() for future in ahead):
            for stage in stages:
                run_guarded(stage, {"pixels": [clip]})
        scored = sum(span.end_frame - span.start_frame for span in spans) / (time.perf_counter() - started)
        ratios.append(scored / plain)
    reader.close()
    print(f"clips: decode + sample + score {scored:.0f}, plain decoding {plain:.0f} frames/s: {np.median(ratios):.2f}x")


def bench_damage(count: int) -> None:
    """`count` generated videos, one in twenty cut short or with flipped bits: all have a row, none hangs."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "videos"
        folder.mkdir()
        for i in range(count):
            path = folder / f"{i:05d}.mp4"
            write(path, rng)
            if i % 20 == 0:
                path.write_bytes(damaged(path.read_bytes(), i % 40 == 0, rng))
        manifest = Path(name) / "m.yaml"
        manifest.write_text(
            f"name: damage\nsource: {{folder: {folder}}}\n"
            "score: [probe, {shots: {method: content}}, {clips: {min_s: 0.5}}, motion]\n"
        )
        started = time.perf_counter()
        run(str(manifest), str(Path(name) / "run"), [], engine="inline")
        seconds = time.perf_counter() - started
        rows: list[dict[str, Any]] = []
        for file in (Path(name) / "run" / "scores").glob("*.parquet"):
            rows += pq.read_table(file, columns=["source_key", "error"]).to_pylist()
        sound = Counter(row["source_key"] for row in rows if row["error"] is None)
        lost = [i for i in range(count) if i % 20 and f"{i:05d}.mp4" not in sound]
        there = len({row["source_key"] for row in rows})
        refused = sum(row["error"] is not None for row in rows)
        print(f"damage: {there} of {count} videos accounted for, {refused} refused of {-(-count // 20)} damaged, "
              f"{len(lost)} sound ones lost, {seconds:.0f} s")  # fmt: skip


def write(path: Path, rng: np.random.Generator) -> None:
    """Two seconds of a moving pattern, H.264."""
    base = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for i in range(48):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(base, i, 1)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def damaged(data: bytes, cut: bool, rng: np.random.Generator) -> bytes:
    if cut:
        return data[: int(len(data) * rng.uniform(0.05, 0.95))]
    values = bytearray(data)
    for at in rng.integers(0, len(values), 40):
        values[at] ^= 1 << int(rng.integers(8))
    return bytes(values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=["shots", "clips", "damage"])
    arguments = parser.parse_args()
    if "clips" in arguments.only:
        bench_clips(arguments.corpus)
    if "damage" in arguments.only:
        bench_damage(arguments.videos)
    if "shots" in arguments.only:
        bench_shots(arguments.corpus)
