"""`python -m benchmarks [--photos N] [--only a b ...]`: measure, print, write results.md.

(a)-(h) images and shards, (i)-(l) videos, (m)-(n) training, (o) a GPU beside CPUs, (p) Ray.
(i) needs videos with known shots:
`--corpus FOLDER`.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

from rich.console import Console

from benchmarks import (
    bench_clips,
    bench_damage,
    bench_engine,
    bench_memory,
    bench_overlap,
    bench_pixels,
    bench_shots,
    bench_store,
    bench_train,
)
from benchmarks.common import Row

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
LETTERS = "abcdefghijklmnop"
RESULTS = Path(__file__).parent / "results.md"
HEAD = """\
# Measured

Written by `{command}`: both sides of a ratio in one run, on the same files; medians of alternating rounds where a
round is short. {machine}. Photos are windows of those that scikit-image and scikit-learn ship, and so are the videos
made here.

| what | ours | other | ratio | target | note |
|---|---|---|---|---|---|
"""


def machine() -> str:
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return (
        f"{date.today()}, {cores} cores, Python {platform.python_version()}, load average {load:.1f} before the first"
    )


def command(only: list[str]) -> str:
    """What a reader has to type for the same table."""
    return "make bench" if set(LETTERS) <= set(only) else f"python -m benchmarks --only {' '.join(only)}"


def script(name: str, *options: str) -> str:
    """The printed table of a benchmark that stands alone."""
    command = [sys.executable, str(Path(__file__).parent / name), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=2000, help="for (a) and (e)")
    parser.add_argument("--records", type=int, nargs=2, default=(1000, 10_000), help="for (d)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes; it is written whole")
    parser.add_argument("--only", nargs="*", default=list(LETTERS))
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="videos.jsonl and what it names, for (i) and (j)")
    parser.add_argument("--videos", type=int, default=1000, help="for (k)")
    parser.add_argument("--minutes", type=int, default=120, help="of the long video of (l)")
    arguments = parser.parse_args()
    console, head, rows, texts = (
        Console(),
        HEAD.format(machine=machine(), command=command(arguments.only)),
        list[Row](),
        list[str](),
    )
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)

        def add(letter: str, measure: Callable[[], list[Row]]) -> None:
            if letter in arguments.only:
                for row in measure():
                    rows.append(row)
                    console.print(
                        f"{row.what}: {row.ours} / {row.other} = {row.ratio} (target {row.target})", highlight=False
                    )

        add("a", lambda: [bench_engine.engine(folder, arguments.photos)])
        if "e" in arguments.only and "a" not in arguments.only:
            bench_engine.manifest(folder, bench_engine.corpus(folder / "photos", arguments.photos), bench_engine.STAGES)
        add("e", lambda: [bench_engine.resume(folder)])
        add("d", lambda: [bench_engine.memory(folder / "memory", tuple(arguments.records))])
        if set(arguments.only) & set("bch"):
            bench_engine.corpus(folder / "pixels", 150)
        files = sorted((folder / "pixels").glob("*.jpg"))
        add("b", lambda: [bench_pixels.pack(files, folder)])
        add("c", lambda: bench_pixels.perceptual(files))
        add("h", lambda: bench_pixels.models(files))
        corpus = arguments.corpus if (arguments.corpus / "videos.jsonl").is_file() else None
        if corpus:
            add("i", lambda: bench_shots.shots(corpus, folder))
        elif "i" in arguments.only:
            console.print(f"(i) skipped: there is no {arguments.corpus}/videos.jsonl (--corpus)", highlight=False)
        add("j", lambda: bench_clips.clips(corpus, folder))
        add("k", lambda: [bench_damage.damage(folder / "damage", arguments.videos)])
        add("l", lambda: [bench_memory.memory(folder, arguments.minutes)])
        add("m", lambda: bench_train.loader(folder / "loader"))
        add("o", lambda: bench_overlap.overlap(folder / "overlap", min(arguments.photos, 600)))
        add("p", lambda: [bench_store.store(folder / "store", min(arguments.photos, 300))])
        add("n", lambda: bench_train.precomputed(folder / "precomputed"))
    for letter, name in (("f", "bench_read.py"), ("g", "bench_select.py")):
        if letter in arguments.only:
            texts.append(f"\n({letter}) `python benchmarks/{name}`\n\n```text\n{script(name)}\n```\n")
            console.print(texts[-1], markup=False, highlight=False)
    lines = [f"| {r.what} | {r.ours} | {r.other} | {r.ratio} | {r.target} | {r.note} |\n" for r in rows]
    arguments.out.write_text(head + "".join(lines) + "".join(texts))


if __name__ == "__main__":
    main()
