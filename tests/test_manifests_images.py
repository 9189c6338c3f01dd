"""manifests/images.yaml and mixed.yaml as they stand, complete, with production architectures at tiny random sizes.

They run through Ray on two pretended GPUs, from tar files and folders to shards that a trainer reads.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers import tiny_models
from helpers.scenes import pan, write_video
from PIL import Image
from skimage import data

from curation.shards.reader import Shards

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"
PHOTOS = ("astronaut", "cat", "coffee", "rocket", "immunohistochemistry", "retina")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "clip": f"open_clip:{tiny_models.clip(folder)}",
        "head": f"laion:v2:{tiny_models.aesthetic_head(folder)}:{tiny_models.clip(folder)}",
        "vae": f"diffusers:{tiny_models.picture_vae(folder)}",
        "clip_vae": f"diffusers:{tiny_models.clip_vae(folder)}",
    }


def curate(name: str, out: Path, sets: dict[str, Any]) -> dict[str, Any]:
    """Run a manifest that ships, with `sets`; returns run.json."""
    options = [part for key, value in sets.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "curation", "run", str(MANIFESTS / name), "--out", str(out), *options]
    environment = os.environ | {"CURATION_PRETEND_GPUS": "2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((out / "run.json").read_text())
    assert "2 GPUs" in report["engine"]
    return report


def stage(name: str, manifest: str) -> int:
    """Where a stage stands under `score:`."""
    import yaml

    lines = yaml.safe_load((MANIFESTS / manifest).read_text())["score"]
    return next(i for i, line in enumerate(lines) if name in line)


def test_images(models: dict[str, str], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in PHOTOS:
            picture, caption = io.BytesIO(), f"a photograph of the thing that is called {name} here".encode()
            Image.fromarray(getattr(data, name)()).convert("RGB").resize((320, 288)).save(picture, "JPEG", quality=92)
            for suffix, body in (("jpg", picture.getvalue()), ("txt", caption)):
                member = tarfile.TarInfo(f"{name}.{suffix}")
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
    at = {name: f"score.{stage(name, 'images.yaml')}.{name}" for name in ("similarity", "embedding", "aesthetic")}
    report = curate(
        "images.yaml",
        tmp_path / "run",
        {
            "source.webdataset": str(tmp_path / "0.tar"),
            f"{at['similarity']}.model": models["clip"],
            f"{at['similarity']}.keep": "similarity >= -1",
            f"{at['embedding']}.model": models["clip"],
            f"{at['aesthetic']}.model": models["head"],
            "select.duplicates": [],
            "select.keep": [],
            "encode.vae": models["vae"],
            "encode.size": 64,
            "engine.rows_per_chunk": 2,
        },
    )
    assert report["records_in"] == len(PHOTOS) and report["kept"] >= 4
    scored = [
        row for file in (tmp_path / "run" / "scores").glob("*.parquet") for row in pq.read_table(file).to_pylist()
    ]
    kept = [row for row in scored if row["embedding"]]
    assert {len(row["embedding"]) for row in kept} == {24} and all(row["aesthetic"] is not None for row in kept)
    tower = next(model for name, model in report["models"].items() if name.startswith("Clip"))
    assert tower["rows"] >= len(kept) and any(name.startswith("Vae") for name in report["models"])
    assert len(list(Shards(str(tmp_path / "run" / "shards")))) == report["kept"]


def test_mixed(models: dict[str, str], tmp_path: Path) -> None:
    for folder in ("photos", "videos"):
        (tmp_path / folder).mkdir()
    write_video(tmp_path / "videos" / "one.mp4", pan(1, 3, 24, (240, 136)))
    Image.fromarray(pan(3, 1, 1, (240, 136))[0]).save(tmp_path / "photos" / "photo.jpg", quality=85)
    report = curate(
        "mixed.yaml",
        tmp_path / "run",
        {
            "source.0.folder": str(tmp_path / "photos"),
            "source.1.folder": str(tmp_path / "videos"),
            f"score.{stage('embedding', 'mixed.yaml')}": {"embedding": {"model": models["clip"]}},
            f"score.{stage('similarity', 'mixed.yaml')}": {"similarity": {"model": models["clip"]}},
            "encode.vae": models["clip_vae"],
            "encode.size": 64,
        },
    )
    assert report["kept"] == 2
    samples = list(Shards(str(tmp_path / "run" / "shards")))
    assert sorted(sample.meta["frames"] for sample in samples) == [1, 49]
