"""Runs that are killed, in processes of their own: they end with the bytes of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.corpus import write_corpus

from curation.engine.layout import Node, lay_out
from curation.errors import UsageError

RECORDS = 24
MANIFEST = """\
name: killed
source: {{table: {table}, media: file, caption: caption}}
score:
  - resolution: {{keep: "min_side >= 64"}}
  - phash
  - "helpers.stages:Slow": {{seconds: {seconds}}}
select: {{duplicates: near}}
encode: {{size: 64, shards: {{samples: 5}}, reconstructions: 0}}
engine: {{rows_per_chunk: 3}}
"""


def manifest(folder: Path, seconds: float = 0.15) -> Path:
    table = write_corpus(folder / "corpus", RECORDS)
    path = folder / "manifest.yaml"
    path.write_text(MANIFEST.format(table=table, seconds=seconds).replace("duplicates: near", "duplicates: exact"))
    return path


def start(path: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-m", "curation", "run", str(path), "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def run(path: Path, out: Path, *options: str) -> str:
    return finish(start(path, out, *options))


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    for _ in range(1200):
        if condition() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None, f"the run ended before it could be killed: {process.communicate()[0]}"


def committed(out: Path) -> int:
    return len(list((out / "scores").glob("*.parquet")))


def products(out: Path) -> dict[str, bytes]:
    """Everything that must be the same, byte for byte."""
    files = [out / "selection.parquet", *(out / "scores").rglob("*"), *(out / "shards").rglob("*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in files if file.is_file()}


def workers() -> list[int]:
    """Ray's worker processes that hold stages."""
    found = subprocess.run(["pgrep", "-f", "ray::MapWorker"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The manifest, and what a run without Ray makes of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = manifest(folder)
    run(path, folder / "run", "--engine", "inline")
    return path, products(folder / "run")


def test_ray_makes_the_same_bytes_even_when_a_worker_is_killed(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    path, expected = undisturbed
    process = start(path, tmp_path / "run", "--engine", "ray")
    wait_for(lambda: committed(tmp_path / "run") >= 2 and bool(workers()), process)
    os.kill(workers()[0], signal.SIGKILL)
    output = finish(process)
    assert products(tmp_path / "run") == expected
    assert "raylet" not in output and "Traceback" not in output


def test_a_killed_driver_goes_on_where_it_was(undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    path, expected = undisturbed
    process = start(path, tmp_path / "run", "--engine", "inline")
    wait_for(lambda: committed(tmp_path / "run") >= 3, process)
    process.kill()
    process.communicate()
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run" / "scores").glob("*.parquet")}
    assert 3 <= len(before) < RECORDS // 3
    run(path, tmp_path / "run", "--engine", "inline")
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run" / "scores").glob("*.parquet")}
    assert all(after[name] == time for name, time in before.items())
    assert products(tmp_path / "run") == expected
    assert json.loads((tmp_path / "run" / "run.json").read_text())["phases"]["score"]["resumed"] == 3 * len(before)


def test_a_second_run_into_one_directory_is_refused(undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    path, _ = undisturbed
    first = start(path, tmp_path / "run", "--engine", "inline")
    wait_for(lambda: committed(tmp_path / "run") >= 1, first)
    second = start(path, tmp_path / "run", "--engine", "inline")
    output, _ = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 1 and "run" in output and "Traceback" not in output


def test_a_record_that_kills_its_worker_is_quarantined_alone(tmp_path: Path) -> None:
    table = write_corpus(tmp_path / "corpus", 6, odd={4: (77, 80)})
    path, deaths = tmp_path / "manifest.yaml", tmp_path / "deaths"
    killer = f'  - "helpers.stages:Killer": {{marker: {deaths}}}\n'
    path.write_text(
        f"name: killer\nsource: {{table: {table}, media: file, caption: caption}}\n"
        f"score:\n{killer}engine: {{rows_per_chunk: 3}}\n"
    )
    process = start(path, tmp_path / "run", "--engine", "inline")
    for _ in range(12):
        process.communicate(timeout=120)
        if process.returncode == 0:
            break
        process = start(path, tmp_path / "run", "--engine", "inline")
    assert process.returncode == 0
    rows = pq.read_table(tmp_path / "run" / "selection.parquet").to_pylist()
    assert [row["decision"] for row in rows].count("kept") == 5
    lost = next(row for row in rows if row["decision"] == "quarantined")
    assert lost["stage"] == "worker" and "died" in lost["error"]
    assert len(deaths.read_text()) == 3 + 2  # the chunk's attempts, then the record's own


def test_the_layout_leaves_room_for_ray_and_for_the_loss_of_a_node() -> None:
    assert lay_out([Node(2.0)], None).workers == 2 and lay_out([Node(2.0)], None).cpus * 2 <= 1.5
    two_nodes = lay_out([Node(2.0), Node(1.0)], None)
    assert two_nodes.workers == 3 and two_nodes.cpus * 3 <= 0.5
    with pytest.raises(UsageError, match="would hang"):
        lay_out([Node(0.5)], None)
    with pytest.raises(UsageError, match="would hang"):
        lay_out([Node(2.0)], 1000)
