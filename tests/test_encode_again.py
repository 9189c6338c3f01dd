"""What changed in the source reaches the shards, and what did not change is not computed again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.models.vae import Vae
from curation.phases import run
from curation.shards.reader import Shards

ROWS = [{"file": f"{i}.png", "caption": f"noise, number {i}", "title": f"title {i}"} for i in range(5)]
MANIFEST = """\
name: again
source: {table: table.jsonl, media: file, caption: caption}
score: [resolution, {phash: {when: "extra.title != 'title 3'"}}]
encode: {size: 64, reconstructions: 0, extra: [title], shards: {samples: 3}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for i, row in enumerate(ROWS):
        pixels = np.kron(np.random.default_rng(i).integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / row["file"])
    write(tmp_path, ROWS)
    (tmp_path / "manifest.yaml").write_text(MANIFEST)
    return tmp_path / "manifest.yaml"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the VAE saw, call by call."""
    counts: list[int] = []
    real: Callable[..., Any] = Vae.posteriors

    def counting(self: Vae, pixels: Any, *rest: Any, **options: Any) -> Any:
        counts.append(len(pixels))
        return real(self, pixels, *rest, **options)

    monkeypatch.setattr(Vae, "posteriors", counting)
    return counts


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def go(manifest: Path, out: str, *overrides: str) -> dict[str, bytes]:
    run(str(manifest), str(manifest.parent / out), overrides, engine="inline")
    shards = manifest.parent / out / "shards"
    return {str(path.relative_to(shards)): path.read_bytes() for path in shards.rglob("*") if path.is_file()}


@pytest.mark.parametrize("container", ["webdataset", "parquet"])
def test_other_captions_compute_no_latent(manifest: Path, encoded: list[int], container: str) -> None:
    layout = f"encode.shards.format={container}"
    go(manifest, "run", layout)
    assert sum(encoded) == 5
    write(manifest.parent, [row | {"caption": f"other words about {i}"} for i, row in enumerate(ROWS)])
    again = go(manifest, "run", layout)
    assert sum(encoded) == 5
    assert again == go(manifest, "fresh", layout) and sum(encoded) == 10
    captions = {sample.meta["captions"][0] for sample in Shards(str(manifest.parent / "run/shards"))}
    assert captions == {f"other words about {i}" for i in range(5)}


def test_one_changed_picture_computes_one_latent(manifest: Path, encoded: list[int]) -> None:
    go(manifest, "run")
    Image.new("RGB", (64, 64), "red").save(manifest.parent / "2.png")
    write(manifest.parent, [row | {"caption": "new"} for row in ROWS])
    again = go(manifest, "run")
    assert sum(encoded) == 6 and again == go(manifest, "fresh")


def test_a_changed_title_reaches_the_shard_and_what_hangs_on_it(manifest: Path, encoded: list[int]) -> None:
    go(manifest, "run")
    rows = [row | {"title": {3: "changed", 4: "title 3"}.get(i, row["title"])} for i, row in enumerate(ROWS)]
    write(manifest.parent, rows)
    again = go(manifest, "run")
    assert sum(encoded) == 5 and again == go(manifest, "fresh")
    samples = {sample.meta["source_key"]: sample.meta for sample in Shards(str(manifest.parent / "run/shards"))}
    assert {key: meta["extra"]["title"] for key, meta in samples.items()} == {row["file"]: row["title"] for row in rows}
    assert [key for key, meta in sorted(samples.items()) if "phash" not in meta["scores"]] == ["4.png"]


def test_a_changed_title_that_only_a_condition_reads_reaches_the_shard(manifest: Path) -> None:
    go(manifest, "run", "encode.extra=[]")
    write(manifest.parent, [row | {"title": "title 3"} for row in ROWS])
    again = go(manifest, "run", "encode.extra=[]")
    assert again == go(manifest, "fresh", "encode.extra=[]")
    assert not any("phash" in sample.meta["scores"] for sample in Shards(str(manifest.parent / "run/shards")))
