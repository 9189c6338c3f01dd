"""What an index may say. Files change hands, and a number in one decides how much memory a reader takes."""

import base64
import binascii
from collections import Counter
from math import prod
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from curation.errors import CurationError
from curation.stores.storage import check_name

MOST_SAMPLES = 10_000_000
"""Of a shard."""
LARGEST = 2**62
"""Bytes of a shard."""
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Factor = Annotated[int, Field(ge=1, le=1024)]


class Part(BaseModel):
    """A part of an index; other keys may stand beside those that are read."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Entry(Part):
    """A shard."""

    path: str = Field(max_length=1000)
    bucket: str = Field(pattern=r"^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$")
    samples: int = Field(ge=0, le=MOST_SAMPLES)
    bytes: Count
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _lies_in_the_folder(cls, path: str) -> str:
        try:
            return check_name(path)
        except CurationError as error:
            raise ValueError("a shard lies in the index's folder: its path is relative, without `..`") from error

    @property
    def sides(self) -> tuple[int, int, int]:
        """Frames, height and width in pixels."""
        frames, height, width = map(int, self.bucket.split("x"))
        return frames, height, width


class Figures(Part):
    """What was measured of latents; NaN is refused elsewhere, with the reason."""

    normalized_rms: float
    mean: list[float] = Field([], max_length=4096)
    rms: list[float] = Field([], max_length=4096)


class Vae(Part):
    id: str
    sha256: str
    channels: int = Field(ge=1, le=4096)
    spatial_factor: Factor
    temporal_factor: Factor
    latents_mean: list[float]
    latents_std: list[float]
    calibration: Figures | None = None

    def latent_bytes(self, entry: Entry) -> int:
        """Of one latent in a shard, in fp16."""
        frames, height, width = entry.sides
        factor = self.spatial_factor
        if height % factor or width % factor:
            raise ValueError(f"the sides of the bucket {entry.bucket} are no multiples of the VAE's {factor} pixels")
        shape = (self.channels, (frames - 1) // self.temporal_factor + 1, height // factor, width // factor)
        return 2 * prod(shape)


class Text(Part):
    id: str
    sha256: str
    dimensions: int = Field(ge=1, le=65_536)


class NullText(Part):
    shape: tuple[int, int]
    fp16: str = Field(max_length=100_000_000)

    @model_validator(mode="after")
    def _has_its_bytes(self) -> "NullText":
        try:
            data = base64.b64decode(self.fp16, validate=True)
        except binascii.Error as error:
            raise ValueError("fp16 is not base64") from error
        if min(self.shape) < 1 or len(data) != 2 * prod(self.shape):
            raise ValueError(f"fp16 holds {len(data)} bytes, which the shape {list(self.shape)} does not take")
        return self

    @field_validator("shape", mode="before")
    @classmethod
    def _is_a_pair(cls, shape: Any) -> Any:
        return tuple(shape) if isinstance(shape, list) else shape


class TextPart(Text):
    """A further text part, with its states of the empty caption."""

    null: NullText


class Index(Part):
    """The whole of it."""

    shards: list[Entry]
    vae: Vae | None
    text: Text | None
    null_text: NullText | None
    statistics: Figures | None
    samples: Count
    nan_count: Count
    buckets: dict[str, Count] | None = None
    media: dict[str, Any] | None = None
    text_parts: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], TextPart] = {}

    @model_validator(mode="after")
    def _adds_up(self) -> "Index":
        if len({entry.path for entry in self.shards}) < len(self.shards):
            path, _ = Counter(entry.path for entry in self.shards).most_common(1)[0]
            raise ValueError(f"shards: {path} stands twice")
        found = Counter[str]()
        for entry in self.shards:
            found[entry.bucket] += entry.samples
        if found.total() != self.samples:
            raise ValueError(f"samples: it says {self.samples:,}, its shards have {found.total():,}")
        if self.buckets is not None and Counter(self.buckets) != found:
            raise ValueError("buckets: they are not those of its shards, with as many samples")
        if self.vae and self.statistics is None:
            raise ValueError("statistics: they are null beside a VAE")
        for number, entry in enumerate(self.shards):
            least = entry.samples * (self.vae.latent_bytes(entry) if self.vae else 1)
            if least > entry.bytes:
                said = f"{entry.samples:,} samples of {entry.bucket} in {entry.bytes:,} bytes"
                raise ValueError(f"shards[{number}].samples: {said}: their latents alone take {least:,}")
        return self


def check(index: dict[str, Any], name: str) -> None:
    """Raise CurationError with the file's name and the key for the first thing that no writer of indices writes."""
    try:
        Index.model_validate(index)
    except ValidationError as error:
        raise CurationError(
            f"{name}: {problem(error)}: it was altered or is damaged, run the manifest again"
        ) from error


def problem(error: ValidationError) -> str:
    """The first of its mistakes: the key, what is wrong, and what was given."""
    first = error.errors()[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")[:200]
    said = first["msg"].removeprefix("Value error, ")
    given = f" (given: {_shown(first['input'])})" if key and first["type"] != "value_error" else ""
    return f"{key}: {said}{given}" if key else said


def _shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # Python's bound on the digits of a number
        return "a number of thousands of digits"
