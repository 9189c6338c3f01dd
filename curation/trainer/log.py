"""What a training says: metrics.jsonl, TensorBoard, and a calm line every few seconds."""

import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from curation.stores.storage import Store

METRICS = "metrics.jsonl"
EVERY_S = 5.0


class TrainLog:
    """Metrics of the steps from `start` on; what an earlier attempt wrote of later steps is taken back.

    An object store has no appending: there the file is written whole at each checkpoint.
    """

    def __init__(self, out: Store, start: int, steps: int, console: Console) -> None:
        self.out, self.steps, self.console = out, steps, console
        self._said = 0.0
        self._lines = _lines_until(out, start)
        self._board = _board(out, start)
        self._save()

    def add(self, step: int, values: dict[str, Any]) -> None:
        """One line: the values after `step` updates."""
        self._lines.append(json.dumps({"step": step, **_finite(values)}, allow_nan=False))
        if self.out.local:
            with (self.out.local / METRICS).open("a") as file:
                file.write(self._lines[-1] + "\n")
        for name, value in values.items():
            if self._board and isinstance(value, int | float):
                self._board.add_scalar(name, value, step)
        if time.monotonic() - self._said >= EVERY_S or step == self.steps:
            self._said = time.monotonic()
            self.console.print(sentence({"step": step, **values}, self.steps), highlight=False)

    def checkpoint(self) -> None:
        """Metrics up to a checkpoint are kept with it."""
        if not self.out.local:
            self._save()
        if self._board:
            self._board.flush()

    def close(self) -> None:
        self.checkpoint()
        if self._board:
            self._board.close()

    def _save(self) -> None:
        self.out.write(METRICS, "".join(line + "\n" for line in self._lines).encode())


def _finite(values: Any) -> Any:
    """JSON knows no NaN and no infinity: null stands for them."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def sentence(line: dict[str, Any], steps: int) -> str:
    """`train   120 of 800 steps   512 samples/s   MFU 31.0%   loss 0.4123   70 s left`."""
    step = line["step"]
    left = f"   {line['seconds_per_step'] * (steps - step):,.0f} s left" if step < steps else ""
    speed = f"{line['samples_per_s']:,.0f} samples/s   MFU {line['mfu']:.1%}"
    return f"train   {step:,} of {steps:,} steps   {speed}   loss {line['loss']:.4f}{left}"


@contextmanager
def following(out: Store, steps: int, console: Console) -> Iterator[None]:
    """Meanwhile, say what workers elsewhere write: the last line of metrics.jsonl, when there is a new one."""
    ended, said = threading.Event(), ""

    def follow() -> None:
        nonlocal said
        while not ended.wait(EVERY_S):
            last = (out.read(METRICS).decode().splitlines() or [""])[-1] if out.exists(METRICS) else ""
            if last != said and last.endswith("}"):
                said = last
                console.print(sentence(json.loads(last), steps), highlight=False)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _lines_until(out: Store, step: int) -> list[str]:
    """Whole lines up to a step: a killed process may have left half of one."""
    kept = []
    for line in out.read(METRICS).decode().splitlines() if out.exists(METRICS) else []:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    return kept


def _board(out: Store, start: int) -> Any:
    """TensorBoard's writer, for a local directory and where the package is there."""
    if not out.local:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out.local / "tensorboard"), purge_step=start)
