"""What a checkpoint's state may say; a folder of one is copied, cut and edited like any other."""

from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from curation.errors import CurationError
from curation.shards.described import Count, NullText, Part, Text, Vae, problem
from curation.shards.scaling import unsound
from curation.trainer.config import TrainConfig
from curation.trainer.objectives import LossByTime

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Losses(Part):
    mean: list[Finite]
    square: list[Finite]
    count: list[Finite]

    @model_validator(mode="after")
    def _have_their_bins(self) -> "Losses":
        bins = len(LossByTime().mean)
        if not len(self.mean) == len(self.square) == len(self.count) == bins:
            raise ValueError(f"mean, square and count have {bins} values each")
        return self


class State(Part):
    """The whole of it, as `Trainer.state` writes it."""

    step: int = Field(ge=0, le=10**12)
    config: dict[str, Any]
    vae: Vae
    text: Text
    null_text: NullText
    buckets: dict[str, Count] = Field(min_length=1)
    since_log: list[Finite] = Field(min_length=2, max_length=2)
    losses: Losses
    files: dict[str, str]

    @model_validator(mode="after")
    def _scales(self) -> "State":
        if wrong := unsound(self.vae.channels, self.vae.latents_mean, self.vae.latents_std):
            raise ValueError(f"vae: {wrong}")
        return self


def check(state: dict[str, Any], name: str) -> None:
    """Raise CurationError with the file's name and the key for the first thing that no training writes."""
    try:
        State.model_validate(state)
    except ValidationError as error:
        raise CurationError(f"{name}: {problem(error)}: delete the checkpoint's folder, and train again") from error


def config_of(state: dict[str, Any], name: str) -> TrainConfig:
    """The settings that a checkpoint was trained with. Raises CurationError where this version does not know them."""
    try:
        return TrainConfig.model_validate(state["config"])
    except ValidationError as error:
        raise CurationError(
            f"{name} was written with settings that this version does not know (config.{problem(error)})"
        ) from error
