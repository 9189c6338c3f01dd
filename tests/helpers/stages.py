"""Stages of a user's own, for tests: found as `helpers.stages:Class`."""

import os
import signal
import time
from pathlib import Path

import pyarrow as pa

from curation.stage import Batch, Column, Columns, Params, Stage


class SlowParams(Params):
    seconds: float = 0.05


class Slow(Stage):
    """AcceptedSizes its time, so that a test can kill a run in the middle."""

    name = "slow"
    reads = ("width",)
    writes = {"doubled": Column(pa.int64(), "twice the width")}
    Params = SlowParams

    def run(self, batch: Batch) -> Columns:
        time.sleep(self.params.seconds * len(batch["width"]))
        return {"doubled": [2 * width for width in batch["width"]]}


class KillerParams(Params):
    marker: str


class Killer(Stage):
    """Kills its worker when it meets a picture 77 px wide, each time; counts the deaths in a file."""

    name = "killer"
    reads = ("width",)
    writes = {"survived": Column(pa.bool_(), "always true")}
    Params = KillerParams

    def run(self, batch: Batch) -> Columns:
        if 77 in batch["width"]:
            with Path(self.params.marker).open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return {"survived": [True for _ in batch["width"]]}


class ToldParams(Params):
    log: str
    factor: int = 2


class Told(Stage):
    """Writes into a file when it is loaded and how many rows it was given."""

    name = "told"
    reads = ("pixels", "min_side")
    writes = {"twice": Column(pa.int64(), "min_side times the factor")}
    Params = ToldParams

    def load(self) -> None:
        self._note("load")

    def run(self, batch: Batch) -> Columns:
        self._note(str(len(batch["pixels"])))
        return {"twice": [self.params.factor * side for side in batch["min_side"]]}

    def _note(self, text: str) -> None:
        with Path(self.params.log).open("a") as file:
            file.write(text + "\n")


class Narrow(Stage):
    """Cannot score pictures of 96 px width."""

    name = "narrow"
    reads = ("width",)
    writes = {"wide": Column(pa.int64(), "the width")}

    def run(self, batch: Batch) -> Columns:
        if 96 in batch["width"]:
            raise ValueError("a picture 96 px wide")
        return {"wide": list(batch["width"])}
