"""Fits the copy head on edits of photos, and measures `duplicates: near` on photos that it does not fit.

    python -m curation.models.training.fit_copy_head fit CAPTIONS.jsonl --without PAIRS.csv [--out FILE]
    python -m curation.models.training.fit_copy_head measure CAPTIONS.jsonl --without PAIRS.csv

A line of the table: {"file": path relative to the table, "permissive": bool, "kind": "photo" ...}. Photos with a
permissive licence are fitted, but for those that PAIRS.csv (columns a, b: paths) names; all other photos are the test.
Photos that scikit-image and scikit-learn ship are fitted as well.
"""

import argparse
import csv
import json
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from curation.media.borders import content_box
from curation.media.thumbnail import thumbnails
from curation.models.copy_head import FILE, Array, project
from curation.models.efficientnet import EfficientNet, unit
from curation.models.training.edits import EDITS, several
from curation.pixels import Pixels
from curation.quickstart.photos import WHOLE, locate
from curation.selection.alignment import MAY_BE, same

DIMENSIONS = 256
WINDOWS = 14
"""Parts of a photo that are pictures of their own."""
SHRINK, TEMPERATURE, STEPS, RATE, BATCH = 0.3, 0.05, 400, 2e-4, 320
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Job:
    """One edit of one picture: `box` a part of the photo, the edit's name or `original` or `several`."""

    photo: Path
    box: Box | None
    edit: str
    seed: int = 0


@dataclass(frozen=True)
class View:
    """A job's picture as the stages see it: pooled features [1280], thumbnail, and what it was made from."""

    job: Job
    pooled: Array
    thumbnail: bytes


def photos(table: Path, without: Path | None) -> tuple[list[Path], list[Path]]:
    """The photos to fit, and those to test on."""
    held: set[str] = set()
    if without is not None:
        with without.open(encoding="utf-8", newline="") as file:
            held = {Path(row[side]).name for row in csv.DictReader(file) for side in ("a", "b")}
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["kind"] == "photo" and len(row["captions"]) >= 5]
    fitted = [row["permissive"] and Path(row["file"]).name not in held for row in rows]
    paths = [table.parent / row["file"] for row in rows]
    shipped = [locate(name) for name in WHOLE]
    return (
        [*shipped, *(path for path, fits in zip(paths, fitted, strict=True) if fits)],
        [path for path, fits in zip(paths, fitted, strict=True) if not fits],
    )


def jobs_to_fit(paths: Iterable[Path]) -> list[Job]:
    """Every edit of every photo, and four views of each of its windows."""
    rng, jobs = np.random.default_rng(0), list[Job]()
    for path in paths:
        jobs += [Job(path, None, edit) for edit in ("original", *EDITS)]
        jobs += [Job(path, None, "several", seed) for seed in range(4)]
        for box in windows(path, rng):
            edits = ["original", "several", "several", str(rng.choice(list(EDITS)))]
            jobs += [Job(path, box, edit, seed) for seed, edit in enumerate(edits)]
    return jobs


def jobs_to_test(paths: Iterable[Path]) -> list[Job]:
    """Every edit of every photo, and two mixtures."""
    edits = ["original", *EDITS, "several", "several"]
    return [Job(path, None, edit, seed) for path in paths for seed, edit in enumerate(edits)]


def windows(path: Path, rng: np.random.Generator) -> list[Box]:
    """Parts of 35-70 % of the sides, 120 px or more."""
    with Image.open(path) as image:
        size = image.size
    boxes = []
    for share in rng.uniform(0.35, 0.7, WINDOWS):
        width, height = (round(side * share) for side in size)
        left, top = (int(rng.integers(0, side - part + 1)) for side, part in zip(size, (width, height), strict=True))
        if min(width, height) >= 120:
            boxes.append((left, top, left + width, top + height))
    return boxes


_network: list[EfficientNet] = []


def view(job: Job) -> View:
    if not _network:
        _network.append(EfficientNet(""))
    with Image.open(job.photo) as opened:
        image = opened.convert("RGB")
    image = image.crop(job.box) if job.box else image
    rng = np.random.default_rng([job.seed, zlib.crc32(f"{job.photo.name} {job.box} {job.edit}".encode())])
    if job.edit != "original":
        image = several(image, rng) if job.edit == "several" else EDITS[job.edit](image, rng)
    picture = Pixels.of(np.asarray(image))
    inner = Pixels.of(np.asarray(image.crop(box))) if (box := content_box(picture)) else picture
    return View(job, _network[0].features([inner])[0].pooled, thumbnails(picture))


def views(jobs: Sequence[Job], processes: int) -> list[View]:
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(view, jobs, chunksize=16))


def fit(made: Sequence[View], seed: int = 0) -> tuple[Array, Array]:
    """(mean [1280], projection [1280, DIMENSIONS]).

    The start: within-picture covariance whitened (Hatch et al. 2006), then the directions in which the pictures differ
    most. From there InfoNCE (van den Oord et al., https://arxiv.org/abs/1807.03748) over pairs of views of a picture;
    other windows of the same photo, which may overlap, are no negatives.
    """
    features = unit(np.array([one.pooled for one in made]))
    pictures = np.unique([f"{one.job.photo} {one.job.box}" for one in made], return_inverse=True)[1]
    photo_of = np.unique([str(one.job.photo) for one in made], return_inverse=True)[1]
    mean = features.mean(axis=0)
    counts = np.bincount(pictures)
    centres = np.zeros((len(counts), features.shape[1]), np.float32)
    np.add.at(centres, pictures, features / counts[pictures, None])
    within = (features - centres[pictures]).T @ (features - centres[pictures]) / len(features)
    values, vectors = np.linalg.eigh(within + SHRINK * np.trace(within) / len(within) * np.eye(len(within)))
    whitening = vectors / np.sqrt(values)
    directions = np.linalg.svd((centres - mean) @ whitening, full_matrices=False)[2][:DIMENSIONS]
    start = (whitening @ directions.T).astype(np.float32)
    start /= np.linalg.norm((features - mean) @ start, axis=1).mean()
    return mean, _tuned(start, features - mean, pictures, photo_of, seed)


def _tuned(start: Array, features: Array, pictures: NDArray[np.int64], photo_of: NDArray[np.int64], seed: int) -> Array:
    rng, torch_features = np.random.default_rng(seed), torch.from_numpy(features)
    places = [np.flatnonzero(pictures == picture) for picture in range(int(pictures.max()) + 1)]
    weights = torch.from_numpy(start.copy()).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=RATE)
    for _ in range(STEPS):
        chosen = rng.choice(len(places), min(BATCH, len(places)), replace=False)
        pairs = np.array([rng.choice(places[picture], 2, replace=False) for picture in chosen])
        one, other = (torch.nn.functional.normalize(torch_features[pairs[:, i]] @ weights, dim=1) for i in (0, 1))
        alike = one @ other.T / TEMPERATURE
        photo = torch.from_numpy(photo_of[pairs[:, 0]])
        own = torch.eye(len(chosen), dtype=torch.bool)
        alike = alike.masked_fill((photo[:, None] == photo[None, :]) & ~own, -1e9)
        target = torch.arange(len(chosen))
        loss = (
            torch.nn.functional.cross_entropy(alike, target) + torch.nn.functional.cross_entropy(alike.T, target)
        ) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return weights.detach().numpy()


def report(mean: Array, projection: Array, made: Sequence[View]) -> None:
    """Recall of each edit, as candidates and confirmed, and what becomes of all pairs of unrelated photos."""
    vectors = project(np.array([one.pooled for one in made]), mean, projection).astype(np.float16).astype(np.float32)
    originals = {one.job.photo: i for i, one in enumerate(made) if one.job.edit == "original"}
    found: dict[str, list[tuple[bool, bool]]] = {}
    for i, one in enumerate(made):
        first = originals[one.job.photo]
        if i != first:
            near = bool(vectors[i] @ vectors[first] >= MAY_BE)
            copy = near and same(made[first].thumbnail, one.thumbnail)
            found.setdefault(one.job.edit, []).append((near, copy))
    print(f"{len(originals)} photos that were not fitted; near at a cosine of {MAY_BE}, then laid over each other")
    for edit, flags in found.items():
        near_count, copies = (sum(flag[i] for flag in flags) for i in (0, 1))
        print(f"{edit:14s} near {near_count:3d}, copies {copies:3d} of {len(flags)}")
    _report_unrelated(vectors, made, [i for i, one in enumerate(made) if one.job.edit in ("original", "colour")])


def _report_unrelated(vectors: Array, made: Sequence[View], rows: Sequence[int]) -> None:
    """All pairs of different photos among `rows`."""
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i] if made[a].job.photo != made[b].job.photo]
    cosines = np.array([vectors[a] @ vectors[b] for a, b in pairs])
    near = [pair for pair, cosine in zip(pairs, cosines, strict=True) if cosine >= MAY_BE]
    false = sum(same(made[a].thumbnail, made[b].thumbnail) for a, b in near)
    print(f"{len(pairs):,} unrelated pairs: {len(near)} near, {false} taken for copies")
    print(
        "cosines of unrelated pairs, quantiles 50 99 99.9 100 %:", np.quantile(cosines, [0.5, 0.99, 0.999, 1]).round(3)
    )
    some = np.random.default_rng(0).choice(len(pairs), min(len(pairs), 10_000), replace=False)
    false = sum(same(made[pairs[i][0]].thumbnail, made[pairs[i][1]].thumbnail) for i in some)
    print(f"{len(some):,} unrelated pairs laid over each other whatever their cosine: {false} taken for copies")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "measure"])
    parser.add_argument("table", type=Path)
    parser.add_argument("--without", type=Path)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    fitted, tested = photos(arguments.table, arguments.without)
    if arguments.what == "fit":
        made = views(jobs_to_fit(fitted), arguments.processes)
        mean, projection = fit(made)
        save_file({"mean": mean.astype(np.float16), "projection": projection.astype(np.float16)}, arguments.out)
        arguments.out.chmod(0o644)
        print(f"fitted on {len(made):,} views of {len(fitted)} photos: {arguments.out}")
    else:
        from safetensors.numpy import load_file

        weights = {name: value.astype(np.float32) for name, value in load_file(arguments.out).items()}
        report(weights["mean"], weights["projection"], views(jobs_to_test(tested), arguments.processes))


if __name__ == "__main__":
    main()
