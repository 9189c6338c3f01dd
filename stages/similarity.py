"""How well a caption fits its picture."""

from collections.abc import Sequence

import pyarrow as pa
from pydantic import Field

from curation.models.registry import open_model
from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, Params, Resources, Stage


class SimilarityParams(Params):
    model: str | None = None
    device: str = Field("cpu", description='where the model runs: "cpu", "cuda", "cuda:1" ...')


class Similarity(Stage):
    """Similarity of the picture with each of its captions.

    The scale is the model's: with the embedded one see curation/models/weights/image_text.md for where
    matching and swapped captions lie; with open_clip it is the cosine that LAION's tables carry (matching
    captions near 0.3, swapped near 0.1 for ViT-B-32). A record without a caption has null, never an error.
    """

    name = "similarity"
    reads = ("pixels", "caption", "captions")
    writes = {
        "similarity": Column(
            pa.float32(), "of `caption`; higher fits better, about -1..1; null without a caption"
        ),
        "caption_similarities": Column(pa.list_(pa.float32()), "of each of `captions`, in their order"),
    }
    resources = Resources(cpus=1.0, memory_mb=700)
    role = "image_text"
    Params = SimilarityParams

    def load(self) -> None:
        self.model = open_model("image_text", self.params.model or "embedded", self.params.device)

    def run(self, batch: Batch) -> Columns:
        rows = [
            self._score(*row)
            for row in zip(batch["pixels"], batch["caption"], batch["captions"], strict=True)
        ]
        return {"similarity": [row[0] for row in rows], "caption_similarities": [row[1] for row in rows]}

    def _score(
        self, pixels: Pixels, caption: str | None, captions: Sequence[str | None] | None
    ) -> tuple[float | None, list[float | None]]:
        """A blank caption says nothing that could fit: it counts as none."""
        texts = [text for text in dict.fromkeys([caption, *(captions or [])]) if text and text.strip()]
        scores: dict[str | None, float] = dict(
            zip(texts, self.model.similarity([pixels] * len(texts), texts), strict=True)
        )
        return scores.get(caption), [scores.get(text) for text in captions or []]
