"""One run per directory: a live run is left alone, what a dead one left is taken over."""

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from curation.errors import CurationError, Denied
from curation.stores.location import explain
from curation.stores.process import machine, process_start
from curation.stores.scratch import sweep
from curation.stores.storage import Store

LOCK = "_work/lock"
_held: set[str] = set()


class RunLock:
    """Held while a run works in a directory (`with RunLock(store):`); sweeps what a killed run was writing.

    Raises CurationError when another run is alive in the directory, naming its host, process and start.

    store     the run directory
    beat_s    object storage: how often the holder says that it is alive, seconds
    expiry_s  object storage: a holder silent so long is dead; on this machine one whose process is gone
    settle_s  object storage: how long to wait before looking whether another run wrote its lock meanwhile
    """

    def __init__(self, store: Store, beat_s: float = 10.0, expiry_s: float = 60.0, settle_s: float = 2.0) -> None:
        self.store = store
        self._lock: LocalLock | ObjectLock = (
            LocalLock(store.local) if store.local else ObjectLock(store, beat_s, expiry_s, settle_s)
        )

    def __enter__(self) -> "RunLock":
        try:
            self._lock.acquire()
        except Denied as error:  # of the run directory; that a lock is its first file is of no interest
            raise Denied(str(error).replace(self.store.uri(LOCK), self.store.root)) from error
        self.store.sweep()
        sweep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def check(self) -> None:
        """Raise CurationError when the lock was lost: this process was silent until another run took over."""
        self._lock.check()


class LocalLock:
    """A POSIX lock on `_work/lock`: the kernel drops it with the process, however that ends.

    Not flock(2): forked children would inherit it, and a decoder that outlives its killed run would hold it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._descriptor = -1

    def acquire(self) -> None:
        if str(self.path) in _held:
            raise refusal(str(self.path), holder("this process"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise explain(error, str(self.path), "written") from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            text = os.read(descriptor, 4096)
            os.close(descriptor)
            raise refusal(str(self.path), parse(text)) from error
        self._descriptor = descriptor
        _held.add(str(self.path))
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(holder(secrets.token_hex(8))).encode())

    def release(self) -> None:
        """The file stays, empty: removing it would let two runs lock two files of one name."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        _held.discard(str(self.path))

    def check(self) -> None:
        """The kernel keeps the lock as long as the process lives."""


class ObjectLock:
    """An object that its holder rewrites again and again."""

    def __init__(self, store: Store, beat_s: float, expiry_s: float, settle_s: float) -> None:
        self.store, self.beat_s, self.expiry_s, self.settle_s = store, beat_s, expiry_s, settle_s
        self.me = holder(secrets.token_hex(8))
        self._done, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run-lock", daemon=True)

    def acquire(self) -> None:
        there = self._read()
        if there and self._alive(there):
            raise refusal(self.store.uri(LOCK), there, self.expiry_s)
        self._write()
        time.sleep(self.settle_s)
        winner = self._read()
        if winner and winner["token"] != self.me["token"]:
            raise refusal(self.store.uri(LOCK), winner, self.expiry_s)
        self._thread.start()

    def release(self) -> None:
        self._done.set()
        self._thread.join()
        if not self._lost.is_set():
            with suppress(CurationError):  # it would hide what ended the run; silence ends the lock, too
                self.store.delete(LOCK)

    def check(self) -> None:
        if self._lost.is_set():
            raise CurationError(f"another run took over {self.store.root} while this one was silent; this one stops")

    def _alive(self, other: dict[str, Any]) -> bool:
        if other.get("machine") == self.me["machine"]:
            return process_start(int(other.get("pid", 0))) == other.get("process_start")
        return time.time() - float(other.get("beat", 0)) < self.expiry_s

    def _beat(self) -> None:
        while not self._done.wait(self.beat_s):
            try:
                there = self._read()
                if there and there["token"] != self.me["token"]:
                    self._lost.set()
                    return
                self._write()
            except CurationError:
                continue  # the store is out of reach: the next beat tries again, and silence ends the lock

    def _read(self) -> dict[str, Any] | None:
        return parse(self.store.read(LOCK)) if self.store.exists(LOCK) else None

    def _write(self) -> None:
        self.store.write(LOCK, json.dumps({**self.me, "beat": time.time()}).encode())


def holder(token: str) -> dict[str, Any]:
    """Who holds a lock: this process."""
    return {
        "token": token,
        "host": socket.gethostname(),
        "machine": machine(),
        "pid": os.getpid(),
        "process_start": process_start(os.getpid()),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def parse(text: bytes) -> dict[str, Any]:
    """A lock's content; a torn or foreign one belongs to nobody."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return {"token": "", **found} if isinstance(found, dict) else {"token": ""}


def refusal(lock: str, other: dict[str, Any], expiry_s: float | None = None) -> CurationError:
    who = f"process {other.get('pid', '?')} on {other.get('host', '?')}, since {other.get('since', '?')}"
    wait = f" If it is dead, its lock ends {expiry_s:g} s after its last sign of life." if expiry_s else ""
    return CurationError(f"another run is working in this directory ({who}; {lock}). Wait for it, or stop it.{wait}")
