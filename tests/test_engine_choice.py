"""Small work runs in processes of this machine, large work and clusters on Ray; the bytes are the same."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from helpers.corpus import write_corpus

from curation.engine import choice
from curation.engine.choice import RAY_PAYS_S, choose
from curation.phases import run

MANIFEST = """\
name: chosen
source: {{table: {table}, media: file, caption: caption}}
score:
  - phash
  - "helpers.stages:Slow": {{seconds: {seconds}}}
encode: {{size: 64, shards: {{samples: 5}}, reconstructions: 0}}
engine: {{rows_per_chunk: 3}}
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four cores and 16 GB."""
    monkeypatch.setattr(choice, "cores", lambda: 4.0)
    monkeypatch.setattr(choice, "available_mb", lambda: 16_000.0)


@pytest.mark.usefixtures("machine")
def test_it_is_chosen_by_the_work_the_chunks_and_the_memory() -> None:
    assert [choose(60, chunks, 500).processes for chunks in (1, 3, 100)] == [1, 3, 4]
    assert choose(60, 100, 5000).processes == 2  # 0.8 of the memory
    assert choose(60, 100, 500, wanted=8).processes == 8
    assert choose(4 * RAY_PAYS_S, 100, 500).kind == "ray" and choose(4 * RAY_PAYS_S - 1, 100, 500).kind == "inline"
    assert choose(None, 100, 500).kind == "ray"


@pytest.mark.usefixtures("machine")
def test_the_reason_is_said() -> None:
    assert choose(60, 9, 500).line == "4 processes without Ray, for at most about 15 s of work"
    assert choose(60, 1, 500).line == "this process without Ray, for at most about 60 s of work"
    assert choose(4 * 7200, 9, 500).line == "Ray on this machine, for at most about 2.0 h of work"
    assert "not known" in choose(None, 9, 500).line


def manifest(folder: Path, seconds: float) -> Path:
    table = write_corpus(folder / "corpus", 24)
    (folder / "m.yaml").write_text(MANIFEST.format(table=table, seconds=seconds))
    return folder / "m.yaml"


def products(out: Path) -> dict[str, bytes]:
    files = [out / "selection.parquet", *(out / "scores").rglob("*"), *(out / "shards").rglob("*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in files if file.is_file()}


def test_a_script_that_runs_at_its_top_level_gets_the_bytes_of_one_process(tmp_path: Path) -> None:
    path = manifest(tmp_path, 0)
    run(str(path), str(tmp_path / "one"), [], engine="inline")
    (tmp_path / "script.py").write_text(
        textwrap.dedent(f"""
        from curation.phases import run
        print("the script runs")
        run({str(path)!r}, {str(tmp_path / "two")!r}, ["engine.workers=2"])
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(tmp_path / "script.py")], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the script runs") == 1 and "engine  2 processes without Ray" in done.stdout
    assert products(tmp_path / "two") == products(tmp_path / "one")


def test_a_killed_process_is_replaced_and_a_killed_run_continues(tmp_path: Path) -> None:
    path = manifest(tmp_path, 0.15)
    run(str(path), str(tmp_path / "one"), [], engine="inline")
    command = [sys.executable, "-m", "curation", "run", str(path), "--out", str(tmp_path / "two")]
    command += ["--set", "engine.workers=2"]

    def committed() -> int:
        return len(list((tmp_path / "two" / "scores").glob("*.parquet")))

    def started(least: int) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        while committed() < least and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None
        return process

    process = started(1)
    children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True)
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    while committed() < 4 and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert started(4).wait(timeout=240) == 0
    assert products(tmp_path / "two") == products(tmp_path / "one")
