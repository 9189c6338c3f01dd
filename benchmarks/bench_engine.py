"""(a) Ray against inline, (d) memory at two sizes, (e) resume after a kill half-way: whole runs."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import Row, corpus, curate

STAGES = "  - resolution\n  - quality\n  - phash\n  - embedding\n"
LIGHT = "  - resolution\n  - phash\n"


def manifest(folder: Path, table: Path, stages: str) -> Path:
    path = folder / "manifest.yaml"
    path.write_text(f"name: bench\nsource: {{table: {table}, media: file, caption: caption}}\nscore:\n{stages}")
    return path


def engine(folder: Path, count: int) -> Row:
    """(a): the score phase with Ray, less what 64 records take (start-up), against the same inline."""
    path = manifest(folder, corpus(folder / "photos", count), STAGES)
    small = folder / "small"
    small.mkdir()
    start = curate(manifest(small, corpus(small / "photos", 8), STAGES), folder / "start")["score"]["seconds"]
    ray = curate(path, folder / "ray")["score"]["seconds"]
    inline = curate(path, folder / "inline", "--engine", "inline")["score"]["seconds"]
    ratio = (ray - start) / inline
    note = f"start-up (8 records) {start:.1f} s apart; {count} photos; inline is one process, Ray one worker a core"
    return Row(
        "(a) Ray wall / inline wall, score", f"{ray - start:.1f} s", f"{inline:.1f} s", f"{ratio:.2f}", "<= 1.25", note
    )


def memory(folder: Path, sizes: tuple[int, int]) -> Row:
    """(d): peak resident memory of an inline run, two sizes of source."""
    peaks = []
    for count in sizes:
        place = folder / str(count)
        place.mkdir(parents=True)
        path = manifest(place, corpus(place / "photos", count, (160, 120)), LIGHT)
        code = (
            "import resource, sys; from curation.phases import run; "
            f"run({str(path)!r}, {str(place / 'run')!r}, [], engine='inline'); "
            "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        peaks.append(int(out.rsplit("peak", 1)[1]) / 1024)
    ratio = peaks[1] / peaks[0]
    what = f"(d) peak memory, {sizes[1]:,} / {sizes[0]:,} records"
    return Row(what, f"{peaks[1]:.0f} MiB", f"{peaks[0]:.0f} MiB", f"{ratio:.2f}", "<= 1.10")


def resume(folder: Path) -> Row:
    """(e): kill -9 when half the chunks are committed; the rest of the work against all of it. Uses (a)'s photos."""
    path, out = folder / "manifest.yaml", folder / "killed"
    full = curate(path, folder / "full", "--engine", "inline")["score"]["seconds"]
    chunks = len(list((folder / "full" / "scores").glob("*.parquet")))
    process = subprocess.Popen(
        [sys.executable, "-m", "curation", "run", str(path), "--out", str(out), "--engine", "inline"],
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and len(list((out / "scores").glob("*.parquet"))) < chunks / 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rest = curate(path, out, "--engine", "inline")["score"]["seconds"]
    return Row(
        "(e) resume after kill -9 half-way / full run",
        f"{rest:.1f} s",
        f"{full:.1f} s",
        f"{rest / full:.2f}",
        "<= 0.65",
    )
