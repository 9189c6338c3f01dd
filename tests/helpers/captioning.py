"""Stages that make and judge captions by plain rules, for tests: found as `helpers.captioning:Class`."""

from pathlib import Path

import pyarrow as pa

from curation.captions.stage import GENERATED, GENERATED_SOURCE, CaptionStage, with_lists
from curation.stage import Batch, Column, Columns, Params, Stage


class NamerParams(Params):
    text: str = "a good generated caption"


class Namer(Stage):
    """Gives every record the same caption."""

    name = "namer"
    reads = ("source_key",)
    writes = {GENERATED: Column(pa.string(), "the text"), GENERATED_SOURCE: Column(pa.string(), "always `namer`")}
    Params = NamerParams

    def run(self, batch: Batch) -> Columns:
        rows = len(batch["source_key"])
        return {GENERATED: [self.params.text] * rows, GENERATED_SOURCE: ["namer"] * rows}


class FitParams(Params):
    log: str | None = None


class Fit(CaptionStage):
    """0.75 for a caption with the word good, 0.25 for others; writes into a file how many captions it was given."""

    name = "fit"
    reads = ("captions",)
    writes = with_lists({"fit": Column(pa.float32(), "0.75 or 0.25, null without a caption", "caption_fits")})
    Params = FitParams

    def judge(self, batch: Batch) -> Columns:
        if self.params.log:
            with Path(self.params.log).open("a") as file:
                file.write(f"{len(batch['caption'])}\n")
        return {"fit": [None if text is None else 0.75 if "good" in text else 0.25 for text in batch["caption"]]}
