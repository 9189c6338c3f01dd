"""(p) What crosses Ray's object store while pictures are scored: work items and reports, never a picture."""

import subprocess
import sys
from pathlib import Path

from benchmarks.bench_engine import LIGHT, manifest
from benchmarks.common import Row, corpus

RUN = """
import sys, threading
import ray
from curation.engine.ray_engine import RayEngine
from curation.phases import run

engine, ended, used = RayEngine(), threading.Event(), [0.0]


def free() -> float:
    return ray.available_resources().get("object_store_memory", 0.0)


at_rest = free()


def watch() -> None:
    while not ended.wait(0.05):
        used.append(at_rest - free())


watcher = threading.Thread(target=watch)
watcher.start()
run(sys.argv[1], sys.argv[2], [], engine="ray")
ended.set()
watcher.join()
print("peak", max(used))
engine.close()
"""
"""The engine is made first, so that the run finds Ray started and its store can be asked meanwhile."""


def store(folder: Path, count: int, size: tuple[int, int] = (800, 600)) -> Row:
    """Peak bytes in the object store of a local Ray over the bytes of the pictures, decoded."""
    path = manifest(folder, corpus(folder / "photos", count, size), LIGHT)
    out = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(folder / "run")], capture_output=True, text=True, check=True
    ).stdout
    peak, decoded = float(out.rsplit("peak", 1)[1]) / 1e6, count * size[0] * size[1] * 3 / 1e6
    what, note = "(p) peak of Ray's object store / the pictures decoded", f"{count} photos of {size[0]}x{size[1]}"
    return Row(what, f"{peak:.2f} MB", f"{decoded:.0f} MB", f"{peak / decoded:.4f}", "<= 0.01", note)
