"""How well a caption fits its picture."""

import pyarrow as pa

from curation.pixels import mean
from curation.stage import Batch, Column, Columns, ModelStage, Resources


class Similarity(ModelStage):
    """Similarity of the picture with each of its captions.

    The scale is the model's: with the embedded one see curation/models/weights/image_text.md for where
    matching and swapped captions lie; with open_clip it is the cosine that LAION's tables carry (matching
    captions near 0.3, swapped near 0.1 for ViT-B-32). A record without a caption has null, never an error.
    """

    name = "similarity"
    reads = ("pixels", "caption", "captions")
    writes = {
        "similarity": Column(pa.float32(), "of `caption`; higher fits better, about -1..1; null without a caption"),
        "caption_similarities": Column(pa.list_(pa.float32()), "of each of `captions`, in their order"),
    }
    resources = Resources(memory_mb=700, milliseconds=38)
    role = "image_text"

    def run(self, batch: Batch) -> Columns:
        """One call of the model for all distinct pairs of the batch: a GPU wants them together."""
        pairs = {
            (row, text): (batch["pixels"][row], text)
            for row, (caption, captions) in enumerate(zip(batch["caption"], batch["captions"], strict=True))
            for text in [caption, *(captions or [])]
            if text and text.strip()  # a blank caption says nothing that could fit: it counts as none
        }
        shown = [(still, text, key) for key, (pixels, text) in pairs.items() for still in pixels.stills]
        marks = self.model.similarity([still for still, _, _ in shown], [text for _, text, _ in shown])
        by_pair: dict[tuple[int, str], list[float]] = {key: [] for key in pairs}
        for (_, _, key), mark in zip(shown, marks, strict=True):
            by_pair[key].append(mark)
        values = [marks[0] if len(marks) == 1 else mean(marks) for marks in by_pair.values()]
        scores = dict(zip(pairs, values, strict=True))
        return {
            "similarity": [scores.get((row, caption)) for row, caption in enumerate(batch["caption"])],
            "caption_similarities": [
                [scores.get((row, text)) for text in captions or []] for row, captions in enumerate(batch["captions"])
            ],
        }
