"""(i) Shots: hard cuts against ground truth, and the scan's throughput against PySceneDetect's own program.

    python -m benchmarks --only i --corpus ../shared/corpus

The corpus holds videos.jsonl with `file` and `shots.cuts` (the first frame of each new shot), `gradual` and `ignore`.
Ours is the whole scan of the product, in its child process: probe, shots, black and still frames, clips.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, seconds
from benchmarks.videos import encode, pan
from curation.media.sandbox import Limits
from curation.video.clips import ClipRules
from curation.video.reader import VideoReader
from curation.video.shots import METHODS

TOLERANCE, ROUNDS = 2, 3
THEIRS = {"content": "detect-content", "adaptive": "detect-adaptive", "transnetv2": "detect-content"}


def matched(found: Sequence[int], truth: Sequence[int]) -> int:
    """How many true cuts have a found one of their own within the tolerance."""
    free, hits = set(found), 0
    for cut in truth:
        near = min((f for f in free if abs(f - cut) <= TOLERANCE), key=lambda f: abs(f - cut), default=None)
        if near is not None:
            free.discard(near)
            hits += 1
    return hits


def hard_cuts(reader: VideoReader, corpus: Path, row: dict[str, Any], method: str) -> list[int]:
    """Counted in frames of the stream that the truth speaks of: a file may hold several, at other rates."""
    found = reader.scan(str(corpus / row["file"]), method, None, vars(ClipRules()))
    hard = [(start, start_s) for start, end, start_s, _ in found["cuts"] if start == end]
    same = found["probe"]["frames"] == row["probe"]["frames"]
    return [start if same else round(start_s * row["probe"]["fps"]) for start, start_s in hard]


def accuracy(corpus: Path, reader: VideoReader, rows: Sequence[dict[str, Any]], method: str) -> Row:
    hits = found = true = 0
    for row in rows:
        skipped = row["shots"].get("gradual", []) + row["shots"].get("ignore", [])
        cuts, truth = (
            [cut for cut in side if not any(a <= cut <= b for a, b in skipped)]
            for side in (hard_cuts(reader, corpus, row, method), row["shots"]["cuts"])
        )
        hits, found, true = hits + matched(cuts, truth), found + len(cuts), true + len(truth)
    f1 = 2 * hits / (found + true)
    note = f"{hits} of {true} cuts found, {found - hits} false, tolerance {TOLERANCE} frames, {len(rows)} videos"
    return Row(f"(i) hard cuts, {method}, F1", f"{f1:.3f}", "", "", ">= 0.95" if method == "transnetv2" else "-", note)


def program(path: Path, command: str) -> None:
    """PySceneDetect's own, as a user calls it."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", "-o", folder, "-i", str(path), command, "list-scenes"]
        subprocess.run([sys.executable, "-m", "scenedetect", *options], check=True, capture_output=True)


def throughput(reader: VideoReader, path: Path, method: str, start_s: float) -> Row:
    """Frames/s of both in turn; `start_s` is what their program takes for a video of a few frames."""

    def scan() -> dict[str, Any]:
        return reader.scan(str(path), method, None, vars(ClipRules()))

    frames = scan()["probe"]["frames"]
    pairs = [(seconds(scan), seconds(lambda: program(path, THEIRS[method]))) for _ in range(ROUNDS)]
    ours, theirs = (frames / float(np.median(side)) for side in zip(*pairs, strict=True))
    ratio = float(np.median([b / a for a, b in pairs]))
    bare = float(np.median([(b - start_s) / a for a, b in pairs]))
    note = f"`{THEIRS[method]}`; {bare:.2f}x without the {start_s:.1f} s that its program takes to start"
    target = "-" if method == "transnetv2" else ">= 1"
    return Row(f"(i) shots, {method}, frames/s", f"{ours:.0f}", f"{theirs:.0f}", f"{ratio:.2f}", target, note)


def shots(corpus: Path, folder: Path) -> list[Row]:
    rows = [json.loads(line) for line in (corpus / "videos.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "cuts" in (row.get("shots") or {})]
    reader = VideoReader(Limits(seconds=120))
    size = (320, 240)
    short = encode(folder / "short.mp4", pan(size, 8), size)
    start_s = float(np.median([seconds(lambda: program(short, "detect-content")) for _ in range(ROUNDS)]))
    path = next(corpus / row["file"] for row in rows if "testvideo" in row["file"])
    try:
        return [throughput(reader, path, method, start_s) for method in METHODS] + [
            accuracy(corpus, reader, rows, method) for method in METHODS
        ]
    finally:
        reader.close()
