"""First contact with an object store or a host, which may never answer."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
SILENT_S = 60.0
"""How long a place may keep silent on the first contact."""
AGAIN_S = 300.0
"""How long a place that could not be reached is not asked again."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises. Raises TimeoutError where it takes longer; it then goes on by itself."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001  raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="first-contact", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"it gave no answer in {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]


def survived(program: str, *arguments: str) -> None:
    """Run a Python program in a child. Raises OSError where a signal ends it, TimeoutError where it takes too long.

    What it raises by itself is no error here.
    """
    command = [sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SILENT_S)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"it gave no answer in {SILENT_S:g} s") from error
    if done.returncode < 0:
        said = next((line for line in done.stderr.decode(errors="replace").splitlines() if "what():" in line), "")
        raise OSError(f"its client crashed {said.strip().removeprefix('what():').strip()}".strip())


class Contacts(Generic[T]):
    """What was opened by its key, and which places could not be: those fail at once for a while, row after row."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._opened: dict[tuple[str, ...], T] = {}
        self._failed: dict[tuple[str, ...], tuple[float, Exception]] = {}

    def get(self, key: tuple[str, ...], make: Callable[[], T], seconds: float = SILENT_S) -> T:
        """The opened place. Raises what opening it raised, and TimeoutError."""
        with self._lock:
            if key in self._opened:
                return self._opened[key]
            when, error = self._failed.get(key, (float("-inf"), None))
        if error is not None and time.monotonic() - when < AGAIN_S:
            raise error
        try:
            made = within(seconds, make)
        except OSError as silent:  # a TimeoutError too
            with self._lock:
                self._failed[key] = (time.monotonic(), silent)
            raise
        with self._lock:
            while len(self._opened) >= self.most:
                self._opened.pop(next(iter(self._opened)))
            return self._opened.setdefault(key, made)
