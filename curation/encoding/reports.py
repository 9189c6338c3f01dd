"""What a run's own work files hold: reports of shards, facts of models, attempts at chunks, what to try again."""

from typing import Any

import numpy as np
from pydantic import Field, ValidationError, model_validator

from curation.encoding.jobs import WORK
from curation.scoring.chunkfile import ATTEMPTS
from curation.scoring.second_try import NOTES
from curation.shards.described import Count, Entry, NullText, Part, Text, Vae, problem
from curation.shards.scaling import unsound


class Sums(Part):
    values: Count
    sum: list[float] | float
    squares: list[float] | float
    nan: Count

    @model_validator(mode="after")
    def _of_the_same_channels(self) -> "Sums":
        if np.shape(self.sum) != np.shape(self.squares):
            raise ValueError("sum and squares must have a value for each channel")
        return self


class Lengths(Part):
    clips: Count
    clip_seconds: float
    clip_seconds_unused: float


class Member(Part):
    id: str
    key: str | None
    text_key: str | None
    media_key: str | None


class Done(Part):
    """A shard that was made."""

    shard: Entry
    sums: Sums
    footage: Lengths
    members: list[Member]


class Failure(Part):
    id: str
    error: str


class Failed(Part):
    """A shard that was not, as some of its records cannot be encoded."""

    failures: list[Failure]
    timed_out: list[str] = Field(default_factory=list)
    again: bool = False


class VaeFacts(Vae):
    @model_validator(mode="after")
    def _scales(self) -> "VaeFacts":
        if wrong := unsound(self.channels, self.latents_mean, self.latents_std):
            raise ValueError(wrong)
        return self


class TextFacts(Text):
    max_tokens: Count | None
    null: NullText


class Attempted(Part):
    count: Count = 0
    row: Count | None = None
    deaths: dict[str, Count] = Field(default_factory=dict)


class NotedChunk(Part):
    number: Count
    kind: str
    args: dict[str, Any]
    fingerprint: str
    rows: Count


class Noted(Part):
    """What is to be tried again of a chunk."""

    chunk: NotedChunk
    file: str
    rows: list[Count]
    whole: bool


FACTS: dict[str, type[Part]] = {"vae": VaeFacts, "text": TextFacts}


def fault(name: str, content: dict[str, Any]) -> str | None:
    """Why a work file is not what this program writes under that name; None where it is, or where anything may be."""
    kind: type[Part] | None = None
    if name.startswith(f"{WORK}/facts/"):
        kind = FACTS.get(name.rpartition("/")[2].partition("-")[0])
    elif name.startswith(f"{WORK}/"):
        kind = Failed if name.endswith(".failed") else Done
    elif name.startswith(f"{ATTEMPTS}/"):
        kind = Attempted
    elif name.startswith(f"{NOTES}/"):
        kind = Noted
    try:
        if kind is not None:
            kind.model_validate(content)
    except ValidationError as error:
        return problem(error)
    return None
