"""How a text encoder is asked: the settings of `encode: text:`, and the same written into a model's name.

`transformers:/models/clip?layer=-2&max_tokens=77` names a model and its settings in one string, as the plan, the index
and checkpoints hold it.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, urlencode

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from curation.errors import UsageError

PLACEHOLDER = "{caption}"
NAME = r"^[a-z][a-z0-9_]{0,23}$"
"""Of a text part: it becomes part of a tar member's name and of a Parquet column's."""


class TextSettings(BaseModel):
    """What decides a caption's states beside the model and its tokenizer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int | None = Field(
        None,
        description="which of the library's hidden_states is stored, 0 the embeddings, -2 the penultimate; default the "
        "last hidden state, behind the model's final norm",
    )
    max_tokens: int | None = Field(
        None,
        gt=0,
        le=32_768,
        description="longer prompts are cut, the template's tokens counted; default the tokenizer's own, at most 512",
    )
    template: str | None = Field(
        None, max_length=10_000, description="the prompt that the model reads, with {caption} for the caption"
    )
    skip: int = Field(0, ge=0, le=32_768, description="leave out the states of so many tokens at the template's start")
    pooled: bool | Literal["only"] = Field(
        False, description="store CLIP's pooled output too, as a part of its own; only: instead of the states"
    )
    padded: bool | Literal["seen"] = Field(
        False,
        description="pad to max_tokens, let the model attend to the padding, and store its states too, as the "
        "pipelines of SDXL, SD 3 and Flux do; seen: attended to, but not stored (LTX); default: masked and not stored",
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of weights and arithmetic; stored is fp16")

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, template: str | None) -> str | None:
        if template is not None and template.count(PLACEHOLDER) != 1:
            raise ValueError(f"a template says once where the caption stands, with {PLACEHOLDER}")
        return template

    @property
    def query(self) -> str:
        """The settings that are not the defaults, as in a URL: `layer=-2&max_tokens=77`; "" for none."""
        chosen = {name: getattr(self, name) for name in TextSettings.model_fields}
        usual = {name: known.default for name, known in TextSettings.model_fields.items()}
        words = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in chosen.items()
            if value != usual[name]
        }
        return urlencode(words)

    def prompt(self, caption: str) -> str:
        return self.template.replace(PLACEHOLDER, caption) if self.template else caption


def parsed(argument: str) -> tuple[str, TextSettings]:
    """`/models/clip?layer=-2` -> the place and its settings. Raises UsageError with a sentence."""
    place, _, query = argument.partition("?")
    try:
        words = dict(parse_qsl(query, strict_parsing=True)) if query else {}
        return place, TextSettings.model_validate(words)
    except ValidationError as error:
        first = error.errors()[0]
        key, said = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        known = ", ".join(TextSettings.model_fields)
        raise UsageError(f"the text encoder '{argument}': {key}: {said}; its settings are {known}") from error
    except ValueError as error:
        raise UsageError(
            f"the text encoder '{argument}': behind ? stand settings such as layer=-2&pooled=true"
        ) from error


@dataclass(frozen=True)
class TextStates:
    """States of some captions.

    main  of each caption, float16 [n, D]
    more  further parts by name: an array a caption each, pooled outputs as [1, P]
    """

    main: list[NDArray[np.float16]]
    more: dict[str, list[NDArray[np.float16]]] = field(default_factory=dict)


class TextEncoder(Protocol):
    """A backend of the role text; one with further parts has `encode` and `parts` too."""

    dimensions: int
    max_tokens: int

    def tokens(self, captions: list[str]) -> list[NDArray[np.float16]]: ...


def encoded(model: Any, captions: list[str]) -> TextStates:
    """All parts that a text encoder gives."""
    if hasattr(model, "encode"):
        states: TextStates = model.encode(captions)
        return states
    return TextStates(list(model.tokens(captions)))


def described_parts(model: Any) -> dict[str, dict[str, Any]]:
    """Facts of the parts beside the main one: id, spec, sha256, dimensions, max_tokens ... by name."""
    return model.parts() if hasattr(model, "parts") else {}


def described_main(model: Any) -> dict[str, Any]:
    """Facts of the main part beyond those that every text encoder has."""
    return model.about() if hasattr(model, "about") else {}
