"""How many near-copies of photos and clips `duplicates: near` finds, by the edit, and what it merges wrongly.

    python -m benchmarks.bench_copies photos FOLDER|CAPTIONS.jsonl [--without PAIRS.csv]
    python -m benchmarks.bench_copies clips FOLDER [--most 45]

Photos: those that the copy head was not fitted on. Each is written with copies of it, one for each edit, and the whole
is run with the embedded models. Clips: two seconds of each video that shows something, and no other's
picture, and of each a mirrored, a cropped (85 %) and a resized copy.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from curation.models.training.edits import EDITS
from curation.models.training.fit_copy_head import photos
from curation.phases import run

MANIFEST = """
name: copies
source: {{folder: {folder}}}
score: [probe{clips}, phash, embedding]
select: {{duplicates: near}}
"""
CLIPS = ", {shots: {method: content, threshold: 1000}}, {clips: {min_s: 1, max_s: 60}}"
SECONDS, WIDTH = 2.0, 384
FLAT, SAME = 12.0, 6.0
"""Levels of 255: a clip whose middle frame varies less from place to place shows nothing that could be found again;
two that differ less, at 32x32, show the same."""
Frames = list[NDArray[np.uint8]]


def decide(folder: Path, work: Path, clips: str = "") -> None:
    """Run the manifest, and print what became of each copy. A file is NAME@EDIT.suffix, an original NAME@original."""
    manifest = work / "copies.yaml"
    manifest.write_text(MANIFEST.format(folder=folder, clips=clips))
    run(str(manifest), str(work / "run"), [], engine="inline")
    rows = [row for file in (work / "run" / "scores").glob("*.parquet") for row in rows_of(file)]
    key = {row["id"]: Path(row["source_key"]).stem for row in rows}
    report(key, pq.read_table(work / "run" / "selection.parquet").to_pylist())


def rows_of(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(file, columns=["id", "source_key"]).to_pylist()
    return rows


def report(key: Mapping[str, str], selection: Sequence[Mapping[str, Any]]) -> None:
    kept = {key[row["id"]]: key[row["duplicate_of"]] if row["duplicate_of"] else key[row["id"]] for row in selection
            if row["decision"] != "quarantined"}  # fmt: skip
    found: dict[str, list[bool]] = defaultdict(list)
    there = {name.partition("@")[0] for name in kept if name.endswith("@original")}  # others have no clip in them
    kept = {name: stays for name, stays in kept.items() if name.partition("@")[0] in there}
    for name, stays in kept.items():
        original, _, edit = name.partition("@")
        if edit != "original":
            found[edit].append(stays == kept.get(f"{original}@original"))
    for edit, flags in sorted(found.items()):
        print(f"{edit:14s} {sum(flags):4d} of {len(flags)} found ({np.mean(flags):.1%})")
    all_flags = [flag for flags in found.values() for flag in flags]
    print(f"{'all':14s} {sum(all_flags):4d} of {len(all_flags)} found ({np.mean(all_flags):.1%})")
    wrong = [(name, stays) for name, stays in kept.items() if name.partition("@")[0] != stays.partition("@")[0]]
    originals = len({name.partition("@")[0] for name in kept})
    print(f"false merges: {len(wrong)} of {len(kept)} records, {originals * (originals - 1) // 2:,} unrelated pairs of "
          f"originals {wrong[:5]}")  # fmt: skip


def bench_photos(source: Path, without: Path | None, work: Path) -> None:
    tested = photos(source, without)[1] if source.is_file() else sorted(source.glob("*.*"))
    folder = work / "photos"
    folder.mkdir()
    for number, path in enumerate(tested):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image.save(folder / f"{number:04d}@original.png")
        for edit, apply in EDITS.items():
            made = apply(image, np.random.default_rng([7, number]))
            made.save(folder / f"{number:04d}@{edit.replace('/', '-')}.jpg", quality=85)
    decide(folder, work)


def parts(path: Path) -> Iterator[tuple[Frames, int]]:
    """Whole spans of SECONDS of a video, every second of them, WIDTH px wide: frames, and the rate."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = round(float(stream.average_rate or 24))
            held: Frames = []
            for number, frame in enumerate(container.decode(stream)):
                size = (WIDTH, 2 * round(WIDTH * frame.height / frame.width / 2))
                held.append(frame.reformat(size[0], size[1], format="rgb24").to_ndarray())
                if len(held) == round(rate * SECONDS):
                    if (number // len(held)) % 2 == 0:
                        yield held, rate
                    held = []
    except (av.error.FFmpegError, IndexError):
        return


def write(path: Path, frames: Frames, rate: int) -> None:
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "26", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            pixels = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def edited(frames: Frames) -> dict[str, Frames]:
    height, width = frames[0].shape[:2]
    cut = [round(side * 0.075) for side in (height, width)]
    size = (max(64, width * 2 // 3), max(64, height * 2 // 3))
    inner = [frame[cut[0] : height - cut[0], cut[1] : width - cut[1]] for frame in frames]
    return {
        "original": frames,
        "mirrored": [frame[:, ::-1] for frame in frames],
        "cropped": inner,
        "both": [frame[:, ::-1] for frame in inner],
        "resized": [np.asarray(Image.fromarray(frame).resize(size)) for frame in frames],
    }


def bench_clips(source: Path, most: int, work: Path) -> None:
    folder = work / "clips"
    folder.mkdir()
    seen: Frames = []
    for path in sorted(source.iterdir()):
        for frames, rate in parts(path):
            small = np.asarray(Image.fromarray(frames[len(frames) // 2]).resize((32, 32))).astype(np.uint8)
            if (
                len(seen) < most
                and small.std((0, 1)).max() >= FLAT
                and all(apart(small, other) >= SAME for other in seen)
            ):
                for edit, made in edited(frames).items():
                    write(folder / f"{len(seen):03d}@{edit}.mp4", made, rate)
                seen.append(small)
                break  # a camera that stands still gives parts that are copies of each other
    decide(folder, work, CLIPS)


def apart(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean difference of two pictures in levels."""
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["photos", "clips"])
    parser.add_argument("source", type=Path)
    parser.add_argument("--without", type=Path)
    parser.add_argument("--most", type=int, default=45)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        if arguments.what == "photos":
            bench_photos(arguments.source, arguments.without, Path(work))
        else:
            bench_clips(arguments.source, arguments.most, Path(work))


if __name__ == "__main__":
    main()
