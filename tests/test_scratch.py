"""Temporary folders go with their process, also when it is killed: the next one removes them."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from curation.stores import scratch
from curation.stores.lock import RunLock
from curation.stores.storage import Store

HOLD = """
import time
from curation.stores.scratch import scratch
with scratch() as folder:
    (folder / "big").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "tmp"


def held() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_a_killed_processs_folder_is_removed_by_the_next_run_and_a_living_ones_is_not(
    place: Path, tmp_path: Path
) -> None:
    (killed, left), (living, kept) = held(), held()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    foreign = place / "curate-000000000000-1-1-abc"
    foreign.mkdir()
    assert (left / "big").exists()
    with RunLock(Store(str(tmp_path / "run"))):
        assert not left.exists() and (kept / "big").exists() and foreign.exists()
    living.kill()
    living.wait()
    scratch.sweep()
    assert list(place.iterdir()) == [foreign]


def test_a_folder_is_gone_at_the_end(place: Path) -> None:
    with scratch.scratch() as folder:
        assert folder.parent == place and str(os.getpid()) in folder.name.split("-")
    assert not list(place.iterdir())


def test_no_module_makes_named_temporary_files_of_its_own() -> None:
    sources = Path(scratch.__file__).parents[1].rglob("*.py")
    named = ("NamedTemporaryFile", "mkdtemp", "mkstemp", "TemporaryDirectory")
    found = {f.name for f in sources if any(word in f.read_text() for word in named)}
    assert found == {"scratch.py", "storage.py"}
