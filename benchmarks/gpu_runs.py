"""`curate run` through Ray with models on a GPU, and the CPU side alone: sections of `benchmarks.gpu`."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu import row
from benchmarks.gpu_data import CLIP

PART = 100
CPU_RATES = "cpu.json"
PREPROCESS = {"size": 224, "mode": "RGB", "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
PREPROCESS |= {"resize_mode": "shortest", "fill_color": 0}


def cpu_side(folder: Path, tiny: bool) -> None:
    """Pictures a second that all cores make ready: for CLIP, and for a VAE with their captions' text states."""
    files = sorted((folder / "photos").glob("*/*.jpg"))
    workers, rates = len(os.sched_getaffinity(0)), {}
    context = get_context("spawn")
    for kind, what in (("score", "decode, hashes, prepare for CLIP"), ("encode", "decode, standardize, text")):
        parts = [[str(file) for file in files[i::workers]][: 8 if tiny else PART] for i in range(workers)]
        together, spent = context.Barrier(workers), context.Queue()
        processes = [context.Process(target=_timed, args=(part, kind, together, spent)) for part in parts]
        for process in processes:
            process.start()
        seconds = max(spent.get() for _ in processes)
        for process in processes:
            process.join()
        rates[kind] = sum(map(len, parts)) / seconds
        row(f"the CPU side alone: {what}, images/s", f"{rates[kind]:,.0f}", f"{workers} processes")
    (folder / CPU_RATES).write_text(json.dumps(rates))


def _timed(files: list[str], kind: str, together: Any, spent: Any) -> None:
    """Seconds from when all processes are ready until this one is through."""
    _ready(files[:2], kind)
    together.wait()
    started = time.perf_counter()
    _ready(files, kind)
    spent.put(time.perf_counter() - started)


def _ready(files: list[str], kind: str) -> None:
    from curation.media.sandbox import Decoder, Limits
    from curation.media.standardize import Recipe
    from curation.models import open_model
    from curation.models.open_clip import sizing
    from curation.threads import one_core

    with one_core():
        decoder = _kept("decoder", lambda: Decoder(Limits()))
        if kind == "score":
            sized = _kept("sizing", lambda: sizing(PREPROCESS))
            for file in files:
                sized(decoder.decode(Path(file).read_bytes()).rgb)
        else:
            text = open_model("text", "embedded", "cpu")
            for i, file in enumerate(files):
                decoder.standardize(Path(file).read_bytes(), Recipe(256, 256))
                text.tokens([f"window {i} of a photo"])


_made: dict[str, Any] = {}


def _kept(name: str, make: Any) -> Any:
    """One of each in a process."""
    if name not in _made:
        _made[name] = make()
    return _made[name]


def score(folder: Path, tiny: bool) -> None:
    """The score phase with resolution, quality, phash and CLIP L/14."""
    clip = f"open_clip:{CLIP[tiny]}:{folder}/clip.safetensors"
    stages = ["resolution", "quality", "phash", {"similarity": {"model": clip}}, {"embedding": {"model": clip}}]
    manifest = {"score": stages, "engine": {"rows_per_chunk": 16 if tiny else 128}}
    _run(folder, "score", manifest, "scores/*.parquet", tiny)


def encode(folder: Path, tiny: bool) -> None:
    """The encode phase with an SD VAE at 256 px; scoring before it is the least that there is."""
    shards = {"format": "webdataset", "samples": 16 if tiny else 64}
    section = {"size": 64 if tiny else 256, "vae": f"diffusers:{folder}/sdvae", "text": "embedded"}
    section |= {"precision": "bf16", "reconstructions": 0, "batch": 32, "shards": shards}
    manifest = {"score": ["resolution"], "encode": section, "engine": {"rows_per_chunk": 16 if tiny else 256}}
    _run(folder, "encode", manifest, "shards/**/*.tar", tiny)


def _run(folder: Path, phase: str, manifest: dict[str, Any], commits: str, tiny: bool) -> None:
    source = {"table": str(folder / f"{phase}.jsonl"), "media": "file", "caption": "caption"}
    path, out = folder / f"{phase}.yaml", folder / f"{phase}-run"
    path.write_text(yaml.safe_dump({"name": phase, "source": source, "device": "auto"} | manifest, sort_keys=False))
    command = [sys.executable, "-m", "curation", "run", str(path), "--out", str(out)]
    with _gpu_use() as use, (folder / f"{phase}.log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    said = (folder / f"{phase}.log").read_text().strip().splitlines()
    print("\n".join(said[-12:]), file=sys.stderr)
    if code:
        row(f"curate run, {phase} phase", f"exit code {code}", said[-1][:200] if said else "")
        return
    facts = json.loads((out / "run.json").read_text())
    _tell(folder, phase, facts, _steady(out, commits), use)


def _tell(folder: Path, phase: str, facts: dict[str, Any], steady: tuple[float, float, float], use: Any) -> None:
    """Rows for the rate, against the slower side alone, and what the GPU did meanwhile."""
    share, first, last = steady
    whole = facts["phases"][phase]
    rate = share * whole["records"] / max(1e-9, last - first)
    busy = [percent for when, percent in use if first <= when <= last]
    models = facts["models"]
    spoken = "; ".join(
        f"{name.split()[0]} {each['rows_per_s']:,.0f} rows/s while computing, mean batch {each['mean_batch']}, "
        f"computing {each['busy_share']:.0%}, idle {each['idle_share']:.0%}, spread {each['spread']:.3g}"
        for name, each in models.items()
    )
    note = f"whole phase with its start {whole['seconds']:.0f} s for {whole['records']:,}; {spoken}"
    row(f"curate run through Ray, {phase} phase, images/s", f"{rate:,.0f}", note)
    alone = json.loads((folder / CPU_RATES).read_text())[phase] if (folder / CPU_RATES).exists() else 0.0
    seconds = sum(each["rows"] / each["rows_per_s"] for each in models.values() if each["rows_per_s"])
    gpu = whole["records"] / seconds if seconds else float("inf")
    if alone:
        note = f"alone: CPU side {alone:,.0f}, GPU {gpu:,.0f} (all models' computing added up)"
        row(f"{phase} phase over the slower side alone", f"{rate / min(alone, gpu):.2f}", note)
    if busy:
        row(f"GPU busy in the {phase} phase (nvidia-smi)", f"{statistics.mean(busy):.0f} %", "mean of twice a second")


def _steady(out: Path, commits: str) -> tuple[float, float, float]:
    """(share of the commits after the first tenth, when that tenth was there, when the last came)."""
    times = sorted(file.stat().st_mtime for file in out.glob(commits))
    skipped = len(times) // 10
    return (len(times) - skipped - 1) / len(times), times[skipped], times[-1]


@contextlib.contextmanager
def _gpu_use() -> Iterator[list[tuple[float, int]]]:
    """Inside, (time, percent) of the GPU's use twice a second; nothing where there is no nvidia-smi."""
    seen: list[tuple[float, int]] = []
    ended = threading.Event()

    def watch() -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not ended.wait(0.5):
            try:
                asked = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
            except (OSError, subprocess.SubprocessError):
                return
            seen.append((time.time(), int(asked.split()[0])))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
