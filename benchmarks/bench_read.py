"""(f) Reading shards: samples/s of ours against the `webdataset` package on the same tar, all in one run.

    python benchmarks/bench_read.py [--samples 1000] [--rounds 5]

Each reader gives arrays and metadata of every sample; every array is summed, so that its bytes are
read. The files lie in the page cache. Rounds are interleaved; medians are reported, ratios within one round.
"""

import argparse
import base64
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import webdataset

from curation.shards import index
from curation.shards.containers import CONTAINERS
from curation.shards.reader import Shards
from curation.shards.sample import FORMAT_VERSION, Sample
from curation.stores.storage import Store

SIZES = {
    "144 KiB samples (16x48x48, full log-variance)": (48, True, 0),
    "embedded (16x32x32, a caption)": (32, False, 20),
}
THEIRS = "webdataset package, decoded"
MEMBERS = ("latent_mean.npy", "latent_logvar.npy", "text.npy")


def samples(count: int, side: int, logvar: bool, tokens: int) -> Iterator[Sample]:
    """Normal latents fp16 [16, 1, side, side], a log-variance, `tokens` token states of 384."""
    rng = np.random.default_rng(0)
    for i in range(count):
        mean = rng.standard_normal((16, 1, side, side)).astype(np.float16)
        texts = [rng.standard_normal((tokens, 384)).astype(np.float16)] if tokens else []
        meta = {
            "bucket": f"1x{8 * side}x{8 * side}",
            "captions": ["a cat on a mat"] * len(texts),
            "crop_ltrb": [0, 0, 640, 640],
            "scores": {f"score_{k}": k / 7 for k in range(20)},
        }
        yield Sample(f"{i:032x}", mean, mean if logvar else mean[:, :, :1, :1], texts, meta)


def write(folder: Path, format: str, count: int, side: int, logvar: bool, tokens: int, shards: int = 1) -> list[Path]:
    """A shards/ folder of one bucket, `count` samples in all."""
    made = samples(count, side, logvar, tokens)
    return write_shards(folder, format, [islice(made, count // shards) for _ in range(shards)], 8 * side)


def write_shards(
    folder: Path, format: str, parts: Sequence[Iterable[Sample]], side: int, vae: dict[str, Any] | None = None
) -> list[Path]:
    """A shards/ folder of square pictures' latents, a shard for each part; `vae` replaces what is said of it."""
    container, bucket, paths, entries = CONTAINERS[format], f"1x{side}x{side}", list[Path](), list[dict[str, Any]]()
    (folder / bucket).mkdir(parents=True)
    for number, part in enumerate(parts):
        path = folder / bucket / f"{number:05d}{container.suffix}"
        container.write(path, part)
        count = len(container.open(pa.py_buffer(path.read_bytes()), str(path)))
        facts = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        entries.append({"path": f"{bucket}/{path.name}", "bucket": bucket, "samples": count, **facts})
        paths.append(path)
    made_by = {"id": "", "sha256": "", "channels": 16, "spatial_factor": 8, "temporal_factor": 1}
    described = {
        "format_version": FORMAT_VERSION,
        "shards": entries,
        "samples": sum(entry["samples"] for entry in entries),
        "vae": made_by | {"latents_mean": [0.0] * 16, "latents_std": [1.0] * 16} | (vae or {}),
        "text": {"id": "", "sha256": "", "dimensions": 384},
        "null_text": {"shape": [1, 384], "fp16": base64.b64encode(bytes(768)).decode()},
        "preprocessing": {},
        "config_hash": "",
        "statistics": {"normalized_rms": 1.0},
        "nan_count": 0,
    }
    index.write(Store(str(folder)), described)
    return paths


def ours(folder: Path, verify: bool) -> int:
    return sum(_whole(sample) for sample in Shards(str(folder), verify=verify))


def ours_at_random(folder: Path) -> int:
    shards = Shards(str(folder), verify=False)
    return sum(_whole(shards[int(i)]) for i in np.random.default_rng(0).permutation(len(shards)))


def theirs(tar: Path) -> int:
    dataset = webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False).decode()
    return sum(_touched(sample[name]) for sample in dataset for name in MEMBERS)


def theirs_undecoded(tar: Path) -> int:
    dataset = webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
    return sum(len(sample["latent_mean.npy"]) for sample in dataset)


def _whole(sample: Sample) -> int:
    assert sample.logvar is not None
    return sum(_touched(array) for array in (sample.latents, sample.logvar, *sample.texts))


def _touched(array: np.ndarray[Any, np.dtype[np.float16]]) -> int:
    """Reads every byte: the sum of the bit patterns, which costs the same for every reader."""
    return int(array.reshape(-1).view(np.uint16).sum(dtype=np.uint32))


def readers_of(tars: Path, tables: Path, tar: Path) -> dict[str, Callable[[], int]]:
    return {
        THEIRS: lambda: theirs(tar),
        "webdataset package, raw bytes": lambda: theirs_undecoded(tar),
        "ours, WebDataset": lambda: ours(tars, False),
        "ours, WebDataset, hashes verified": lambda: ours(tars, True),
        "ours, WebDataset, random order": lambda: ours_at_random(tars),
        "ours, Parquet": lambda: ours(tables, False),
        "ours, Parquet, hashes verified": lambda: ours(tables, True),
        "ours, Parquet, random order": lambda: ours_at_random(tables),
    }


def measure(count: int, rounds: int) -> list[tuple[str, str, float, float]]:
    """(size, reader, samples/s, ratio to the package's decoded samples), medians over the rounds."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (size, shape) in enumerate(SIZES.items()):
            tars, tables = Path(folder) / f"{number}-tar", Path(folder) / f"{number}-parquet"
            (tar,) = write(tars, "webdataset", count, *shape)
            write(tables, "parquet", count, *shape)
            readers = readers_of(tars, tables, tar)
            rates = [{name: count / _seconds(read) for name, read in readers.items()} for _ in range(rounds)]
            for name in readers:
                ratio = median(rate[name] / rate[THEIRS] for rate in rates)
                rows.append((size, name, median(rate[name] for rate in rates), ratio))
    return rows


def _seconds(read: Callable[[], int]) -> float:
    started = time.perf_counter()
    read()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| samples | reader | samples/s | ratio |\n|---|---|---:|---:|")
    for size, name, rate, ratio in measure(arguments.samples, arguments.rounds):
        print(f"| {size} | {name} | {rate:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
