"""Every command with at least ten wrong inputs: a sentence and exit code 2 (1 where a server is down), no traceback."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.cli import main

MANIFESTS = {
    "empty.yaml": "",
    "list.yaml": "- a\n",
    "bad.yaml": "name: [\n",
    "unknown.yaml": "name: a\nsource: {folder: .}\nscore: [resolutoin]\n",
    "gone.yaml": "name: a\nsource: {table: gone.jsonl, media: file}\nscore: [resolution]\n",
    "nofolder.yaml": "name: a\nsource: {folder: gone}\nscore: [resolution]\n",
    "scheme.yaml": "name: a\nsource: {folder: 'xyz://a/b'}\nscore: [resolution]\n",
}
PLACES = ["no-such", "folder", "/dev/null", "", "a\x01b", "s3://", "xyz://a/b", "file:///no-such", "empty.yaml"]
"""Neither a manifest nor a run directory."""
DAMAGED = ["damaged", "--bogus"]
BY_COMMAND = {
    **{name: [[word] for word in [*PLACES, *MANIFESTS, "--bogus"]] for name in ("run", "plan", "train")},
    **{name: [[word] for word in [*PLACES, *DAMAGED, "list.yaml"]] for name in ("select", "report", "verify", "card")},
    "why": [[word, "ID"] for word in [*PLACES, *DAMAGED, "list.yaml"]],
    "diff": [[word, "folder"] for word in [*PLACES, *DAMAGED, "list.yaml"]],
    "export-list": [[word] for word in [*PLACES, *DAMAGED, "list.yaml"]] + [["damaged", "--out", "a.xls"]],
    "sample": [["a cat", "--model", word] for word in [*PLACES, *DAMAGED]] + [["a cat", "--n", "0"], []],
    "eval": [["--model", word] for word in [*PLACES, *DAMAGED]] + [["--steps", "x"]],
    "stages": [[word] for word in [*PLACES[:6], *DAMAGED, "phsh", "a:b", "os:path", "curation.stage:Nope"] if word],
    "schema": [[word] for word in [*PLACES, *DAMAGED]],
    "doctor": [[word] for word in [*PLACES, *DAMAGED]],
}
CASES = [(name, *arguments) for name, wrong in BY_COMMAND.items() for arguments in wrong]
FAILS = {("verify", "damaged")}
"""That something is damaged is what `verify` was asked: exit code 1."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with wrong manifests, an empty folder and a run directory of nonsense."""
    for name, text in MANIFESTS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    (tmp_path / "damaged").mkdir()
    for name in ("selection.parquet", "run.json", "index.json", "config.json"):
        (tmp_path / "damaged" / name).write_text("nonsense")
    (tmp_path / "damaged" / "manifest.yaml").write_text("name: x\n")
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    yield tmp_path
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_a_wrong_input_is_a_sentence(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any exception but the end of the program would be a traceback, and fails the test."""
    monkeypatch.setattr(sys, "argv", ["curate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == (1 if arguments in FAILS else 2), said
    assert said.strip() and "Traceback" not in said


def test_each_command_is_tried_ten_times() -> None:
    from typer.main import get_command

    commands = set(get_command(__import__("curation.cli", fromlist=["app"]).app).commands)  # type: ignore[attr-defined]
    assert {name for name, wrong in BY_COMMAND.items() if len(wrong) >= 10} == commands


@pytest.mark.parametrize("option", [["--set", "a"], ["--out", "/dev/null"], ["--out", "empty.yaml"]])
def test_an_option_that_cannot_be_is_a_sentence(option: list[str], place: Path) -> None:
    (place / "fits.yaml").write_text("name: a\nsource: {folder: .}\nscore: [resolution]\n")
    done = subprocess.run(
        [sys.executable, "-m", "curation", "run", "fits.yaml", *option], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


def test_a_hub_that_cannot_be_reached_is_a_sentence(place: Path) -> None:
    (place / "hub.yaml").write_text(
        "name: a\nsource: {table: 'hf://datasets/a/b/c.parquet', media: image}\nscore: [resolution]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "curation", "plan", "hub.yaml"],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"},
        check=False,
    )
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr and "hf://" in done.stderr, done.stderr
