"""A single mark for how good a picture looks."""

import pyarrow as pa
from pydantic import Field

from curation.pixels import mean, over_stills
from curation.stage import Batch, Column, Columns, ModelParams, ModelStage, Resources


class AestheticParams(ModelParams):
    model: str | None = Field(None, description="embedded, production, laion:v2[:HEAD][:TOWER], laion:v1:HEAD[:TOWER]")


class Aesthetic(ModelStage):
    """Embedded: MEASURED QUALITY, not taste: sharpness, exposure, contrast, colour, naturalness and JPEG blocks, 0-10.

    It ranks a blurred, dark, flat or crushed copy below its original. It cannot tell a fine photo from a dull one.
    Taste is `model: laion:v2` (or `laion:v2:FILE`, `laion:v1:FILE`): LAION's heads on OpenAI's CLIP ViT-L/14. With
    `embedding: {model: open_clip:ViT-L-14-quickgelu:openai}` on the same device both share one forward pass.
    """

    name = "aesthetic"
    version = 4
    reads = ("pixels",)
    writes = {
        "aesthetic": Column(
            pa.float32(),
            "embedded: 0 poor to 10 good, measured quality, no taste; laion: about 1-10, people's ratings as LAION's "
            "head on CLIP predicts them (5 is ordinary, 6 rare); of a clip the mean over its frames",
        )
    }
    resources = Resources(milliseconds=20)
    role = "aesthetic"
    Params = AestheticParams

    def run(self, batch: Batch) -> Columns:
        return {"aesthetic": over_stills(batch["pixels"], self.model.aesthetic, mean)}
