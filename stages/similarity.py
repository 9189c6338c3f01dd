"""How well each caption fits its picture."""

import pyarrow as pa

from curation.captions.stage import CaptionStage, with_lists
from curation.pixels import mean
from curation.stage import Batch, Column, Columns, ModelStage, Resources


class Similarity(ModelStage, CaptionStage):
    """Similarity of the picture with each of its captions.

    The scale is the model's: with the embedded one see curation/models/weights/image_text.md for where
    matching and swapped captions lie; with open_clip it is the cosine that LAION's tables carry (matching
    captions near 0.3, swapped near 0.1 for ViT-B-32). A record without a caption has null, never an error.
    """

    name = "similarity"
    version = 2
    reads = ("pixels", "captions")
    writes = with_lists(
        {
            "similarity": Column(
                pa.float32(),
                "of the main caption; higher fits better, about -1..1; null without a caption",
                "caption_similarities",
            )
        }
    )
    resources = Resources(memory_mb=700, milliseconds=38)
    role = "image_text"

    def judge(self, batch: Batch) -> Columns:
        """One call of the model for all distinct pairs of the batch: a GPU wants them together."""
        rows = list(zip(batch["pixels"], batch["caption"], strict=True))
        pairs = {
            (id(pixels), text): pixels
            for pixels, text in rows
            if text and text.strip()  # a blank caption says nothing that could fit: it counts as none
        }
        shown = [(still, key) for key, pixels in pairs.items() for still in pixels.stills]
        marks = self.model.similarity([still for still, _ in shown], [text for _, (_, text) in shown])
        by_pair: dict[tuple[int, str], list[float]] = {key: [] for key in pairs}
        for (_, key), mark in zip(shown, marks, strict=True):
            by_pair[key].append(mark)
        scores = {key: found[0] if len(found) == 1 else mean(found) for key, found in by_pair.items()}
        return {"similarity": [scores.get((id(pixels), text)) for pixels, text in rows]}
