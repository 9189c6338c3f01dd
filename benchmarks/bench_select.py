"""Decide a million stored rows again: seconds, peak memory, and how many of the planted duplicates fell.

    python benchmarks/bench_select.py [--rows 1000000] [--files 64] [--embeddings 0]

The scores are made up, the files are what `curate run` writes. The decision runs in a process of its own, so
that its peak memory is not the generator's.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.manifest import Manifest
from curation.record import BASE_SCHEMA
from curation.scoring import chunkfile
from curation.selection.select import Gate, decide
from curation.stores.storage import Store

STAGES = ["probe", "resolution", "quality", "phash", "similarity", "aesthetic", "safety"]
PLANTED = {"bytes": 0.02, "pixels": 0.02, "phash": 0.03, "embedding": 0.02}
"""Share of the rows that are a copy of another row, by kind."""


def originals(rng: np.random.Generator, rows: int) -> dict[str, NDArray[np.int64]]:
    """kind -> [2, n]: rows that are copies, and the original of each; no row plays two parts."""
    shuffled, out, at = rng.permutation(rows), {}, 0
    for kind, share in PLANTED.items():
        n = int(rows * share)
        out[kind] = shuffled[at : at + 2 * n].reshape(2, n)
        at += 2 * n
    return out


def hashes(rng: np.random.Generator, rows: int, planted: dict[str, NDArray[np.int64]]) -> dict[str, pa.Array]:
    """sha256 and pixel_sha256 as text, phash as uint64; the near copies differ in 1 to 6 bits."""
    contents, pixels = np.arange(rows), np.arange(rows)
    phash = rng.integers(0, 1 << 64, rows, dtype=np.uint64)
    for kind in ("bytes", "pixels", "phash"):
        copy, original = planted[kind]
        if kind == "bytes":
            contents[copy] = contents[original]
        if kind in ("bytes", "pixels"):
            pixels[copy] = pixels[original]
        phash[copy] = phash[original]
    copy, _ = planted["phash"]
    for i, row in enumerate(copy):
        for bit in rng.choice(64, 1 + i % 6, replace=False):
            phash[row] ^= np.uint64(1) << np.uint64(bit)
    digits = [f"{i * 0x9E3779B97F4A7C15 % (1 << 64):064x}" for i in range(rows)]
    return {
        "sha256": pa.array([digits[i] for i in contents]),
        "pixel_sha256": pa.array([digits[i] for i in pixels]),
        "phash": pa.array(phash),
    }


def embeddings(rng: np.random.Generator, rows: int, size: int, planted: dict[str, NDArray[np.int64]]) -> pa.Array:
    """float16 [size] of unit length in soft clusters; the copies have a cosine of about 0.975."""
    centres = rng.standard_normal((max(rows // 500, 1), size), np.float32)
    vectors = centres[rng.integers(0, len(centres), rows)] + rng.standard_normal((rows, size), np.float32)
    copy, original = planted["embedding"]
    spread = np.linalg.norm(vectors[original], axis=1, keepdims=True) / size**0.5
    vectors[copy] = vectors[original] + 0.228 * spread * rng.standard_normal((len(copy), size), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), size)


def generate(store: Store, rows: int, files: int, size: int, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """Write scores/ and return what was planted."""
    rng = np.random.default_rng(seed)
    planted = originals(rng, rows)
    columns: dict[str, Any] = {
        "id": pa.array([f"{i * 0x9E3779B97F4A7C15:032x}" for i in rng.permutation(rows).tolist()]),
        "caption": pa.array([f"caption {i}" for i in rng.integers(0, rows, rows)]),
        "scored": pa.array([STAGES] * rows),
        "width": pa.array(rng.integers(100, 4000, rows), pa.int32()),
        "height": pa.array(rng.integers(100, 4000, rows), pa.int32()),
        **hashes(rng, rows, planted),
        **{name: pa.array(rng.random(rows), pa.float32()) for name in ("similarity", "aesthetic", "punsafe")},
    }
    columns["min_side"] = pa.array(np.minimum(columns["width"].to_numpy(), columns["height"].to_numpy()))
    if size:
        columns["embedding"] = embeddings(rng, rows, size, planted)
    columns |= {field.name: pa.nulls(rows, field.type) for field in BASE_SCHEMA if field.name not in columns}
    table = pa.table(columns)
    for number in range(files):
        first, last = number * rows // files, (number + 1) * rows // files
        chunkfile.write(store, f"{number:06d}-{'0' * 16}.parquet", table.slice(first, last - first))
    return planted


def manifest(size: int) -> Manifest:
    duplicates: list[Any] = [{"on": on, "prefer": ["aesthetic", "width"]} for on in ("bytes", "pixels", "phash")]
    if size:
        duplicates.append({"on": "embedding", "prefer": ["aesthetic"]})
    select = {"keep": ["aesthetic >= p5", "width is not null"], "duplicates": duplicates}
    return Manifest.model_validate({"name": "bench", "source": {"table": "x.jsonl"}, "select": select})


def measure(root: str, size: int, out: Any) -> None:
    """Decide in this process; sends seconds, CPU seconds, peak MiB, and the selection's ids by fate."""

    gates: list[Gate] = [(stage, None, None) for stage in STAGES]
    gates[1] = ("resolution", "min_side >= 128", None)
    gates[6] = ("safety", "punsafe < 0.98", None)
    wall, cpu = time.monotonic(), time.process_time()
    table = decide(Store(root), manifest(size), gates, {}, print)
    figures = {"seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
    figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out.send((figures, table))


def recall(table: pa.Table, ids: list[str], planted: dict[str, NDArray[np.int64]]) -> dict[str, float]:
    """Of the planted pairs that meet no threshold, the share of which one has fallen as a duplicate."""
    words, twins = table["decision"].to_pylist(), table["duplicate_of"].to_pylist()
    fate = {i: (word, twin) for i, word, twin in zip(table["id"].to_pylist(), words, twins, strict=True)}
    out = {}
    for kind, pairs in planted.items():
        fates = [(fate[ids[a]], fate[ids[b]]) for a, b in pairs.T.tolist()]
        sound = [pair for pair in fates if all(word == "kept" or twin for word, twin in pair)]
        out[kind] = sum(any(twin for _, twin in pair) for pair in sound) / max(len(sound), 1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--embeddings", type=int, default=0, metavar="D", help="dimensions; 0 leaves embeddings out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "run"))
        planted = generate(store, arguments.rows, arguments.files, arguments.embeddings)
        names = sorted(entry.name for entry in store.list("scores"))
        ids = [
            i for name in names for i in chunkfile.read(store, name.removeprefix("scores/"), ["id"])["id"].to_pylist()
        ]
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        child = multiprocessing.get_context("spawn").Process(
            target=measure, args=(store.root, arguments.embeddings, theirs)
        )
        child.start()
        theirs.close()
        figures, table = ours.recv()
        child.join()
    if not arguments.embeddings:
        planted.pop("embedding")
    figures = {name: round(value, 1) for name, value in figures.items()}
    kept = table["decision"].to_pylist().count("kept")
    print(
        json.dumps({"rows": table.num_rows, "kept": kept, **figures, "recall": recall(table, ids, planted)}, indent=1)
    )


if __name__ == "__main__":
    main()
