"""How likely a picture is not safe for work."""

import pyarrow as pa
from pydantic import Field

from curation.models.registry import open_model
from curation.stage import Batch, Column, Columns, Params, Resources, Stage


class SafetyParams(Params):
    model: str | None = None
    device: str = Field("cpu", description='where the model runs: "cpu", "cuda" ...')


class Safety(Stage):
    """Probability of nudity or sexual content. Embedded: Open-NSFW (2016), weak on drawings, blind to violence."""

    name = "safety"
    reads = ("pixels",)
    writes = {"punsafe": Column(pa.float32(), "probability, 0 safe to 1 unsafe; everyday photos lie below 0.05")}
    resources = Resources(memory_mb=200, milliseconds=45)
    role = "safety"
    Params = SafetyParams

    def load(self) -> None:
        self.model = open_model("safety", self.params.model or "embedded", self.params.device)

    def run(self, batch: Batch) -> Columns:
        return {"punsafe": self.model.punsafe(batch["pixels"])}
