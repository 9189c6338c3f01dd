"""Text that comes from data shows its control characters and never has their effect."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.table import Table

from curation.terminal import Terminal, visible

EVIL = "\x1b[2J\x1b]0;owned\x07 \r\x9b31m \u202egpj.exe\x00"


def test_control_characters_are_written_out() -> None:
    assert visible(EVIL) == r"\x1b[2J\x1b]0;owned\x07 \x0d\x9b31m \u202egpj.exe\x00"
    assert visible("caf\u00e9 \u0939\u093f\u0928\u094d\u0926\u0940 \U0001f600\nsecond\tline") == (
        "caf\u00e9 \u0939\u093f\u0928\u094d\u0926\u0940 \U0001f600\nsecond\tline"
    )


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = visible(text)
    assert all(sign in "\n\t" or (ord(sign) >= 0x20 and not 0x7F <= ord(sign) < 0xA0) for sign in shown)
    shown.encode()


@pytest.mark.parametrize("colour", [False, True])
def test_no_sequence_reaches_a_terminal_by_any_way(colour: bool) -> None:
    out = io.StringIO()
    screen = Terminal(file=out, force_terminal=colour, width=200)
    table = Table("name", "[bold]value[/bold]")
    table.add_row(EVIL, EVIL)
    screen.print(table)
    screen.print(EVIL, markup=False)
    screen.print(f"{EVIL}", soft_wrap=True)
    with Progress(TextColumn("{task.description}"), console=screen) as progress:
        progress.add_task(EVIL, total=1)
    written = out.getvalue()
    assert "\x1b[2J" not in written and "\x1b]0" not in written and "\x9b" not in written and "\u202e" not in written
    assert r"\x1b]0;owned" in written


def curate(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "curation", *arguments]
    return subprocess.run(command, capture_output=True, timeout=120, check=False)


def test_no_command_passes_on_what_a_table_says(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(
        json.dumps({"file": f"{EVIL}.jpg", "caption": EVIL, "key": f"k{EVIL}", EVIL: EVIL}) + "\n"
    )
    (tmp_path / "m.yaml").write_text(
        "name: evil\nsource: {table: t.jsonl, media: file, caption: caption, key: key}\nscore: [resolution]\n"
    )
    manifest, out = str(tmp_path / "m.yaml"), str(tmp_path / "run")
    said = [
        curate("plan", manifest),
        curate("run", manifest, "--out", out, "--engine", "inline"),
        curate("why", out, "k"),
        curate("plan", manifest, "--set", "source.media=fil"),
    ]
    for done in said:
        written = done.stdout + done.stderr
        assert b"\x1b" not in written and b"\x07" not in written and b"\x00" not in written, written
        assert b"Traceback" not in written, written


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path: Path, times: int) -> None:
    from helpers.corpus import write_corpus

    table = write_corpus(tmp_path / "corpus", 40)
    (tmp_path / "m.yaml").write_text(
        f'name: slow\nsource: {{table: {table}, media: file}}\nscore:\n  - "helpers.stages:Slow": {{seconds: 0.3}}\n'
        "engine: {rows_per_chunk: 2}\n"
    )
    command = [sys.executable, "-m", "curation", "run", str(tmp_path / "m.yaml"), "--out", str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([*command, "--engine", "inline"], stderr=subprocess.PIPE, env=environment)
    for _ in range(600):
        if list((tmp_path / "run").glob("scores/*.parquet")) or process.poll() is not None:
            break
        time.sleep(0.1)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, said = process.communicate(timeout=60)
    # a shell says 130 of both: the second may meet the interpreter at its end, which dies of it
    assert process.returncode in (130, -signal.SIGINT) and b"Traceback" not in said
    assert times == 2 or b"run the same command again to continue" in said
