"""One run per directory: the second is refused, a dead one's lock is taken over."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
from helpers.denying import denying_bucket

from curation.errors import CurationError, Denied
from curation.stores.lock import LOCK, ObjectLock, RunLock, holder
from curation.stores.storage import Store

HOLD = """
import subprocess, sys, time
from curation.stores.lock import RunLock
from curation.stores.storage import Store
with RunLock(Store(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"]) if len(sys.argv) > 2 else None
    print(child.pid if child else 0, flush=True)
    time.sleep(60)
"""


@contextmanager
def other_run(root: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A second process that holds the lock, and its child's process number."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root), *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def test_a_second_run_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    with other_run(tmp_path) as (process, _):
        with pytest.raises(CurationError, match=rf"another run is working .*process {process.pid} on .*since 20"):
            RunLock(Store(str(tmp_path))).__enter__()
        assert process.poll() is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_runs_lock_is_taken_over_at_once(tmp_path: Path, how: signal.Signals) -> None:
    with other_run(tmp_path) as (process, _):
        process.send_signal(how)
        process.wait()
        with RunLock(Store(str(tmp_path))):
            assert json.loads((tmp_path / LOCK).read_bytes())["pid"] == os.getpid()


def test_children_that_outlive_a_killed_run_do_not_hold_its_lock(tmp_path: Path) -> None:
    with other_run(tmp_path, "with a child") as (process, child):
        process.kill()
        process.wait()
        os.kill(child, 0)
        with RunLock(Store(str(tmp_path))):
            os.kill(child, signal.SIGKILL)


def test_the_lock_is_free_after_the_run_and_after_an_error(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(ZeroDivisionError), RunLock(store):
        raise ZeroDivisionError
    with RunLock(store), pytest.raises(CurationError, match="another run"), RunLock(store):
        pass
    with RunLock(store) as lock:
        lock.check()


def test_taking_the_lock_sweeps_what_was_being_written(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / ".tmp-0123456789ab-00000.tar~").write_bytes(b"half")
    with RunLock(Store(str(tmp_path))):
        assert list((tmp_path / "shards").iterdir()) == []


@pytest.fixture
def objects(tmp_path: Path) -> Store:
    """A store without a disk's locks."""
    return Store(f"memory://{tmp_path.name}/run")


def quick(store: Store, expiry_s: float = 60.0) -> RunLock:
    return RunLock(store, beat_s=0.02, expiry_s=expiry_s, settle_s=0.05)


def test_an_object_store_refuses_a_second_run_and_is_clean_afterwards(objects: Store) -> None:
    with (
        quick(objects),
        pytest.raises(CurationError, match=f"process {os.getpid()} on .*ends 60 s after"),
        quick(objects),
    ):
        pass
    assert objects.list() == []


def test_on_this_machine_a_dead_process_is_enough_to_take_over(objects: Store) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    objects.write(LOCK, json.dumps({**holder("x"), "pid": int(dead.stdout), "beat": time.time()}).encode())
    with quick(objects):
        pass


def test_a_reused_process_number_is_not_the_dead_run(objects: Store) -> None:
    objects.write(LOCK, json.dumps({**holder("x"), "process_start": "1", "beat": time.time()}).encode())
    with quick(objects):
        pass


def test_another_machines_lock_counts_while_it_beats(objects: Store) -> None:
    elsewhere = {**holder("x"), "machine": "elsewhere", "host": "node7", "pid": 5}
    objects.write(LOCK, json.dumps({**elsewhere, "beat": time.time()}).encode())
    with pytest.raises(CurationError, match="process 5 on node7"), quick(objects):
        pass
    objects.write(LOCK, json.dumps({**elsewhere, "beat": time.time() - 61}).encode())
    with quick(objects):
        pass


def test_of_two_runs_that_start_together_the_last_writer_wins(objects: Store) -> None:
    overtaken = json.dumps({**holder("x"), "machine": "elsewhere", "beat": time.time()}).encode()
    timer = Timer(0.02, objects.write, (LOCK, overtaken))
    timer.start()
    with pytest.raises(CurationError, match="another run"):
        RunLock(objects, beat_s=0.02, settle_s=0.5).__enter__()
    timer.join()
    assert objects.read(LOCK) == overtaken


def test_a_holder_that_was_overtaken_stops_and_leaves_the_new_lock(objects: Store) -> None:
    with quick(objects) as lock:
        taken = json.dumps({**holder("x"), "machine": "elsewhere"}).encode()
        with pytest.raises(CurationError, match="took over"):
            for _ in range(500):
                objects.write(LOCK, taken)
                time.sleep(0.02)
                lock.check()
    assert objects.read(LOCK) == taken


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b"\xff"])
def test_a_torn_lock_belongs_to_nobody(objects: Store, torn: bytes) -> None:
    objects.write(LOCK, torn)
    with quick(objects):
        pass


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def test_a_bucket_that_denies_writes_is_named_and_not_the_lock(keys: None) -> None:
    with denying_bucket() as url, pytest.raises(Denied) as raised, RunLock(Store(url)):
        pass
    said = str(raised.value)
    assert said.startswith(f"{url} cannot be written: access denied; check the credentials and the policy (")


def test_what_ended_a_run_is_not_hidden_by_its_lock(keys: None) -> None:
    with denying_bucket() as url:
        lock = ObjectLock(Store(url), beat_s=60, expiry_s=60, settle_s=0)
        lock._thread.start()  # as if it was acquired before the bucket denied
        with pytest.raises(CurationError, match="the first error"):
            try:
                raise CurationError("the first error")
            finally:
                lock.release()
