"""How likely a picture is not safe for work."""

import pyarrow as pa
from pydantic import Field

from curation.pixels import mean, over_stills
from curation.stage import Batch, Column, Columns, ModelParams, ModelStage, Resources


class SafetyParams(ModelParams):
    model: str | None = Field(None, description="embedded, production, laion:nsfw:HEAD[:TOWER]")


class Safety(ModelStage):
    """Probability of nudity or sexual content. Embedded: Open-NSFW (2016), weak on drawings, blind to violence.

    Or `model: laion:nsfw:HEAD_FILE`, LAION's CLIP-based NSFW detector on OpenAI's CLIP ViT-L/14 (for the ViT-B/32
    head add `:ViT-B-32-quickgelu:openai`). It shares its forward pass with embedding and aesthetic on that tower.
    """

    name = "safety"
    version = 2
    reads = ("pixels",)
    writes = {
        "punsafe": Column(
            pa.float32(), "probability, 0 safe to 1 unsafe, of a clip's worst frame; everyday photos lie below 0.05"
        ),
        "punsafe_mean": Column(pa.float32(), "the mean over a clip's frames; of a picture the same as punsafe"),
    }
    resources = Resources(memory_mb=200, milliseconds=45)
    role = "safety"
    Params = SafetyParams

    def run(self, batch: Batch) -> Columns:
        rows = over_stills(batch["pixels"], lambda stills: [[p] for p in self.model.punsafe(stills)], _joined)
        return {"punsafe": [max(row) for row in rows], "punsafe_mean": [mean(row) for row in rows]}


def _joined(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]
