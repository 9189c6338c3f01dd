"""A caption where the source has none, or beside what it says."""

from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from curation.models.captioner import Effort, Scene, shown
from curation.models.registry import ModelInfo, describe, split
from curation.pixels import Pixels
from curation.stage import Batch, Column, Columns, Failure, ModelParams, ModelStage, Resources, rowwise

PROMPT = (
    "Describe this picture in one detailed paragraph, as a caption from which an image generator could learn: the "
    "subjects and what they do, how they look and where they are, the setting, the light, the colours, the style and "
    "the camera's angle. Quote text that can be read. Say only what can be seen. Do not begin with `The image`."
)
CLIP_PROMPT = (
    "These are {frames} frames of one video clip, in order of time. Describe the clip in one detailed paragraph, as a "
    "caption from which a video generator could learn: the subjects, what they do and how that changes, how the "
    "camera moves, the setting, the light, the colours and the style. Quote text that can be read. Say only what can "
    "be seen, of the clip as a whole and not frame by frame. Do not begin with `The video`."
)
NEEDS: dict[str, tuple[tuple[str, ...], Resources]] = {
    "tags": (("tags", "tag_scores", "overlay_text", "media"), Resources(milliseconds=0.1)),
    "transformers": (("pixels",), Resources(memory_mb=10_000, milliseconds=20_000, batch_rows=8)),
    "openai": (("pixels",), Resources(memory_mb=200, milliseconds=1_000)),
}
"""What each backend reads and costs; those of transformers are a 4B model's, a second a record on a GPU."""


class CaptionParams(ModelParams):
    valueless: ClassVar[frozenset[str]] = frozenset({"concurrency", "timeout_s", "retries"})

    model: str | None = Field(None, description="embedded, production, transformers:ID_OR_FOLDER, openai:URL#MODEL")
    prompt: str = Field(PROMPT, max_length=20_000, description="what a model is asked about a picture")
    clip_prompt: str = Field(CLIP_PROMPT, max_length=20_000, description="and about a clip; {frames} is their number")
    max_tokens: int = Field(256, gt=0, le=4096, description="length of an answer, decoded greedily (temperature 0)")
    frames: int = Field(4, gt=0, le=64, description="how many of a clip's sampled frames (8) are shown")
    max_side: int = Field(768, ge=32, le=4096, description="px; larger pictures are made smaller first")
    concurrency: int = Field(8, gt=0, le=256, description="openai: requests at once from one worker")
    timeout_s: float = Field(120, gt=0, le=86_400, description="openai: of one request")
    retries: int = Field(4, ge=0, le=20, description="openai: after 408, 429, 5xx, timeouts and lost connections")
    sure: float = Field(
        0.35, ge=0, le=1, description="embedded: tags from this probability on are stated; below, two stand with `or`"
    )
    least: float = Field(0.12, ge=0, le=1, description="embedded: no caption without a tag of this probability")


class Caption(ModelStage):
    """A caption by a vision-language model, or embedded: tags and overlay text in a sentence, marked as such.

    embedded                    from `- tags` and `- overlay` before it; names objects, describes no scenes
    transformers:HUB/ID         or a folder: Qwen-VL, SmolVLM, LLaVA, BLIP ...; on a GPU in batches
    openai:http://HOST/v1#MODEL any OpenAI-compatible server, such as vLLM; its key, where it wants one, stands in
                                the environment variable CURATION_API_KEY
    A clip is shown as several frames in one request. The source's captions are never touched: encode puts this one
    beside them, with its source.
    """

    name = "caption"
    version = 2
    reads = ("pixels",)
    writes = {
        "generated_caption": Column(pa.string(), "one line, at most 4000 characters; null where there is none"),
        "generated_caption_source": Column(
            pa.string(), "which captioner made it: embedded:tags+ocr, transformers:Qwen/Qwen3-VL-4B-Instruct ..."
        ),
    }
    role = "captions"
    Params = CaptionParams

    @classmethod
    def reads_with(cls, params: Any) -> tuple[str, ...]:
        return NEEDS[_backend(params)][0]

    @classmethod
    def resources_with(cls, params: Any) -> Resources:
        return NEEDS[_backend(params)][1]

    def load(self) -> None:
        super().load()
        self.info: ModelInfo = describe("captions", self.params.model or "embedded")

    def run(self, batch: Batch) -> Columns:
        captions = self._of_pixels(batch) if "pixels" in batch else self._of_tags(batch)
        sources = [self.info.id if caption and not isinstance(caption, Failure) else None for caption in captions]
        return {"generated_caption": captions, "generated_caption_source": sources}

    def _of_tags(self, batch: Batch) -> list[Any]:
        p = self.params
        columns = (batch[name] for name in self.reads_with(p))
        made = rowwise(
            ["caption"],
            lambda tags, scores, text, media: (
                self.model.sentence(tags or (), scores or (), text, media, p.sure, p.least),
            ),
            *columns,
        )
        return list(made["caption"])

    def _of_pixels(self, batch: Batch) -> list[Any]:
        p = self.params
        scenes = [self._scene(pixels) for pixels in batch["pixels"]]
        return list(self.model.captions(scenes, Effort(p.max_tokens, p.concurrency, p.timeout_s, p.retries)))

    def _scene(self, pixels: Pixels) -> Scene:
        p = self.params
        images = shown(pixels, p.frames, p.max_side)
        question = p.clip_prompt.replace("{frames}", str(len(images))) if len(images) > 1 else p.prompt
        return Scene(images, question, beginning="" if p.prompt == PROMPT else p.prompt)


def _backend(params: Any) -> str:
    return split("captions", params.model or "embedded")[0]
