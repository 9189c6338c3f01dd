"""Photos to measure on, and how a measurement is told."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from curation.quickstart.photos import photos


@dataclass(frozen=True)
class Row:
    """One line of results.md."""

    what: str
    ours: str
    other: str
    ratio: str
    target: str
    note: str = ""


def corpus(folder: Path, count: int, size: tuple[int, int] = (640, 480)) -> Path:
    """`count` different JPEGs (windows of the quickstart's photos) with captions; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [photo.image for photo in photos() if min(photo.image.size) >= 300]
    rng = np.random.default_rng(0)
    with (folder / "captions.jsonl").open("w") as table:
        for i in range(count):
            image = sources[i % len(sources)]
            width = int(rng.integers(min(image.size) // 2, min(image.size)))
            left, top = (
                int(rng.integers(0, image.width - width + 1)),
                int(rng.integers(0, image.height - width * 3 // 4 + 1)),
            )
            window = image.crop((left, top, left + width, top + width * 3 // 4)).resize(size, Image.Resampling.BICUBIC)
            window.save(folder / f"{i:05d}.jpg", quality=90)
            table.write(json.dumps({"file": f"{i:05d}.jpg", "caption": f"window {i} of a photo"}) + "\n")
    return folder / "captions.jsonl"


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(a: Callable[[], object], b: Callable[[], object], rounds: int = 3) -> tuple[float, float]:
    """Median wall times of two calls taken in turn, A B A B, so that a drifting machine is fair to both."""
    pairs = [(seconds(a), seconds(b)) for _ in range(rounds)]
    return float(np.median([p[0] for p in pairs])), float(np.median([p[1] for p in pairs]))


def curate(manifest: Path, out: Path, *options: str) -> dict[str, dict[str, float]]:
    """Run the program as a user does; returns run.json's phases. Raises RuntimeError with its output when it fails."""
    command = [sys.executable, "-m", "curation", "run", str(manifest), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    phases: dict[str, dict[str, float]] = json.loads((out / "run.json").read_text())["phases"]
    return phases
