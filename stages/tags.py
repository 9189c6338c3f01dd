"""What a picture shows, in the words of a classifier."""

import pyarrow as pa
from pydantic import Field

from curation.pixels import over_stills
from curation.stage import Batch, Column, Columns, ModelParams, ModelStage, Resources


class TagsParams(ModelParams):
    top: int = Field(5, gt=0, le=1000, description="how many classes are looked at")
    least: float = Field(0.05, ge=0, le=1, description="classes below this probability are left out")


class Tags(ModelStage):
    """The likeliest classes. Embedded: the 1000 of ImageNet, so many dogs, no people, no actions."""

    name = "tags"
    reads = ("pixels",)
    writes = {
        "tags": Column(pa.list_(pa.string()), "class names, likeliest first"),
        "tag_scores": Column(pa.list_(pa.float32()), "their probabilities, 0..1; all classes sum to 1"),
    }
    resources = Resources(memory_mb=600)
    role = "tags"
    Params = TagsParams

    def run(self, batch: Batch) -> Columns:
        rows = over_stills(batch["pixels"], lambda stills: self.model.tags(stills, self.params.top), _mean_tags)
        kept = [[(name, score) for name, score in row if score >= self.params.least] for row in rows]
        return {
            "tags": [[name for name, _ in row] for row in kept],
            "tag_scores": [[score for _, score in row] for row in kept],
        }


def _mean_tags(frames: list[list[tuple[str, float]]]) -> list[tuple[str, float]]:
    """Mean probability over a clip's frames; a class that a frame does not list counts as 0 there."""
    totals: dict[str, float] = {}
    for frame in frames:
        for name, score in frame:
            totals[name] = totals.get(name, 0.0) + score / len(frames)
    return sorted(totals.items(), key=lambda tag: (-tag[1], tag[0]))[: len(frames[0])]
