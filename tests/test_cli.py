"""The commands as a user calls them: what they print and the exit codes they end with."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.corpus import write_corpus

ROOT = Path(__file__).parents[1]
MANIFEST = """\
name: cli
source: {table: %s, media: file, caption: caption}
score:
  - resolution: {keep: "min_side >= 70"}
  - phash
"""


def curate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "curation", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "m.yaml").write_text(MANIFEST % write_corpus(folder / "corpus", 6, {2: (60, 60)}))
    return folder / "m.yaml"


@pytest.fixture(scope="module")
def run_dir(manifest: Path) -> Path:
    out = manifest.parent / "run"
    done = curate("run", str(manifest), "--out", str(out), "--engine", "inline")
    assert done.returncode == 0 and "kept" in done.stdout and done.stderr == ""
    return out


def test_why_tells_a_dropped_records_story(run_dir: Path) -> None:
    told = curate("why", str(run_dir), "0002.jpg").stdout
    assert "FAILS the gate: min_side >= 70" in told and "phash       not scored" in told
    assert "dropped at resolution: min_side >= 70 (value 60, threshold 70)" in told


def test_why_says_when_there_is_no_such_record(run_dir: Path) -> None:
    done = curate("why", str(run_dir), "0002.jpeg")
    assert done.returncode == 2 and "near to it: " in done.stderr and "0002.jpg" in done.stderr


def test_select_decides_again(run_dir: Path) -> None:
    done = curate("select", str(run_dir), "--set", 'select.keep=["width > 100"]')
    assert done.returncode == 0 and "select: width > 100" in done.stdout


def test_nothing_kept_is_exit_code_3_and_names_the_gate(manifest: Path, tmp_path: Path) -> None:
    options = ("--engine", "inline", "--out", str(tmp_path), "--set", "score.resolution.keep=min_side >= 1000")
    done = curate("run", str(manifest), *options)
    assert done.returncode == 3 and "min_side >= 1000" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "no-such.yaml"), 2, "cannot read the manifest"),
        (("select", "."), 2, "it is not a run directory"),
        (("run", "manifests/quickstart.yaml", "--engine", "spark"), 2, "say auto, ray or inline"),
        (("stages", "phsh"), 2, "did you mean 'phash'?"),
    ],
)
def test_mistakes_are_a_sentence_and_exit_code_2(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = curate(*arguments)
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr


def test_a_source_that_is_not_there_is_exit_code_2(manifest: Path, tmp_path: Path) -> None:
    done = curate(
        "run", str(manifest), "--engine", "inline", "--out", str(tmp_path), "--set", "source.table=gone.jsonl"
    )
    assert done.returncode == 2 and "gone.jsonl" in done.stderr and "Traceback" not in done.stderr


def test_plan_runs_nothing(manifest: Path, tmp_path: Path) -> None:
    done = curate("plan", str(manifest), "--out", str(tmp_path / "run"))
    assert done.returncode == 0 and "min_side >= 70" in done.stdout and "workers" in done.stdout
    assert not (tmp_path / "run").exists()


def test_stages_and_schema_tell_of_every_stage() -> None:
    shipped = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))
    listed = curate("stages").stdout
    assert "[start_s, end_s, reason]" in " ".join(curate("stages", "clips").stdout.split())
    assert all(re.search(rf"^{name}\b", listed, re.M) for name in shipped)
    assert "quality" in json.dumps(json.loads(curate("schema").stdout))


def test_importing_the_package_is_light() -> None:
    code = "import sys, curation; print(sorted({'torch', 'ray', 'pyarrow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
