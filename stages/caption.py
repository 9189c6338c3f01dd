"""A caption made of what other stages saw."""

from collections.abc import Sequence

import pyarrow as pa
from pydantic import Field

from curation.stage import Batch, Column, Columns, Params, Resources, Stage, rowwise

SOURCE = "embedded:tags+ocr"


class CaptionParams(Params):
    sure: float = Field(
        0.35, ge=0, le=1, description="tags from this probability on are stated; below, two are offered with `or`"
    )
    least: float = Field(0.12, ge=0, le=1, description="without a tag of this probability there is no caption")


class Caption(Stage):
    """Embedded: tags and overlay text in a sentence, marked with its source. The source's captions are never touched.

    Put `- tags` and `- overlay` before it. It names ImageNet's objects and text; it describes no scenes.
    """

    name = "caption"
    reads = ("tags", "tag_scores", "overlay_text", "media")
    writes = {
        "generated_caption": Column(pa.string(), "a sentence, null where nothing is certain enough"),
        "generated_caption_source": Column(pa.string(), "which captioner made it: embedded:tags+ocr"),
    }
    resources = Resources(milliseconds=0.1)
    Params = CaptionParams

    def run(self, batch: Batch) -> Columns:
        return rowwise(list(self.writes), self._describe, *(batch[name] for name in self.reads))

    def _describe(
        self, tags: Sequence[str] | None, scores: Sequence[float] | None, text: str | None, media: str
    ) -> tuple[str | None, str | None]:
        caption = sentence_of(tags or (), scores or (), text, self.params.sure, self.params.least)
        if caption and media == "video":
            caption = caption.replace("a photo of ", "a video of ", 1).replace("a picture with ", "a video with ", 1)
        return caption, SOURCE if caption else None


def sentence_of(
    tags: Sequence[str], scores: Sequence[float], text: str | None, sure: float, least: float
) -> str | None:
    """`a photo of a tabby or a tiger cat, with the text "SALE"`; None without a likely tag and without text."""
    likely = [tag for tag, score in zip(tags, scores, strict=True) if score >= least]
    named = likely[:1] if scores and scores[0] >= sure else likely[:2]
    subject = " or ".join(f"{'an' if tag[0].lower() in 'aeiou' else 'a'} {tag}" for tag in named)
    words = f'the text "{text.strip()[:80]}"' if text and text.strip() else ""
    if subject:
        return f"a photo of {subject}, with {words}" if words else f"a photo of {subject}"
    return f"a picture with {words}" if words else None
