"""(m) the trainer's loader against `webdataset` and plain Parquet; (n) latents from shards against a VAE each step."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import webdataset
from numpy.typing import NDArray

from benchmarks.bench_read import write, write_shards
from benchmarks.common import Row
from curation.models import open_model
from curation.quickstart.photos import photos
from curation.shards.dataset import drawn
from curation.shards.reader import Shards
from curation.shards.sample import Sample
from curation.trainer.config import TrainConfig
from curation.trainer.data import Batch, Batches
from curation.trainer.loop import Trainer

BATCH, SHARDS, BUFFER = 64, 4, 1024
"""Samples of a batch; files; samples that the other readers shuffle among, ours among all four shards."""
SHAPE = (16, 1, 48, 48)
Pair = tuple[NDArray[np.float16], NDArray[np.float16]]
Stacks = tuple[torch.Tensor, torch.Tensor]


def loader(folder: Path, count: int = 4096, rounds: int = 5) -> list[Row]:
    """Samples/s of 144 KiB (mean and full log-variance) in the page cache, in rounds taken in turn.

    First the reading alone: shuffled samples, stacked into batches of 64 (mean, log-variance). Then whole training
    batches: the posterior drawn, unit scale, noise for the objective; ours with its loader's threads, the others
    with the same arithmetic on a batch at once.
    """
    tars = write(folder / "tar", "webdataset", count, 48, True, 0, SHARDS)
    tables = write(folder / "parquet", "parquet", count, 48, True, 0, SHARDS)
    config = TrainConfig(model="DiT-S/2", batch=BATCH, shuffle_shards=SHARDS)
    ours = {name: Batches(Shards(str(folder / name)), config) for name in ("tar", "parquet")}
    readers: dict[str, Callable[[], Iterable[Any]]] = {
        "webdataset": lambda: stacked(packaged(tars)),
        "Parquet": lambda: stacked(plain(tables)),
        "ours, tar": lambda: stacked(in_training_order(ours["tar"])),
        "ours, Parquet": lambda: stacked(in_training_order(ours["parquet"])),
        "webdataset, batches": lambda: map(finished, stacked(packaged(tars))),
        "Parquet, batches": lambda: map(finished, stacked(plain(tables))),
        "ours, tar, batches": lambda: ours["tar"].stream(0, count // BATCH),
        "ours, Parquet, batches": lambda: ours["parquet"].stream(0, count // BATCH),
    }
    first = {name: count / timed(readers[name], count) for name in ("ours, tar", "ours, Parquet")}
    times = [{name: timed(read, count) for name, read in readers.items()} for _ in range(rounds)]
    rows = []
    for kind, what in (("", "shuffled samples of 144 KiB, stacked"), (", batches", "the same as training batches")):
        for container in ("tar", "Parquet"):
            name = f"ours, {container}{kind}"
            ratio = median(min(r[f"webdataset{kind}"], r[f"Parquet{kind}"]) / r[name] for r in times)
            rate = {key: count / median(r[key] for r in times) for key in readers}
            faster = max((f"webdataset{kind}", f"Parquet{kind}"), key=lambda key: rate[key])
            note = f"webdataset {rate[f'webdataset{kind}']:,.0f}, plain Parquet {rate[f'Parquet{kind}']:,.0f}"
            note += "; posterior drawn, noise" if kind else f"; hashing on first opening {first[name]:,.0f}"
            rows.append(
                Row(
                    f"(m) {what}, from {container}",
                    f"{rate[name]:,.0f} samples/s",
                    f"{rate[faster]:,.0f} ({faster.partition(',')[0]})",
                    f"{ratio:.2f}x",
                    ">= 1x the faster",
                    note,
                )
            )
    return rows


def timed(read: Callable[[], Iterable[Any]], count: int) -> float:
    started = time.perf_counter()
    steps = sum(1 for _ in read())
    assert steps == count // BATCH, (steps, count)
    return time.perf_counter() - started


def packaged(tars: list[Path]) -> Iterator[Pair]:
    """The webdataset package: shards in a random order, a buffer of samples to shuffle among, .npy decoded."""
    names = ("latent_mean.npy", "latent_logvar.npy")
    dataset = webdataset.WebDataset([str(path) for path in tars], shardshuffle=100, empty_check=False)
    yield from dataset.shuffle(BUFFER).decode().to_tuple(*names)


def plain(tables: list[Path]) -> Iterator[Pair]:
    """pyarrow: row groups of all files in a random order, rows shuffled among as many as the buffer holds."""
    rng = np.random.default_rng(0)
    files = [pq.ParquetFile(path, memory_map=True) for path in tables]
    groups = [(file, group) for file in files for group in range(file.num_row_groups)]
    held: list[Pair] = []
    for i, which in enumerate(rng.permutation(len(groups)), start=1):
        file, group = groups[which]
        table = file.read_row_group(group, columns=["latent_mean", "latent_logvar"])
        means, logvars = (table[name].combine_chunks() for name in table.column_names)
        held += [(halfs(means[row]), halfs(logvars[row])) for row in range(len(table))]
        if len(held) >= BUFFER or i == len(groups):
            yield from (held[row] for row in rng.permutation(len(held)))
            held = []


def halfs(value: Any) -> NDArray[np.float16]:
    return np.frombuffer(value.as_buffer(), np.float16).reshape(SHAPE)


def in_training_order(batches: Batches) -> Iterator[Pair]:
    """Our shards as the trainer reads them: all samples of an epoch in its schedule's order."""
    for step in range(batches.schedule.epoch_steps):
        for number in batches.schedule[step].numbers:
            sample = batches.shards[int(number)]
            assert sample.logvar is not None
            yield sample.latents, sample.logvar


def stacked(pairs: Iterator[Pair]) -> Iterator[Stacks]:
    """Batches as every loader makes them; reads every byte."""
    while group := list(islice(pairs, BATCH)):
        means, logvars = zip(*group, strict=True)
        yield torch.from_numpy(np.stack(means)), torch.from_numpy(np.stack(logvars))


def finished(stacks: Stacks) -> tuple[torch.Tensor, torch.Tensor]:
    """(unit-scaled draws of the posterior, noise) for a batch."""
    mean, logvar = (half.float() for half in stacks)
    raw = torch.addcmul(mean, (logvar / 2).exp(), torch.randn(mean.shape))
    return (raw - torch.zeros(16, 1, 1, 1)) / torch.ones(16, 1, 1, 1), torch.randn(mean.shape)


@dataclass(frozen=True)
class Course:
    """One comparison of (n): a model, on square pictures of so many pixels, so many a batch."""

    model: str
    side: int
    batch: int


def precomputed(folder: Path, rounds: int = 5) -> list[Row]:
    """Seconds of a training step, in turn: latents from shards; and the same pictures, in memory, encoded in the step.

    The embedded VAE and captions' states given to both: with JPEGs to decode and texts to encode, the gap is wider.
    """
    return [_step(folder / course.model.replace("/", "-"), course, rounds) for course in COURSES]


COURSES = (Course("DiT-tiny/2", 64, 16), Course("DiT-S/2", 64, 16))


def _step(folder: Path, course: Course, rounds: int) -> Row:
    vae, pictures = open_model("vae", "embedded"), _pictures(course)
    with torch.inference_mode():
        mean, logvar = vae.encode(pictures)
    texts = np.random.default_rng(0).standard_normal((len(mean), 12, 384)).astype(np.float16)
    samples = [
        Sample(
            f"{i:032x}",
            mean[i, :, None].numpy().astype(np.float16),
            logvar[i, :, None].numpy().astype(np.float16),
            [texts[i]],
            {"bucket": f"1x{course.side}x{course.side}", "captions": ["a photo"], "caption_sources": ["alt"]},
        )
        for i in range(len(mean))
    ]
    facts = {"latents_mean": list(vae.latents_mean), "latents_std": list(vae.latents_std)}
    write_shards(folder, "webdataset", [samples], course.side, facts)
    config = TrainConfig(model=course.model, batch=course.batch, device="cpu", peak_tflops=1, caption_dropout=0)
    trainer = Trainer(Batches(Shards(str(folder)), config), config)
    numbers = {f"{i:032x}": i for i in range(len(mean))}

    def from_shards() -> None:
        trainer.update(trainer.batches[trainer.step])

    def on_the_fly() -> None:
        """The same batch, but for its latents, which are made here."""
        (batch,) = trainer.batches[trainer.step]
        trainer.update([batch | {"latents": _encoded(vae, pictures[[numbers[i] for i in batch["id"]]], batch, facts)}])

    for step in (from_shards, on_the_fly):
        step()
    times = []
    for _ in range(rounds):
        pair = []
        for step in (from_shards, on_the_fly):
            started = time.perf_counter()
            step()
            pair.append(time.perf_counter() - started)
        times.append(pair)
    ours, other = (median(pair[side] for pair in times) for side in (0, 1))
    ratio = median(pair[1] / pair[0] for pair in times)
    what = f"(n) step of {course.model}, {course.batch} pictures of {course.side} px, latents from shards"
    return Row(what, f"{ours:.3f} s", f"{other:.3f} s (encoded in the step)", f"{ratio:.1f}x", "> 1x", "CPU")


@torch.inference_mode()
def _encoded(vae: Any, pictures: torch.Tensor, batch: Batch, facts: dict[str, list[float]]) -> torch.Tensor:
    mean, logvar = vae.encode(pictures)
    sample = Sample("", mean.numpy().astype(np.float16), logvar.numpy().astype(np.float16), [])
    raw = drawn(sample, torch.randn(mean.shape))
    at, scale = (torch.tensor(facts[key])[:, None, None] for key in ("latents_mean", "latents_std"))
    return ((raw - at) / scale)[:, :, None]


def _pictures(course: Course) -> torch.Tensor:
    """Windows of photos, float32 [2 batches, 3, side, side] in [-1, 1]."""
    sources = [photo.image for photo in photos() if min(photo.image.size) >= course.side]
    made = [np.asarray(source.resize((course.side, course.side))) for source in sources]
    values = np.stack([made[i % len(made)] for i in range(2 * course.batch)]).astype(np.float32)
    return torch.from_numpy(values).permute(0, 3, 1, 2) / 127.5 - 1
