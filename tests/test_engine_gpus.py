"""Models on pretended GPUs: everything is placed, batched and restarted as on real ones, and computed on the CPU.

Whatever the engine, the bytes are those of one process that computes on the CPU.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.corpus import write_corpus

MANIFEST = """\
name: gpus
source: {{table: {table}, media: file, caption: caption}}
score:
  - resolution: {{keep: "min_side >= 70"}}
  - embedding
  - phash
  - similarity: {{keep: "similarity > -2"}}
  - tags
select: {{duplicates: exact}}
encode: {{size: 64, shards: {{samples: 5}}, reconstructions: 0}}
engine: {{rows_per_chunk: 4, workers: 2}}
"""


def manifest(folder: Path) -> Path:
    table = write_corpus(folder / "corpus", 14, odd={3: (60, 60)})
    path = folder / "manifest.yaml"
    path.write_text(MANIFEST.format(table=table))
    return path


def run(path: Path, out: Path, *options: str, gpus: int = 0) -> str:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "CURATION_PRETEND_GPUS": str(gpus)}
    command = [sys.executable, "-m", "curation", "run", str(path), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def values(out: Path) -> dict[str, bytes]:
    """The decision, the shards, and the scores: their columns without the notes on where they were computed."""
    import pyarrow.parquet as pq

    scores = {}
    for file in sorted((out / "scores").glob("*.parquet")):
        table = pq.read_table(file).replace_schema_metadata(None)
        scores[file.name.partition("-")[0]] = repr(table.to_pydict()).encode()
    shards = {str(f.relative_to(out)): f.read_bytes() for f in (out / "shards").rglob("*.tar")}
    return scores | shards | {"selection": (out / "selection.parquet").read_bytes()}


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("on_cpu")
    path = manifest(folder)
    run(path, folder / "run", "--engine", "inline")
    return path, values(folder / "run")


def test_without_ray_children_ask_the_parents_servers(on_cpu: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    path, expected = on_cpu
    output = run(path, tmp_path / "run", "--engine", "inline", gpus=2)
    assert values(tmp_path / "run") == expected
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["engine"].startswith("inline, 2 processes")
    features = report["models"]["EfficientNet"]
    assert features["rows"] == 13 and 0 < features["busy_share"] <= 1 and features["workers_waited_s"] > 0
    assert "EfficientNet: 13 rows at" in output


def test_ray_places_a_server_on_each_gpu(on_cpu: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    path, expected = on_cpu
    run(path, tmp_path / "run", gpus=2)
    assert values(tmp_path / "run") == expected
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["models"]["EfficientNet"]["rows"] == 13 and "2 GPUs" in report["engine"]


def test_a_gpu_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    for command in (["run", str(path), "--out", str(tmp_path / "run")], ["plan", str(path)]):
        asked = [sys.executable, "-m", "curation", *command, "--set", "device=cuda"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2 and "there is none" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "scores").exists()
