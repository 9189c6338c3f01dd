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

from curation.errors import CurationError, TimedOut, Unavailable
from curation.manifest import EngineSection
from curation.media.decode import NO_MEMORY
from curation.media.decode_worker import FRAME, Ask, request_of
from curation.media.standardize import Recipe, Standardized
from curation.pixels import Pixels
from curation.threads import ONE_EACH

START_SECONDS = 60.0
TRIES = 2
STILL = 4
"""A child that uses no CPU time at all is given up after so many times the seconds that it may compute."""
DEATHS_IN_A_ROW = 50
LOOK_S = 0.5
"""How often a child that is waited for is looked at."""
PIPE_BYTES = 1 << 20


class DecodeError(CurationError):
    """A picture cannot be had; the message is the sentence for the ledger."""


class StoodStill(DecodeError, TimedOut):
    """The child used no CPU time for as long as it is waited for."""


class _Died(Exception):
    """The child ended, or had to be ended; the message says how."""


class _Still(_Died):
    """It was ended for using no CPU time."""


ROOT = str(Path(__file__).resolve().parents[2])
PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from curation.media.decode_worker import main; main()"
"""The child finds this package wherever it is installed. Its folder comes last: in front, as PYTHONPATH puts it, other
packages in it would hide the standard library's modules (dataclasses 0.6 beside img2dataset)."""


class _Patience:
    """How long a child may work on a record: seconds of its own CPU time, which load on the machine does not lengthen.

    Wall-clock time counts only while it does nothing at all: then it waits for what will never come.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        self._pid, self.seconds = pid, seconds
        self._start = self._last = _cpu_seconds(pid)
        self._moved = time.monotonic()

    def check(self) -> None:
        """Raise _Died when it is at its end."""
        used, now = _cpu_seconds(self._pid), time.monotonic()
        if used > self._last:
            self._last, self._moved = used, now
        if used - self._start > self.seconds:
            raise _Died(f"took longer than {self.seconds:g} s")
        if now - self._moved > STILL * self.seconds:
            raise _Still(f"stood still for longer than {STILL * self.seconds:g} s")

    @property
    def used(self) -> float:
        return self._last - self._start


def _cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process; of one that has ended, or where there is no /proc, the wall clock."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return time.monotonic()


@dataclass(frozen=True)
class Limits:
    """What one record may cost: seconds of CPU time until a sign of life (for a picture: in all), seconds in all for a
    video, pixels, address space of the child in MB."""

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
        program = command or (sys.executable, "-P", "-c", PROGRAM, ROOT)
        self._command = [*program, str(limits.memory_mb)]
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._deaths = 0

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

    def video(
        self, request: dict[str, Any], recipe: Recipe | None = None, serve: Ask | None = None
    ) -> tuple[dict[str, Any], bytearray]:
        """What `curation.video.requests` answers. The deadline counts anew with every sign of life, up to a last one.

        serve  answers what the child asks of a network; an error of it is raised here, and ends the child

        Raises DecodeError with a sentence.
        """
        return self._ask(b"", recipe, request, serve)

    def _ask(
        self, data: bytes, recipe: Recipe | None, more: dict[str, Any] | None = None, serve: Ask | None = None
    ) -> tuple[dict[str, Any], bytearray]:
        reason, kind = "", DecodeError
        with self._lock:
            for _ in range(TRIES):
                fresh = self._child is None
                try:
                    header, body = self._once(data, recipe, more or {}, serve)
                except _Died as death:
                    reason = str(death)
                    kind = StoodStill if isinstance(death, _Still) else DecodeError
                    self._count_death(reason)
                    continue
                self._deaths = 0
                if header.get("refused") == NO_MEMORY and not fresh:
                    self._end()  # what the records before it left behind may have filled the memory
                    continue
                if "refused" in header:
                    raise DecodeError(header["refused"])
                return header, body
        raise kind(f"the decoder {reason}, {TRIES} times")

    def _count_death(self, reason: str) -> None:
        """Raise Unavailable after so many deaths in a row that no record can be to blame."""
        self._deaths += 1
        if self._deaths >= DEATHS_IN_A_ROW:
            raise Unavailable(
                f"the decoder's process failed {self._deaths} times in a row (the last one {reason}): something is "
                "wrong with this machine or installation, not with the records. See what it says with `"
                f"{sys.executable} -m curation.media.decode_worker 3000`; then run the same command again"
            )

    def _once(
        self, data: bytes, recipe: Recipe | None, more: dict[str, Any], serve: Ask | None
    ) -> tuple[dict[str, Any], bytearray]:
        if self._child is not None and self._child.poll() is not None:
            self._end()  # it died idle (the thread that started it ended): no fault of this record
        child = self._child or self._start()
        patience, whole = (_Patience(child.pid, seconds) for seconds in (self.limits.seconds, float("inf")))
        raw = json.dumps(request_of(recipe, self.limits.max_pixels) | more).encode()
        self._send(child, FRAME.pack(len(raw), len(data)) + raw, patience)
        self._send(child, data, patience)
        while (answer := self._receive(child, patience))[0].keys() & {"alive", "asked"}:
            if "asked" in answer[0]:
                self._serve(child, *answer, serve)
            patience = _Patience(child.pid, self.limits.seconds)
            whole.check()
            if whole.used > self.limits.video_seconds:
                self._end()
                raise DecodeError(
                    f"decoding it takes longer than {self.limits.video_seconds:g} s (engine.video_seconds)"
                )
        return answer

    def _serve(
        self, child: "subprocess.Popen[bytes]", header: dict[str, Any], body: bytearray, serve: Ask | None
    ) -> None:
        """Answer a question of the child's; it waits as long as the network takes."""
        if serve is None:
            self._end()
            raise _Died("asked for a network that it was not given")
        try:
            found = np.ascontiguousarray(serve(np.frombuffer(body, np.uint8).reshape(header["asked"])), np.float32)
        except BaseException:
            self._end()  # it would take the next request for its answer
            raise
        raw = json.dumps({"shape": found.shape}).encode()
        patience = _Patience(child.pid, self.limits.seconds)
        self._send(child, FRAME.pack(len(raw), found.nbytes) + raw + found.tobytes(), patience)

    def _start(self) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        child = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, env=os.environ | ONE_EACH
        )
        assert child.stdin and child.stdout
        for end in (child.stdin, child.stdout):
            os.set_blocking(end.fileno(), False)
            with contextlib.suppress(OSError):  # a user may have used up its pipe pages: slower, not wrong
                fcntl.fcntl(end.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._child = child
        self._receive(child, _Patience(child.pid, START_SECONDS))
        return child

    def _send(self, child: "subprocess.Popen[bytes]", data: bytes, patience: _Patience) -> None:
        view = memoryview(data)
        while view:
            self._wait(child, child.stdin, patience, writing=True)
            try:
                view = view[os.write(child.stdin.fileno(), view[: 1 << 20]) :]  # type: ignore[union-attr]
            except BrokenPipeError:
                raise self._dead(child) from None

    def _receive(self, child: "subprocess.Popen[bytes]", patience: _Patience) -> tuple[dict[str, Any], bytearray]:
        header, body = FRAME.unpack(self._read(child, FRAME.size, patience))
        return json.loads(self._read(child, header, patience)), self._read(child, body, patience)

    def _read(self, child: "subprocess.Popen[bytes]", size: int, patience: _Patience) -> bytearray:
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        while done < size:
            self._wait(child, child.stdout, patience, writing=False)
            count = os.readv(child.stdout.fileno(), [view[done:]])  # type: ignore[union-attr]
            if count == 0:
                raise self._dead(child)
            done += count
        return buffer

    def _wait(
        self, child: "subprocess.Popen[bytes]", pipe: IO[bytes] | None, patience: _Patience, writing: bool
    ) -> None:
        """Until the pipe is ready; a child whose time is over is killed."""
        assert pipe is not None
        poll = select.poll()
        poll.register(pipe.fileno(), select.POLLOUT if writing else select.POLLIN)
        while not poll.poll(min(LOOK_S, patience.seconds / 4) * 1000):
            try:
                patience.check()
            except _Died:
                self._end()
                raise

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
