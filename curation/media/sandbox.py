"""Decoding in a child process, so that a crash, a hang or a memory bomb costs one record and no worker."""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from curation.errors import CurationError
from curation.manifest import EngineSection
from curation.media.decode import NO_MEMORY
from curation.media.decode_worker import FRAME, request_of
from curation.media.standardize import Recipe, Standardized
from curation.pixels import Pixels
from curation.threads import ONE_EACH

START_SECONDS = 60.0
TRIES = 2
PIPE_BYTES = 1 << 20


class DecodeError(CurationError):
    """A picture cannot be had; the message is the sentence for the ledger."""


class _Died(Exception):
    """The child ended, or had to be ended; the message says how."""


def _environment() -> dict[str, str]:
    """The child finds this package wherever it is, and libraries start no threads, whose stacks would count."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | ONE_EACH


@dataclass(frozen=True)
class Limits:
    """What one record may cost: seconds until a sign of life (for a picture: in all), seconds in all for a video,
    pixels, address space of the child in MB."""

    seconds: float = 30.0
    video_seconds: float = 10_800.0
    max_pixels: int = 120_000_000
    memory_mb: int = 3000

    @classmethod
    def of(cls, engine: EngineSection) -> "Limits":
        """What a manifest's `engine:` allows."""
        return cls(engine.record_seconds, engine.video_seconds, engine.max_pixels, engine.decode_memory_mb)


class Decoder:
    """A child process that decodes one record after another; restarted when one kills it.

    `command` replaces the child's program; it speaks the frames of `curation.media.decode_worker`.
    Safe to use from several threads: one record at a time.
    """

    def __init__(self, limits: Limits, command: Sequence[str] | None = None) -> None:
        self.limits = limits
        # -P: a PIL.py that lies in the current directory must not be imported by the child.
        program = command or (sys.executable, "-P", "-m", "curation.media.decode_worker")
        self._command = [*program, str(limits.memory_mb)]
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The child process's number, None while there is none."""
        return self._child.pid if self._child else None

    def decode(self, data: bytes) -> Pixels:
        """The upright RGB picture. Raises DecodeError with a sentence."""
        header, body = self._ask(data, None)
        return Pixels(np.frombuffer(body, np.uint8).reshape(header["shape"]), header["info"])

    def standardize(self, data: bytes, recipe: Recipe) -> Standardized:
        """The picture cropped and resized for a bucket. Raises DecodeError with a sentence."""
        header, body = self._ask(data, recipe)
        rgb = np.frombuffer(body, np.uint8).reshape(header["shape"])
        resized, crop = tuple(header["resized"]), tuple(header["crop_ltrb"])
        return Standardized(rgb, resized, crop, header["info"])  # type: ignore[arg-type]

    def video(self, request: dict[str, Any], recipe: Recipe | None = None) -> tuple[dict[str, Any], bytearray]:
        """What `curation.video.requests` answers. The deadline counts anew with every sign of life, up to a last one.

        Raises DecodeError with a sentence.
        """
        return self._ask(b"", recipe, request)

    def _ask(
        self, data: bytes, recipe: Recipe | None, more: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], bytearray]:
        reason = ""
        with self._lock:
            for _ in range(TRIES):
                fresh = self._child is None
                try:
                    header, body = self._once(data, recipe, more or {})
                except _Died as death:
                    reason = str(death)
                    continue
                if header.get("refused") == NO_MEMORY and not fresh:
                    self._end()  # what the records before it left behind may have filled the memory
                    continue
                if "refused" in header:
                    raise DecodeError(header["refused"])
                return header, body
        raise DecodeError(f"the decoder {reason}, {TRIES} times")

    def _once(self, data: bytes, recipe: Recipe | None, more: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        if self._child is not None and self._child.poll() is not None:
            self._end()  # it died idle (the thread that started it ended): no fault of this record
        child = self._child or self._start(time.monotonic() + START_SECONDS)
        deadline = time.monotonic() + self.limits.seconds
        raw = json.dumps(request_of(recipe, self.limits.max_pixels) | more).encode()
        self._send(child, FRAME.pack(len(raw), len(data)) + raw, deadline)
        self._send(child, data, deadline)
        end = time.monotonic() + self.limits.video_seconds
        while "alive" in (answer := self._receive(child, deadline))[0]:
            deadline = time.monotonic() + self.limits.seconds
            if time.monotonic() > end:
                self._end()
                raise DecodeError(
                    f"decoding it takes longer than {self.limits.video_seconds:g} s (engine.video_seconds)"
                )
        return answer

    def _start(self, deadline: float) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        child = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, env=_environment()
        )
        assert child.stdin and child.stdout
        for end in (child.stdin, child.stdout):
            os.set_blocking(end.fileno(), False)
            with contextlib.suppress(OSError):  # a user may have used up its pipe pages: slower, not wrong
                fcntl.fcntl(end.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._child = child
        self._receive(child, deadline)
        return child

    def _send(self, child: "subprocess.Popen[bytes]", data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(child, child.stdin, deadline, writing=True)
            try:
                view = view[os.write(child.stdin.fileno(), view[: 1 << 20]) :]  # type: ignore[union-attr]
            except BrokenPipeError:
                raise self._dead(child) from None

    def _receive(self, child: "subprocess.Popen[bytes]", deadline: float) -> tuple[dict[str, Any], bytearray]:
        header, body = FRAME.unpack(self._read(child, FRAME.size, deadline))
        return json.loads(self._read(child, header, deadline)), self._read(child, body, deadline)

    def _read(self, child: "subprocess.Popen[bytes]", size: int, deadline: float) -> bytearray:
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        while done < size:
            self._wait(child, child.stdout, deadline, writing=False)
            count = os.readv(child.stdout.fileno(), [view[done:]])  # type: ignore[union-attr]
            if count == 0:
                raise self._dead(child)
            done += count
        return buffer

    def _wait(self, child: "subprocess.Popen[bytes]", pipe: IO[bytes] | None, deadline: float, writing: bool) -> None:
        """Until the pipe is ready; past the deadline the child is killed."""
        assert pipe is not None
        poll = select.poll()
        poll.register(pipe.fileno(), select.POLLOUT if writing else select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            self._end()
            raise _Died(f"took longer than {self.limits.seconds:g} s")

    def _dead(self, child: "subprocess.Popen[bytes]") -> _Died:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(5)
        code = child.returncode
        self._end()
        if code is not None and code < 0:
            return _Died(f"died with {signal.Signals(-code).name}")
        return _Died(f"ended with exit code {code}")

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()

    def close(self) -> None:
        """End the child process."""
        with self._lock:
            self._end()
